//! Processes of more than one user.

use super::cast::*;
use crate::sim::script::{Actor, Left, Opening, Removes, Script};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "users",
        about: "natives of each style and of three users, which may only read and replace each other's anchors",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, FLOCK],
        preemptions: Some(2),
        ..USERS
    },
    Script {
        name: "users-twice",
        about: "two users that take turns",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, FLOCK_TWICE],
        ..USERS
    },
    Script {
        name: "users-dead",
        about: "users of each style find another's dead native",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK],
        ..USERS
    },
    Script {
        name: "users-dead-flock",
        about: "users of each style find another's dead native in flock style",
        left: &[Left::DeadFlockNative],
        actors: &[LOCK_FILE, FLOCK],
        ..USERS
    },
    Script {
        name: "users-dead-foreign",
        about: "users of each style and a foreign program find the lock file of another's dead foreign program",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FLOCK, FOREIGN],
        preemptions: Some(2),
        ..USERS
    },
    Script {
        name: "users-waiters",
        about: "two users that wait in the kernel's queue",
        left: &[Left::Anchor],
        actors: &[WAITER, WAITER],
        ..USERS
    },
    Script {
        name: "users-break",
        about: "an operator breaks the holder's lock, beside two users",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, BREAK],
        preemptions: Some(2),
        ..USERS
    },
    Script {
        name: "users-clean",
        about: "users of each style, and a clean, find another's dead native",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK, Actor::Clean],
        preemptions: Some(2),
        ..USERS
    },
];
