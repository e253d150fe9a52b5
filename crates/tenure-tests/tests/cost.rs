//! What an acquire and release costs when nobody else is there, counted: every system call has its reason, and a further
//! one is noticed here. Instructions are counted by `bench/count`, and times by `bench/run`.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use tenure_tests::strace::Strace;
use tenure_tests::{Actor, folder, has, needs, until};

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
    // The watchdog runs for as long as this is held: its start is none of theirs.
    actor.must(&format!("open other {}", dir.path().join("other").display()));
    actor.must("acquire other held never");
    let strace = Strace::attach(actor.pid(), &["-e", "trace=all"]);
    actor.must(&format!("try-loop l {ROUNDS}"));
    let named = strace.calls().into_iter().map(|call| match call.text.contains("AT_EMPTY_PATH") {
        true => "statx of a descriptor".to_owned(),
        false => call.name,
    });
    named.filter(|name| counts(name)).collect()
}

fn check(style: &str, expected: &[&str]) {
    if !needs("strace", has("strace")) {
        return;
    }
    let found = calls(style);
    let expected = expected.repeat(ROUNDS);
    let is = |(found, expected): (&String, &&str)| expected.split(" or ").any(|expected| expected == found);
    let same = found.len() == expected.len() && found.iter().zip(&expected).all(is);
    assert!(same, "an acquire and release, {ROUNDS} times: {found:?}");
}

#[test]
fn lock_file_style_makes_nine_calls() {
    let expected = [
        "flock",                 // The truth.
        "statx",                 // Is the anchor's path still this file?
        "pread64",               // The last fence, and how the last tenure ended.
        "pwrite64",              // The record, before anyone can see it.
        "linkat",                // The lock file appears.
        "statx of a descriptor", // Was another put in the anchor's place meanwhile, or is the lock file gone? A link less.
        "statx",                 // Is the lock file's name still ours?
        "unlinkat",              // It goes.
        "flock",
    ];
    check("", &expected);
}

#[test]
fn flock_style_makes_eleven_calls() {
    let expected = [
        "flock",                 // The truth.
        "statx",                 // Is the anchor's path still this file?
        "pread64",               // The last fence, and how the last tenure ended.
        "flock",                 // The target's own lock, which others see.
        "statx",                 // Has the target's name still this file?
        "pwrite64",              // The record.
        "statx of a descriptor", // Was another put in the anchor's place meanwhile? A link less.
        "pwrite64",              // It says released.
        // Was the anchor broken meanwhile? Its path is asked where the grant was longer ago.
        "statx of a descriptor or statx",
        "flock",
        "flock",
    ];
    check("style=flock", &expected);
}

/// How many calls a further lock costs an actor that does `deed` in a folder of them, whose holder is dead or alive.
fn calls_for_one_more(deed: &str, dead: bool) -> usize {
    let count = |locks: usize| {
        let dir = folder();
        let mut holder = Actor::start();
        for at in 0..locks {
            holder.must(&format!("open l{at} {}", dir.path().join(format!("{at:02}")).display()));
            holder.must(&format!("acquire l{at} g{at} never"));
        }
        if dead {
            holder.kill();
        }
        // A record that is a moment old may be one of many in a row, and is looked at once more.
        let began = std::time::Instant::now();
        until("they are a moment old", || began.elapsed() > std::time::Duration::from_millis(200));
        let mut looker = Actor::start();
        // What a process asks once.
        looker.must(&format!("{deed} {}", folder().path().display()));
        let strace = Strace::attach(looker.pid(), &["-e", "trace=all"]);
        looker.must(&format!("{deed} {}", dir.path().display()));
        let names = strace.calls().into_iter().map(|call| call.name);
        // The allocator's, and the answer's, are not the locks'.
        names
            .filter(|name| counts(name) && !matches!(&**name, "brk" | "mmap" | "munmap" | "mremap" | "madvise"))
            .count()
    };
    (count(30) - count(10)) / 20
}

#[test]
fn looking_at_many_locks_makes_few_calls_for_each() {
    if !needs("strace", has("strace")) {
        return;
    }
    // Anchor and lock file are looked at; the lock file is opened, read until two readings agree, and closed. Of its
    // process is asked whether it has ended. A dead one's is looked at twice: before a table of locks, and after it.
    assert_eq!(calls_for_one_more("list", false), 9);
    assert_eq!(calls_for_one_more("list", true), 18);
    // A dead one's is looked at once, and then goes under its kernel lock: 15 calls more.
    assert_eq!(calls_for_one_more("clean", false), 9);
    assert_eq!(calls_for_one_more("clean", true), 24);
}
