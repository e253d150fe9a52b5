//! The rules of staleness, case by case.

use super::StaleReason::*;
use super::*;

const NOW: Duration = Duration::from_secs(1_772_445_600);
const STALE_AFTER: Duration = Duration::from_secs(1800);
const OWN_PID: i64 = 77;
const OWN_START: u64 = 7700;

/// Returns whether a process of the simulated system lives: 42 (started at 4200), 43 (its start time is hidden) and
/// this process do.
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

/// Returns a record. `age` is in milliseconds, below zero in the future; `hold` is in milliseconds.
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
fn reason_names_are_openclaws() {
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
        ("own pid, no start time", record(own, None, fresh, None), &[OrphanSelfPid]),
        ("own pid, our start time", record(own, Some(OWN_START), fresh, None), &[OrphanSelfPid]),
        ("own pid in an earlier life", record(own, Some(1), fresh, None), &[RecycledPid]),
        ("nothing at all", record(None, None, None, None), &[MissingPid, InvalidCreatedAt]),
        ("no pid and old", record(None, None, old, Some(1)), &[MissingPid, TooOld, HoldExceeded]),
        ("dead without a date", record(Some(99), None, None, None), &[DeadPid, InvalidCreatedAt]),
        ("dead, old, overdue", record(Some(99), None, old, Some(1)), &[DeadPid, TooOld, HoldExceeded]),
        ("recycled, old, overdue", record(Some(42), Some(1), old, Some(1)), &[RecycledPid, TooOld, HoldExceeded]),
        ("recycled without a date", record(Some(42), Some(1), None, None), &[RecycledPid, InvalidCreatedAt]),
        ("own orphan, old, overdue", record(own, None, old, Some(1)), &[TooOld, HoldExceeded, OrphanSelfPid]),
        ("own orphan without a date", record(own, None, None, None), &[InvalidCreatedAt, OrphanSelfPid]),
    ];
    for (name, record, expected) in rows {
        assert_eq!(judge(record, &WORLD), *expected, "{name}");
    }
}

#[test]
fn a_lock_of_this_process_is_no_orphan() {
    let held = World { held_here: true, ..WORLD };
    assert_eq!(judge(&record(Some(OWN_PID), None, Some(0), None), &held), []);
    assert_eq!(judge(&record(Some(OWN_PID), Some(OWN_START), Some(0), None), &held), []);
}

#[test]
fn an_own_pid_without_a_comparable_start_time_is_no_orphan() {
    let hidden = World { own_start_time: None, ..WORLD };
    assert_eq!(judge(&record(Some(OWN_PID), Some(OWN_START), Some(0), None), &hidden), []);
    assert_eq!(judge(&record(Some(OWN_PID), None, Some(0), None), &hidden), [OrphanSelfPid]);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Alive,
    Dead,
    Unknown,
    /// Unknown, and to be judged again after so many milliseconds.
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

/// Returns the facts of a file of no bytes that no process has open.
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
    match (&verdict.liveness, verdict.retry_after) {
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
    // By row: the content, and the verdict where no process has it open for writing and where that is unknown, then
    // both again on a file system that other machines may mount.
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
        // Reasons that the content contradicts prove nothing.
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
fn an_empty_file_may_be_held_until_openclaws_own_age_is_over() {
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
fn without_a_grace_an_empty_file_is_dead_at_once() {
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
