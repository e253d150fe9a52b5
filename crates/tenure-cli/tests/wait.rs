//! `tenure wait`: it ends when its condition is met, and never acquires the lock.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, ends, kill};
use rustix::process::Signal;

/// Starts `tenure wait`, and returns once it sleeps in `poll`: its condition was not met.
fn waiting(scratch: &Scratch, words: &[&str]) -> Running {
    let waiter = Running::start(scratch.tenure([&["wait"], words].concat()));
    let began = Instant::now();
    let sleeps = || {
        let call = fs::read_to_string(format!("/proc/{}/wchan", waiter.pid())).unwrap_or_default();
        call.contains("poll")
    };
    while !sleeps() {
        assert!(began.elapsed() < PATIENCE, "it never waited");
        thread::yield_now();
    }
    waiter
}

/// Returns the number of its read calls. Each check makes the same number of them.
fn reads(waiter: &Running) -> u64 {
    let counts = fs::read_to_string(format!("/proc/{}/io", waiter.pid())).unwrap();
    counts.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

#[test]
fn a_condition_that_is_met_already_ends_it_at_once() {
    let scratch = Scratch::new();
    for target in ["a", "none/b"] {
        let done = scratch.done(["wait", target]);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
    }
    assert!(scratch.names().is_empty());
    let mut holder = scratch.hold(["a"]);
    assert_eq!(scratch.done(["wait", "--until", "held", "a"]).code, Some(0));
    holder.finish();
}

#[test]
fn a_release_ends_it() {
    let scratch = Scratch::new();
    for style in [&[][..], &["--flock"], &["--flock", "--no-record"]] {
        let mut holder = scratch.hold([style, &["a"]].concat());
        let mut waiter = waiting(&scratch, &["a"]);
        // It is not in the lock's queue, so it is not counted as a waiter.
        assert_eq!(scratch.json(["status", "--json", "a"])["waiters"], 0);
        holder.finish();
        assert_eq!(waiter.wait().code(), Some(0), "{style:?}");
        assert_eq!(waiter.stderr.rest(), [""; 0]);
    }
}

#[test]
fn the_end_of_a_foreign_holder_ends_it() {
    let scratch = Scratch::new();
    // The holder creates its lock file exclusively and keeps it open, as OpenClaw's session lock does.
    let script = "set -C; exec 3> a.lock; echo \"{\\\"pid\\\": $$}\" >&3; echo held; read x; rm a.lock";
    let start = || {
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", script]).current_dir(scratch.path());
        let holder = Running::start(shell);
        assert_eq!(holder.stdout.next(), "held");
        holder
    };
    let mut holder = start();
    let mut waiter = waiting(&scratch, &["a"]);
    holder.say("go");
    assert_eq!(waiter.wait().code(), Some(0), "it removed its lock file");
    holder.wait();

    let mut holder = start();
    let mut waiter = waiting(&scratch, &["a"]);
    holder.signal(Signal::KILL);
    assert_eq!(waiter.wait().code(), Some(0), "it died");
    holder.wait();
    assert!(scratch.join("a.lock").exists(), "`wait` must not remove the stale lock file");
}

#[test]
fn the_end_of_a_flock_holder_ends_it() {
    let scratch = Scratch::new();
    let mut flock = std::process::Command::new("flock");
    flock.args(["a", "sh", "-c", "echo held; read x"]).current_dir(scratch.path());
    let mut holder = Running::start(flock);
    assert_eq!(holder.stdout.next(), "held");
    let mut waiter = waiting(&scratch, &["a"]);
    holder.finish();
    assert_eq!(waiter.wait().code(), Some(0));
}

#[test]
fn a_holder_that_was_killed_ends_it() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut waiter = waiting(&scratch, &["a"]);
    holder.signal(Signal::KILL);
    holder.wait();
    // The command still has the lock.
    assert_eq!(scratch.done(["wait", "--timeout", "0", "a"]).code, Some(75));
    kill(holder.command, Signal::KILL);
    assert!(ends(holder.command));
    assert_eq!(waiter.wait().code(), Some(0));
}

#[test]
fn a_timeout_is_75_and_names_the_holder() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "run 8f2c", "a"]);
    for options in [&["--timeout", "0"][..], &["--timeout", "30ms"]] {
        let done = scratch.done([&["wait"], options, &["a"]].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(75), ""));
        for part in ["a: still held", &holder.command.to_string(), "(run 8f2c), alive", "tenure status a"] {
            assert!(done.stderr.contains(part), "{part}: {done:?}");
        }
    }
    let done = scratch.done(["wait", "--until", "changed", "--timeout", "30ms", "a"]);
    assert!(done.code == Some(75) && done.stderr.contains("a: unchanged, held"), "{done:?}");
    let done = scratch.done(["wait", "--until", "held", "--timeout", "30ms", "b"]);
    assert_eq!((done.code, done.stderr.contains("b: still free")), (Some(75), true), "{done:?}");
    let done = scratch.done(["wait", "--quiet", "--timeout", "30ms", "a"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(75), ""));
    let output = scratch.tenure(["wait", "a"]).env("TENURE_TIMEOUT", "30ms").output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    // A timeout beyond the clock's range means no limit.
    let mut waiter = waiting(&scratch, &["--timeout", "99999999999999999999d", "a"]);
    holder.finish();
    assert_eq!(waiter.wait().code(), Some(0));
}

#[test]
fn until_held_notices_the_first_lock_of_a_folder() {
    let scratch = Scratch::new();
    let mut here = waiting(&scratch, &["--until", "held", "a"]);
    let mut elsewhere = waiting(&scratch, &["--until", "held", "later/b"]);
    let mut holder = scratch.hold(["a", "later/b"]);
    assert_eq!(here.wait().code(), Some(0));
    assert_eq!(elsewhere.wait().code(), Some(0));
    holder.finish();
}

#[test]
fn until_changed_notices_a_new_holder_and_a_short_hold() {
    let scratch = Scratch::new();
    let mut waiter = waiting(&scratch, &["--until", "changed", "a"]);
    // The lock is acquired and released before a check.
    assert_eq!(scratch.done(["run", "a", "--", "true"]).code, Some(0));
    assert_eq!(waiter.wait().code(), Some(0));

    let mut first = scratch.hold(["a"]);
    let second = Running::start(scratch.tenure(["run", "a", "--", "sh", "-c", "echo mine; read x"]));
    second.stderr.until("waiting for a");
    let mut waiter = waiting(&scratch, &["--until", "changed", "a"]);
    first.finish();
    assert_eq!(second.stdout.next(), "mine");
    assert_eq!(waiter.wait().code(), Some(0));
}

#[test]
fn an_idle_wait_sleeps() {
    let scratch = Scratch::new();
    // The recorded pid is dead, but a process that inherited the lock still holds it. The pidfd of the dead process would
    // end every sleep at once.
    let words = ["run", "a", "--", "bash", "-c", "sleep 1000 & echo $!; echo $$; read x"];
    let mut holder = Running::start(scratch.tenure(words));
    let heir: i32 = holder.stdout.next().parse().unwrap();
    let command: i32 = holder.stdout.next().parse().unwrap();
    let mut waiter = waiting(&scratch, &["a"]);
    holder.signal(Signal::KILL);
    holder.wait();
    kill(command, Signal::KILL);
    assert!(ends(command));
    // The pid of this foreign holder means nothing here. Its open file proves that it lives.
    let mut file = File::create_new(scratch.join("b.lock")).unwrap();
    file.write_all(b"{\"pid\": 999999999}").unwrap();
    let mut late = waiting(&scratch, &["b"]);
    let one_check = reads(&late);
    // The frequent checks after the deaths are over in one of these times.
    let mut counted = Vec::new();
    let few = (0..10).any(|_| {
        let (before, began) = ((reads(&waiter), reads(&late)), Instant::now());
        thread::sleep(Duration::from_secs(3));
        let (after, took) = ((reads(&waiter), reads(&late)), began.elapsed().as_secs());
        counted.push((before, after, took));
        // About one check a second is expected. A wait that spun would make hundreds.
        let most = 4 * took * one_check;
        after.0 - before.0 < most && after.1 - before.1 < most
    });
    assert!(few, "one check makes {one_check} reads: {counted:?}");
    kill(heir, Signal::KILL);
    fs::remove_file(scratch.join("b.lock")).unwrap();
    assert_eq!((waiter.wait().code(), late.wait().code()), (Some(0), Some(0)));
}
