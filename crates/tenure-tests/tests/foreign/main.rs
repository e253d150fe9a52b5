//! Staleness in both directions: how Tenure judges a foreign program's lock file, and how a foreign program judges
//! ours.
//!
//! The foreign programs are `foreign/openclaw.py` and `foreign/openclaw.mjs`: OpenClaw's protocol written again, flaws
//! included.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

mod exclusion;
mod judging;
mod takeover;

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tenure_tests::{
    Actor, Foreign, actor_program, as_nobody, folder, foreign, has, hex, inode, is_root, iso, lock_file, measure,
    needs, round_trip, until,
};

/// Above every `pid_max`: no process ever has this pid.
const NEVER: u32 = 4_194_305;
/// An age in the future, so that the lock file is fresh however slow the machine is.
const FRESH: i64 = -3_600_000;
const OLD: i64 = 7_200_000;
const LANGUAGES: [&str; 2] = ["python", "node"];

fn start_time(pid: u32) -> u64 {
    tenure::process::start_time(pid).unwrap()
}

fn put(actor: &mut Actor, path: &Path, age: i64, text: &[u8]) {
    actor.must(&format!("put {} {age} {}", path.display(), hex(text)));
}

fn put_record(actor: &mut Actor, path: &Path, pid: u32, start: Option<u64>) {
    let start = start.map_or(String::new(), |start| format!(",\n  \"starttime\": {start}"));
    let created_at = iso(SystemTime::now());
    put(actor, path, 0, format!("{{\n  \"pid\": {pid},\n  \"createdAt\": \"{created_at}\"{start}\n}}").as_bytes());
}

fn status(actor: &mut Actor, target: &Path) -> Value {
    actor.must(&format!("inspect {}", target.display()))["found"].take()
}

fn reasons(found: &Value) -> Vec<String> {
    found["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap().to_owned()).collect()
}

/// Waits until a process waits for this lock and has reached the foreign holder's lock file.
fn await_waiter(observer: &mut Actor, target: &Path) {
    until("a waiter", || status(observer, target)["waiters"] == 1);
}

/// Starts an actor under strace, which stops or kills it at the given system calls: a stop takes effect when the call
/// is done, a kill before it begins.
fn traced(injections: &[&str]) -> Actor {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat,renameat2,unlinkat,inotify_init1"]);
    for injection in injections {
        command.args(["-e", &format!("inject={injection}")]);
    }
    Actor::from(command.arg(actor_program()))
}

/// Returns the actor's own pid: strace's child.
fn child_of(parent: u32) -> i32 {
    let found = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let rest = stat.rsplit_once(')')?.1;
        (rest.split_whitespace().nth(1)? == parent.to_string()).then_some(pid)
    });
    found.expect("the actor runs under strace")
}

/// Resumes a process whenever it is stopped. A single SIGCONT before the stop would be lost, and strace counts the
/// calls of each thread separately.
struct Resumer {
    stop: mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Resumer {
    fn start(pid: i32) -> Resumer {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
                // SAFETY: no precondition. The process is a child of a strace that has not been waited for.
                unsafe { libc::kill(pid, libc::SIGCONT) };
            }
        });
        Resumer { stop, thread: Some(thread) }
    }
}

impl Drop for Resumer {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

struct HeldUp {
    dir: tempfile::TempDir,
    actor: Actor,
    pid: i32,
    holder: Option<Foreign>,
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        // A stopped process would outlive a failed test. While strace runs, the pid is its child's.
        if self.actor.child.try_wait().unwrap().is_none() {
            // SAFETY: no precondition.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
    }
}

impl HeldUp {
    /// Starts an actor that has judged a dead holder's file and is stopped before the exchange; meanwhile a live
    /// foreign program holds.
    fn new(more: &[&str]) -> HeldUp {
        let dir = folder();
        let (target, lock_file) = (dir.path().join("t"), dir.path().join("t.lock"));
        put_record(&mut Actor::start(), &lock_file, NEVER, None);
        // The first link fails, because the dead holder's file exists; the second creates the swap.
        let mut actor = traced(&[&["linkat:signal=SIGSTOP:when=2"], more].concat());
        actor.must(&format!("open l {}", target.display()));
        let pid = child_of(actor.pid());
        actor.must("begin l g 60000");
        until("the swap", || dir.path().join(".tenure/t.lock.swap").exists());
        std::fs::remove_file(&lock_file).unwrap();
        let holder = Some(Foreign::hold("python", &target));
        HeldUp { dir, actor, pid, holder }
    }

    fn inodes(&self) -> [Option<u64>; 3] {
        ["t.lock", ".tenure/t.lock", ".tenure/t.lock.swap"].map(|name| inode(&self.dir.path().join(name)))
    }
}
