//! The cost of an acquire and release without contention, in system calls: every call has its reason, and an additional
//! one fails here. `bench/count` counts instructions, and `bench/run` measures times.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::path::Path;

use tenure_tests::strace::Strace;
use tenure_tests::sweep::scenes::dead_foreign;
use tenure_tests::{Actor, folder, has, needs, until};

const ROUNDS: usize = 5;

/// Returns whether a call belongs to the protocol. Waits for another thread (the watchdog has its own mutex) do not, nor
/// does the clock on machines where it is a system call. The look for waiters (`fcntl`) happens once a millisecond,
/// which an acquire under strace may exceed.
fn counts(name: &str) -> bool {
    !matches!(name, "futex" | "clock_gettime" | "read" | "write" | "sched_yield" | "fcntl")
}

/// Returns the calls of that many acquires and releases after a first one.
fn calls(style: &str) -> Vec<String> {
    let dir = folder();
    let mut actor = Actor::start();
    actor.must(&format!("open l {} {style}", dir.path().join("target").display()));
    // The folder, the anchor and the process's identity are created and read once; the allocator has its memory.
    actor.must("try-loop l 10");
    // The watchdog runs for as long as this lock is held, so its start is not counted.
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
        "flock",                 // Decides who holds.
        "statx",                 // Is the anchor's path still this file?
        "pread64",               // The last fence, and how the last tenure ended.
        "pwrite64",              // The record, before another process can see it.
        "linkat",                // The lock file appears.
        "statx of a descriptor", // Was the anchor replaced meanwhile, or the lock file removed? The link count shows it.
        "statx",                 // Is the lock file's name still ours?
        "unlinkat",              // Removes the lock file.
        "flock",
    ];
    check("", &expected);
}

#[test]
fn flock_style_makes_eleven_calls() {
    let expected = [
        "flock",                 // Decides who holds.
        "statx",                 // Is the anchor's path still this file?
        "pread64",               // The last fence, and how the last tenure ended.
        "flock",                 // The target's own lock, which other programs see.
        "statx",                 // Does the target's name still lead to this file?
        "pwrite64",              // The record.
        "statx of a descriptor", // Was the anchor replaced meanwhile? The link count shows it.
        "pwrite64",              // Records the release.
        // Was the anchor broken meanwhile? Its path is compared if the grant is not recent.
        "statx of a descriptor or statx",
        "flock",
        "flock",
    ];
    check("style=flock", &expected);
}

#[test]
fn a_lock_without_a_record_makes_three_calls() {
    let expected = [
        "flock", // Decides who holds, beside every program that uses flock(2).
        "statx", // Does the target's name still lead to this file, which stays open?
        "flock",
    ];
    check("record=0", &expected);
}

/// Without a history an acquire and release makes the calls above. The line is one `write`, which is not counted here.
#[test]
fn a_history_costs_seven_calls_and_a_write() {
    let expected = [
        "flock",
        "statx",
        "pread64",
        "pwrite64",
        "linkat",
        "statx of a descriptor",
        "statx",   // Is the anchor's path still this file? A lost tenure has another line.
        "statx",   // And the lock file's?
        "geteuid", // Each user has a file.
        "openat",
        "fstat or newfstatat", // Is it a file of this user's, and how large?
        "statx",               // Was the history rewritten meanwhile?
        "close",
        "statx",
        "unlinkat",
        "flock",
    ];
    check("history=100000", &expected);
}

/// Returns the number of calls for each further lock when an actor runs `deed` on a folder of locks with a dead or live
/// holder.
fn calls_for_one_more(deed: &str, dead: bool) -> usize {
    calls_for_each(deed, |dir, locks| {
        let mut holder = Actor::start();
        for at in 0..locks {
            holder.must(&format!("open l{at} {}", dir.join(format!("{at:02}")).display()));
            holder.must(&format!("acquire l{at} g{at} never"));
        }
        if dead {
            holder.kill();
            return None;
        }
        Some(holder)
    })
}

/// As [`calls_for_one_more`], for lock files of dead foreign programs.
fn calls_for_one_more_foreign(deed: &str) -> usize {
    calls_for_each(deed, |dir, locks| {
        for at in 0..locks {
            dead_foreign(&dir.join(format!("{at:02}")));
        }
        None
    })
}

fn calls_for_each(deed: &str, arrange: impl Fn(&Path, usize) -> Option<Actor>) -> usize {
    let count = |locks: usize| {
        let dir = folder();
        let _holder = arrange(dir.path(), locks);
        // A very recent record may be one of many in quick succession, and is read once more.
        let began = std::time::Instant::now();
        until("they are a moment old", || began.elapsed() > std::time::Duration::from_millis(200));
        let mut observer = Actor::start();
        // Calls that a process makes only once.
        observer.must(&format!("{deed} {}", folder().path().display()));
        let strace = Strace::attach(observer.pid(), &["-e", "trace=all"]);
        observer.must(&format!("{deed} {}", dir.path().display()));
        let names = strace.calls().into_iter().map(|call| call.name);
        // The allocator's calls and the answer's do not belong to the locks.
        names
            .filter(|name| counts(name) && !matches!(&**name, "brk" | "mmap" | "munmap" | "mremap" | "madvise"))
            .count()
    };
    (count(30) - count(10)) / 20
}

/// Asserts that each further lock takes one of these numbers of calls. Beside programs that hold very many locks, the kernel's
/// table of them is longer than one read, and then a dead holder's lock takes others. So such a count is made again.
fn takes(expected: &[usize], count: impl Fn() -> usize) {
    let mut counted = Vec::new();
    while counted.len() < 20 {
        let calls = count();
        if expected.contains(&calls) {
            return;
        }
        counted.push(calls);
    }
    panic!("{counted:?}, never one of {expected:?}");
}

#[test]
fn a_list_of_many_locks_makes_few_calls_for_each() {
    if !needs("strace", has("strace")) {
        return;
    }
    // The anchor is inspected; the lock file, of which the folder's list has shown the kind, is opened, inspected, read
    // until two reads agree, and closed. The process is checked for its end. A dead holder's lock is inspected twice:
    // before a table of locks, and after it, when the list is old.
    // A process that lived a millisecond ago is not asked again, but under strace a lock may take longer than that.
    takes(&[7, 8], || calls_for_one_more("list", false));
    takes(&[17], || calls_for_one_more("list", true));
    // A dead holder's lock is inspected once, and then removed under its kernel lock: 15 calls more.
    takes(&[7, 8], || calls_for_one_more("clean", false));
    takes(&[23], || calls_for_one_more("clean", true));
    // A foreign program's lock file is inspected by its leases too (which are not counted), and becomes the anchor.
    takes(&[9], || calls_for_one_more_foreign("list"));
    takes(&[28], || calls_for_one_more_foreign("clean"));
}
