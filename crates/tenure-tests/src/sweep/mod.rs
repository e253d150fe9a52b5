//! Sweeps over every system call of an acquire, a release, a suspend, a resume, a takeover, a clean and a break: each in turn is the
//! process's last ([`kills`]), or fails with each errno of its manual page ([`errnos`]).
//!
//! The same must hold after each case: the next process gets the lock, a holder is alone, and `clean` explains every
//! leftover file. A sweep without a grace period for idle anchors empties the folder.
//!
//! The suite takes the calls that change something ([`Depth::Changing`]); `cargo run --release -p torture -- sweep`
//! takes all calls.

pub mod errnos;
pub mod kills;
pub mod scenes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Actor;
use crate::strace::{CALLS, Call, Strace};
use scenes::Scene;

/// The calls that a sweep includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The calls that change a state that other processes see: files, names, kernel locks.
    Changing,
    /// All calls of the process but those for memory and threads.
    Every,
}

impl Depth {
    /// Returns the argument of strace's `-e trace=`.
    fn trace(self) -> String {
        match self {
            Depth::Changing => CALLS.to_owned(),
            // The actor reads its line and writes its answer by these two calls, not the library.
            Depth::Every => "!read,write,brk,mmap,munmap,mprotect,madvise,mremap,futex,rt_sigprocmask,rt_sigaction,\
                             rt_sigreturn,sigaltstack,restart_syscall,set_robust_list,rseq,sched_yield,getrandom"
                .to_owned(),
        }
    }

    /// Returns whether this depth includes a call of a trace.
    fn takes(self, call: &Call) -> bool {
        match call.name.as_str() {
            _ if self == Depth::Every => true,
            "openat" => call.text.contains("O_CREAT"),
            // The marks of a suspended tenure.
            "fcntl" => call.text.contains("F_OFD_SETLK"),
            "newfstatat" | "statx" | "fstat" | "pread64" => false,
            _ => true,
        }
    }
}

/// The result of a sweep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The number of kills or failed calls.
    pub cases: usize,
    /// The longest acquire of a next holder.
    pub worst: Duration,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.cases += other.cases;
        self.worst = self.worst.max(other.worst);
    }
}

/// Longer than any slow machine needs: the next process waits for no other, so its grant takes milliseconds.
const HANG: Duration = Duration::from_secs(120);

/// Returns the faults that last for the whole scene: file systems without hard links answer `EPERM`.
fn lasting(scene: &Scene) -> &'static [&'static str] {
    if scene.links { &[] } else { &["linkat:error=EPERM"] }
}

/// Makes the process's `link(2)` fail, if the scene requires it, until the tracer is dropped.
fn handicap(actor: &Actor, scene: &Scene) -> Option<Strace> {
    (!scene.links).then(|| Strace::inject(actor.pid(), lasting(scene)))
}

/// Repeats `rehearse` until two runs agree, because the number of reads of `/proc` varies with other activity.
fn settled(mut rehearse: impl FnMut() -> Vec<Call>) -> Vec<Call> {
    let positions = |calls: &[Call]| calls.iter().map(|call| (call.name.clone(), call.nth)).collect::<Vec<_>>();
    let mut calls = rehearse();
    for _ in 0..20 {
        let again = rehearse();
        if positions(&calls) == positions(&again) {
            break;
        }
        calls = again;
    }
    calls
}

/// Tries to reach the call `at` of those that `rehearse` found, until `play` succeeds. A process that reads `/proc` or
/// tries a kernel lock more often shifts the call's index, which is then looked up again.
fn insist<T>(
    calls: &[Call],
    at: usize,
    mut rehearse: impl FnMut() -> Vec<Call>,
    mut play: impl FnMut(&Call) -> Option<T>,
) -> Option<T> {
    // Looks come first, so the call is counted from the end.
    let alike = |one: &Call, other: &Call| one.name == other.name && words(one) == words(other);
    let from_end = calls[at + 1..].iter().filter(|other| alike(&calls[at], other)).count();
    let mut call = calls[at].clone();
    for attempt in 1..=attempts(&call) {
        if let Some(played) = play(&call) {
            return Some(played);
        }
        if attempt % 3 == 0
            && let Some(again) = rehearse().iter().rev().filter(|again| alike(&call, again)).nth(from_end)
        {
            call = again.clone();
        }
    }
    None
}

/// Returns a call's text without its numbers.
fn words(call: &Call) -> String {
    call.text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Returns the maximum number of attempts to reach a call. Calls that change something always occur; the number of
/// others varies with other activity.
fn attempts(call: &Call) -> usize {
    if Depth::Changing.takes(call) { 50 } else { 3 }
}

/// Returns the calls of an actor's line, in order.
fn rehearse(actor: &mut Actor, line: &str, scene: &Scene, depth: Depth) -> Vec<Call> {
    let strace = attach(actor, scene, depth, &[]);
    actor.must(line);
    strace.calls().into_iter().filter(|call| depth.takes(call) && is_reached(call, scene)).collect()
}

/// Returns whether a fault of its own can be given to this call. strace has one fault for each kind of call: with one for a
/// later link, the links before it would succeed.
fn is_reached(call: &Call, scene: &Scene) -> bool {
    scene.links || call.name != "linkat" || call.nth == 1
}

fn attach(actor: &Actor, scene: &Scene, depth: Depth, faults: &[&str]) -> Strace {
    let mut args = vec!["-e".to_owned(), format!("trace={}", depth.trace())];
    for fault in lasting(scene).iter().chain(faults) {
        args.extend(["-e".to_owned(), format!("inject={fault}")]);
    }
    Strace::attach(actor.pid(), &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Returns the sorted names in a folder; none if the folder is missing. Flock style creates its target, which stays.
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "t");
    names.sort();
    names
}

pub use crate::lock_file;

pub fn anchors(target: &Path) -> PathBuf {
    target.with_file_name(".tenure")
}

/// Returns whether a free target may have this file beside it until a sweep: the folder of anchors, or an unfinished
/// one. After a holder of flock style, which ignores lock files, a dead foreign program's file may stay too.
fn may_stay(name: &str, dead_foreign: bool) -> bool {
    name == ".tenure" || name.starts_with(".tenure.") || (dead_foreign && name == "t.lock")
}
