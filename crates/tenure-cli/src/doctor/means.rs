//! What each answer means for whoever wants to lock there, in a sentence.

use tenure::probe::{Answer, Feature};

/// An answer without what was seen.
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

pub(crate) fn feature(feature: Feature, answer: Short) -> &'static str {
    use Short::{No, Unknown, Yes};
    match (feature, answer) {
        (Feature::KernelLock, Yes) => "the kernel excludes a second open file (flock), so a lock holds",
        (Feature::KernelLock, No) => "nothing can be locked here: every lock rests on flock",
        (Feature::KernelLock, Unknown) => "flock failed, so nothing can be locked here now",
        (Feature::Room, Yes) => "a record can be written, and reaches the disk",
        (Feature::Room, _) => "no record can be written, so every acquire fails; free some space",
        (Feature::HardLink, Yes) => "a lock file is shown, complete and at once, as a second name of the anchor",
        (Feature::HardLink, _) => "a lock file is a copy that is renamed into place: as safe, a little slower",
        (Feature::ExclusiveRename, Yes) => "a lock file that must be a copy gets its name only if that is free",
        (Feature::ExclusiveRename, _) => "where a hard link will not do (as in /tmp between users), acquire fails",
        (Feature::Exchange, Yes) => "what a dead foreign program left is taken over in one step, without a gap",
        (Feature::Exchange, _) => {
            "a lock file that a dead foreign program left is not taken over: remove it by hand. All else works"
        }
        (Feature::Lease, Yes) => "a foreign holder that lives is seen in whatever container, whatever its pid says",
        (Feature::Lease, _) => "a foreign holder of another container cannot be told from a dead one: acquire waits",
        (Feature::Inotify, Yes) => "who waits for a foreign holder of this machine is woken at once",
        (Feature::Inotify, _) => "who waits for a foreign holder looks once a second",
        (Feature::Pidfd, Yes) => "a holder's death is heard at once, and a recycled pid fools nobody",
        (Feature::Pidfd, _) => "a foreign holder's death is found within a second; start times tell pids apart",
        (Feature::PidfdInode, Yes) => "no two processes of this boot are ever taken for each other",
        (Feature::PidfdInode, _) => "pid, start time and namespace tell processes apart, to 10 ms",
        (Feature::BootId, Yes) => "a lock file from before a restart is known for one",
        (Feature::BootId, _) => "a lock file from before a restart is judged by its pid and start time alone",
        (Feature::FirstPidNamespace, Yes) => "`tenure status` sees every holder and waiter of this machine",
        (Feature::FirstPidNamespace, _) => {
            "`tenure status` does not see who waits, or shares, outside this container; locks work across"
        }
        _ => "",
    }
}

pub(crate) fn second_process(answer: Short) -> &'static str {
    match answer {
        Short::Yes => "a lock was taken for a try, and a second process was refused",
        Short::No => "a lock here keeps nobody out: do not use it",
        Short::Unknown => "a lock could not be tried with a second process",
    }
}

pub(crate) fn clock(answer: Short) -> &'static str {
    match answer {
        Short::Yes => {
            "ages and dates can be trusted: something keeps this clock right, and no grant is from the future"
        }
        Short::No => "the clock was set back, or another machine's is ahead: ages are off, fences grow all the same",
        Short::Unknown => {
            "nothing is known to keep this clock right: ages may be off if it steps, fences grow all the same"
        }
    }
}
