//! The command's descendants: they are ended with the command where `tenure` ends it, and no other process is.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, ends, kill};
use rustix::process::Signal;

fn lives(pid: i32) -> bool {
    tenure::process::is_alive(pid)
}

/// Takes the lock of `a` away from its holder.
fn take_away(scratch: &Scratch) {
    fs::remove_dir_all(scratch.join(".tenure")).unwrap();
}

/// Prints its pid, and never ends by itself.
const WORKER: &str = "sh -c 'echo $$; exec sleep 1000'";
const STUBBORN: &str = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.1; done'";

#[test]
fn a_loss_ends_all_that_the_command_started() {
    let scripts = [
        format!("{WORKER} && true"),
        format!("{WORKER}; echo done"),
        format!("({WORKER}; true) && true"),
        // An orphan in a session of its own.
        format!("(setsid {WORKER} &); read x"),
        format!("{STUBBORN} && true"),
        // These survive the signal that ends the shell.
        format!("{STUBBORN} & read x"),
    ];
    thread::scope(|scope| {
        for script in &scripts {
            for style in [&["a"][..], &["--flock", "a"]] {
                scope.spawn(move || {
                    let scratch = Scratch::new();
                    let words = [&["run"], style, &["-c", script]].concat();
                    let mut running = Running::start(scratch.tenure(words));
                    let worker: i32 = running.stdout.next().parse().unwrap();
                    take_away(&scratch);
                    assert_eq!(running.wait().code(), Some(76), "{script}");
                    assert!(!lives(worker), "{style:?} {script}: the worker continues after `tenure` has ended");
                });
            }
        }
    });
}

#[test]
fn an_overrun_ends_all_that_the_command_started() {
    for (how, code) in [("term", 143), ("kill", 137)] {
        let scratch = Scratch::new();
        let script = format!("{WORKER} && true");
        let words = ["run", "--max-hold", "200ms", "--on-overrun", how, "a", "-c", &script];
        let (mut running, worker) = scratch.overrunning(&words);
        let worker: i32 = worker.parse().unwrap();
        assert_eq!(running.wait().code(), Some(code), "{how}");
        assert!(!lives(worker), "{how}: the worker continues after the lock was released");
    }
}

#[test]
fn a_process_that_the_command_did_not_start_is_spared() {
    let scratch = Scratch::new();
    let script =
        format!("sleep 1000 & echo $!; exec {} run a -c '{WORKER_IN_QUOTES} && true'", env!("CARGO_BIN_EXE_tenure"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(scratch.path());
    let mut running = Running::start(shell);
    // `tenure` replaces the shell, and has a child that it did not start.
    let bystander: i32 = running.stdout.next().parse().unwrap();
    let worker: i32 = running.stdout.next().parse().unwrap();
    take_away(&scratch);
    assert_eq!(running.wait().code(), Some(76));
    let (spared, ended) = (lives(bystander), ends(worker));
    kill(bystander, Signal::KILL);
    assert!(spared && ended, "spared: {spared}, ended: {ended}");
}

const WORKER_IN_QUOTES: &str = "sh -c \"echo \\$\\$; exec sleep 1000\"";

#[test]
fn orphans_of_the_command_are_reaped() {
    let scratch = Scratch::new();
    // Three processes lose their parent, print their pid and end.
    let script = "for n in 1 2 3; do (sh -c 'echo $$' &); done; read x";
    let mut running = Running::start(scratch.tenure(["run", "a", "-c", script]));
    for _ in 0..3 {
        let orphan: i32 = running.stdout.next().parse().unwrap();
        let began = Instant::now();
        while fs::exists(format!("/proc/{orphan}")).unwrap() {
            assert!(began.elapsed() < PATIENCE, "pid {orphan} stays a zombie");
            thread::sleep(Duration::from_millis(5));
        }
    }
    running.finish();
}
