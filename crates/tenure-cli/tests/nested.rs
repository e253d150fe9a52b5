//! A nested call on the same target, which would wait for its own end.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::Instant;

use common::{PATIENCE, Running, Scratch};

const TENURE: &str = env!("CARGO_BIN_EXE_tenure");
const SAYS: &str = "its holder waits for this process to end";

#[test]
fn a_nested_call_on_the_same_target_fails_at_once() {
    for style in ["", "--flock"] {
        let scratch = Scratch::new();
        let inner = format!("{TENURE} run {style} a -- touch ran");
        let script = scratch.join("script");
        fs::write(&script, format!("#!/bin/sh\n( {inner} )\n")).unwrap();
        for command in [
            inner.clone(),
            format!("exec {inner}"),
            format!("sh {}", script.display()),
            format!("{TENURE} run other -c '{inner}'"),
            format!("{TENURE} run {style} --timeout 10s a -- touch ran"),
            format!("env -i {TENURE} hold {style} a < /dev/null"),
        ] {
            let words = ["run"].into_iter().chain(style.split_whitespace()).chain(["a", "-c", &command]);
            let done = scratch.done(words);
            assert_eq!(done.code, Some(75), "{style} {command}: {done:?}");
            assert!(done.stderr.contains(SAYS), "{style} {command}: {done:?}");
            assert!(done.stderr.contains("held for this command already"), "{style} {command}: {done:?}");
        }
        assert!(!scratch.names().contains(&"ran".to_owned()));
        assert_eq!(scratch.done(["run", "-n", "a", "--", "true"]).code, Some(0));
    }
}

#[test]
fn a_nested_try_does_not_recommend_a_break() {
    let scratch = Scratch::new();
    let done = scratch.done(["run", "a", "-c", &format!("{TENURE} run -n a -- true")]);
    assert_eq!(done.code, Some(75), "{done:?}");
    assert!(done.stderr.contains("held for this command already"), "{done:?}");
    assert!(!done.stderr.contains("tenure break"), "{done:?}");
}

#[test]
fn an_orphan_of_the_command_waits_for_its_end() {
    let scratch = Scratch::new();
    // By then the holder is the orphan's parent, and no longer waits for it.
    let orphan = format!("until grep -q \"^PPid:.$T$\" /proc/$$/status; do :; done; {TENURE} run a -- touch ran");
    fs::write(scratch.join("orphan"), orphan).unwrap();
    let script = "export T=$PPID; (sh orphan & echo $!); read x";
    let mut running = Running::start(scratch.tenure(["run", "a", "-c", script]));
    let _ = running.stdout.next();
    let began = Instant::now();
    while scratch.json(["status", "--json", "a"])["waiters"] != 1 {
        assert!(began.elapsed() < PATIENCE, "it does not wait");
    }
    running.finish();
    while !scratch.names().contains(&"ran".to_owned()) {
        assert!(began.elapsed() < PATIENCE, "it never acquired the lock");
    }
}
