//! Turns between processes: one that has the lock again and again makes way for those who wait. It only orders: whoever
//! does not come, stopped or dead, keeps nobody from the lock.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests look at files and processes as anyone would")]

use std::path::Path;
use std::time::Duration;

use tenure::inspect;
use tenure_tests::strace::Strace;
use tenure_tests::{Actor, folder, has, needs, signal, until};

fn opened(target: &Path, keys: &str) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {} {keys}", target.display()));
    actor
}

fn until_waiting(target: &Path, count: usize) {
    until("processes wait", || inspect(target).unwrap().waiters == Some(count));
}

/// Stops it, with all its threads: one that ran on would be granted.
fn stop(actor: &Actor) {
    signal(actor.pid(), libc::SIGSTOP);
    let stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
    };
    let tasks = format!("/proc/{}/task", actor.pid());
    until("all threads are stopped", || std::fs::read_dir(&tasks).unwrap().all(stopped));
}

/// The sleeps that `actor` makes during a command, in whatever thread.
fn sleeps(actor: &mut Actor, line: &str) -> usize {
    let strace = Strace::attach(actor.pid(), &["-f", "-e", "trace=clock_nanosleep,nanosleep"]);
    actor.must(line);
    strace.detach().iter().filter(|text| text.contains("nanosleep(")).count()
}

fn stays_away(keys: &str) {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut greedy, mut waiter) = (opened(&target, keys), opened(&target, keys));
    greedy.must("acquire l g 60000");
    waiter.must("begin l g 60000");
    until_waiting(&target, 1);
    stop(&waiter);
    greedy.must("release g");
    // Longer than a turn.
    std::thread::sleep(Duration::from_millis(20));
    assert!(sleeps(&mut greedy, "acquire l g 60000") > 0, "one that waits is given no time to come");
    greedy.must("release g");
    signal(waiter.pid(), libc::SIGCONT);
    assert_eq!(waiter.hear()["event"], "granted");
    waiter.must("release g");
    // Nobody waits any more.
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(sleeps(&mut greedy, "acquire l g 60000"), 0);
}

#[test]
fn who_had_its_turn_stays_away_for_a_moment_while_another_waits() {
    stays_away("");
}

#[test]
fn in_flock_style_too() {
    stays_away("style=flock");
}

#[test]
fn a_try_never_stays_away() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut greedy, mut waiter) = (opened(&target, ""), opened(&target, ""));
    greedy.must("acquire l g 60000");
    waiter.must("begin l g 60000");
    until_waiting(&target, 1);
    stop(&waiter);
    greedy.must("release g");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(sleeps(&mut greedy, "acquire l g 0"), 0);
    greedy.must("release g");
    signal(waiter.pid(), libc::SIGCONT);
    assert_eq!(waiter.hear()["event"], "granted");
}

#[test]
fn a_waiter_that_was_killed_costs_no_moment() {
    if !needs("strace", has("strace")) {
        return;
    }
    let dir = folder();
    let target = dir.path().join("t");
    let (mut greedy, mut waiter) = (opened(&target, ""), opened(&target, ""));
    greedy.must("acquire l g 60000");
    waiter.must("begin l g 60000");
    until_waiting(&target, 1);
    waiter.kill();
    until_waiting(&target, 0);
    greedy.must("release g");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(sleeps(&mut greedy, "acquire l g 60000"), 0);
}
