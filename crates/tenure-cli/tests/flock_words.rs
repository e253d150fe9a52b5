//! The words and habits of those who come from flock(1): taken with its meaning, or refused with what does it here.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{Running, Scratch, kill};
use rustix::process::Signal;

#[test]
fn the_words_of_flock_are_taken() {
    let scratch = Scratch::new();
    for words in [
        &["-x"][..],
        &["-e"],
        &["--exclusive"],
        &["-xn"],
        &["-en", "--flock"],
        &["-o"],
        &["--close"],
        &["-xon"],
        &["-w", "10"],
        &["-w10"],
        &["--wait", "2.5"],
        &["--timeout", "10"],
        &["--nonblock"],
        &["--nb"],
        &["-E", "3"],
        &["--conflict-exit-code", "3"],
        &["--flock", "-s", "-x"],
        &["--flock", "-x", "-s"],
        &["--verbose"],
    ] {
        let done = scratch.done([&["run"], words, &["a", "--", "echo", "ran"]].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "ran\n"), "{words:?}: {done:?}");
    }
    for words in [&["-c"][..], &["--command"]] {
        let done = scratch.done([&["run", "a"], words, &["echo ran; exit 4"]].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(4), "ran\n"), "{words:?}: {done:?}");
    }
}

#[test]
fn what_is_busy_is_so_by_each_of_them() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    for (words, code) in [
        (&["-xn"][..], 75),
        (&["--nonblock"], 75),
        (&["-w", "0"], 75),
        (&["-w", ".01"], 75),
        (&["--wait", "0.01", "--conflict-exit-code", "3"], 3),
        (&["-n", "-E", "0"], 0),
    ] {
        let done = scratch.done([&["run"], words, &["a", "--", "true"]].concat());
        assert_eq!(done.code, Some(code), "{words:?}: {done:?}");
        assert!(done.stderr.contains("the lock is held by"), "{words:?}: {done:?}");
        // A mail for each line that cron sees: none, where none is wanted.
        let done = scratch.done([&["run", "-q"], words, &["a", "--", "true"]].concat());
        assert_eq!((done.code, done.stderr.as_str()), (Some(code), ""), "{words:?}");
    }
    let held = scratch.done(["hold", "-q", "-n", "a"]);
    assert_eq!((held.code, held.stderr.as_str()), (Some(75), ""));
    let from_environment =
        scratch.tenure(["run", "-q", "a", "--", "true"]).env("TENURE_TIMEOUT", "0.01").output().unwrap();
    assert_eq!(from_environment.status.code(), Some(75));
    holder.finish();
    // What is no busy lock is still said.
    let done = scratch.done(["run", "-q", "-n", "a", "--", "./none"]);
    assert!(done.code == Some(127) && !done.stderr.is_empty(), "{done:?}");
}

#[test]
fn a_bare_number_is_seconds() {
    let scratch = Scratch::new();
    let mut holder = scratch.hold(["a"]);
    let began = Instant::now();
    assert_eq!(scratch.done(["run", "-q", "-w", "1", "a", "--", "true"]).code, Some(75));
    assert!(began.elapsed() >= Duration::from_secs(1));
    holder.finish();
}

#[test]
fn what_has_no_counterpart_says_what_does_it_here() {
    let scratch = Scratch::new();
    for (words, says) in [
        (&["-F"][..], "leave the word out"),
        (&["--no-fork"], "leave the word out"),
        (&["-xF"], "leave the word out"),
        (&["-u"], "tenure hold"),
        (&["--unlock"], "tenure hold"),
        (&["--fcntl"], "leave the word out"),
    ] {
        let done = scratch.done([&["run"], words, &["a", "--", "echo", "ran"]].concat());
        assert_eq!((done.code, done.stdout.as_str()), (Some(64), ""), "{words:?}: {done:?}");
        assert!(done.stderr.contains(says), "{words:?}: {done:?}");
    }
    let done = scratch.done(["run", "-n", "9"]);
    assert!(done.code == Some(64) && done.stderr.contains("tenure hold"), "{done:?}");
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn words_are_run_by_the_callers_shell() {
    let scratch = Scratch::new();
    let run = |shell: Option<&str>| {
        let mut command = scratch.tenure(["run", "a", "-c", "echo $0"]);
        match shell {
            Some(shell) => command.env("SHELL", shell),
            None => command.env_remove("SHELL"),
        };
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(run(Some("/bin/bash")), "/bin/bash\n");
    assert_eq!(run(Some("")), "/bin/sh\n");
    assert_eq!(run(None), "/bin/sh\n");
}

/// What keeps nothing of the lock open, as ssh does, works on when `tenure` is killed: the lock is free, and that is said.
#[test]
fn a_command_that_runs_on_without_the_lock_is_not_called_dead() {
    for style in [&["a"][..], &["--flock", "a"]] {
        let scratch = Scratch::new();
        let words = [&["-o"], style].concat();
        let mut holder: Running = scratch.hold(words);
        holder.signal(Signal::KILL);
        holder.wait();
        let status = scratch.done(["status", "a"]).stdout;
        let runs = format!("pid {} still runs, but no longer holds", holder.command);
        assert!(status.contains("stale") && status.contains(&runs), "{status}");
        let done = scratch.done([&["run", "-n"], style, &["--", "true"]].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        let says = format!("died while it held; its command, pid {}, still runs, but no longer holds", holder.command);
        assert!(done.stderr.contains(&says), "{done:?}");
        kill(holder.command, Signal::KILL);
    }
}
