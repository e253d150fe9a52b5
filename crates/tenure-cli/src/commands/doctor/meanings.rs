//! The meaning of each answer for locks in the folder, in a sentence.

use tenure::probe::{Answer, Feature};

/// An answer without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    Yes,
    No,
    Unknown,
}

impl Short {
    pub(crate) fn of(answer: &Answer) -> Short {
        match answer {
            Answer::Yes => Short::Yes,
            Answer::No(_) => Short::No,
            Answer::Unknown(_) => Short::Unknown,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Short::Yes => "yes",
            Short::No => "no",
            Short::Unknown => "unknown",
        }
    }
}

/// Returns the meaning of an answer about a feature.
pub(crate) fn feature(feature: Feature, answer: Short) -> &'static str {
    use Short::{No, Unknown, Yes};
    match (feature, answer) {
        (Feature::KernelLock, Yes) => "flock excludes a second open file, so locks work",
        (Feature::KernelLock, No) => "no lock works here: every lock relies on flock",
        (Feature::KernelLock, Unknown) => "flock failed, so no lock works here now",
        (Feature::Room, Yes) => "a record can be written, and reaches the disk",
        (Feature::Room, _) => "no record can be written, so every acquire fails; free some space",
        (Feature::HardLink, Yes) => "a lock file is published, complete and at once, as a second name of the anchor",
        (Feature::HardLink, _) => "a lock file is published by renaming a copy: as safe, a little slower",
        (Feature::ExclusiveRename, Yes) => "a lock file that must be a copy never replaces another file",
        (Feature::ExclusiveRename, _) => "where a hard link is refused (as in /tmp between users), acquire fails",
        (Feature::Exchange, Yes) => "the lock of a dead foreign program is taken over in one step",
        (Feature::Exchange, _) => {
            "the lock of a dead foreign program is not taken over: remove its lock file by hand. All else works"
        }
        (Feature::RemovalByHandle, Yes) => {
            "the lock of a dead foreign program is taken over, and no other program's file is removed in its place"
        }
        (Feature::RemovalByHandle, _) => {
            "the lock of a dead foreign program is not taken over: remove its lock file by hand. All else works"
        }
        (Feature::Lease, Yes) => {
            "a live foreign holder is detected in every container, even if its pid means nothing here"
        }
        (Feature::Lease, _) => {
            "a foreign holder in another container cannot be distinguished from a dead one: acquire waits"
        }
        (Feature::Inotify, Yes) => "a process that waits for a foreign holder of this machine is woken at once",
        (Feature::Inotify, _) => "a process that waits for a foreign holder checks once a second",
        (Feature::Pidfd, Yes) => "a holder's death is noticed at once, and a recycled pid is never mistaken for it",
        (Feature::Pidfd, _) => {
            "a foreign holder's death is noticed within a second; start times distinguish recycled pids"
        }
        (Feature::PidfdInode, Yes) => "no two processes since boot are ever mistaken for each other",
        (Feature::PidfdInode, _) => "pid, start time (to 10 ms) and namespace distinguish processes",
        (Feature::BootId, Yes) => "a lock file from before a reboot is recognized",
        (Feature::BootId, _) => "a lock file from before a reboot is judged by its pid and start time alone",
        (Feature::FirstPidNamespace, Yes) => "`tenure status` shows every holder and waiter of this machine",
        (Feature::FirstPidNamespace, _) => {
            "`tenure status` shows no waiters and sharers outside this container; locks work across containers"
        }
        _ => "",
    }
}

/// Returns the meaning of the answer about a second process.
pub(crate) fn second_process(answer: Short) -> &'static str {
    match answer {
        Short::Yes => "while this process held a lock, a second process was refused",
        Short::No => "a lock here excludes no other process: do not use it",
        Short::Unknown => "a lock could not be tested with a second process",
    }
}

/// Returns the meaning of the answer of a trial.
pub(crate) fn trial(answer: Short) -> &'static str {
    match answer {
        Short::Yes => {
            "processes excluded each other, a killed one freed the lock, and a dead one's lock file was taken over"
        }
        Short::No => "a lock broke a promise in a trial with real processes, so no lock is granted here",
        Short::Unknown => "locks could not be tried with real processes, so no lock is granted here",
    }
}

/// Returns the meaning of the answer about the clock.
pub(crate) fn clock(answer: Short) -> &'static str {
    match answer {
        Short::Yes => "ages and dates can be trusted: the clock is synchronised, and no grant is from the future",
        Short::No => "the clock was set back, or another machine's is ahead: ages are wrong, but fences still grow",
        Short::Unknown => "the clock may not be synchronised: ages are wrong if it steps, but fences still grow",
    }
}
