//! What the tests with real processes share: the actor that they drive, foreign programs, a witness, and skipping.
//!
//! Everything is synchronised by pipes: an actor answers each line that it is sent with one line.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests look at files and processes as anyone would")]

pub mod denied;
pub mod landlock;
pub mod servers;
pub mod witness;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

pub mod stepped;
pub mod strace;
pub mod sweep;
pub mod wakes;

/// A process that does with the library what it is told; see `src/actor.rs` for its words.
pub struct Actor {
    pub child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// The actor's program, beside the test's own.
pub fn actor_program() -> PathBuf {
    sibling("actor")
}

/// The command's program: built by `cargo test --workspace`.
pub fn tenure_program() -> PathBuf {
    sibling("tenure")
}

/// The program of one process that works under a fence.
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

    /// Starts it through another command, which must run [`actor_program`] in the end: `setpriv`, `unshare`, `strace`.
    pub fn from(command: &mut Command) -> Actor {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Actor { child, input, output }
    }

    /// Sends a line without waiting for its answer.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }

    /// The next line that it says; panics where it has ended.
    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the actor said {line:?}: {error}"))
    }

    /// The answer to a line, or `None` where the actor dies of it.
    pub fn ask_if_it_lives(&mut self, line: &str) -> Option<Value> {
        self.tell(line);
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        (!answer.is_empty()).then(|| serde_json::from_str(&answer).unwrap())
    }

    /// The next line, or `None` where it has ended.
    pub fn hear_or_end(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).ok()
    }

    /// Is there something to hear, or has it ended?
    pub fn has_answered(&self) -> bool {
        self.answers_within(0)
    }

    /// The same, within so many seconds.
    pub fn answers_within(&self, seconds: i64) -> bool {
        use std::os::fd::AsFd as _;
        let mut polled =
            [rustix::event::PollFd::from_borrowed_fd(self.output.get_ref().as_fd(), rustix::event::PollFlags::IN)];
        let until = rustix::event::Timespec { tv_sec: seconds, tv_nsec: 0 };
        !self.output.buffer().is_empty() || rustix::event::poll(&mut polled, Some(&until)).unwrap() > 0
    }

    /// The answer to a line.
    pub fn ask(&mut self, line: &str) -> Value {
        self.tell(line);
        self.hear()
    }

    /// As [`ask`](Actor::ask), for what must succeed.
    pub fn must(&mut self, line: &str) -> Value {
        let answer = self.ask(line);
        assert_eq!(answer["ok"], true, "{line}: {answer}");
        answer
    }

    /// As [`ask`](Actor::ask), for what must fail: its error's kind is `kind`.
    pub fn must_fail(&mut self, line: &str, kind: &str) -> Value {
        let answer = self.ask(line);
        assert_eq!((&answer["ok"], answer["kind"].as_str()), (&Value::Bool(false), Some(kind)), "{line}: {answer}");
        answer
    }

    /// A line that is answered, and after which a thread of the actor says something: the answer and the event, in
    /// whichever order they come.
    pub fn must_and_hear(&mut self, line: &str) -> (Value, Value) {
        self.tell(line);
        let (one, other) = (self.hear(), self.hear());
        let (answer, event) = if one["event"].is_null() { (one, other) } else { (other, one) };
        assert!(answer["ok"] == true && answer["event"].is_null() && !event["event"].is_null(), "{answer} {event}");
        (answer, event)
    }

    /// Opens `path` and acquires it at once, under the name `g`.
    pub fn hold(&mut self, path: &Path) -> Value {
        self.must(&format!("open l {}", path.display()));
        self.must("acquire l g never")
    }

    /// Waits until it has ended: killed, as nobody asks it to end.
    pub fn await_end(&mut self) {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut rest).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and reaped.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its input and waits for its end.
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

/// A foreign program with the seed's protocol: `python` or `node`.
pub fn foreign(language: &str, words: &[&str]) -> Command {
    let file = match language {
        "python" => "seed.py",
        "node" => "seed.mjs",
        other => panic!("no foreign program in {other}"),
    };
    let mut command = Command::new(if language == "python" { "python3" } else { "node" });
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(file)).args(words);
    command
}

/// Is there such a program on the path?
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

pub fn is_root() -> bool {
    // SAFETY: no precondition.
    unsafe { libc::geteuid() == 0 }
}

/// Says that a test could not run here, and why. Under `CI=true` that is a failure; `scripts/test` names them all.
pub fn skip(why: &str) {
    if let Some(log) = std::env::var_os("TENURE_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        writeln!(log, "{test}: {why}").unwrap();
    }
    eprintln!("SKIPPED: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped under CI=true: {why}");
}

/// `true` if the test can go on; else it was skipped.
pub fn needs(what: &str, there: bool) -> bool {
    if !there {
        skip(&format!("needs {what}"));
    }
    there
}

/// A folder that goes with the value, on the file system of the target folder (not tmpfs).
pub fn folder() -> tempfile::TempDir {
    recall_if_asked();
    tempfile::tempdir().unwrap()
}

/// The emulator in the environment under which every actor runs.
pub const EMULATOR: &str = "TENURE_TEST_EMULATOR";

/// With this in the environment, the tests that wait do so by `tenure::interrupts`: here and in every actor.
pub const RECALL: &str = "TENURE_TEST_RECALL";

/// Does whoever asks wait in the kernel's queue itself?
pub fn is_recalled() -> bool {
    std::env::var_os(RECALL).is_some()
}

/// Installs `tenure::interrupts` where [`RECALL`] is set.
pub fn recall_if_asked() {
    if is_recalled() {
        tenure::interrupts::install().unwrap();
    }
}

/// Looks again and again until `there` says so; panics after a minute, naming `what`.
pub fn until(what: &str, mut there: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !there() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// An actor that has opened `target` as `l`.
pub fn opened(target: &Path, keys: &str) -> Actor {
    let mut actor = Actor::start();
    actor.must(&format!("open l {} {keys}", target.display()));
    actor
}

/// Until that many processes wait in the kernel's queue.
pub fn until_waiting(target: &Path, count: usize) {
    until("processes wait", || tenure::status(target).unwrap().waiters == Some(count));
}

/// Until nobody holds and nobody waits.
pub fn until_unwanted(target: &Path) {
    until("neither held nor waited for", || {
        let found = tenure::status(target).unwrap();
        found.state == tenure::State::Free && found.waiters == Some(0)
    });
}

/// `flock(1)` on a path, of that kind (`-x`, `-s`), which holds until it is [ended](end_util_linux).
pub fn util_linux(target: &Path, kind: &str) -> Child {
    let mut child = Command::new("flock")
        .args([kind, target.to_str().unwrap(), "-c", "echo in; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");
    child
}

/// Ends it, and with it its lock.
pub fn end_util_linux(mut child: Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child.wait().unwrap();
}

/// Would `flock(1)` get that kind of lock at once?
pub fn util_linux_may(target: &Path, kind: &str) -> bool {
    Command::new("flock").args(["-n", kind, target.to_str().unwrap(), "true"]).status().unwrap().success()
}

/// `<target>.lock`.
pub fn lock_file(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Sends a signal to a process that the test knows of.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: no precondition.
    let sent = unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) };
    assert_eq!(sent, 0, "signal {signal} to {pid}: {}", std::io::Error::last_os_error());
}

/// Stops a process, and returns once each of its threads has stopped: the signal alone takes its time.
pub fn stop(pid: u32) {
    signal(pid, libc::SIGSTOP);
    let has_stopped = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        stat.as_bytes()[stat.rfind(')').unwrap() + 2] == b'T'
    };
    until("it has stopped", || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(has_stopped));
}

/// Has the process ended? One that nobody has waited for yet has too.
pub fn has_ended(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => matches!(stat.as_bytes()[stat.rfind(')').unwrap() + 2], b'Z' | b'X'),
        Err(_) => true,
    }
}

/// A foreign program that runs: what it says comes in lines of JSON.
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

    /// One that holds the lock of `target` once this returns.
    pub fn hold(language: &str, target: &Path) -> Foreign {
        let mut holder = Foreign::from(&mut foreign(language, &["hold", target.to_str().unwrap()]));
        holder.await_held();
        holder
    }

    pub fn await_held(&mut self) {
        let said = self.hear();
        assert_eq!(said["event"], "held", "{said}");
    }

    /// One that judges the lock files that it is asked about.
    pub fn judge(language: &str, words: &[&str]) -> Foreign {
        Foreign::from(foreign(language, &["judge-loop"]).args(words))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }

    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("the foreign program said {line:?}: {error}"))
    }

    pub fn ask(&mut self, line: &str) -> Value {
        self.tell(line);
        self.hear()
    }

    /// Closes its input.
    pub fn close(&mut self) {
        drop(self.input.take());
    }

    /// Releases, and ends.
    pub fn release(mut self) {
        let said = self.ask("release");
        assert_eq!(said["event"], "released", "{said}");
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// SIGKILL, and reaped.
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

/// `program` run as a user who may do nothing in particular (`nobody`). It is copied into `dir` if that user cannot
/// reach it.
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
        // By a process of its own: a file that is open for writing in a fork of this one could not be run.
        let copy = dir.join(program.file_name().unwrap());
        assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
        command.arg(copy);
    }
    command
}

/// A file's bytes in the words of the actor's `put`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time as the seed writes it.
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

/// A file's inode; `None` where it is missing.
pub fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).ok().map(|found| found.ino())
}
