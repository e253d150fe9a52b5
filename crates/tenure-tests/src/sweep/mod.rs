//! Sweeps: every system call that an acquire, a release, a takeover, a clean and a break make, each in turn, is the last
//! one that its process makes ([`kills`]), or fails with each errno of its manual page ([`errnos`]).
//!
//! What must be true afterwards is the same for all: the next one gets the lock, one that holds is alone, and what is
//! left is nothing that `clean` does not explain: after a sweep without a grace for idle anchors the folder is empty.
//!
//! The suite takes the calls that change something ([`Depth::Changing`]); `cargo run --release -p torture -- sweep` takes
//! them all.

pub mod errnos;
pub mod kills;
pub mod scenes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Actor;
use crate::strace::{CALLS, Call, Strace};
use scenes::Scene;

/// Which calls a sweep takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Those that change what others see: files, names, kernel locks.
    Changing,
    /// Every one that the process makes on its way, but for memory and its threads.
    Every,
}

impl Depth {
    /// For strace's `-e trace=`.
    fn trace(self) -> String {
        match self {
            Depth::Changing => CALLS.to_owned(),
            // The actor reads its line and writes its answer: these two are not the library's.
            Depth::Every => "!read,write,brk,mmap,munmap,mprotect,madvise,mremap,futex,rt_sigprocmask,rt_sigaction,\
                             rt_sigreturn,sigaltstack,restart_syscall,set_robust_list,rseq,sched_yield,getrandom"
                .to_owned(),
        }
    }

    /// The calls of a trace that this depth takes.
    fn takes(self, call: &Call) -> bool {
        match call.name.as_str() {
            _ if self == Depth::Every => true,
            "openat" => call.text.contains("O_CREAT"),
            "newfstatat" | "statx" | "fstat" | "pread64" | "fcntl" => false,
            _ => true,
        }
    }
}

/// What a sweep came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// How many processes were killed, or how many calls failed.
    pub cases: usize,
    /// The longest that the next one took to get the lock.
    pub worst: Duration,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.cases += other.cases;
        self.worst = self.worst.max(other.worst);
    }
}

/// A hang, and not a slow machine: the next one waits for nobody, so its grant takes some milliseconds.
const HANG: Duration = Duration::from_secs(30);

/// The faults that a scene has all the way: file systems without hard links answer `EPERM`.
fn lasting(scene: &Scene) -> &'static [&'static str] {
    if scene.links { &[] } else { &["linkat:error=EPERM"] }
}

/// A process whose `link(2)` is refused, where the scene says so, until the tracer goes.
fn handicap(actor: &Actor, scene: &Scene) -> Option<Strace> {
    (!scene.links).then(|| Strace::inject(actor.pid(), lasting(scene)))
}

/// What `rehearse` finds, once it finds the same twice: how often `/proc` is read depends on what else goes on.
fn settled(mut rehearse: impl FnMut() -> Vec<Call>) -> Vec<Call> {
    let places = |calls: &[Call]| calls.iter().map(|call| (call.name.clone(), call.nth)).collect::<Vec<_>>();
    let mut calls = rehearse();
    for _ in 0..20 {
        let again = rehearse();
        if places(&calls) == places(&again) {
            break;
        }
        calls = again;
    }
    calls
}

/// Tries to come to the call `at` of those that `rehearse` found, until `play` says that it has. Who looks more often, at
/// `/proc` or at a kernel lock, makes it another one of its name: that is looked up anew.
fn insist<T>(
    calls: &[Call],
    at: usize,
    mut rehearse: impl FnMut() -> Vec<Call>,
    mut play: impl FnMut(&Call) -> Option<T>,
) -> Option<T> {
    // Its looks come first, so it is counted from the end.
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

/// What a call looks like but for its numbers.
fn words(call: &Call) -> String {
    call.text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// How often one tries to come to a call. Those that change something are certain; how often others are made depends on
/// what else goes on.
fn attempts(call: &Call) -> usize {
    if Depth::Changing.takes(call) { 50 } else { 3 }
}

/// The calls that `line` makes of `actor`, in their order.
fn rehearse(actor: &mut Actor, line: &str, scene: &Scene, depth: Depth) -> Vec<Call> {
    let strace = attach(actor, scene, depth, &[]);
    actor.must(line);
    strace.calls().into_iter().filter(|call| depth.takes(call)).collect()
}

fn attach(actor: &Actor, scene: &Scene, depth: Depth, faults: &[&str]) -> Strace {
    let mut args = vec!["-e".to_owned(), format!("trace={}", depth.trace())];
    for fault in lasting(scene).iter().chain(faults) {
        args.extend(["-e".to_owned(), format!("inject={fault}")]);
    }
    Strace::attach(actor.pid(), &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The names in a folder, sorted; none where it is missing. Flock style makes its target, which stays.
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

/// What may be beside a target that nobody holds, until a sweep: the folder of anchors, and one in the making. Where who
/// came last was of flock style, which looks at no lock file, a dead foreign program's too.
fn may_stay(name: &str, dead_foreign: bool) -> bool {
    name == ".tenure" || name.starts_with(".tenure.") || (dead_foreign && name == "t.lock")
}
