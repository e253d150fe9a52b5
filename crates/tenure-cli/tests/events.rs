//! `tenure events`: what happens to locks is printed as it happens.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use common::{PATIENCE, Running, Scratch, ends, kill};
use rustix::process::Signal;
use serde_json::Value;

/// `tenure events --json`, which has begun to watch.
struct Events(Running);

impl Events {
    fn start(scratch: &Scratch, words: &[&str]) -> Events {
        let mut events = Events::start_with_state(scratch, words);
        assert_eq!(events.next()["event"], "watching");
        events
    }

    fn start_with_state(scratch: &Scratch, words: &[&str]) -> Events {
        Events(Running::start(scratch.tenure([&["events", "--json"], words].concat())))
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.0.stdout.next()).unwrap()
    }

    /// Returns the next event, which must be of this kind and about this target.
    fn expect(&mut self, kind: &str, target: &str) -> Value {
        let event = self.next();
        assert_eq!((&event["event"], &event["lock"]["target"]), (&kind.into(), &target.into()), "{event}");
        event
    }

    /// Returns the next event that is of this kind. Others are passed over.
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next();
            if event["event"] == kind {
                return event;
            }
        }
    }
}

/// Stops a process, and returns once it has stopped.
fn stop(process: &Running) {
    process.signal(Signal::STOP);
    let began = Instant::now();
    while !fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap().contains(") T ") {
        assert!(began.elapsed() < PATIENCE, "it never stopped");
        thread::yield_now();
    }
}

/// Kills `tenure` and its command, both of which have the lock.
fn kill_holder(holder: &mut Running) {
    stop(holder);
    kill(holder.command, Signal::KILL);
    holder.signal(Signal::KILL);
    holder.wait();
    assert!(ends(holder.command));
}

#[test]
fn the_state_comes_first_and_then_what_happens() {
    let scratch = Scratch::new();
    let mut first = scratch.hold(["--label", "run 8f2c", "a"]);
    let mut events = Events::start_with_state(&scratch, &[]);
    let state = events.expect("state", "a");
    assert_eq!((&state["lock"]["state"], &state["lock"]["holder"]["label"]), (&"held".into(), &"run 8f2c".into()));
    assert_eq!(events.next()["event"], "watching");
    first.finish();
    let released = events.expect("released", "a");
    assert_eq!(released["lock"]["state"], "free");
    assert_eq!(released["lock"]["holder"]["commandPid"], first.command);
    let mut second = scratch.hold(["b"]);
    let held = events.expect("held", "b");
    assert_eq!((&held["takeover"], &held["missed"]), (&false.into(), &0.into()));
    second.finish();
    events.expect("released", "b");
    let mut third = scratch.hold(["--flock", "c"]);
    assert_eq!(events.expect("held", "c")["lock"]["style"], "flock");
    third.finish();
    events.expect("released", "c");
}

#[test]
fn a_crash_and_the_takeover() {
    let scratch = Scratch::new();
    for style in [&[][..], &["--flock"]] {
        let mut events = Events::start(&scratch, &[]);
        let mut holder = scratch.hold([style, &["a"]].concat());
        events.expect("held", "a");
        kill_holder(&mut holder);
        let crashed = events.expect("crashed", "a");
        assert_eq!(
            (&crashed["lock"]["state"], &crashed["lock"]["holder"]["pid"]),
            (&"stale".into(), &holder.pid().into())
        );
        let mut next = scratch.hold([style, &["a"]].concat());
        assert_eq!(events.expect("held", "a")["takeover"], true);
        kill_holder(&mut next);
        events.expect("crashed", "a");
        assert_eq!(scratch.done(["clean"]).code, Some(0));
        // `clean` may hold the lock for a moment.
        while events.next()["lock"]["state"] != "free" {}
    }
}

#[test]
fn a_waiter_takes_a_dead_holders_lock_over() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut events = Events::start_with_state(&scratch, &[]);
    events.expect("state", "a");
    assert_eq!(events.next()["event"], "watching");
    let mut waiter = Running::start(scratch.tenure(["run", "a", "--", "sh", "-c", "echo mine; read x"]));
    assert_eq!(events.expect("waiting", "a")["pid"], waiter.pid());
    // It sees only the end of all this.
    stop(&events.0);
    kill_holder(&mut holder);
    assert_eq!(waiter.stdout.next(), "mine");
    events.0.signal(Signal::CONT);
    let crashed = events.expect("crashed", "a");
    let of = (&crashed["lock"]["holder"]["pid"], &crashed["lock"]["holder"]["liveness"]);
    assert_eq!(of, (&holder.pid().into(), &"dead".into()));
    let ended = events.expect("wait-ended", "a");
    assert_eq!((&ended["pid"], &ended["granted"]), (&waiter.pid().into(), &true.into()));
    let held = events.expect("held", "a");
    assert_eq!((&held["takeover"], &held["lock"]["holder"]["pid"]), (&true.into(), &waiter.pid().into()));
    waiter.finish();
    events.expect("released", "a");
}

#[test]
fn a_wait_that_is_given_up() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut events = Events::start_with_state(&scratch, &[]);
    events.until("watching");
    let mut waiter = Running::start(scratch.tenure(["run", "a", "--", "true"]));
    events.expect("waiting", "a");
    waiter.signal(Signal::TERM);
    waiter.wait();
    let ended = events.expect("wait-ended", "a");
    assert_eq!((&ended["pid"], &ended["granted"]), (&waiter.pid().into(), &false.into()));
    assert!(ended["waitedMs"].is_u64());
    holder.finish();
}

#[test]
fn a_break_and_a_loss() {
    let scratch = Scratch::new();
    let mut events = Events::start(&scratch, &[]);
    let mut holder = scratch.hold(["a"]);
    events.expect("held", "a");
    assert_eq!(scratch.done(["break", "--force", "a"]).code, Some(0));
    // The process that breaks the lock may look like a waiter for a moment.
    let broken = events.until("broken");
    assert_eq!(broken["lock"]["holder"]["pid"], holder.pid());
    holder.finish();
    let mut holder = scratch.hold(["b"]);
    assert_eq!(events.until("held")["lock"]["target"], "b");
    fs::remove_file(scratch.join("b.lock")).unwrap();
    let lost = events.until("lost");
    assert_eq!(lost["lock"]["state"], "held", "the kernel lock is held still");
    holder.finish();
}

#[test]
fn foreign_holders_and_shared_ones() {
    let scratch = Scratch::new();
    let mut events = Events::start(&scratch, &[]);
    let script = "set -C; exec 3> a.lock; echo \"{\\\"pid\\\": $$}\" >&3; echo held; read x; rm a.lock";
    let start = || {
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", script]).current_dir(scratch.path());
        let holder = Running::start(shell);
        assert_eq!(holder.stdout.next(), "held");
        holder
    };
    let mut holder = start();
    assert_eq!(events.until("held")["lock"]["holder"]["kind"], "foreign");
    holder.finish();
    events.until("released");
    let mut holder = start();
    events.until("held");
    holder.signal(Signal::KILL);
    holder.wait();
    events.until("crashed");
    let mut next = scratch.hold(["a"]);
    assert_eq!(events.expect("held", "a")["takeover"], true);
    next.finish();
    events.expect("released", "a");

    let mut one = scratch.hold(["--flock", "--shared", "s"]);
    assert_eq!(events.expect("held", "s")["pid"], one.pid());
    let mut other = scratch.hold(["--flock", "--shared", "s"]);
    assert_eq!(events.until("held")["pid"], other.pid());
    one.finish();
    assert_eq!(events.until("ended")["pid"], one.pid());
    other.finish();
    assert_eq!(events.until("ended")["pid"], other.pid());
}

#[test]
fn tenures_that_were_not_seen_are_counted() {
    let scratch = Scratch::new();
    let mut events = Events::start(&scratch, &[]);
    let run = || assert_eq!(scratch.done(["run", "a", "--", "true"]).code, Some(0));
    stop(&events.0);
    (0..3).for_each(|_| run());
    events.0.signal(Signal::CONT);
    let missed = events.expect("missed", "a");
    assert_eq!((&missed["missed"], &missed["lock"]["state"]), (&3.into(), &"free".into()));
    stop(&events.0);
    (0..2).for_each(|_| run());
    let mut holder = scratch.hold(["a"]);
    events.0.signal(Signal::CONT);
    assert_eq!(events.expect("held", "a")["missed"], 2);
    stop(&events.0);
    holder.finish();
    run();
    let mut holder = scratch.hold(["a"]);
    events.0.signal(Signal::CONT);
    events.expect("released", "a");
    assert_eq!(events.expect("held", "a")["missed"], 1);
    holder.finish();
}

#[test]
fn folders_come_and_go() {
    let scratch = Scratch::new();
    let mut events = Events::start(&scratch, &["--recursive", "jobs"]);
    // It waits for a folder that is missing.
    fs::create_dir(scratch.join("jobs")).unwrap();
    assert_eq!(events.next()["event"], "watching");
    fs::create_dir_all(scratch.join("jobs/deep/er")).unwrap();
    let mut holder = scratch.hold(["jobs/deep/er/a"]);
    events.expect("held", "jobs/deep/er/a");
    fs::remove_dir_all(scratch.join("jobs")).unwrap();
    let lost = events.next();
    assert_eq!(lost["event"], "lost", "{lost}");
    assert_eq!(events.next()["event"], "folder-removed");
    fs::create_dir(scratch.join("jobs")).unwrap();
    assert_eq!(events.next()["event"], "watching");
    let mut again = scratch.hold(["jobs/a"]);
    events.expect("held", "jobs/a");
    again.finish();
    events.expect("released", "jobs/a");
    holder.finish();
}

#[test]
fn the_folder_that_a_path_led_to_before_is_left_alone() {
    let scratch = Scratch::new();
    for folder in ["one", "other"] {
        fs::create_dir(scratch.join(folder)).unwrap();
        assert_eq!(scratch.done(["run", &format!("{folder}/a"), "--", "true"]).code, Some(0));
    }
    symlink("one", scratch.join("link")).unwrap();
    let mut events = Events::start(&scratch, &["link"]);
    symlink("other", scratch.join("new")).unwrap();
    fs::rename(scratch.join("new"), scratch.join("link")).unwrap();
    // No event reports that, so a look finds it. The second lock is seen by a look that began after the change.
    let mut first = scratch.hold(["link/b"]);
    events.expect("held", "link/b");
    let mut second = scratch.hold(["link/c"]);
    events.expect("held", "link/c");
    assert_eq!(scratch.done(["run", "one/a", "--", "true"]).code, Some(0));
    first.finish();
    events.expect("released", "link/b");
    second.finish();
    events.expect("released", "link/c");
}

#[test]
fn a_lock_whose_status_cannot_be_read_is_not_held_for_ever() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let mut events = Events::start_with_state(&scratch, &[]);
    events.expect("state", "a");
    assert_eq!(events.next()["event"], "watching");
    kill_holder(&mut holder);
    events.expect("crashed", "a");
    fs::remove_file(scratch.join("a.lock")).unwrap();
    fs::create_dir(scratch.join("a.lock")).unwrap();
    let over = events.expect("removed", "a");
    assert_eq!(over["lock"]["state"], "free", "{over}");
}

#[test]
fn without_recursive_other_folders_are_passed_over() {
    let scratch = Scratch::new();
    let mut events = Events::start(&scratch, &[]);
    assert_eq!(scratch.done(["run", "below/a", "--", "true"]).code, Some(0));
    let mut holder = scratch.hold(["a"]);
    events.expect("held", "a");
    holder.finish();
}

#[test]
fn events_that_the_system_dropped() {
    let scratch = Scratch::new();
    let mut events = Events::start(&scratch, &[]);
    let mut holder = scratch.hold(["a"]);
    events.expect("held", "a");
    stop(&events.0);
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Equal events in a row count once.
    for _ in 0..=limit / 4 {
        for name in ["x", "y"] {
            File::create(scratch.join(name)).unwrap();
            fs::remove_file(scratch.join(name)).unwrap();
        }
    }
    holder.finish();
    let mut next = scratch.hold(["b"]);
    events.0.signal(Signal::CONT);
    assert_eq!(events.next()["event"], "overflow");
    // The removal of its lock file was among what was dropped.
    events.expect("ended", "a");
    events.expect("held", "b");
    next.finish();
    events.expect("released", "b");
}

#[test]
fn a_closed_pipe_and_signals_end_it_without_a_word() {
    let scratch = Scratch::new();
    let mut child = scratch.tenure(["events"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(line.trim_end().ends_with("  watching        ."), "{line}");
    // Nothing happens after this, so no write can notice it.
    drop(stdout);
    assert!(ends(child.id().cast_signed()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");

    for signal in [Signal::INT, Signal::TERM] {
        let mut events = Events::start(&scratch, &[]).0;
        events.signal(signal);
        assert_eq!(events.wait().signal(), Some(signal.as_raw()));
        assert_eq!((events.stdout.rest(), events.stderr.rest()), (vec![], vec![]));
    }
}

#[test]
fn folders_that_cannot_be_watched() {
    let scratch = Scratch::new();
    fs::write(scratch.join("file"), "").unwrap();
    let done = scratch.done(["events", "file"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(73), "tenure: file: not a folder\n"));
    let done = scratch.done(["events", "etcd://127.0.0.1:1/a"]);
    assert!(done.code == Some(69) && done.stderr.contains("tenure ls etcd://127.0.0.1:1/a"), "{done:?}");
}

#[test]
fn lines_for_people() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "run 8f2c", "a"]);
    let mut events = Running::start(scratch.tenure(["events", "."]));
    let state = events.stdout.next();
    let holds = format!("state           a  held: pid {}, command pid {} ", holder.pid(), holder.command);
    assert!(state.contains(&holds) && state.ends_with("(run 8f2c)"), "{state}");
    events.stdout.until("watching");
    let waiter = Running::start(scratch.tenure(["run", "a", "--", "sh", "-c", "echo; read x"]));
    let waiting = events.stdout.next();
    let waits = format!("waiting         a  pid {}; held by pid {}", waiter.pid(), holder.pid());
    assert!(waiting.contains(&waits), "{waiting}");
    holder.finish();
    let released = events.stdout.next();
    assert!(released.contains("released        a  pid ") && released.contains("(run 8f2c); held "), "{released}");
    let granted = events.stdout.next();
    assert!(granted.contains(&format!("pid {} was granted the lock after ", waiter.pid())), "{granted}");
    events.signal(Signal::TERM);
    events.wait();
}
