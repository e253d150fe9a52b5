//! `tenure status --pid`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::{Running, Scratch};
use rustix::process::Signal;
use serde_json::{Value, json};

fn of(scratch: &Scratch, pid: i32) -> Value {
    scratch.json(["status", "--json", "--pid", &pid.to_string()])
}

/// Returns the names of the targets, without their folder.
fn targets(locks: &Value) -> Vec<&str> {
    locks.as_array().unwrap().iter().map(|lock| lock["target"].as_str().unwrap().rsplit('/').next().unwrap()).collect()
}

#[test]
fn a_holder_and_its_command_hold_and_a_waiter_waits() {
    let scratch = Scratch::new();
    for style in [&[][..], &["--flock"]] {
        let mut holder = scratch.hold([style, &["a", "b"]].concat());
        let words = [&["run"], style, &["c", "b", "--", "true"]].concat();
        let mut waiter = Running::start(scratch.tenure(words));
        waiter.stderr.until("waiting for b");
        for pid in [holder.pid(), holder.command] {
            let found = of(&scratch, pid);
            assert_eq!(targets(&found["holds"]), ["a", "b"], "{found}");
            assert_eq!(found["holds"][0]["holder"]["commandPid"], holder.command);
            assert_eq!((&found["waitsFor"], &found["lost"], &found["alive"]), (&json!([]), &json!([]), &json!(true)));
        }
        let found = of(&scratch, waiter.pid());
        assert_eq!((targets(&found["holds"]), targets(&found["waitsFor"])), (vec![], vec!["b"]), "{found}");
        let words = scratch.done(["status", "--pid", &waiter.pid().to_string()]).stdout;
        assert!(
            words.contains(&format!("b: held 1 s by pid {}", holder.pid())) || words.contains("b: held"),
            "{words}"
        );
        holder.finish();
        assert_eq!(waiter.wait().code(), Some(0));
    }
}

#[test]
fn a_waiter_that_holds_another_lock_shows_both() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["b"]);
    let mut waiter = Running::start(scratch.tenure(["run", "a", "b", "--", "true"]));
    waiter.stderr.until("waiting for b");
    let found = of(&scratch, waiter.pid());
    assert_eq!((targets(&found["holds"]), targets(&found["waitsFor"])), (vec!["a"], vec!["b"]), "{found}");
    holder.finish();
    waiter.wait();
}

#[test]
fn a_command_that_waits_for_its_own_lock_is_shown() {
    let scratch = Scratch::new();
    // Shared holders have no record, so none names the command.
    let inner = format!("{} run --flock a -- true & echo $!; wait", env!("CARGO_BIN_EXE_tenure"));
    let outer = Running::start(scratch.tenure(["run", "--flock", "--shared", "a", "--", "bash", "-c", &inner]));
    let pid: i32 = outer.stdout.next().parse().unwrap();
    let line = outer.stderr.until("waiting for a");
    let above = format!("pid {} is an ancestor of this process", outer.pid());
    assert!(line.contains(&above), "{line}");
    let found = of(&scratch, pid);
    assert_eq!((targets(&found["holds"]), targets(&found["waitsFor"])), (vec!["a"], vec!["a"]), "{found}");
    common::kill(pid, Signal::KILL);
}

#[test]
fn foreign_holders_and_flock_holders_hold() {
    let scratch = Scratch::new();
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec 3> a.lock; echo \"{\\\"pid\\\": $$}\" >&3; echo held; read x"]).current_dir(scratch.path());
    let mut foreign = Running::start(shell);
    assert_eq!(foreign.stdout.next(), "held");
    let mut shell = Command::new("bash");
    shell.args(["-c", "exec 3> b 4> c.lock; flock 3; flock 4; echo held; read x"]).current_dir(scratch.path());
    let mut flock = Running::start(shell);
    assert_eq!(flock.stdout.next(), "held");
    assert_eq!(targets(&of(&scratch, foreign.pid())["holds"]), ["a"]);
    // The file `c.lock` is itself the target. It is no lock file, and blocks the path of the target `c`'s.
    assert_eq!(targets(&of(&scratch, flock.pid())["holds"]), ["b", "c.lock"]);

    // A process that waits for a foreign holder is in no kernel queue, and does not hold the lock.
    let mut waiter = Running::start(scratch.tenure(["run", "a", "--", "true"]));
    waiter.stderr.until("waiting for a");
    let found = of(&scratch, waiter.pid());
    assert_eq!((targets(&found["holds"]), targets(&found["waitsFor"])), (vec![], vec!["a"]), "{found}");
    fs::remove_file(scratch.join("a.lock")).unwrap();
    assert_eq!(waiter.wait().code(), Some(0));
    foreign.finish();
    flock.finish();
}

#[test]
fn a_broken_lock_is_lost() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    // The holder is stopped, so that it does not notice the break and end before the check.
    holder.signal(Signal::STOP);
    assert_eq!(scratch.done(["break", "--force", "a"]).code, Some(0));
    let found = of(&scratch, holder.pid());
    assert_eq!((targets(&found["holds"]), targets(&found["lost"])), (vec![], vec!["a"]), "{found}");
    holder.signal(Signal::CONT);
    assert_eq!(holder.wait().code(), Some(76));
}

#[test]
fn an_idle_process_and_a_missing_one() {
    let scratch = Scratch::new();
    let mut idle = Running::start({
        let mut cat = Command::new("cat");
        cat.current_dir(scratch.path());
        cat
    });
    let done = scratch.done(["status", "--pid", &idle.pid().to_string()]);
    assert_eq!(done.stdout, format!("pid {} \"cat\": holds no lock and waits for none\n", idle.pid()));
    idle.finish();
    let found = scratch.json(["status", "--json", "--pid", "4294967295"]);
    assert_eq!((&found["alive"], &found["holds"]), (&json!(false), &json!([])));
    let done = scratch.done(["status", "--pid", "4294967295"]);
    assert_eq!((done.code, done.stdout.contains("no such process")), (Some(0), true), "{done:?}");
    for words in [&["--pid", "0"][..], &["--pid", "-5"], &["--pid", "x"], &["--pid", "1", "a"], &["--pid"]] {
        let done = scratch.done([&["status"], words].concat());
        assert_eq!(done.code, Some(64), "{words:?}: {done:?}");
    }
}

#[test]
fn another_users_process_is_77() {
    let scratch = Scratch::new();
    if !rustix::process::geteuid().is_root() {
        assert_eq!(scratch.done(["status", "--pid", "1"]).code, Some(77));
        return;
    }
    let done = scratch.done_by_nobody(["status", "--pid", "1"]);
    assert_eq!(done.code, Some(77), "{done:?}");
    assert!(done.stderr.contains("may not be read by this user"), "{done:?}");
}
