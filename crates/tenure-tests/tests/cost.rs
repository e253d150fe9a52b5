//! What an acquire and release costs when nobody else is there, counted: every system call has its reason, and a further
//! one is noticed here. Instructions are counted by `bench/count`, and times by `bench/run`.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use tenure_tests::strace::Strace;
use tenure_tests::{Actor, folder, has, needs};

const ROUNDS: usize = 5;

/// Waiting for another thread (the watchdog has its own mutex), and the time where it has to be asked of the kernel, are
/// none of the protocol's. Whether others wait (`fcntl`) is asked once a millisecond, which an acquire under strace may take.
fn counts(name: &str) -> bool {
    !matches!(name, "futex" | "clock_gettime" | "read" | "write" | "sched_yield" | "fcntl")
}

/// The calls of so many acquires and releases after a first one.
fn calls(style: &str) -> Vec<String> {
    let dir = folder();
    let mut actor = Actor::start();
    actor.must(&format!("open l {} {style}", dir.path().join("target").display()));
    // The folder, the anchor and the process's identity are made and read once; the allocator has its memory.
    actor.must("try-loop l 10");
    let strace = Strace::attach(actor.pid(), &["-e", "trace=all"]);
    actor.must(&format!("try-loop l {ROUNDS}"));
    strace.calls().into_iter().map(|call| call.name).filter(|name| counts(name)).collect()
}

fn check(style: &str, expected: &[&str]) {
    if !needs("strace", has("strace")) {
        return;
    }
    let found = calls(style);
    assert_eq!(found, expected.repeat(ROUNDS), "an acquire and release, {ROUNDS} times");
}

#[test]
fn lock_file_style_makes_nine_calls() {
    let expected = [
        "flock",    // The truth.
        "statx",    // Is the anchor's path still this file?
        "pread64",  // The last fence, and how the last tenure ended.
        "pwrite64", // The record, before anyone can see it.
        "linkat",   // The lock file appears.
        "statx",    // Is the anchor's path still this file, or was another put in its place meanwhile?
        "statx",    // Is the lock file's name still ours?
        "unlinkat", // It goes.
        "flock",
    ];
    check("", &expected);
}

#[test]
fn flock_style_makes_eleven_calls() {
    let expected = [
        "flock",    // The truth.
        "statx",    // Is the anchor's path still this file?
        "pread64",  // The last fence, and how the last tenure ended.
        "flock",    // The target's own lock, which others see.
        "statx",    // Has the target's name still this file?
        "pwrite64", // The record.
        "statx",    // Is the anchor's path still this file, or was another put in its place meanwhile?
        "pwrite64", // It says released.
        "statx",    // Was the anchor broken meanwhile?
        "flock", "flock",
    ];
    check("style=flock", &expected);
}
