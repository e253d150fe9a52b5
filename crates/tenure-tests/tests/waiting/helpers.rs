//! The helper thread: abandoned helpers, barging, and grants within the process.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;

#[test]
fn a_grant_is_not_passed_on_for_a_replaced_target() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for (keys, moved) in [("style=flock", false), ("record=0", false), ("style=flock", true), ("record=0", true)] {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, keys);
        actor.must("acquire l g never");
        actor.must("async-many l 1");
        if moved {
            // The file keeps its link, so only the name shows the change, and the name is checked at most once a
            // millisecond.
            std::fs::rename(&target, dir.path().join("aside")).unwrap();
            std::fs::write(&target, "").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        } else {
            replace(&target);
        }
        let foreign = util_linux(&target, "-x");
        actor.must("release g");
        // It waits for the file that has the name now, and reports nothing meanwhile: its next line follows the end.
        until_waiting(&target, 1);
        end_util_linux(foreign);
        assert_eq!(actor.receive()["event"], "all-granted");
    }
}

/// A live native whose anchor was removed: its lock file is waited for in its own kernel queue, with the new anchor's
/// lock.
#[test]
fn a_waiter_at_a_natives_lock_file_leaves_the_anchor_free() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut one) = (Actor::start(), opened(&target, ""));
    holder.hold(&target);
    std::fs::remove_dir_all(dir.path().join(".tenure")).unwrap();
    one.must("begin l g 60000");
    until_waiting(&target, 1);
    let anchor = dir.path().join(".tenure/t.lock");
    // The waiter has the anchor while it checks the lock file, and must not have it while it waits: a stopped waiter
    // would block everybody.
    until("the anchor is free", || util_linux_may(&anchor, "-x"));
    holder.kill();
    let granted = one.receive();
    assert_eq!(granted["event"], "granted", "{granted}");
    one.must("check g");
}

/// An abandoned helper wakes up while its process holds another lock.
#[test]
fn an_abandoned_helper_changes_nothing_when_it_wakes_up() {
    if !needs("flock(1)", has("flock")) {
        return;
    }
    for (keys, wait) in
        [("style=flock", "never"), ("record=0", "never"), ("style=flock", "60000"), ("record=0", "60000")]
    {
        let dir = folder();
        let target = dir.path().join("t");
        let mut actor = opened(&target, keys);
        let foreign = util_linux(&target, "-x");
        let old = format!(":{} ", tenure_tests::inode(&target).unwrap());
        actor.must_fail("acquire l g 100", "busy");
        replace(&target);
        actor.must(&format!("share l s {wait}"));
        end_util_linux(foreign);
        // It gets the lock for which it waited, and closes the file.
        until("no process has the old file", || !std::fs::read_to_string("/proc/locks").unwrap().contains(&old));
        actor.must_fail("acquire l g 60000", "would-deadlock");
        actor.must("release s");
        assert!(util_linux_may(&target, "-x"), "{keys}");
    }
}

/// The same after a break: it wakes up when the broken holder ends.
#[test]
fn a_helper_abandoned_after_a_break_changes_nothing_when_it_wakes_up() {
    let dir = folder();
    let target = dir.path().join("t");
    let (mut holder, mut waiter) = (opened(&target, ""), opened(&target, ""));
    holder.must("acquire l g never");
    let old = format!(":{} ", tenure_tests::inode(&dir.path().join(".tenure/t.lock")).unwrap());
    waiter.must("begin l g 60000");
    until_waiting(&target, 1);
    tenure::break_lock(&target, &tenure::BreakOptions::default().force(true)).unwrap();
    assert_eq!(waiter.receive()["event"], "granted");
    holder.must_fail("release g", "lost");
    until("no process has the old anchor", || !std::fs::read_to_string("/proc/locks").unwrap().contains(&old));
    waiter.must_fail("acquire l h never", "busy");
    waiter.must("check g");
    waiter.must("release g");
    assert!(!dir.path().join("t.lock").exists());
    holder.must("acquire l g never");
}

/// Starts an actor that holds `g`, with a waiting thread that does not run until the second value is dropped.
fn beside_a_stopped_waiter(target: &Path, keys: &str) -> (Actor, Stepped) {
    let mut actor = opened(target, keys);
    actor.must("acquire l g never");
    actor.must("begin l late 600000");
    // The youngest thread: a watchdog started before it, and no helper is needed while this process holds.
    let tasks = std::fs::read_dir(format!("/proc/{}/task", actor.pid())).unwrap();
    let ids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse::<u32>().unwrap());
    let waiter = ids.max().unwrap();
    until("it waits", || sleeps_until_a_deadline(actor.pid(), waiter));
    let stopped = Stepped::stop(waiter);
    (actor, stopped)
}

#[test]
fn a_release_reports_a_loss_although_another_thread_waits() {
    let dir = folder();
    let (mut actor, stopped) = beside_a_stopped_waiter(&dir.path().join("t"), "");
    std::fs::remove_file(dir.path().join("t.lock")).unwrap();
    actor.must_fail("release g", "lost");
    drop(stopped);
    assert_eq!(actor.receive()["event"], "granted");
    actor.must("check late");
}

#[test]
fn a_running_thread_barges_eight_times_before_a_woken_waiter() {
    let dir = folder();
    let (mut actor, stopped) = beside_a_stopped_waiter(&dir.path().join("t"), "");
    actor.must("release g");
    for _ in 0..8 {
        actor.must("acquire l g never");
        actor.must("release g");
    }
    busy_and_granted(&mut actor, stopped);
}

/// Asserts that the waiter is granted the lock, and not this thread.
fn busy_and_granted(actor: &mut Actor, stopped: Stepped) {
    actor.must_fail("acquire l g never", "busy");
    drop(stopped);
    let event = actor.receive();
    assert_eq!(event["event"], "granted", "{event}");
    actor.must("check late");
    actor.must("release late");
    actor.must("acquire l g never");
}

/// Other processes are granted the lock after that many.
#[test]
fn a_grant_passes_within_the_process_without_the_kernel_thirty_two_times_in_a_row() {
    if !needs("strace", has("strace")) {
        return;
    }
    for keys in ["", "style=flock", "record=0"] {
        let dir = folder();
        let mut actor = opened(&dir.path().join("t"), keys);
        actor.must("acquire l g never");
        actor.must("async-many l 99");
        // Each tenure's record, or with `record=0` the check of the target, is slowed: 32 take more than half a
        // millisecond.
        let slow = ["-f", "-e", "trace=flock,pwrite64,statx", "-e", "inject=pwrite64,statx:delay_enter=30"];
        let strace = Strace::attach(actor.pid(), &slow);
        assert_eq!(actor.must_and_receive("release g").1["event"], "all-granted");
        let unlocks = strace.detach().iter().filter(|line| line.contains("LOCK_UN")).count();
        // A hundred tenures in four rows; in flock style two files are unlocked.
        let files = if keys == "style=flock" { 2 } else { 1 };
        assert!((4 * files..=6 * files).contains(&unlocks), "{keys}: {unlocks}");
    }
}

#[test]
fn cached_files_that_were_removed_are_closed() {
    for keys in ["style=flock", ""] {
        let dir = folder();
        let target = dir.path().join("t");
        let (mut actor, stopped) = beside_a_stopped_waiter(&target, keys);
        actor.must("release g");
        if keys.is_empty() {
            std::fs::remove_dir_all(dir.path().join(".tenure")).unwrap();
        } else {
            replace(&target);
        }
        busy_and_granted(&mut actor, stopped);
    }
}

/// The future of `revoked()` keeps an ended tenure, with its open anchor, on which an abandoned helper is granted the lock.
#[test]
fn an_abandoned_helper_keeps_no_lock_on_a_file_that_an_ended_tenure_has_open() {
    let dir = folder();
    let target = dir.path().join("t");
    let lock = Lock::options().style(Style::Flock).open(&target).unwrap();
    let guard = lock.acquire_with(Wait::Never).unwrap();
    let mut revoked = pin!(guard.revoked());
    assert!(revoked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    guard.release().unwrap();
    let (mut holder, mut other) = (opened(&target, "style=flock"), opened(&target, "style=flock"));
    holder.must("acquire l g never");
    // The helper waits for the exclusive lock and stays. The shared acquire needs another one.
    let limit = Duration::from_millis(50);
    assert!(lock.acquire_timeout(limit).unwrap_err().is_busy());
    assert!(lock.acquire_shared(Wait::For(limit)).unwrap_err().is_busy());
    holder.must("release g");
    other.must("acquire l g 60000");
    assert!(revoked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}
