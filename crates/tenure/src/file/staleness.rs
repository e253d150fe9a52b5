//! Does the holder of a lock file live?
//!
//! Two layers: the seed's rules as a pure function of the record, the process table and the clock ([`reasons`]), and
//! the three-valued judgement that decides whether a lock file may be taken over ([`judge_foreign`]).

use std::time::{Duration, SystemTime};

use crate::model::stale_reason::StaleReason;
use crate::process::Liveness;
use crate::record::{Content, Record};

/// What the seed's rules ask of the world, so that they can be tested without one.
pub(crate) struct Facts<'a> {
    pub(crate) now: SystemTime,
    pub(crate) stale_after: Duration,
    pub(crate) own_pid: i64,
    pub(crate) own_start_time: Option<u64>,
    /// Does this process hold the lock file in question?
    pub(crate) held_here: bool,
    pub(crate) alive: &'a dyn Fn(i64) -> bool,
    pub(crate) start_time: &'a dyn Fn(i64) -> Option<u64>,
}

/// The seed's reasons, in the seed's order.
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

/// Whether some process of this kernel has a lock file open, as far as leases tell (`fcntl(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenElsewhere {
    /// For writing, as OpenClaw's holders have it.
    ForWriting,
    /// For reading only, as `flock(1)` and `9<file` have it.
    ForReading,
    No,
    CannotTell,
}

/// What is known of a foreign lock file.
pub(crate) struct ForeignFacts<'a> {
    pub(crate) content: &'a Content,
    /// It has no bytes at all, so nothing says that it is OpenClaw's: `flock(1)`, git and scripts make such files too.
    pub(crate) empty: bool,
    /// Natives have held this lock in lock-file style. So a file at this place was made by a program that removes it.
    pub(crate) used_before: bool,
    pub(crate) reasons: &'a [StaleReason],
    pub(crate) open: OpenElsewhere,
    /// Another process has the file's own `flock(2)`.
    pub(crate) flocked: bool,
    /// How old the file's mtime is; zero for a time in the future.
    pub(crate) mtime_age: Duration,
    pub(crate) malformed_grace: Duration,
    /// OpenClaw's own age for a lock file that names no process, 30 minutes by default.
    pub(crate) stale_after: Duration,
    /// A file system that two machines may mount: a dead pid here says nothing of a process there.
    pub(crate) shared_fs: bool,
    /// Of the package filelock's text: where the named process runs.
    pub(crate) origin: Option<Origin>,
}

/// Where a process runs that the package filelock names, by host, pid namespace and boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Here,
    /// Here, before the machine was restarted.
    OtherBoot,
    /// On another machine, or in another pid namespace: its pid means nothing here.
    Elsewhere,
}

/// May a foreign lock file be taken over?
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForeignVerdict {
    /// `Dead` means: taking over is right, now.
    pub(crate) liveness: Liveness,
    /// Ask again then, even if nothing happens (the grace of a malformed file runs out).
    pub(crate) again_after: Option<Duration>,
}

/// The three-valued judgement of a foreign lock file.
///
/// Asked in this order, the first answer counts:
///
/// | what is known | verdict |
/// | --- | --- |
/// | some process has it open for writing | alive, whatever its pid says: that may count in another container |
/// | some process has its `flock(2)` | alive, as above |
/// | the package filelock's text, of another machine or pid namespace | unknown |
/// | a valid pid, and neither dead, recycled nor our own orphan | alive, however old |
/// | a valid pid and one of those proofs, on a file system of one machine | dead |
/// | no valid pid, and some process has it open for reading | alive |
/// | no valid pid, no process has it open, and the grace is over | dead |
/// | anything else | unknown |
///
/// The grace is `malformed_grace` for what begins as OpenClaw's JSON, and for blanks and zeros. For a file of no bytes it
/// is `stale_after`, unless natives have used this lock before.
pub(crate) fn judge_foreign(facts: &ForeignFacts<'_>) -> ForeignVerdict {
    let verdict = |liveness| ForeignVerdict { liveness, again_after: None };
    let pid = match facts.content {
        Content::NotALock(what) => {
            debug_assert!(false, "what is no lock is refused before anyone asks who holds it");
            return verdict(Liveness::unknown(format!("it is no lock file, but {what}")));
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
            // filelock's own holder in this process, which this library does not know.
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
            return verdict(Liveness::unknown("no holder is recorded, and who has it open cannot be told"));
        }
        OpenElsewhere::ForWriting | OpenElsewhere::No => {}
    }
    if facts.shared_fs {
        return verdict(Liveness::unknown("no holder is recorded, and another machine may have it open"));
    }
    let anybodys = facts.empty && !facts.used_before;
    let grace = if anybodys { facts.stale_after.max(facts.malformed_grace) } else { facts.malformed_grace };
    let why = match anybodys {
        true => "it is empty and nobody has it open: flock(1), git or a script may hold by its mere presence",
        false => "no holder is recorded yet: it may have just been made",
    };
    match grace.checked_sub(facts.mtime_age) {
        None | Some(Duration::ZERO) => verdict(Liveness::dead("no holder is recorded and nobody has it open")),
        again_after => ForeignVerdict { liveness: Liveness::unknown(why), again_after },
    }
}

#[cfg(test)]
mod tests {
    use super::StaleReason::*;
    use super::*;

    const NOW: Duration = Duration::from_secs(1_772_445_600);
    const STALE_AFTER: Duration = Duration::from_secs(1800);
    const OWN_PID: i64 = 77;
    const OWN_START: u64 = 7700;

    /// The fake world: 42 (started at 4200), 43 (its start time is hidden) and this process live.
    fn alive(pid: i64) -> bool {
        assert!(pid > 0, "an invalid pid is never asked about");
        [42, 43, OWN_PID].contains(&pid)
    }

    fn start_time(pid: i64) -> Option<u64> {
        match pid {
            42 => Some(4200),
            OWN_PID => Some(OWN_START),
            _ => None,
        }
    }

    struct World {
        held_here: bool,
        own_start_time: Option<u64>,
    }

    const WORLD: World = World { held_here: false, own_start_time: Some(OWN_START) };

    fn judge(record: &Record, world: &World) -> Vec<StaleReason> {
        reasons(
            record,
            &Facts {
                now: SystemTime::UNIX_EPOCH + NOW,
                stale_after: STALE_AFTER,
                own_pid: OWN_PID,
                own_start_time: world.own_start_time,
                held_here: world.held_here,
                alive: &alive,
                start_time: &start_time,
            },
        )
    }

    /// `age` in milliseconds, below zero in the future; `hold` in milliseconds.
    fn record(pid: Option<i64>, start: Option<u64>, age: Option<i64>, hold: Option<u64>) -> Record {
        Record {
            pid,
            start_time: start,
            created_at: age.map(|age| {
                let now = SystemTime::UNIX_EPOCH + NOW;
                let by = Duration::from_millis(age.unsigned_abs());
                if age < 0 { now + by } else { now - by }
            }),
            max_hold: hold.map(Duration::from_millis),
            native: None,
            marker: None,
        }
    }

    #[test]
    fn the_words_are_the_seeds() {
        for (reason, word) in [
            (MissingPid, "missing-pid"),
            (DeadPid, "dead-pid"),
            (RecycledPid, "recycled-pid"),
            (InvalidCreatedAt, "invalid-createdAt"),
            (TooOld, "too-old"),
            (HoldExceeded, "hold-exceeded"),
            (OrphanSelfPid, "orphan-self-pid"),
        ] {
            assert_eq!(reason.as_str(), word);
        }
    }

    #[test]
    fn each_reason_by_its_rule() {
        let fresh = Some(1000);
        let old = Some(1_800_001);
        let own = Some(OWN_PID);
        #[rustfmt::skip]
        let rows: &[(&str, Record, &[StaleReason])] = &[
            ("a live holder", record(Some(42), Some(4200), fresh, None), &[]),
            ("one without a start time", record(Some(42), None, fresh, None), &[]),
            ("no pid", record(None, None, fresh, None), &[MissingPid]),
            ("no pid, a start time", record(None, Some(1), fresh, None), &[MissingPid]),
            ("pid 0", record(Some(0), None, fresh, None), &[MissingPid]),
            ("a pid below 0", record(Some(-42), None, fresh, None), &[MissingPid]),
            ("a dead pid", record(Some(99), None, fresh, None), &[DeadPid]),
            ("a dead pid's start time says nothing", record(Some(99), Some(1), fresh, None), &[DeadPid]),
            ("a recycled pid", record(Some(42), Some(4201), fresh, None), &[RecycledPid]),
            ("start time 0 is one", record(Some(42), Some(0), fresh, None), &[RecycledPid]),
            ("a start time that cannot be compared", record(Some(43), Some(1), fresh, None), &[]),
            ("no date", record(Some(42), None, None, None), &[InvalidCreatedAt]),
            ("no date, so no age to exceed a hold", record(Some(42), None, None, Some(1)), &[InvalidCreatedAt]),
            ("exactly stale_after", record(Some(42), None, Some(1_800_000), None), &[]),
            ("older", record(Some(42), None, old, None), &[TooOld]),
            ("in the future", record(Some(42), None, Some(-9_000_000), Some(1)), &[]),
            ("exactly its hold", record(Some(42), None, fresh, Some(1000)), &[]),
            ("over its hold", record(Some(42), None, fresh, Some(999)), &[HoldExceeded]),
            ("our pid, no start time", record(own, None, fresh, None), &[OrphanSelfPid]),
            ("our pid, our start time", record(own, Some(OWN_START), fresh, None), &[OrphanSelfPid]),
            ("our pid in an earlier life", record(own, Some(1), fresh, None), &[RecycledPid]),
            ("nothing at all", record(None, None, None, None), &[MissingPid, InvalidCreatedAt]),
            ("no pid and old", record(None, None, old, Some(1)), &[MissingPid, TooOld, HoldExceeded]),
            ("dead without a date", record(Some(99), None, None, None), &[DeadPid, InvalidCreatedAt]),
            ("dead, old, overdue", record(Some(99), None, old, Some(1)), &[DeadPid, TooOld, HoldExceeded]),
            ("recycled, old, overdue", record(Some(42), Some(1), old, Some(1)), &[RecycledPid, TooOld, HoldExceeded]),
            ("recycled without a date", record(Some(42), Some(1), None, None), &[RecycledPid, InvalidCreatedAt]),
            ("our orphan, old, overdue", record(own, None, old, Some(1)), &[TooOld, HoldExceeded, OrphanSelfPid]),
            ("our orphan without a date", record(own, None, None, None), &[InvalidCreatedAt, OrphanSelfPid]),
        ];
        for (name, record, expected) in rows {
            assert_eq!(judge(record, &WORLD), *expected, "{name}");
        }
    }

    #[test]
    fn what_this_process_holds_is_no_orphan() {
        let held = World { held_here: true, ..WORLD };
        assert_eq!(judge(&record(Some(OWN_PID), None, Some(0), None), &held), []);
        assert_eq!(judge(&record(Some(OWN_PID), Some(OWN_START), Some(0), None), &held), []);
    }

    #[test]
    fn a_start_time_that_we_cannot_compare_with_our_own_is_no_orphan() {
        let hidden = World { own_start_time: None, ..WORLD };
        assert_eq!(judge(&record(Some(OWN_PID), Some(OWN_START), Some(0), None), &hidden), []);
        assert_eq!(judge(&record(Some(OWN_PID), None, Some(0), None), &hidden), [OrphanSelfPid]);
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Is {
        Alive,
        Dead,
        Unknown,
        /// Unknown, and to be asked again after so many milliseconds.
        Again(u64),
    }

    const GRACE: u64 = 5000;

    fn verdict(
        content: &Content,
        reasons: &[StaleReason],
        open: OpenElsewhere,
        mtime_age: u64,
        shared_fs: bool,
    ) -> ForeignVerdict {
        judge_foreign(&ForeignFacts {
            content,
            empty: false,
            used_before: false,
            reasons,
            open,
            flocked: false,
            mtime_age: Duration::from_millis(mtime_age),
            malformed_grace: Duration::from_millis(GRACE),
            stale_after: STALE_AFTER,
            shared_fs,
            origin: None,
        })
    }

    /// Of a file of no bytes that nobody has open.
    fn empty(mtime_age: u64) -> ForeignFacts<'static> {
        ForeignFacts {
            content: &Content::Blank,
            empty: true,
            used_before: false,
            reasons: &[MissingPid, InvalidCreatedAt],
            open: OpenElsewhere::No,
            flocked: false,
            mtime_age: Duration::from_millis(mtime_age),
            malformed_grace: Duration::from_millis(GRACE),
            stale_after: STALE_AFTER,
            shared_fs: false,
            origin: None,
        }
    }

    fn is(verdict: &ForeignVerdict) -> Is {
        match (&verdict.liveness, verdict.again_after) {
            (Liveness::Alive(_), None) => Is::Alive,
            (Liveness::Dead(_), None) => Is::Dead,
            (Liveness::Unknown(_), None) => Is::Unknown,
            (Liveness::Unknown(_), Some(again)) => Is::Again(again.as_millis() as u64),
            _ => panic!("{verdict:?}"),
        }
    }

    #[test]
    fn every_combination_has_its_verdict() {
        let pid = Content::Record(record(Some(42), None, Some(0), None));
        let no_pid = Content::Record(record(None, None, Some(0), None));
        let zero = Content::Record(record(Some(0), None, None, None));
        let (blank, torn) = (Content::Blank, Content::Torn);
        let nothing: &[StaleReason] = &[MissingPid, InvalidCreatedAt];
        // By row: what is there, and the verdict where nobody has it open for writing and where that cannot be told,
        // then both again on a file system that other machines may mount.
        #[rustfmt::skip]
        let rows: &[(&Content, &[StaleReason], u64, [Is; 4])] = &[
            (&pid, &[], 0, [Is::Alive; 4]),
            (&pid, &[], 9_999_999, [Is::Alive; 4]),
            (&pid, &[TooOld], 9_999_999, [Is::Alive; 4]),
            (&pid, &[HoldExceeded], 9_999_999, [Is::Alive; 4]),
            (&pid, &[TooOld, HoldExceeded], 9_999_999, [Is::Alive; 4]),
            (&pid, &[InvalidCreatedAt], 9_999_999, [Is::Alive; 4]),
            (&pid, &[DeadPid], 0, [Is::Dead, Is::Dead, Is::Unknown, Is::Unknown]),
            (&pid, &[RecycledPid], 0, [Is::Dead, Is::Dead, Is::Unknown, Is::Unknown]),
            (&pid, &[OrphanSelfPid], 0, [Is::Dead, Is::Dead, Is::Unknown, Is::Unknown]),
            (&pid, &[DeadPid, InvalidCreatedAt], 0, [Is::Dead, Is::Dead, Is::Unknown, Is::Unknown]),
            (&pid, &[DeadPid, TooOld, HoldExceeded], 0, [Is::Dead, Is::Dead, Is::Unknown, Is::Unknown]),
            (&pid, &[RecycledPid, TooOld, HoldExceeded], 0, [Is::Dead, Is::Dead, Is::Unknown, Is::Unknown]),
            (&pid, &[TooOld, HoldExceeded, OrphanSelfPid], 0, [Is::Dead, Is::Dead, Is::Unknown, Is::Unknown]),
            (&pid, &[InvalidCreatedAt, OrphanSelfPid], 0, [Is::Dead, Is::Dead, Is::Unknown, Is::Unknown]),
            (&blank, nothing, 0, [Is::Again(5000), Is::Unknown, Is::Unknown, Is::Unknown]),
            (&blank, nothing, 4999, [Is::Again(1), Is::Unknown, Is::Unknown, Is::Unknown]),
            (&blank, nothing, 5000, [Is::Dead, Is::Unknown, Is::Unknown, Is::Unknown]),
            (&blank, nothing, 9_999_999, [Is::Dead, Is::Unknown, Is::Unknown, Is::Unknown]),
            (&torn, nothing, 3000, [Is::Again(2000), Is::Unknown, Is::Unknown, Is::Unknown]),
            (&torn, nothing, 5000, [Is::Dead, Is::Unknown, Is::Unknown, Is::Unknown]),
            (&no_pid, &[MissingPid], 4000, [Is::Again(1000), Is::Unknown, Is::Unknown, Is::Unknown]),
            (&no_pid, &[MissingPid], 5000, [Is::Dead, Is::Unknown, Is::Unknown, Is::Unknown]),
            (&no_pid, &[MissingPid, TooOld], 0, [Is::Again(5000), Is::Unknown, Is::Unknown, Is::Unknown]),
            (&no_pid, &[MissingPid, TooOld], 5000, [Is::Dead, Is::Unknown, Is::Unknown, Is::Unknown]),
            (&no_pid, &[MissingPid, HoldExceeded], 0, [Is::Again(5000), Is::Unknown, Is::Unknown, Is::Unknown]),
            (&zero, nothing, 0, [Is::Again(5000), Is::Unknown, Is::Unknown, Is::Unknown]),
            (&zero, nothing, 5000, [Is::Dead, Is::Unknown, Is::Unknown, Is::Unknown]),
            // Reasons that the content belies prove nothing.
            (&blank, &[DeadPid], 0, [Is::Again(5000), Is::Unknown, Is::Unknown, Is::Unknown]),
        ];
        for (content, reasons, mtime_age, expected) in rows {
            let mut found = Vec::new();
            for shared_fs in [false, true] {
                for open in [OpenElsewhere::No, OpenElsewhere::CannotTell] {
                    found.push(is(&verdict(content, reasons, open, *mtime_age, shared_fs)));
                }
                let open = verdict(content, reasons, OpenElsewhere::ForWriting, *mtime_age, shared_fs);
                assert_eq!(is(&open), Is::Alive, "open for writing: {content:?} {reasons:?} {mtime_age}");
            }
            assert_eq!(found, expected, "{content:?} {reasons:?} {mtime_age}");
        }
    }

    #[test]
    fn an_empty_file_is_anybodys_until_openclaws_own_age_is_over() {
        let ms = STALE_AFTER.as_millis() as u64;
        assert_eq!(is(&judge_foreign(&empty(0))), Is::Again(ms));
        assert_eq!(is(&judge_foreign(&empty(GRACE))), Is::Again(ms - GRACE));
        assert_eq!(is(&judge_foreign(&empty(ms - 1))), Is::Again(1));
        assert_eq!(is(&judge_foreign(&empty(ms))), Is::Dead);
        let used = |age| ForeignFacts { used_before: true, ..empty(age) };
        assert_eq!(is(&judge_foreign(&used(0))), Is::Again(GRACE));
        assert_eq!(is(&judge_foreign(&used(GRACE))), Is::Dead);
        let long = |age| ForeignFacts { malformed_grace: 2 * STALE_AFTER, ..empty(age) };
        assert_eq!(is(&judge_foreign(&long(ms))), Is::Again(ms), "the larger of the two counts");
        for old in [0, 100 * ms] {
            let read = ForeignFacts { open: OpenElsewhere::ForReading, ..used(old) };
            assert_eq!(is(&judge_foreign(&read)), Is::Alive);
            assert_eq!(is(&judge_foreign(&ForeignFacts { flocked: true, ..used(old) })), Is::Alive);
            let crash_unreported = ForeignFacts { open: OpenElsewhere::CannotTell, ..used(old) };
            assert_eq!(is(&judge_foreign(&crash_unreported)), Is::Unknown);
            assert_eq!(is(&judge_foreign(&ForeignFacts { shared_fs: true, ..used(old) })), Is::Unknown);
        }
    }

    #[test]
    fn a_reader_does_not_keep_a_dead_pid_alive_but_a_flock_does() {
        let content = Content::Record(record(Some(42), None, Some(0), None));
        let facts = || ForeignFacts { content: &content, empty: false, reasons: &[DeadPid], ..empty(0) };
        let read = ForeignFacts { open: OpenElsewhere::ForReading, ..facts() };
        assert_eq!(is(&judge_foreign(&read)), Is::Dead);
        assert_eq!(is(&judge_foreign(&ForeignFacts { flocked: true, ..facts() })), Is::Alive);
    }

    #[test]
    fn no_grace_is_no_wait() {
        let facts = ForeignFacts { malformed_grace: Duration::ZERO, stale_after: Duration::ZERO, ..empty(0) };
        assert_eq!(is(&judge_foreign(&facts)), Is::Dead);
    }

    #[test]
    fn the_first_proof_names_the_cause() {
        let content = Content::Record(record(Some(42), None, None, None));
        for (reason, words) in [
            (DeadPid, "its process has ended"),
            (RecycledPid, "another process has its pid now"),
            (OrphanSelfPid, "it has this process's own pid, but this process does not hold it"),
        ] {
            let verdict = verdict(&content, &[reason, InvalidCreatedAt], OpenElsewhere::No, 0, false);
            assert_eq!(verdict.liveness.why(), words);
        }
        let open = verdict(&content, &[DeadPid], OpenElsewhere::ForWriting, 0, false);
        assert_eq!(open.liveness.why(), "some process has the lock file open for writing");
    }

    #[test]
    fn a_marker_of_filelock_is_judged_by_its_own_rules() {
        use Origin::*;
        let content = Content::Record(record(Some(42), None, Some(0), None));
        for (origin, reasons, open, shared_fs, expected) in [
            (Here, &[][..], OpenElsewhere::No, false, Is::Alive),
            (Here, &[DeadPid], OpenElsewhere::No, false, Is::Dead),
            (Here, &[RecycledPid], OpenElsewhere::CannotTell, false, Is::Dead),
            (Here, &[OrphanSelfPid], OpenElsewhere::CannotTell, false, Is::Alive),
            (Here, &[TooOld, HoldExceeded], OpenElsewhere::No, false, Is::Alive),
            (Here, &[DeadPid], OpenElsewhere::ForWriting, false, Is::Alive),
            (Here, &[DeadPid], OpenElsewhere::No, true, Is::Unknown),
            (OtherBoot, &[], OpenElsewhere::No, false, Is::Dead),
            (OtherBoot, &[], OpenElsewhere::No, true, Is::Unknown),
            (OtherBoot, &[], OpenElsewhere::ForWriting, false, Is::Alive),
            (Elsewhere, &[DeadPid], OpenElsewhere::No, false, Is::Unknown),
            (Elsewhere, &[], OpenElsewhere::ForWriting, false, Is::Alive),
        ] {
            let verdict = judge_foreign(&ForeignFacts {
                content: &content,
                empty: false,
                reasons,
                open,
                malformed_grace: Duration::ZERO,
                shared_fs,
                origin: Some(origin),
                ..empty(3_600_000)
            });
            assert_eq!(is(&verdict), expected, "{origin:?} {reasons:?} {open:?} {shared_fs}");
        }
    }
}
