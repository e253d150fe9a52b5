//! The history: one line for each tenure and each failed wait, whatever dies or fails, and no effect on the lock.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tenure::{BreakOptions, CleanOptions, Ending, Lock, PastTenure, Style, Wait, break_lock, clean};
use tenure_tests::strace::{changing_calls, kill_at};
use tenure_tests::{folder, has, lock_file, make_older, needs, opened, until_waiting};

/// Returns the file of this user's history.
fn file(target: &Path) -> PathBuf {
    // SAFETY: no precondition.
    let user = unsafe { libc::geteuid() };
    let name = format!("{}.{user}.history", lock_file(target).file_name().unwrap().display());
    target.with_file_name(".tenure").join(name)
}

fn history(target: &Path) -> Vec<PastTenure> {
    tenure::history(target).unwrap()
}

fn ends(target: &Path) -> Vec<(Ending, u32)> {
    history(target).iter().map(|past| (past.ended, u32::try_from(past.pid.unwrap()).unwrap())).collect()
}

#[test]
fn the_last_tenures_are_kept_and_none_without_the_option() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut without = opened(&target, "label=without");
    without.must("acquire l g never");
    without.must("release g");
    assert!(!file(&target).exists() && history(&target).is_empty());
    let mut actor = opened(&target, "history=3 label=nightly");
    let began = SystemTime::now() - Duration::from_secs(1);
    let mut fences = Vec::new();
    for _ in 0..5 {
        let answer = actor.must("acquire l g never");
        fences.push(answer["fence"].as_u64().unwrap());
        actor.must("release g");
    }
    without.must("acquire l g never");
    without.must("release g");
    let past = history(&target);
    assert_eq!(past.iter().map(|past| past.fence.unwrap()).collect::<Vec<_>>(), fences[2..]);
    for past in &past {
        assert_eq!((past.ended, past.pid), (Ending::Released, Some(actor.pid().into())));
        assert_eq!((past.label.as_deref(), past.waited, past.exit_code), (Some("nightly"), Some(Duration::ZERO), None));
        assert!(past.command.as_deref().unwrap().contains("actor") && past.host.is_some());
        assert!(began <= past.from && past.from <= past.until && past.until <= SystemTime::now());
    }
}

#[test]
fn the_next_holder_enters_a_crash() {
    for style in ["", "style=flock"] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut dead = opened(&target, &format!("label=dead {style}"));
        dead.must("acquire l g never");
        let pid = dead.pid();
        dead.kill();
        assert!(history(&target).is_empty(), "no process has found it");
        let mut next = opened(&target, &format!("history=3 {style}"));
        next.must("acquire l g never");
        assert_eq!(ends(&target), [(Ending::Crashed, pid)], "{style}");
        next.must("release g");
        assert_eq!(ends(&target), [(Ending::Crashed, pid), (Ending::Released, next.pid())]);
        let crash = &history(&target)[0];
        assert!(crash.why.is_some() && crash.last_sign.is_some() && crash.label.as_deref() == Some("dead"));
        assert!(crash.until <= history(&target)[1].until && crash.exit_code.is_none());
    }
}

#[test]
fn waits_are_entered_whether_they_succeed_or_fail() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = opened(&target, "history=10 label=holder");
    let (mut waiter, mut failing) = (opened(&target, "history=10"), opened(&target, "history=10 label=failing"));
    holder.must("acquire l g never");
    waiter.must("begin l g forever");
    until_waiting(&target, 1);
    failing.must_fail("acquire l g never", "busy");
    failing.must_fail("acquire l g 20", "busy");
    failing.must("begin l g 20");
    assert_eq!(failing.receive()["event"], "refused");
    // A try is no wait: a program may try a thousand times.
    assert!(Lock::options().history(10).open(&target).unwrap().try_acquire().unwrap().is_none());
    holder.must("release g");
    assert_eq!(waiter.receive()["event"], "granted");
    waiter.must("release g");
    let past = history(&target);
    let busy: Vec<_> = past.iter().filter(|past| past.ended == Ending::Busy).collect();
    assert_eq!(busy.len(), 3, "{past:#?}");
    for past in &busy {
        assert_eq!((past.pid, past.label.as_deref()), (Some(failing.pid().into()), Some("failing")));
        assert_eq!((past.blocked_by_pid, past.blocked_by.as_deref()), (Some(holder.pid().into()), Some("holder")));
        assert_eq!(past.fence, None);
    }
    assert!(busy.iter().filter(|past| past.waited >= Some(Duration::from_millis(19))).count() == 2, "{busy:#?}");
    let waited = past.iter().find(|past| past.pid == Some(waiter.pid().into())).unwrap();
    assert!(waited.ended == Ending::Released && waited.waited > Some(Duration::ZERO), "{waited:?}");
}

#[test]
fn an_acquire_that_would_wait_for_itself_is_entered() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::options().history(3).open(&target).unwrap();
    let guard = lock.acquire().unwrap();
    assert!(lock.acquire().unwrap_err().is_would_deadlock());
    assert_eq!(ends(&target), [(Ending::Deadlock, std::process::id())]);
    drop(guard);
    let mut ended: Vec<_> = history(&target).iter().map(|past| past.ended.as_str()).collect();
    ended.sort_unstable();
    assert_eq!(ended, ["deadlock", "released"]);
}

#[test]
fn a_tenure_that_was_taken_away_is_one_entry() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    // Broken by an operator, and noticed by the holder later.
    let target = at("broken");
    let lock = Lock::options().history(3).label("mine").open(&target).unwrap();
    let guard = lock.acquire().unwrap();
    guard.set_exit_code(7);
    assert!(!file(&target).exists(), "a break writes to no history that is not there");
    assert!(break_lock(&target, &BreakOptions::default().force(true)).unwrap().broken);
    assert!(guard.release().unwrap_err().is_lost());
    lock.acquire().unwrap().release().unwrap();
    let guard = lock.acquire().unwrap();
    assert!(break_lock(&target, &BreakOptions::default().force(true)).unwrap().broken);
    let ended = || history(&target).iter().map(|past| past.ended).collect::<Vec<_>>();
    assert_eq!(ended(), [Ending::Lost, Ending::Released, Ending::Broken], "the operator's line, before the holder's");
    drop(guard);
    assert_eq!(ended(), [Ending::Lost, Ending::Released, Ending::Broken]);
    assert_eq!(history(&target)[0].exit_code, Some(7));

    // Its lock file was removed: foreign programs were not kept out.
    let target = at("uncovered");
    let guard = Lock::options().history(3).open(&target).unwrap().acquire().unwrap();
    fs::remove_file(lock_file(&target)).unwrap();
    assert!(guard.release().unwrap_err().is_lost());
    assert_eq!(history(&target)[0].ended, Ending::Lost);

    // Revoked; the next holder gets a crash report, which is no second entry.
    let target = at("revoked");
    let mut actor = opened(&target, "history=3 max_hold_ms=1 overrun=revoke events=1");
    let (_, event) = actor.must_and_receive("acquire l g never");
    assert_eq!(event["event"], "overrun");
    let mut next = opened(&target, "history=3");
    next.must("acquire l g forever");
    next.must("release g");
    assert_eq!(ends(&target), [(Ending::Revoked, actor.pid()), (Ending::Released, next.pid())]);
}

#[test]
fn shares_are_entered_each() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::options().style(Style::Flock).history(5).open(&target).unwrap();
    let (one, other) = (lock.acquire_shared(Wait::Never).unwrap(), lock.acquire_shared(Wait::Never).unwrap());
    drop((one, other));
    let past = history(&target);
    assert_eq!(past.len(), 2);
    assert!(past.iter().all(|past| past.shared && past.fence.is_none() && past.ended == Ending::Released));
}

#[test]
fn a_line_that_cannot_be_written_is_reported_and_fails_nothing() {
    let dir = folder();
    let target = dir.path().join("t");
    fs::create_dir(dir.path().join(".tenure")).unwrap();
    fs::create_dir(file(&target)).unwrap();
    let mut actor = opened(&target, "history=3 events=1");
    for _ in 0..2 {
        actor.must("acquire l g never");
        actor.send("release g");
        let event = actor.receive();
        assert_eq!(event["event"], "history-failed", "{event}");
        let said = event["error"].as_str().unwrap();
        assert!(said.contains(".history") && said.contains("the lock itself is not affected"), "{said}");
        assert_eq!(actor.receive()["ok"], true);
    }
    assert!(history(&target).is_empty());
}

#[test]
fn a_lock_that_can_keep_no_history_is_not_opened_with_one() {
    let dir = folder();
    let bare = Lock::options().history(3).record(false).open(dir.path().join("t"));
    assert!(bare.unwrap_err().is_unsupported());
    assert!(Lock::options().history(3).open("etcd://127.0.0.1:1/t").unwrap_err().is_unsupported());
    assert!(tenure::history("etcd://127.0.0.1:1/t").unwrap_err().is_unsupported());
}

#[test]
fn torn_and_hostile_lines_hide_no_others() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::options().history(10).open(&target).unwrap();
    for garbage in ["{\"ended\":\"rele", "\0\0\u{1b}[2J", "", "[[[[[[[["] {
        lock.acquire().unwrap().release().unwrap();
        let text = fs::read(file(&target)).unwrap();
        fs::write(file(&target), [text.as_slice(), garbage.as_bytes()].concat()).unwrap();
    }
    assert_eq!(history(&target).len(), 4);
    // A line in pieces: its process was killed within the write.
    let text = fs::read(file(&target)).unwrap();
    for length in 0..text.len() {
        fs::write(file(&target), &text[..length]).unwrap();
        assert!(history(&target).len() <= 4);
    }
    lock.acquire().unwrap().release().unwrap();
    assert_eq!(history(&target).len(), 5);
    // A file without an end is not read into memory, nor written.
    File::options().write(true).open(file(&target)).unwrap().set_len(1 << 40).unwrap();
    lock.acquire().unwrap().release().unwrap();
    assert_eq!(fs::metadata(file(&target)).unwrap().len(), 1 << 40);
}

/// Several threads and another process end tenures, while others fail to wait: all of them rewrite the file again and again.
#[test]
fn the_file_stays_small_and_has_the_last_of_all() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut other = opened(&target, "history=2 label=other");
    let last = std::thread::scope(|scope| {
        let work = || {
            let lock = Lock::options().history(2).label("x".repeat(100)).open(&target).unwrap();
            let mut last = 0;
            for _ in 0..60 {
                let guard = lock.acquire().unwrap();
                last = guard.fence().unwrap();
                guard.release().unwrap();
            }
            last
        };
        let fail = || {
            let lock = Lock::options().history(2).deadlock_check(false).open(&target).unwrap();
            for _ in 0..100 {
                let _ = lock.acquire_with(Wait::Never);
            }
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        scope.spawn(fail);
        other.must("try-loop l 60");
        threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    });
    let size = fs::metadata(file(&target)).unwrap().len();
    assert!(size < 4096 + 4096, "{size}");
    let held: Vec<_> = history(&target).into_iter().filter(|past| past.ended.was_held()).collect();
    assert_eq!(held.len(), 2);
    assert!(held[1].fence.unwrap() >= last, "{held:?}");
    assert!(!file(&target).with_extension("history.new").exists());
}

/// Whatever call of a release, or of the rewriting after it, is the last: the next holder goes on, with a history that has
/// the tenures before.
#[test]
fn a_kill_at_any_call_leaves_a_history() {
    if !needs("strace", has("strace")) {
        return;
    }
    let prepare = |at: usize| {
        let dir = folder();
        let target = dir.path().join(format!("t{at}"));
        let mut first = opened(&target, "history=1 label=before");
        // As many lines as make the next one too many.
        while !fs::metadata(file(&target)).is_ok_and(|found| found.len() >= 3072) {
            first.must("acquire l g never");
            first.must("release g");
        }
        assert_eq!(first.finish().code(), Some(0));
        let mut actor = opened(&target, "history=1 label=killed");
        actor.must("acquire l g never");
        (actor, "release g".to_owned(), (dir, target))
    };
    let (mut actor, line, kept) = prepare(0);
    let before = fs::metadata(file(&kept.1)).unwrap().len();
    let calls = changing_calls(&mut actor, &line, &[]);
    assert!(fs::metadata(file(&kept.1)).unwrap().len() < before, "it was rewritten");
    assert!(calls.iter().any(|call| call.name.starts_with("rename")) && calls.len() >= 6, "{calls:?}");
    for call in &calls {
        let (_dir, target) = kill_at(prepare, call, &[]);
        assert_eq!(history(&target).len(), 1, "{call:?}");
        let mut next = opened(&target, "history=2 label=next");
        next.must("acquire l g never");
        next.must("release g");
        let past = history(&target);
        assert_eq!(past.len(), 2, "{call:?}: {past:?}");
        assert_eq!(past[1].label.as_deref(), Some("next"), "{call:?}: {past:?}");
        // The killed one's own line, as a crash or a release, unless it had not come that far.
        assert!(matches!(past[0].label.as_deref(), Some("killed" | "before")), "{call:?}: {past:?}");
        for _ in 0..20 {
            next.must("acquire l g never");
            next.must("release g");
        }
        assert!(fs::metadata(file(&target)).unwrap().len() < 2 * 4096, "{call:?}: it is rewritten again");
    }
}

#[test]
fn a_history_goes_with_its_anchor_and_not_before() {
    let dir = folder();
    let target = dir.path().join("t");
    let anchor = target.with_file_name(".tenure").join("t.lock");
    let mut actor = opened(&target, "history=3");
    actor.must("acquire l g never");
    actor.must("release g");
    actor.must("acquire l g never");
    let day = Duration::from_secs(24 * 3600);
    let age = |path: &Path, days: u32| make_older(path, days * day);
    let clean = || clean(dir.path(), &CleanOptions::default()).unwrap().pruned;
    age(&file(&target), 100);
    age(&anchor, 100);
    assert_eq!((clean(), history(&target).len()), (0, 1), "the lock is held");
    actor.must("release g");
    assert_eq!(actor.finish().code(), Some(0));
    age(&anchor, 2);
    age(&file(&target), 2);
    assert_eq!((clean(), history(&target).len()), (0, 2), "a weekly job's history outlives a daily clean-up");
    age(&file(&target), 31);
    // A crash within the rewriting left this.
    fs::write(file(&target).with_extension("history.new"), "").unwrap();
    assert_eq!((clean(), history(&target).len()), (1, 0));
    assert!(!dir.path().join(".tenure").exists());

    // Its anchor was removed by a person.
    let mut actor = opened(&target, "history=3");
    actor.must("acquire l g never");
    actor.must("release g");
    assert_eq!(actor.finish().code(), Some(0));
    fs::remove_file(&anchor).unwrap();
    assert_eq!((clean(), history(&target).len()), (0, 1));
    age(&file(&target), 31);
    assert_eq!((clean(), history(&target).len()), (0, 0));
    assert!(!dir.path().join(".tenure").exists());
}
