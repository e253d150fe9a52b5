//! Waiting in the queues of the process and of the kernel.

use super::cast::*;
use crate::sim::script::{Actor, Left, Opening, Removes, Script};

pub(super) const SCRIPTS: &[Script] = &[
    Script {
        name: "waiters",
        about: "two natives that wait in the kernel's queue",
        left: &[Left::Anchor],
        actors: &[WAITER, WAITER],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "waiters-three",
        about: "three natives that wait in the kernel's queue",
        left: &[Left::Anchor],
        actors: &[WAITER, WAITER, WAITER],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "waiters-foreign",
        about: "a waiting native, one that tries, and a foreign program",
        left: &[Left::Anchor],
        actors: &[WAITER, LOCK_FILE, FOREIGN],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "waiters-flock",
        about: "waiting natives in flock style beside flock(1)",
        left: &[Left::Anchor],
        actors: &[FLOCK_WAITER, FLOCK_WAITER, Actor::Flock],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "suspended",
        about: "a native that suspends its tenure, and one that waits",
        left: &[Left::Anchor],
        actors: &[SUSPENDER, WAITER],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "suspended-two",
        about: "two natives that suspend their tenures, and one that tries",
        left: &[Left::Anchor],
        actors: &[SUSPENDER, SUSPENDER, LOCK_FILE],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "suspended-foreign",
        about: "a native that suspends its tenure, one that waits, and a foreign program",
        left: &[Left::Anchor],
        actors: &[SUSPENDER, WAITER, FOREIGN],
        // The end of a foreign program's process may be noticed a second late, and for that long the other one gives way: no
        // time passes here by which it would stop.
        deaths: 0,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "suspended-flock",
        about: "a native in flock style that suspends its tenure, one that waits, and flock(1)",
        left: &[Left::Anchor],
        actors: &[FLOCK_SUSPENDER, FLOCK_WAITER, Actor::Flock],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "suspended-errors",
        about: "a native that suspends its tenure and one that tries, with a call that fails",
        left: &[Left::Anchor],
        actors: &[SUSPENDER, LOCK_FILE],
        deaths: 1,
        failures: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "threads",
        about: "two threads of one process, each of them twice, beside another process",
        left: &[Left::Anchor],
        actors: &[PAIR_TWICE, LOCK_FILE],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "threads-three",
        about: "three threads of one process beside one of another, which waits",
        left: &[Left::Anchor],
        actors: &[THREE, WAITER],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "threads-foreign",
        about: "two threads of one process and a foreign program find a native that died while it held",
        left: &[Left::DeadNative],
        actors: &[PAIR, FOREIGN],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "threads-flock",
        about: "two threads of one process in flock style beside flock(1) and a native with a lock file",
        left: &[Left::Anchor],
        actors: &[FLOCK_PAIR, Actor::Flock, LOCK_FILE],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "threads-break",
        about: "an operator breaks the lock of a process with two threads, beside another",
        left: &[Left::Anchor],
        actors: &[PAIR, LOCK_FILE, BREAK],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "direct",
        about: "two processes that wait in the kernel themselves, each of them twice",
        left: &[Left::Anchor],
        actors: &[DIRECT, DIRECT],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "direct-threads",
        about: "two threads of one process, of which the first waits in the kernel itself, beside another process",
        left: &[Left::Anchor],
        actors: &[DIRECT_PAIR, LOCK_FILE_TWICE],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "direct-late",
        about: "the same until a deadline, at which they are interrupted",
        left: &[Left::Anchor],
        actors: &[LATE_PAIR, LOCK_FILE_TWICE],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "direct-late-foreign",
        about: "two threads that wait until a deadline, and a foreign program",
        left: &[Left::DeadNative],
        actors: &[LATE_PAIR, FOREIGN],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "direct-flock",
        about: "two threads in flock style that wait in the kernel themselves, beside flock(1) and a native with a lock file",
        left: &[Left::Anchor],
        actors: &[DIRECT_FLOCK_PAIR, Actor::Flock, LOCK_FILE],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "direct-late-flock",
        about: "the same until a deadline",
        left: &[Left::Anchor],
        actors: &[LATE_FLOCK_PAIR, Actor::Flock, LOCK_FILE],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "direct-break",
        about: "an operator breaks a lasting holder's lock, for two threads of which the first waits in the kernel itself",
        left: &[Left::Anchor],
        actors: &[HOLDER, DIRECT_PAIR, BREAK],
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "direct-late-break",
        about: "the same until a deadline",
        left: &[Left::Anchor],
        actors: &[HOLDER, LATE_PAIR, BREAK],
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "shared",
        about: "two shared holders and an exclusive one",
        left: &[Left::Anchor],
        actors: &[SHARER, SHARER, FLOCK],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
];
