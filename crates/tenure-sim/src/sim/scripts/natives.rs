//! Natives and foreign programs that try, in both styles, and the files of dead ones.

use super::cast::*;
use crate::sim::script::{Actor, Left, Opening, Removes, Script};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "first",
        about: "two natives, in a folder without anchors",
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "two",
        about: "two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "two-twice",
        about: "two natives, each of them twice",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, LOCK_FILE_TWICE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "two-errors",
        about: "two natives, one of whose calls fails",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 1,
        failures: 1,
        ..PLAIN
    },
    Script {
        name: "one-errors",
        about: "one native in a folder without anchors: two of its calls fail, with every error",
        actors: &[LOCK_FILE_TWICE],
        deaths: 1,
        failures: 2,
        every_error: true,
        ..PLAIN
    },
    Script {
        name: "three",
        about: "three natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, LOCK_FILE],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "two-flock",
        about: "two natives in flock style",
        left: &[Left::Anchor],
        actors: &[FLOCK, FLOCK],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "mixed",
        about: "a native of each style",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, FLOCK_TWICE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "mixed-flock-1",
        about: "a native of each style beside flock(1) on the target",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, FLOCK, Actor::Flock],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "dead-native",
        about: "two natives find one that died while it held",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-native-mixed",
        about: "natives of each style find one that died while it held",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-flock-native",
        about: "natives of each style find one in flock style that died while it held",
        left: &[Left::DeadFlockNative],
        actors: &[LOCK_FILE, FLOCK],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-foreign",
        about: "two natives find a dead foreign program's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-foreign-mixed",
        about: "natives of each style find a dead foreign program's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FLOCK],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-native-foreign",
        about: "natives of each style and a foreign program find a native that died while it held",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK, FOREIGN],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "recycled",
        about: "a native and a foreign program find a lock file whose pid belongs to another process now",
        left: &[Left::Recycled],
        actors: &[LOCK_FILE, FOREIGN],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "foreign",
        about: "two natives and a foreign program",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, FOREIGN],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "dead-between",
        about: "a native finds a dead foreign program's lock file, and a live one makes its own in between",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE_TWICE, FOREIGN],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-between-two",
        about: "two natives and a foreign program find a dead foreign program's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, LOCK_FILE, FOREIGN],
        deaths: 2,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "two-foreign",
        about: "a native and two foreign programs find a dead one's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FOREIGN, FOREIGN],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "cut-off-takeover",
        about: "a native died right after it had exchanged a live foreign program's file away; a foreign program and a native",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FOREIGN, FOREIGN, LOCK_FILE],
        opening: CUT_OFF,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "cut-off-takeover-clean",
        about: "the same; a foreign program and a clean",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FOREIGN, FOREIGN, Actor::Clean],
        opening: CUT_OFF,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "cut-off-takeover-flock",
        about: "the same, with another foreign program that holds beside the first; natives of each style",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FOREIGN, FOREIGN, FLOCK, LOCK_FILE],
        opening: CUT_OFF_BESIDE_ANOTHER,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "blank",
        about: "a native and a foreign program find an empty lock file, and an hour passes",
        left: &[Left::Blank],
        actors: &[LOCK_FILE, FOREIGN, Actor::Hours],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "container",
        about: "two natives beside a foreign holder whose pid has no meaning here",
        left: &[Left::Container],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "torn",
        about: "a native and a foreign program; each write becomes visible in two parts",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE_TWICE, FOREIGN],
        deaths: 1,
        torn: true,
        ..PLAIN
    },
    Script {
        name: "torn-flock",
        about: "natives of each style find one in flock style that died; each write becomes visible in two parts",
        left: &[Left::DeadFlockNative],
        actors: &[LOCK_FILE, FLOCK],
        deaths: 1,
        torn: true,
        ..PLAIN
    },
];
