//! The options of flock(1): accepted with the same meaning, or refused with a hint at what to use instead.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Running, Scratch, kill};
use rustix::process::Signal;

#[test]
fn options_of_flock_are_accepted() {
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
fn a_busy_lock_is_reported_with_each_of_them() {
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
        // Cron sends a mail for any output, so --quiet must print nothing.
        let done = scratch.done([&["run", "-q"], words, &["a", "--", "true"]].concat());
        assert_eq!((done.code, done.stderr.as_str()), (Some(code), ""), "{words:?}");
    }
    let held = scratch.done(["hold", "-q", "-n", "a"]);
    assert_eq!((held.code, held.stderr.as_str()), (Some(75), ""));
    let from_environment =
        scratch.tenure(["run", "-q", "a", "--", "true"]).env("TENURE_TIMEOUT", "0.01").output().unwrap();
    assert_eq!(from_environment.status.code(), Some(75));
    holder.finish();
    // Other errors are still printed.
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
fn options_without_a_counterpart_name_the_alternative() {
    let scratch = Scratch::new();
    for (words, says) in [
        (&["-F"][..], "omit the option"),
        (&["--no-fork"], "omit the option"),
        (&["-xF"], "omit the option"),
        (&["-u"], "tenure hold"),
        (&["--unlock"], "tenure hold"),
        (&["--fcntl"], "omit the option"),
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
fn scripts_are_run_by_the_callers_shell() {
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

/// A command that closes what it inherited, as ssh does, continues without the lock when `tenure` is killed.
#[test]
fn a_command_that_runs_on_without_the_lock_is_not_called_dead() {
    for style in [&["a"][..], &["--flock", "a"]] {
        let scratch = Scratch::new();
        let words = [&["-o"], style].concat();
        let mut holder: Running = scratch.hold(words);
        // The command has nothing of the lock open, so `hold` cannot wait for its pid in the record.
        let began = Instant::now();
        while scratch.json(["status", "--json", "a"])["holder"]["commandPid"] != holder.command {
            assert!(began.elapsed() < PATIENCE, "the record never named the command");
        }
        holder.signal(Signal::KILL);
        holder.wait();
        let status = scratch.done(["status", "a"]).stdout;
        let runs = format!("pid {} still runs, but no longer holds the lock", holder.command);
        assert!(status.contains("stale") && status.contains(&runs), "{status}");
        let done = scratch.done([&["run", "-n"], style, &["--", "true"]].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        let says = format!(
            "died while it held the lock; its command, pid {}, still runs, but no longer holds the lock",
            holder.command
        );
        assert!(done.stderr.contains(&says), "{done:?}");
        kill(holder.command, Signal::KILL);
    }
}
