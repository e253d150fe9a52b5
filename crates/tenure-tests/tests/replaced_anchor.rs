//! Defects that the protocol's model found: an anchor that is removed, a fence that is overtaken, a swap that no
//! process looks for. Each needs two programs at certain steps, so one of them is stopped there.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tenure_tests::strace::Strace;
use tenure_tests::{Actor, folder, has, needs, signal, until_waiting, write_apart};

fn ready(target: &Path) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {}", target.display()));
    actor
}

fn fence(granted: &Value) -> u64 {
    granted["fence"].as_u64().unwrap_or_else(|| panic!("{granted}"))
}

/// Acquires and releases, which creates the anchor.
fn anchored(target: &Path) -> Actor {
    let mut actor = ready(target);
    actor.must("acquire l g never");
    actor.must("release g");
    actor
}

/// Runs a line in `actor` and stops it after the `nth` of this system call.
fn stopped_after(actor: &mut Actor, line: &str, call: &str, nth: u32) {
    // Detached while the actor is stopped: no kill waits for it.
    drop(Strace::stops(actor, line, &[&format!("{call}:signal=STOP:when={nth}")]));
}

/// Starts an actor without hard links for as long as strace is attached, and stops it just before it publishes its
/// copy.
fn stopped_before_its_copy(target: &Path, line: &str) -> (Actor, Strace) {
    drop(anchored(target));
    let mut late = ready(target);
    // The first record is the anchor's, the second the copy's.
    let strace = Strace::stops(&mut late, line, &["linkat:error=EPERM", "pwrite64:signal=STOP:when=2"]);
    (late, strace)
}

fn resume(actor: &mut Actor) -> Value {
    signal(actor.pid(), libc::SIGCONT);
    actor.receive()
}

/// Lets another actor hold and release while `late` is stopped. Then `late` is granted with a greater fence, and
/// excludes the other. Returns the other actor and the grant.
fn is_granted_after_another(late: &mut Actor, target: &Path) -> (Actor, Value) {
    let mut other = ready(target);
    let before = fence(&other.must("acquire l g never"));
    other.must("release g");
    let granted = resume(late);
    assert!(fence(&granted) > before, "{granted} follows {before}");
    late.must("check g");
    other.must_fail("acquire l h never", "busy");
    (other, granted)
}

/// Removes the anchor of an actor that has the kernel lock and has written its record; another actor acquires and
/// releases meanwhile. The next link names the anchor by its path, which is the other's.
fn is_removed_before_the_link(remove: impl Fn(&Path)) {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    drop(anchored(&target));
    let mut late = ready(&target);
    stopped_after(&mut late, "acquire l g 600000", "pwrite64", 1);
    remove(&target);
    let (mut other, _) = is_granted_after_another(&mut late, &target);
    late.must("release g");
    other.must("acquire l h never");
}

#[test]
fn an_anchor_that_is_removed_before_the_link_is_no_grant() {
    is_removed_before_the_link(|target| fs::remove_dir_all(target.with_file_name(".tenure")).unwrap());
}

#[test]
fn an_anchor_that_is_broken_before_the_link_is_no_grant() {
    is_removed_before_the_link(|target| {
        Actor::start().must(&format!("break {} force", target.display()));
    });
}

/// The same for a waiter: its helper thread starts again.
#[test]
fn an_anchor_that_is_removed_before_a_waiters_link_is_no_grant_and_no_error() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = anchored(&target);
    holder.must("acquire l g never");
    let mut late = ready(&target);
    late.must("begin l g 60000");
    until_waiting(&target, 1);
    let strace = Strace::inject(late.pid(), &["pwrite64:signal=STOP:when=1"]);
    holder.must("release g");
    strace.wait_for("stopped by SIGSTOP");
    drop(strace);
    fs::remove_dir_all(target.with_file_name(".tenure")).unwrap();
    let (mut other, _) = is_granted_after_another(&mut late, &target);
    late.must("release g");
    other.must("acquire l h never");
}

/// Without hard links, the lock file is a copy, which does not depend on the anchor's name.
#[test]
fn an_anchor_that_is_removed_before_the_copy_is_published_is_no_grant() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut late, strace) = stopped_before_its_copy(&target, "acquire l g 600000");
    fs::remove_file(target.with_file_name(".tenure").join("t.lock")).unwrap();
    let (_, granted) = is_granted_after_another(&mut late, &target);
    assert_eq!(granted["crashed"], Value::Null, "its own first copy is removed: {granted}");
    drop(strace);
}

/// Without hard links, the copy is renamed to its path between the two looks of the break.
#[test]
fn a_break_removes_a_copy_that_was_just_published() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut late, strace) = stopped_before_its_copy(&target, "acquire l g never");
    let mut breaker = Actor::start();
    let waits = Strace::attach(breaker.pid(), &["-e", "trace=flock"]);
    breaker.send(&format!("break {} force", target.display()));
    // Another process has an unfinished file.
    waits.wait_for("EAGAIN");
    resume(&mut late);
    assert_eq!(breaker.receive()["ok"], true);
    drop((waits, strace));
    late.must_fail("check g", "lost");
    assert!(!target.with_file_name("t.lock").exists());
    ready(&target).must("acquire l g never");
}

/// Sets the clock back as far as fences are concerned: the last fence is a day ahead.
fn set_back(target: &Path) {
    let ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() + 86_400_000_000;
    let anchor = target.with_file_name(".tenure").join("t.lock");
    let text = fs::read_to_string(&anchor).unwrap();
    let (head, tail) = text.split_once("\"fence\": ").unwrap();
    let rest = tail.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let width = tail.len() - rest.len();
    fs::write(&anchor, format!("{head}\"fence\": {ahead:width$}{rest}")).unwrap();
}

/// Returns the number of reads of a record by a break of a live holder before it renames the new anchor.
fn reads_before_the_renaming() -> u32 {
    let dir = folder();
    let target = dir.path().join("t");
    let mut holder = anchored(&target);
    holder.must("acquire l g never");
    let mut breaker = Actor::start();
    let strace = Strace::attach(breaker.pid(), &["-e", "trace=pread64,renameat2,renameat"]);
    breaker.must(&format!("break {} force", target.display()));
    let calls = strace.calls();
    let before = calls.iter().take_while(|call| call.name == "pread64").count();
    assert!(before < calls.len(), "nothing was renamed");
    before.try_into().unwrap()
}

#[test]
fn a_break_continues_the_fence_of_a_holder_granted_meanwhile() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let mut first = anchored(&target);
    set_back(&target);
    first.must("acquire l g never");
    let mut breaker = Actor::start();
    // It has created the new anchor and checked the holder once more, and has not renamed the anchor yet.
    let reads = reads_before_the_renaming();
    stopped_after(&mut breaker, &format!("break {} force", target.display()), "pread64", reads);
    assert!(target.with_file_name(".tenure").join("t.lock.new").exists());
    first.must("release g");
    let second = fence(&first.must("acquire l h never"));
    let broken = resume(&mut breaker);
    assert_eq!(broken["ok"], true, "{broken}");
    let mut third = ready(&target);
    let granted = third.must("acquire l g 600000");
    assert!(fence(&granted) > second, "{granted} follows {second}");
}

/// Kills an actor in a takeover: the lock file names it, and the swap names the file that it judged.
fn dead_in_a_takeover(target: &Path, judged: impl FnOnce(&Path)) {
    let mut dead = anchored(target);
    judged(target);
    let faults = ["-e", "trace=unlinkat", "-e", "inject=unlinkat:signal=KILL:when=1"];
    let strace = Strace::attach(dead.pid(), &faults);
    dead.send("acquire l g never");
    dead.await_end();
    drop(strace);
    assert!(target.with_file_name(".tenure").join("t.lock.swap").exists());
}

fn dead_foreign(target: &Path) {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let text = format!("{{\n  \"pid\": {},\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\"\n}}", child.id());
    write_apart(&target.with_file_name("t.lock"), text, Duration::ZERO);
}

/// A foreign program, or a person, removes the dead native's lock file, and with it the anchor's second link, which
/// shows a swap. The record shows the swap too.
#[test]
fn a_swap_is_found_although_the_lock_file_was_removed() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    dead_in_a_takeover(&target, dead_foreign);
    fs::remove_file(target.with_file_name("t.lock")).unwrap();
    let mut next = ready(&target);
    let granted = next.must("acquire l g never");
    assert_ne!(granted["crashed"], Value::Null, "{granted}");
    assert!(!target.with_file_name(".tenure").join("t.lock.swap").exists());
    next.must("release g");
    // Reported once.
    assert_eq!(next.must("acquire l g never")["crashed"], Value::Null);
}
