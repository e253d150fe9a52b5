//! Helpers of the tests with real processes: actors, foreign programs, a witness, and skipping.
//!
//! Pipes synchronise everything: an actor answers each line of its input with one line. Events, which its threads report at any
//! time, are lines of their own.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests use files and processes as any program does")]

pub mod denied;
pub mod landlock;
pub mod servers;
pub mod witness;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

pub mod stepped;
pub mod strace;
pub mod sweep;
pub mod wakes;

/// A process that runs the library's operations; `src/actor.rs` lists its lines.
pub struct Actor {
    pub child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The events that arrived before an answer.
    events: VecDeque<Value>,
}

/// Returns the actor's program, beside the test's own.
pub fn actor_program() -> PathBuf {
    sibling("actor")
}

/// Returns the command's program, which `cargo test --workspace` builds.
pub fn tenure_program() -> PathBuf {
    sibling("tenure")
}

/// Returns the program of one process that works under a fence.
pub fn fenced_program() -> PathBuf {
    sibling("fenced")
}

fn sibling(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push(name);
    assert!(
        path.exists(),
        "{} is missing: run the whole workspace's tests, or `cargo build --workspace`",
        path.display()
    );
    path
}

impl Actor {
    pub fn start() -> Actor {
        match std::env::var_os(EMULATOR) {
            Some(emulator) => Actor::from(Command::new(emulator).arg(actor_program())),
            None => Actor::from(&mut Command::new(actor_program())),
        }
    }

    /// Starts the actor through another command, which must run [`actor_program`] in the end: `setpriv`, `unshare`,
    /// `strace`.
    pub fn from(command: &mut Command) -> Actor {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Actor { child, input, output, events: VecDeque::new() }
    }

    /// Sends a line without waiting for its answer.
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        // By one call: a process that ends as it was told to would break the pipe before the next one.
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Returns the next event or answer of the actor; panics if the actor has ended.
    pub fn receive(&mut self) -> Value {
        self.events.pop_front().unwrap_or_else(|| self.next_line())
    }

    fn next_line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the actor said {line:?}: {error}"))
    }

    /// Returns the answer to a line, or `None` if the actor dies of it.
    pub fn ask_if_it_lives(&mut self, line: &str) -> Option<Value> {
        self.send(line);
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        (!answer.is_empty()).then(|| serde_json::from_str(&answer).unwrap())
    }

    /// Returns the next event or answer, or `None` if the actor has ended.
    pub fn receive_or_end(&mut self) -> Option<Value> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).ok()
    }

    /// Returns whether a line is ready or the actor has ended.
    pub fn has_answered(&self) -> bool {
        self.answers_within(0)
    }

    /// Waits up to that many seconds, and reports whether a line is ready or the actor has ended.
    pub fn answers_within(&self, seconds: i64) -> bool {
        use std::os::fd::AsFd as _;
        let mut polled =
            [rustix::event::PollFd::from_borrowed_fd(self.output.get_ref().as_fd(), rustix::event::PollFlags::IN)];
        let until = rustix::event::Timespec { tv_sec: seconds, tv_nsec: 0 };
        !self.events.is_empty()
            || !self.output.buffer().is_empty()
            || rustix::event::poll(&mut polled, Some(&until)).unwrap() > 0
    }

    /// Sends a line and returns its answer. Events that arrive before it, as they do where the machine is slow, are kept for
    /// [`Actor::receive`].
    pub fn ask(&mut self, line: &str) -> Value {
        self.send(line);
        loop {
            let said = self.next_line();
            if said["event"].is_null() {
                return said;
            }
            self.events.push_back(said);
        }
    }

    /// Asserts that no event has arrived but those that were received.
    pub fn assert_no_event(&self) {
        assert!(self.events.is_empty(), "{:?}", self.events);
    }

    /// Sends a line that must succeed, and returns its answer.
    pub fn must(&mut self, line: &str) -> Value {
        let answer = self.ask(line);
        assert_eq!(answer["ok"], true, "{line}: {answer}");
        answer
    }

    /// Sends a line that must fail with an error of this kind, and returns its answer.
    pub fn must_fail(&mut self, line: &str, kind: &str) -> Value {
        let answer = self.ask(line);
        assert_eq!((&answer["ok"], answer["kind"].as_str()), (&Value::Bool(false), Some(kind)), "{line}: {answer}");
        answer
    }

    /// Sends a line after whose answer a thread of the actor reports an event. Returns the answer and the event, which
    /// arrive in either order.
    pub fn must_and_receive(&mut self, line: &str) -> (Value, Value) {
        let answer = self.must(line);
        let event = self.receive();
        assert!(!event["event"].is_null(), "{answer} {event}");
        (answer, event)
    }

    /// Opens `path` and acquires it at once, under the name `g`.
    pub fn hold(&mut self, path: &Path) -> Value {
        self.must(&format!("open l {}", path.display()));
        self.must("acquire l g never")
    }

    /// Waits until the actor has been killed.
    pub fn await_end(&mut self) {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the actor by SIGKILL and reaps it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes the actor's input and waits for its end.
    pub fn finish(mut self) -> std::process::ExitStatus {
        drop(self.input.take());
        self.child.wait().unwrap()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a foreign program that follows OpenClaw's protocol: `python` or `node`.
pub fn foreign(language: &str, words: &[&str]) -> Command {
    let file = match language {
        "python" => "openclaw.py",
        "node" => "openclaw.mjs",
        other => panic!("no foreign program in {other}"),
    };
    let mut command = Command::new(if language == "python" { "python3" } else { "node" });
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(file)).args(words);
    command
}

/// Returns whether `PATH` has the program.
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

pub fn is_root() -> bool {
    // SAFETY: no precondition.
    unsafe { libc::geteuid() == 0 }
}

/// Records that a test could not run here, and why. Under `CI=true` that is a failure; `scripts/test` prints all
/// reasons.
pub fn skip(why: &str) {
    if let Some(log) = std::env::var_os("TENURE_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        writeln!(log, "{test}: {why}").unwrap();
    }
    eprintln!("SKIPPED: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped under CI=true: {why}");
}

/// Returns `there`, and records a skip if it is `false`.
pub fn needs(what: &str, there: bool) -> bool {
    if !there {
        skip(&format!("needs {what}"));
    }
    there
}

/// Creates a temporary folder on the target folder's file system (not tmpfs).
pub fn folder() -> tempfile::TempDir {
    install_interrupts_if_set();
    tempfile::tempdir().unwrap()
}

/// The environment variable that names the emulator of every actor.
pub const EMULATOR: &str = "TENURE_TEST_EMULATOR";

/// The environment variable under which waiting tests and every actor use `tenure::interrupts`.
pub const INTERRUPTS: &str = "TENURE_TEST_INTERRUPTS";

/// Returns whether requesters wait in the kernel's queue themselves, without a helper thread.
pub fn waits_directly() -> bool {
    std::env::var_os(INTERRUPTS).is_some()
}

/// Installs `tenure::interrupts` if [`INTERRUPTS`] is set.
pub fn install_interrupts_if_set() {
    if waits_directly() {
        tenure::interrupts::install().unwrap();
    }
}

/// Polls until `there` returns true; panics with `what` after some minutes.
pub fn until(what: &str, mut there: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(180);
    while !there() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Repeats a measurement that a busy machine can spoil, until it is good once. Panics with all reasons if it never is.
pub fn measure(attempts: usize, mut good: impl FnMut() -> Result<(), String>) {
    let mut reasons = Vec::new();
    for _ in 0..attempts {
        match good() {
            Ok(()) => return,
            Err(reason) => reasons.push(reason),
        }
    }
    panic!("in each of {attempts} measurements: {reasons:#?}");
}

/// Returns the time that each of these actors needs to answer, one after the other: almost nothing, but for the load of the
/// machine.
pub fn round_trip(actors: &mut [&mut Actor]) -> std::time::Duration {
    let began = std::time::Instant::now();
    for actor in actors {
        actor.must("threads");
    }
    began.elapsed()
}

/// Writes a file by another process, with an age.
///
/// A child of this process has, between fork and exec, all files open that this process was writing at the fork, and a lock file
/// that a process has open is a live one.
pub fn write_apart(path: &Path, text: impl AsRef<[u8]>, age: std::time::Duration) {
    let mut writer = Actor::start();
    writer.must(&format!("put {} {} {}", escaped(path), age.as_millis(), hex(text.as_ref())));
    writer.finish();
}

/// Returns a path as a word of an actor's line.
fn escaped(path: &Path) -> String {
    path.to_str().unwrap().replace(' ', "%20")
}

/// Changes the age of a file without opening it.
pub fn make_older(path: &Path, age: std::time::Duration) {
    let changed = std::time::SystemTime::now() - age;
    let since = changed.duration_since(std::time::UNIX_EPOCH).unwrap();
    let time = rustix::fs::Timespec { tv_sec: since.as_secs().cast_signed(), tv_nsec: since.subsec_nanos().into() };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
}

/// Starts an actor that has opened `target` as `l`.
pub fn opened(target: &Path, keys: &str) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {} {keys}", target.display()));
    actor
}

/// Waits until that many processes are in the kernel's queue.
pub fn until_waiting(target: &Path, count: usize) {
    until("processes wait", || tenure::status(target).unwrap().waiters == Some(count));
}

/// Waits until the lock has neither holder nor waiter.
pub fn until_unwanted(target: &Path) {
    until("neither held nor waited for", || {
        let found = tenure::status(target).unwrap();
        found.state == tenure::State::Free && found.waiters == Some(0)
    });
}

/// Starts `flock(1)` of that kind (`-x`, `-s`) on a path; it holds until [`end_util_linux`]. The returned process is the holder.
pub fn util_linux(target: &Path, kind: &str) -> Child {
    let mut child = Command::new("flock")
        .args(["--no-fork", kind, target.to_str().unwrap(), "sh", "-c", "echo in; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    child
}

/// Ends `flock(1)`, which releases its lock.
pub fn end_util_linux(mut child: Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child.wait().unwrap();
}

/// Returns whether `flock(1)` would get a lock of that kind without waiting.
pub fn util_linux_may(target: &Path, kind: &str) -> bool {
    Command::new("flock").args(["-n", kind, target.to_str().unwrap(), "true"]).status().unwrap().success()
}

/// Returns `<target>.lock`.
pub fn lock_file(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Sends a signal to a process of the test.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: no precondition.
    let sent = unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) };
    assert_eq!(sent, 0, "signal {signal} to {pid}: {}", std::io::Error::last_os_error());
}

/// Stops a process and waits until each of its threads has stopped, which happens after the signal is sent.
pub fn stop(pid: u32) {
    signal(pid, libc::SIGSTOP);
    let has_stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat.as_bytes()[stat.rfind(')').unwrap() + 2] == b'T'
    };
    until("it has stopped", || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(has_stopped));
}

/// Stops a process at a moment when it holds no kernel lock of flock's kind.
///
/// A waiter looks again from time to time, and holds the lock during that look: stopped there, it is a holder.
pub fn stop_without_lock(pid: u32) {
    let holds = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words[1] == "FLOCK" && words[4] == pid.to_string()
    };
    until("it is stopped without a lock", || {
        stop(pid);
        let held = std::fs::read_to_string("/proc/locks").unwrap().lines().any(holds);
        if held {
            signal(pid, libc::SIGCONT);
        }
        !held
    });
}

/// Returns whether the process has ended; a zombie has.
pub fn has_ended(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => matches!(stat.as_bytes()[stat.rfind(')').unwrap() + 2], b'Z' | b'X'),
        Err(_) => true,
    }
}

/// A running foreign program, which writes lines of JSON.
pub struct Foreign {
    pub child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Foreign {
    pub fn from(command: &mut Command) -> Foreign {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Foreign { child, input, output }
    }

    /// Starts a foreign program and waits until it holds the lock of `target`.
    pub fn hold(language: &str, target: &Path) -> Foreign {
        let mut holder = Foreign::from(&mut foreign(language, &["hold", target.to_str().unwrap()]));
        holder.await_held();
        holder
    }

    pub fn await_held(&mut self) {
        let said = self.receive();
        assert_eq!(said["event"], "held", "{said}");
    }

    /// Starts a foreign program that judges the lock files whose paths it reads.
    pub fn judge(language: &str, words: &[&str]) -> Foreign {
        Foreign::from(foreign(language, &["judge-loop"]).args(words))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        // By one call: a process that ends as it was told to would break the pipe before the next one.
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the foreign program said {line:?}: {error}"))
    }

    pub fn ask(&mut self, line: &str) -> Value {
        self.send(line);
        self.receive()
    }

    /// Closes the program's input.
    pub fn close(&mut self) {
        drop(self.input.take());
    }

    /// Makes the program release its lock and end.
    pub fn release(mut self) {
        let said = self.ask("release");
        assert_eq!(said["event"], "released", "{said}");
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Kills the program by SIGKILL and reaps it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a command that runs `program` as an unprivileged user (`nobody`). The program is copied into `dir` if that
/// user cannot reach it.
pub fn as_nobody(program: &Path, dir: &Path) -> Command {
    let setpriv = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command
    };
    let reachable = setpriv().args(["test", "-x"]).arg(program).status().unwrap().success();
    let mut command = setpriv();
    if reachable {
        command.arg(program);
    } else {
        // A child process copies: a file that a fork of this process has open for writing could not be executed.
        let copy = dir.join(program.file_name().unwrap());
        assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
        command.arg(copy);
    }
    command
}

/// Encodes a file's bytes for the actor's `put`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Formats a time as OpenClaw's protocol does.
pub fn iso(time: std::time::SystemTime) -> String {
    let millis = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let (days, in_day) = (millis / 86_400_000, millis % 86_400_000);
    // Days since 1 March of the year 0, as Howard Hinnant's civil_from_days counts them.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u128::from(month <= 2);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Returns a file's inode, or `None` if the file is missing.
pub fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).ok().map(|found| found.ino())
}
