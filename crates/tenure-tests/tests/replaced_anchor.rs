//! What the protocol's model found: an anchor that goes, a fence that is overtaken, a swap that nobody looks for. Each needs
//! two programs at certain steps, so one of them is stopped there.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests look at files and processes as anyone would")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tenure_tests::strace::Strace;
use tenure_tests::{Actor, folder, has, needs, signal, until_waiting};

fn ready(target: &Path) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {}", target.display()));
    actor
}

fn fence(granted: &Value) -> u64 {
    granted["fence"].as_u64().unwrap_or_else(|| panic!("{granted}"))
}

/// Acquires and releases, so that the anchor is there.
fn anchored(target: &Path) -> Actor {
    let mut actor = ready(target);
    actor.must("acquire l g never");
    actor.must("release g");
    actor
}

/// Stops `actor` after the `nth` of this system call in what it is told.
fn stopped_after(actor: &mut Actor, line: &str, call: &str, nth: u32) {
    // Let go of while it is stopped: no kill waits for it.
    drop(Strace::stops(actor, line, &[&format!("{call}:signal=STOP:when={nth}")]));
}

/// Without hard links, for as long as strace is there: one is stopped just before it shows its copy.
fn stopped_before_its_copy(target: &Path, line: &str) -> (Actor, Strace) {
    drop(anchored(target));
    let mut late = ready(target);
    // The first record is the anchor's, the second the copy's.
    let strace = Strace::stops(&mut late, line, &["linkat:error=EPERM", "pwrite64:signal=STOP:when=2"]);
    (late, strace)
}

fn go_on(actor: &mut Actor) -> Value {
    signal(actor.pid(), libc::SIGCONT);
    actor.hear()
}

/// Another, who is returned, holds and releases while `late` is stopped; then `late` is granted after it, as is returned too,
/// and excludes it.
fn comes_after_another(late: &mut Actor, target: &Path) -> (Actor, Value) {
    let mut other = ready(target);
    let before = fence(&other.must("acquire l g never"));
    other.must("release g");
    let granted = go_on(late);
    assert!(fence(&granted) > before, "{granted} comes after {before}");
    late.must("check g");
    other.must_fail("acquire l h never", "busy");
    (other, granted)
}

/// The anchor of one that has the kernel lock and has written its record goes, and another acquires and releases meanwhile.
/// The link that comes next takes the anchor by its name, which is the other's.
fn goes_before_the_link(remove: impl Fn(&Path)) {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    drop(anchored(&target));
    let mut late = ready(&target);
    stopped_after(&mut late, "acquire l g 10000", "pwrite64", 1);
    remove(&target);
    let (mut other, _) = comes_after_another(&mut late, &target);
    late.must("release g");
    other.must("acquire l h never");
}

#[test]
fn an_anchor_that_is_removed_before_the_link_is_no_grant() {
    goes_before_the_link(|target| fs::remove_dir_all(target.with_file_name(".tenure")).unwrap());
}

#[test]
fn an_anchor_that_is_broken_before_the_link_is_no_grant() {
    goes_before_the_link(|target| {
        Actor::start().must(&format!("break {} force", target.display()));
    });
}

/// The same for one that has waited: its helper begins anew.
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
    let (mut other, _) = comes_after_another(&mut late, &target);
    late.must("release g");
    other.must("acquire l h never");
}

/// Without hard links: the lock file is a copy, which does not depend on the anchor's name.
#[test]
fn an_anchor_that_is_removed_before_the_copy_is_published_is_no_grant() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut late, strace) = stopped_before_its_copy(&target, "acquire l g 10000");
    fs::remove_file(target.with_file_name(".tenure").join("t.lock")).unwrap();
    let (_, granted) = comes_after_another(&mut late, &target);
    assert_eq!(granted["crashed"], Value::Null, "its own first copy is gone: {granted}");
    drop(strace);
}

/// Without hard links: it is renamed into its place between the two looks of the break.
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
    breaker.tell(&format!("break {} force", target.display()));
    // Another has a file in the making.
    waits.wait_for("EAGAIN");
    go_on(&mut late);
    assert_eq!(breaker.hear()["ok"], true);
    drop((waits, strace));
    late.must_fail("check g", "lost");
    assert!(!target.with_file_name("t.lock").exists());
    ready(&target).must("acquire l g never");
}

/// A clock that was set back, as far as fences go: the last one is a day ahead of it.
fn set_back(target: &Path) {
    let ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() + 86_400_000_000;
    let anchor = target.with_file_name(".tenure").join("t.lock");
    let text = fs::read_to_string(&anchor).unwrap();
    let (head, tail) = text.split_once("\"fence\": ").unwrap();
    let rest = tail.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let width = tail.len() - rest.len();
    fs::write(&anchor, format!("{head}\"fence\": {ahead:width$}{rest}")).unwrap();
}

/// How often a break of a live holder reads a record before it renames the new anchor.
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
    // It has made the new anchor and looked once more whose lock it breaks, and has not renamed it yet.
    let reads = reads_before_the_renaming();
    stopped_after(&mut breaker, &format!("break {} force", target.display()), "pread64", reads);
    assert!(target.with_file_name(".tenure").join("t.lock.new").exists());
    first.must("release g");
    let second = fence(&first.must("acquire l h never"));
    let broken = go_on(&mut breaker);
    assert_eq!(broken["ok"], true, "{broken}");
    let mut third = ready(&target);
    let granted = third.must("acquire l g 10000");
    assert!(fence(&granted) > second, "{granted} comes after {second}");
}

/// An actor that died in a takeover: the lock file shows it, and the swap names what it judged.
fn dead_in_a_takeover(target: &Path, judged: impl FnOnce(&Path)) {
    let mut dead = anchored(target);
    judged(target);
    let faults = ["-e", "trace=unlinkat", "-e", "inject=unlinkat:signal=KILL:when=1"];
    let strace = Strace::attach(dead.pid(), &faults);
    dead.tell("acquire l g never");
    dead.await_end();
    drop(strace);
    assert!(target.with_file_name(".tenure").join("t.lock.swap").exists());
}

fn dead_foreign(target: &Path) {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let text = format!("{{\n  \"pid\": {},\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\"\n}}", child.id());
    fs::write(target.with_file_name("t.lock"), text).unwrap();
}

/// A foreign program, or a person, removes the dead native's lock file, and with it the anchor's second link, which tells of
/// a swap. The record tells of it too.
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
    // Told once.
    assert_eq!(next.must("acquire l g never")["crashed"], Value::Null);
}
