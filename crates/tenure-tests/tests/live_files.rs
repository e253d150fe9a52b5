//! Lock files that name no process: a file that a process has open or locked is alive, and an empty one may have any
//! holder. Also stopped waiters and replaced targets.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tenure::{CleanOptions, State, clean, status};
use tenure_tests::strace::Strace;
use tenure_tests::{
    Actor, end_util_linux, folder, has, inode, lock_file, make_older, needs, opened, signal, stop_without_lock, until,
    until_waiting, util_linux, util_linux_may, write_apart,
};

/// Longer than OpenClaw's own half hour.
const OLD: Duration = Duration::from_secs(7200);
/// Longer than the grace period of a file that begins as OpenClaw's JSON.
const SOME: Duration = Duration::from_secs(60);

/// Creates a file of this text and age, beside a target that no process has locked before.
fn left(dir: &Path, name: &str, text: &str, age: Duration) -> PathBuf {
    let target = dir.join(name);
    write_apart(&lock_file(&target), text, age);
    target
}

/// Starts a shell that has a file open for reading by `9<file`, and locks nothing.
fn reader(path: &Path) -> Child {
    let mut child = Command::new("sh")
        .args(["-c", "exec 9<\"$1\"; echo open; read line", "sh", path.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "open\n");
    child
}

/// Asserts that no acquire, and no `clean` of either kind, removes the file, and that a waiter waits.
fn is_respected(target: &Path, state: State) {
    let before = inode(&lock_file(target));
    let mut actor = opened(target, "");
    actor.must_fail("acquire l g never", "busy");
    assert_eq!(status(target).unwrap().state, state);
    let dir = target.parent().unwrap();
    for options in [CleanOptions::default(), CleanOptions::default().aged(true)] {
        let cleaned = clean(dir, &options).unwrap();
        assert!(cleaned.locks.iter().all(|lock| !lock.removed), "{cleaned:?}");
    }
    assert_eq!(inode(&lock_file(target)), before);
    actor.must("begin l g 60000");
    until_waiting(target, 1);
    assert_eq!(inode(&lock_file(target)), before);
}

#[test]
fn a_lock_file_that_flock1_holds_is_alive_however_old() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for (name, text) in [("empty", ""), ("torn", "{\n  \"pid"), ("object", "{}"), ("zeros", "\0\0\0\0")] {
        let dir = folder();
        let target = left(dir.path(), name, text, OLD);
        let holder = util_linux(&lock_file(&target), "-x");
        is_respected(&target, State::Held);
        assert!(!util_linux_may(&lock_file(&target), "-x"), "{name}: a second flock(1) holds beside the first");
        end_util_linux(holder);
    }
}

#[test]
fn a_lock_file_that_a_process_only_reads_is_alive_however_old() {
    let dir = folder();
    let target = left(dir.path(), "t", "", OLD);
    let mut holder = reader(&lock_file(&target));
    is_respected(&target, State::Held);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    // Closed, and older than OpenClaw's own limit: no process has it any more.
    let mut next = opened(&target, "");
    let granted = next.must("acquire l g 60000");
    assert!(granted["crashed"].is_object(), "{granted}");
}

#[test]
fn a_closed_empty_file_may_have_a_holder_for_half_an_hour() {
    let dir = folder();
    // As git's HEAD.lock in the middle of a commit, and `touch` and `rm` in a script.
    let target = left(dir.path(), "HEAD", "", Duration::from_secs(1700));
    is_respected(&target, State::Unknown);
    let error = opened(&target, "").must_fail("acquire l g never", "busy");
    let said = error["error"].as_str().unwrap();
    assert!(said.contains("flock(1)") && said.contains("--flock"), "{said}");
    make_older(&lock_file(&target), OLD);
    assert_eq!(status(&target).unwrap().state, State::Stale);
    let kept = clean(dir.path(), &CleanOptions::default()).unwrap();
    assert!(kept.locks.iter().all(|lock| lock.only_aged && !lock.removed), "{kept:?}");
    let gone = clean(dir.path(), &CleanOptions::default().aged(true)).unwrap();
    assert!(gone.locks.iter().all(|lock| lock.removed), "{gone:?}");
    assert!(!lock_file(&target).exists());
}

#[test]
fn a_native_that_died_before_its_grant_proves_no_use() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = left(dir.path(), "t", "", SOME);
    // It has written its record, and dies before it tries the lock file's path.
    let mut victim = opened(&target, "");
    let strace = Strace::inject(victim.pid(), &["linkat:signal=KILL:when=1"]);
    victim.send("acquire l g never");
    victim.await_end();
    drop(strace);
    opened(&target, "").must_fail("acquire l g never", "busy");
    assert_eq!(status(&target).unwrap().state, State::Unknown);
    assert!(lock_file(&target).exists());
}

#[test]
fn a_lock_that_natives_have_used_has_the_short_grace_period() {
    let dir = folder();
    let target = dir.path().join("t");
    let mut actor = opened(&target, "");
    actor.must("acquire l g never");
    actor.must("release g");
    left(dir.path(), "t", "", SOME);
    assert_eq!(status(&target).unwrap().state, State::Stale);
    actor.must("acquire l g never");
    actor.must("release g");
    // In flock style nothing was learnt about the lock file's path.
    let target = dir.path().join("f");
    let mut actor = opened(&target, "style=flock");
    actor.must("acquire l g never");
    actor.must("release g");
    left(dir.path(), "f", "", SOME);
    assert_eq!(status(&target).unwrap().state, State::Unknown);
    opened(&target, "").must_fail("acquire l g never", "busy");
}

/// Stops an actor right before it exchanges a stale lock file.
fn stopped_before_the_exchange(target: &Path) -> (Actor, Strace) {
    let mut actor = opened(target, "");
    // The first link is tried at the lock file's path, the second creates the swap.
    let strace = Strace::stops(&mut actor, "acquire l g never", &["linkat:signal=STOP:when=2"]);
    (actor, strace)
}

#[test]
fn a_takeover_holds_the_files_own_flock_during_the_exchange() {
    if !needs("flock(1) and strace", has("flock") && has("strace")) {
        return;
    }
    for text in ["", "{\n  \"pid\": 4194305,\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\"\n}"] {
        let dir = folder();
        let target = left(dir.path(), "t", text, OLD);
        let (mut actor, strace) = stopped_before_the_exchange(&target);
        assert!(
            !util_linux_may(&lock_file(&target), "-x"),
            "it would hold a file that is about to be removed: {text:?}"
        );
        drop(strace);
        signal(actor.pid(), libc::SIGCONT);
        assert_eq!(actor.receive()["ok"], true);
        actor.must("check g");
    }
}

#[test]
fn a_file_opened_since_its_judgement_is_restored() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = left(dir.path(), "t", "", OLD);
    let before = inode(&lock_file(&target));
    let (mut actor, strace) = stopped_before_the_exchange(&target);
    let mut late = reader(&lock_file(&target));
    drop(strace);
    signal(actor.pid(), libc::SIGCONT);
    assert_eq!(actor.receive()["kind"], "busy");
    assert_eq!(inode(&lock_file(&target)), before);
    drop(late.stdin.take());
    late.wait().unwrap();
    actor.must("acquire l g 60000");
}

/// Asserts that a stopped waiter does not block a lock that was freed meanwhile.
fn blocks_nothing(target: &Path, keys: &str, mut waiter: Actor, end: impl FnOnce()) {
    stop_without_lock(waiter.pid());
    end();
    assert_eq!(status(target).unwrap().state, State::Free);
    let mut next = opened(target, keys);
    next.must("acquire l g never");
    next.must("check g");
    next.must("release g");
    signal(waiter.pid(), libc::SIGCONT);
    assert_eq!(waiter.receive()["event"], "granted");
    waiter.must("check g");
}

#[test]
fn a_stopped_waiter_leaves_a_free_target_free() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for keys in ["style=flock", "record=0"] {
        let dir = folder();
        let target = dir.path().join("t");
        std::fs::write(&target, "").unwrap();
        let holder = util_linux(&target, "-x");
        let mut waiter = opened(&target, keys);
        waiter.must("begin l g 60000");
        until_waiting(&target, 1);
        blocks_nothing(&target, keys, waiter, || end_util_linux(holder));
    }
}

#[test]
fn a_stopped_waiter_leaves_a_lock_free_that_a_foreign_program_released() {
    let dir = folder();
    let target = left(dir.path(), "t", "", Duration::ZERO);
    let mut waiter = opened(&target, "");
    waiter.must("begin l g 60000");
    // It is reported as a waiter, though it is in no kernel queue.
    until("it waits", || status(&target).unwrap().queue == [i64::from(waiter.pid())]);
    blocks_nothing(&target, "", waiter, || std::fs::remove_file(lock_file(&target)).unwrap());
}

#[test]
fn a_process_that_is_stopped_in_an_acquire_is_named() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut other = opened(&target, "");
    // The record is its own from here on, and it is alive: it must not be reported as another holder.
    other.must("acquire l g never");
    other.must("release g");
    let mut stopped = opened(&target, "");
    drop(Strace::stops(&mut stopped, "acquire l g never", &["flock:signal=STOP:when=1"]));
    let found = status(&target).unwrap();
    assert_eq!(found.state, State::Held, "{found:?}");
    assert_eq!(found.holder.as_ref().unwrap().pid(), Some(stopped.pid().into()), "{found:?}");
    let error = opened(&target, "").must_fail("acquire l g never", "busy");
    assert_eq!(error["holder"], stopped.pid(), "{error}");
    // An operator may break even that.
    let broken = other.must(&format!("break {} force", target.display()));
    assert_eq!(broken["broken"], true, "{broken}");
    other.must("acquire l g never");
    signal(stopped.pid(), libc::SIGCONT);
    assert_eq!(stopped.receive()["kind"], "busy");
    other.must("check g");
}

#[test]
fn flock_style_reports_a_replaced_or_removed_target() {
    for keys in ["style=flock", "record=0"] {
        for (removed, events) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            let dir = folder();
            let target = dir.path().join("t");
            std::fs::write(&target, "one").unwrap();
            let mut actor = opened(&target, &format!("{keys} events={events}"));
            actor.must("acquire l g never");
            actor.must("check g");
            std::fs::write(dir.path().join("new"), "two").unwrap();
            match removed {
                true => std::fs::remove_file(&target).unwrap(),
                false => std::fs::rename(dir.path().join("new"), &target).unwrap(),
            }
            if events == 1 {
                // Notified by the watchdog, if the program asked for it.
                assert_eq!(actor.receive()["event"], "lost");
                continue;
            }
            let error = actor.must_fail("check g", "lost");
            assert!(error["error"].as_str().unwrap().contains("the target was"), "{error}");
        }
    }
}
