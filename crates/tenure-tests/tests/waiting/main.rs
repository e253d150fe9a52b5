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
use tenure_tests::strace::Strace;
use tenure_tests::{
    Actor, end_util_linux, folder, has, needs, opened, until, until_waiting, util_linux, util_linux_may, waits_directly,
};

fn open(actor: &mut Actor, target: &Path, keys: &str) {
    actor.must(&format!("open l {} {keys}", target.display()));
}

/// Replaces the target by a new file, as programs do that write a file as a whole.
fn replace(target: &Path) {
    let new = target.with_extension("new");
    std::fs::write(&new, "").unwrap();
    std::fs::rename(&new, target).unwrap();
}
