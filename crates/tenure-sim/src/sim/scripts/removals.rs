//! A person who removes files, and a process that reads the status.

use super::cast::*;
use crate::sim::script::{Actor, Left, Opening, Removes, Script};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "removed-lock-file",
        about: "a person removes the lock file, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, Actor::User(Removes::LockFile)],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "removed-lock-file-foreign",
        about: "a person removes the lock file, beside a native and a foreign program",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, FOREIGN, Actor::User(Removes::LockFile)],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "removed-anchors",
        about: "a person removes `.tenure`, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE_TWICE, Actor::User(Removes::Anchors)],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "looks",
        about: "a process reads the status, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, Actor::Look],
        preemptions: Some(3),
        ..PLAIN
    },
];
