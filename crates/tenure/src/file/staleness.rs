//! Decides whether a lock is stale: whether the holder of a lock file lives.
//!
//! There are two layers. OpenClaw's rules are a pure function of the record, the process table and the clock
//! ([`reasons`]). A three-valued judgement decides whether a lock file may be taken over ([`judge_foreign`]).

use std::time::{Duration, SystemTime};

use crate::model::stale_reason::StaleReason;
use crate::process::Liveness;
use crate::record::{Content, Record};

/// The facts that OpenClaw's rules need, as values so that the rules can be tested without a system.
pub(crate) struct Facts<'a> {
    pub(crate) now: SystemTime,
    pub(crate) stale_after: Duration,
    pub(crate) own_pid: i64,
    pub(crate) own_start_time: Option<u64>,
    /// Whether this process holds the lock file in question.
    pub(crate) held_here: bool,
    pub(crate) alive: &'a dyn Fn(i64) -> bool,
    pub(crate) start_time: &'a dyn Fn(i64) -> Option<u64>,
}

/// Returns the reasons for staleness by OpenClaw's rules, in OpenClaw's order.
pub(crate) fn reasons(record: &Record, facts: &Facts<'_>) -> Vec<StaleReason> {
    let mut reasons = Vec::new();
    let pid = valid_pid(record);
    match pid {
        None => reasons.push(StaleReason::MissingPid),
        Some(pid) if !(facts.alive)(pid) => reasons.push(StaleReason::DeadPid),
        Some(pid) => {
            if let Some(recorded) = record.start_time
                && (facts.start_time)(pid).is_some_and(|present| present != recorded)
            {
                reasons.push(StaleReason::RecycledPid);
            }
        }
    }
    match record.created_at {
        None => reasons.push(StaleReason::InvalidCreatedAt),
        Some(created_at) => {
            let age = facts.now.duration_since(created_at).unwrap_or(Duration::ZERO);
            if age > facts.stale_after {
                reasons.push(StaleReason::TooOld);
            }
            if record.max_hold.is_some_and(|max_hold| age > max_hold) {
                reasons.push(StaleReason::HoldExceeded);
            }
        }
    }
    let own = pid == Some(facts.own_pid) && (record.start_time.is_none() || record.start_time == facts.own_start_time);
    if own && !facts.held_here {
        reasons.push(StaleReason::OrphanSelfPid);
    }
    reasons
}

fn valid_pid(record: &Record) -> Option<i64> {
    record.pid.filter(|pid| *pid > 0)
}

/// Whether another process of this kernel has a lock file open, as far as leases show it (`fcntl(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenElsewhere {
    /// For writing, as OpenClaw's holders have it.
    ForWriting,
    /// For reading only, as `flock(1)` and `9<file` have it.
    ForReading,
    No,
    CannotTell,
}

/// The facts about a foreign lock file.
pub(crate) struct ForeignFacts<'a> {
    pub(crate) content: &'a Content,
    /// Whether the file has no bytes, so that nothing proves that it is OpenClaw's: `flock(1)`, git and scripts create
    /// such files too.
    pub(crate) empty: bool,
    /// Whether natives have held this lock in lock-file style. Then a file at this path was created by a program that
    /// removes it.
    pub(crate) used_before: bool,
    pub(crate) reasons: &'a [StaleReason],
    pub(crate) open: OpenElsewhere,
    /// Whether another process has the file's own `flock(2)`.
    pub(crate) flocked: bool,
    /// The age of the file's mtime. Zero for a time in the future.
    pub(crate) mtime_age: Duration,
    pub(crate) malformed_grace: Duration,
    /// OpenClaw's own age for a lock file that names no process, 30 minutes by default.
    pub(crate) stale_after: Duration,
    /// Whether two machines may mount the file system. Then a dead pid here proves nothing about a process there.
    pub(crate) shared_fs: bool,
    /// Where the process runs that the text of the package filelock names.
    pub(crate) origin: Option<Origin>,
}

/// Where a process runs that the package filelock names, by host, pid namespace and boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Here,
    /// Here, before the machine was restarted.
    OtherBoot,
    /// On another machine, or in another pid namespace, so that its pid means nothing here.
    Elsewhere,
}

/// The verdict on a foreign lock file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForeignVerdict {
    /// `Dead` means that the lock file may be taken over now.
    pub(crate) liveness: Liveness,
    /// When to judge again even if nothing happens, because the grace of a malformed file ends.
    pub(crate) retry_after: Option<Duration>,
}

/// The three-valued judgement of a foreign lock file.
///
/// The first row that applies counts:
///
/// | what is known | verdict |
/// | --- | --- |
/// | another process has it open for writing | alive, whatever its pid says: that may be a pid of another container |
/// | another process has its `flock(2)` | alive, as above |
/// | the package filelock's text, of another machine or pid namespace | unknown |
/// | a valid pid, and neither dead, recycled nor this process's own orphan | alive, however old |
/// | a valid pid and one of those proofs, on a file system of one machine | dead |
/// | no valid pid, and another process has it open for reading | alive |
/// | no valid pid, no process has it open, and the grace is over | dead |
/// | anything else | unknown |
///
/// The grace is `malformed_grace` for what begins as OpenClaw's JSON, and for blanks and zeros. For a file of no bytes
/// it is `stale_after`, unless natives have used this lock before.
pub(crate) fn judge_foreign(facts: &ForeignFacts<'_>) -> ForeignVerdict {
    let verdict = |liveness| ForeignVerdict { liveness, retry_after: None };
    let pid = match facts.content {
        Content::NotALock(what) => {
            debug_assert!(false, "a file that is not a lock file is refused before it is judged");
            return verdict(Liveness::unknown(format!("it is not a lock file, but {what}")));
        }
        Content::Record(record) => valid_pid(record),
        Content::Blank | Content::Torn => None,
    };
    if facts.open == OpenElsewhere::ForWriting {
        return verdict(Liveness::alive("some process has the lock file open for writing"));
    }
    if facts.flocked {
        return verdict(Liveness::alive("some process has locked the lock file itself with flock(2)"));
    }
    if facts.origin == Some(Origin::Elsewhere) {
        return verdict(Liveness::unknown("it names another machine or another pid namespace"));
    }
    if let Some(pid) = pid {
        let proof = facts.reasons.iter().find_map(|reason| match reason {
            StaleReason::DeadPid => Some("its process has ended"),
            StaleReason::RecycledPid => Some("another process has its pid now"),
            // A holder by filelock in this process, which this library does not know.
            StaleReason::OrphanSelfPid if facts.origin.is_some() => None,
            StaleReason::OrphanSelfPid => Some("it has this process's own pid, but this process does not hold it"),
            StaleReason::MissingPid
            | StaleReason::InvalidCreatedAt
            | StaleReason::TooOld
            | StaleReason::HoldExceeded => None,
        });
        let restarted = facts.origin == Some(Origin::OtherBoot);
        let proof = if restarted { Some("the machine was restarted") } else { proof };
        return verdict(match proof {
            None => Liveness::alive("its process lives"),
            Some(_) if facts.shared_fs => {
                Liveness::unknown(format!("pid {pid} may be a process of another machine that mounts this file system"))
            }
            Some(proof) => Liveness::dead(proof),
        });
    }
    // No process is named: the holder is between create and write, or died there. Only an open file tells which.
    match facts.open {
        OpenElsewhere::ForReading => {
            return verdict(Liveness::alive("no holder is recorded, but some process has the lock file open"));
        }
        OpenElsewhere::CannotTell => {
            return verdict(Liveness::unknown("no holder is recorded, and whether a process has it open is unknown"));
        }
        OpenElsewhere::ForWriting | OpenElsewhere::No => {}
    }
    if facts.shared_fs {
        return verdict(Liveness::unknown("no holder is recorded, and another machine may have it open"));
    }
    let of_unknown_kind = facts.empty && !facts.used_before;
    let grace = if of_unknown_kind { facts.stale_after.max(facts.malformed_grace) } else { facts.malformed_grace };
    let why = match of_unknown_kind {
        true => "it is empty and no process has it open: flock(1), git or a script may hold by its mere existence",
        false => "no holder is recorded yet: it may have just been created",
    };
    match grace.checked_sub(facts.mtime_age) {
        None | Some(Duration::ZERO) => verdict(Liveness::dead("no holder is recorded and no process has it open")),
        retry_after => ForeignVerdict { liveness: Liveness::unknown(why), retry_after },
    }
}

#[cfg(test)]
mod tests;
