//! `tenure break`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use common::{Done, Running, Scratch, ends, kill, needs};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_free_lock_is_reported_as_free() {
    let scratch = Scratch::new();
    for words in [&["break", "a"][..], &["break", "--force", "a"]] {
        let done = scratch.done(words);
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "a is free: nothing to break\n"));
        assert_eq!(done.stderr, "");
    }
    assert_eq!(scratch.json(["break", "--json", "none/b"])["broken"], false);
    assert!(scratch.names().is_empty());
}

#[test]
fn a_live_holder_is_refused_without_force() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["--label", "run 8f2c", "a"]);
    let done = scratch.done(["break", "a"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(75), ""));
    for part in ["a: not broken: held", &holder.command.to_string(), "(run 8f2c), alive", "--force"] {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    let done = scratch.done(["break", "--json", "a"]);
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((done.code, &found["broken"], &found["state"]), (Some(75), &false.into(), &"held".into()));
    assert_eq!(scratch.done(["status", "--check", "a"]).code, Some(75), "the lock is still held");
    assert_eq!(holder.finish().code(), Some(1), "the holder noticed nothing");
}

#[test]
fn a_forced_break_ends_the_holder_with_76_and_waiters_continue() {
    let scratch = Scratch::new();
    for style in [&[][..], &["--flock"]] {
        let mut holder = scratch.hold([style, &["a"]].concat());
        let words = [&["run"], style, &["a", "--", "echo", "mine"]].concat();
        let mut waiter = Running::start(scratch.tenure(words));
        waiter.stderr.until("waiting for a");
        let done = scratch.done(["break", "--force", "a"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let first = done.stdout.lines().next().unwrap();
        assert!(first.starts_with("broke the lock of a, held") && done.stdout.lines().count() == 1, "{done:?}");
        assert!(first.contains(&holder.command.to_string()) && first.contains("1 waiter continues"), "{done:?}");
        assert!(done.stderr.starts_with("tenure: breaking a: held") && done.stderr.lines().count() == 1, "{done:?}");
        assert_eq!(holder.wait().code(), Some(76));
        assert!(holder.stderr.next().contains("not protected"));
        assert_eq!(waiter.stdout.next(), "mine");
        assert_eq!(waiter.wait().code(), Some(0));
    }
}

#[test]
fn json_has_the_lock_before_the_break_and_quiet_prints_nothing() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let found = scratch.json(["break", "--force", "--json", "a"]);
    assert_eq!((&found["broken"], &found["holder"]["commandPid"]), (&true.into(), &holder.command.into()));
    assert_eq!(found.as_object().unwrap().len(), 9, "status's eight and `broken`");
    assert_eq!(holder.wait().code(), Some(76));
    let mut holder = scratch.hold(["a"]);
    let done = scratch.done(["break", "--force", "--quiet", "a"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(holder.wait().code(), Some(76));
}

#[test]
fn a_dead_holders_lock_is_removed() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    holder.signal(Signal::KILL);
    holder.wait();
    kill(holder.command, Signal::KILL);
    assert!(ends(holder.command));
    assert!(scratch.join("a.lock").exists());
    let done = scratch.done(["break", "a"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(
        done.stdout.starts_with(&format!(
            "removed the stale lock of a: pid {}, command pid {} ",
            holder.pid(),
            holder.command
        )),
        "{done:?}"
    );
    assert!(!scratch.join("a.lock").exists());
}

#[test]
fn a_stale_lock_that_another_process_takes_over_first_is_75() {
    if !needs("strace") {
        return;
    }
    let scratch = Scratch::new();
    let text = "{\"pid\": 999999999, \"createdAt\": \"2026-03-02T10:00:00.000Z\"}";
    fs::write(scratch.join("a.lock"), text).unwrap();
    // Another process has locked the anchor first.
    for words in [&["break", "a"][..], &["break", "--json", "a"]] {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=EAGAIN"]);
        strace.arg(env!("CARGO_BIN_EXE_tenure")).args(words).current_dir(scratch.path());
        let done = Done::from(strace.output().unwrap());
        assert_eq!((done.code, done.stderr.as_str()), (Some(75), ""), "{done:?}");
        assert!(
            done.stdout.contains("acquired by another process meanwhile") || done.stdout.contains("\"broken\":false"),
            "{done:?}"
        );
    }
    assert!(scratch.join("a.lock").exists());
}

#[test]
fn a_holder_in_an_unknown_state_is_refused_without_force() {
    let scratch = Scratch::new();
    let text = "";
    fs::write(scratch.join("a.lock"), text).unwrap();
    // The date keeps the file new, however slow this machine is.
    let late = std::time::SystemTime::now() + Duration::from_secs(3600);
    File::options().write(true).open(scratch.join("a.lock")).unwrap().set_modified(late).unwrap();
    let done = scratch.done(["break", "a"]);
    assert_eq!(done.code, Some(75), "{done:?}");
    assert!(done.stderr.contains("unknown"), "{done:?}");
    assert!(scratch.join("a.lock").exists());
    let done = scratch.done(["break", "-f", "a"]);
    assert_eq!((done.code, scratch.join("a.lock").exists()), (Some(0), false), "{done:?}");
}

#[test]
fn a_foreign_holder_loses_its_lock_file() {
    let scratch = Scratch::new();
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec 3> a.lock; echo \"{\\\"pid\\\": $$}\" >&3; echo held; read x"]);
    shell.current_dir(scratch.path());
    let mut holder = Running::start(shell);
    assert_eq!(holder.stdout.next(), "held");
    assert_eq!(scratch.done(["break", "a"]).code, Some(75));
    let done = scratch.done(["break", "--force", "a"]);
    assert!(done.code == Some(0) && done.stdout.contains("the holder knows only the lock file"), "{done:?}");
    assert!(!scratch.join("a.lock").exists());
    holder.finish();
}

#[test]
fn a_flock_of_another_program_cannot_be_broken() {
    let scratch = Scratch::new();
    let mut flock = Command::new("flock");
    flock.args(["a", "sh", "-c", "echo held; read x"]).current_dir(scratch.path());
    let mut holder = Running::start(flock);
    assert_eq!(holder.stdout.next(), "held");
    let done = scratch.done(["break", "a"]);
    assert!(done.code == Some(75) && done.stderr.contains("--force cannot help"), "{done:?}");
    let done = scratch.done(["break", "--force", "a"]);
    assert_eq!(done.code, Some(69), "{done:?}");
    assert!(done.stderr.contains("end that program"), "{done:?}");
    holder.finish();
}

#[test]
fn a_file_that_is_no_lock_is_kept() {
    let scratch = Scratch::new();
    fs::write(scratch.join("Cargo.lock"), "version = 4\n").unwrap();
    let done = scratch.done(["break", "--force", "Cargo"]);
    assert_eq!(done.code, Some(73), "{done:?}");
    assert!(scratch.join("Cargo.lock").exists());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let done = Done::from(scratch.tenure(["break", "--json", "a"]).stdout(full).output().unwrap());
    assert_eq!(done.code, Some(74));
}
