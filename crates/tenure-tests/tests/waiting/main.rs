//! Waiting: deadlines, order, and the cost of a waiter.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

mod helpers;
mod order;
mod shares;
mod timeouts;

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tenure::{Lock, State, Style, Wait, status};
use tenure_tests::stepped::Stepped;
use tenure_tests::strace::Strace;
use tenure_tests::{
    Actor, end_util_linux, folder, has, needs, opened, until, until_waiting, util_linux, util_linux_may, waits_directly,
};

fn open(actor: &mut Actor, target: &Path, keys: &str) {
    actor.must(&format!("open l {} {keys}", target.display()));
}

/// Returns whether a thread sleeps in `futex(2)` with a timeout, as a waiter with a deadline does. A thread that waits for a
/// mutex has no timeout.
fn sleeps_until_a_deadline(pid: u32, thread: u32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")).unwrap_or_default();
    let words: Vec<_> = call.split(' ').collect();
    words[0] == libc::SYS_futex.to_string() && words[4] != "0x0"
}

/// Replaces the target by a new file, as programs do that write a file as a whole.
fn replace(target: &Path) {
    let new = target.with_extension("new");
    std::fs::write(&new, "").unwrap();
    std::fs::rename(&new, target).unwrap();
}
