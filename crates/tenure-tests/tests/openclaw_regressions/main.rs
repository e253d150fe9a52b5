//! The complaints of OpenClaw's users, by the numbers of `session-lock.md`: each must be impossible here.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

mod files;
mod staleness;
mod waiting;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tenure_tests::{
    Actor, Foreign, actor_program, as_nobody, folder, foreign, has, hex, inode, is_root, iso, measure, needs,
    round_trip, until, write_apart,
};

/// Above every `pid_max`: no process ever has this pid.
const NEVER: u32 = 4_194_305;

fn put(actor: &mut Actor, path: &Path, age: i64, text: &str) {
    actor.must(&format!("put {} {age} {}", path.display(), hex(text.as_bytes())));
}

/// Returns an OpenClaw record with the present time.
fn record(pid: u32, start: Option<u64>) -> String {
    let start = start.map_or(String::new(), |start| format!(",\n  \"starttime\": {start}"));
    format!("{{\n  \"pid\": {pid},\n  \"createdAt\": \"{}\"{start}\n}}", iso(SystemTime::now()))
}

fn status(actor: &mut Actor, target: &Path) -> Value {
    actor.must(&format!("inspect {}", target.display()))["found"].take()
}

fn await_waiters(observer: &mut Actor, target: &Path, count: usize) {
    until("waiters", || status(observer, target)["waiters"] == count);
}

fn open(actor: &mut Actor, target: &Path, keys: &str) {
    actor.must(&format!("open l {} {keys}", target.display()));
}
