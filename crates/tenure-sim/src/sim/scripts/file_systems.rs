//! File systems without hard links, exchanges or shared inodes.

use super::cast::*;
use crate::sim::script::{Actor, Left, Opening, Removes, Script};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "no-links",
        about: "two natives, without hard links",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE],
        fs: NO_LINKS,
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "no-links-dead",
        about: "natives of each style find a dead one's copy, without hard links",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK],
        fs: NO_LINKS,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-dead-flock",
        about: "a native in flock style and a foreign program find a dead native's copy",
        left: &[Left::DeadNative],
        actors: &[FLOCK, FOREIGN],
        fs: NO_LINKS,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-dead-flock-errors",
        about: "the same, and a call fails",
        left: &[Left::DeadNative],
        actors: &[FLOCK, FOREIGN],
        fs: NO_LINKS,
        failures: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "no-links-dead-flock-beside",
        about: "natives of each style and a foreign program find a dead native's copy",
        left: &[Left::DeadNative],
        actors: &[FLOCK, FOREIGN, LOCK_FILE],
        fs: NO_LINKS,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "bereft-flock",
        about: "a native in flock style and a foreign program find a dead native's lock file, whose anchor is gone",
        left: &[Left::DeadNative, Left::NoAnchors],
        actors: &[FLOCK, FOREIGN],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "reader-dead-foreign",
        about: "two natives find a dead foreign program's lock file, which another program has open",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, LOCK_FILE, READER],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "reader-dead-native",
        about: "natives of each style find a dead one's lock file, which another program has open",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK, READER],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "reader-waiter",
        about: "a waiter finds a dead foreign program's lock file, which another program has open",
        left: &[Left::DeadForeign],
        actors: &[WAITER, READER],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "bereft-flock-look",
        about: "a native in flock style finds a dead native's lock file, whose anchor is gone, while a status reads it",
        left: &[Left::DeadNative, Left::NoAnchors],
        actors: &[FLOCK, Actor::Look],
        ..PLAIN
    },
    Script {
        name: "no-links-dead-errors",
        about: "a native finds a dead one's copy, and a call fails",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE_TWICE],
        fs: NO_LINKS,
        failures: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-break",
        about: "an operator breaks the holder's lock, beside two natives, without hard links",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, BREAK],
        fs: NO_LINKS,
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "no-links-break-holder",
        about: "an operator breaks the lock of a lasting holder with a copy, for a waiter",
        left: &[Left::Anchor],
        actors: &[HOLDER, WAITER, BREAK],
        fs: NO_LINKS,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "no-links-threads-break",
        about: "an operator breaks the lock of a process with two threads, without hard links",
        left: &[Left::Anchor],
        actors: &[PAIR, BREAK],
        fs: NO_LINKS,
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "no-links-foreign",
        about: "a native and a foreign program find a dead one's lock file, without hard links",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE_TWICE, FOREIGN],
        fs: NO_LINKS,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-nor-exchange",
        about: "two natives find a dead one's copy, without hard links or exchanges",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, LOCK_FILE],
        fs: NO_LINKS_NOR_EXCHANGE,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-nor-exchange-flock",
        about: "a native in flock style and a foreign program find a dead native's copy, without hard links or exchanges",
        left: &[Left::DeadNative],
        actors: &[FLOCK, FOREIGN],
        fs: NO_LINKS_NOR_EXCHANGE,
        ..PLAIN
    },
    Script {
        name: "fuse-errors",
        about: "a native and a foreign program on a shared file system, and a call fails",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, FOREIGN],
        fs: FUSE,
        failures: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "aliases",
        about: "two natives with an inode for each name of a file",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, LOCK_FILE],
        fs: ALIASES,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "aliases-dead",
        about: "natives of each style find a dead one's lock file, with an inode for each name of a file",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK],
        fs: ALIASES,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "no-exchange",
        about: "two natives find a dead one's lock file, without exchanges",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE_TWICE, LOCK_FILE],
        fs: NO_EXCHANGE,
        deaths: 1,
        ..PLAIN
    },
];
