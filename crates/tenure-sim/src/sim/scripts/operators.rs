//! `clean`, and an operator who breaks the lock.

use super::cast::*;
use crate::sim::script::{Actor, Left, Opening, Removes, Script};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "clean",
        about: "a clean that prunes, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, Actor::Clean],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "clean-dead",
        about: "a clean and a native find a native that died while it held",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, Actor::Clean],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "clean-dead-foreign",
        about: "a clean, a native and a foreign program find a dead one's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, Actor::Clean, FOREIGN],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "clean-dead-between",
        about: "a clean and a foreign program find a native that died while it held",
        left: &[Left::DeadNative],
        actors: &[Actor::Clean, FOREIGN],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "clean-two",
        about: "two cleans and a native",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, Actor::Clean, Actor::Clean],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break",
        about: "an operator breaks the holder's lock, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, BREAK],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break-waiters",
        about: "an operator breaks the lock of a holder with waiters",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, WAITER, BREAK],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break-holder",
        about: "an operator breaks a lasting holder's lock, for a waiter",
        left: &[Left::Anchor],
        actors: &[HOLDER, WAITER, BREAK],
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break-foreign",
        about: "an operator breaks the lock, beside a native and a foreign program",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, FOREIGN, BREAK],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break-gently",
        about: "an operator who only breaks a dead holder's lock, beside a native and a dead one's files",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, Actor::Break { force: false }],
        deaths: 1,
        ..PLAIN
    },
];
