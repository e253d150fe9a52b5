//! Starts real processes and waits for them by pipes, without sleeping.

#![allow(dead_code, unreachable_pub, clippy::disallowed_methods, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

/// The time after which a wait is a failure. Everything here takes less.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A lock file of a foreign holder whose pid is beyond every `pid_max`.
pub const DEAD: &str = "{\n  \"pid\": 999999999,\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\"\n}";

/// Every subcommand, in the order of the help.
pub const SUBCOMMANDS: [&str; 14] = [
    "run",
    "hold",
    "status",
    "ls",
    "history",
    "clean",
    "wait",
    "events",
    "top",
    "metrics",
    "break",
    "doctor",
    "completions",
    "man",
];

/// An empty folder in which `tenure` is called.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns a call of `tenure` with these arguments.
    pub fn tenure<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command.args(words).current_dir(self.path()).stdin(Stdio::null()).env_remove("SHELL");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TENURE_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs a call to its end.
    pub fn done<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Done {
        Done::from(self.tenure(words).output().unwrap())
    }

    /// Runs a call to its end as the user nobody. Only root can do this.
    pub fn done_by_nobody<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Done {
        std::fs::set_permissions(self.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let program = tempfile::tempdir().unwrap();
        std::fs::set_permissions(program.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        // Another process makes the copy. If this one did, a child that another test forks meanwhile would have the file
        // open for writing, and it could not be run ("text file busy").
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_tenure")).arg(program.path()).status().unwrap();
        assert!(copied.success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program.path().join("tenure"));
        command.args(words).current_dir(self.path()).stdin(Stdio::null()).env_remove("TENURE_TIMEOUT");
        Done::from(command.output().unwrap())
    }

    /// Starts `tenure run OPTIONS -- sh -c 'echo $$; read x'`, and returns when the command runs and the records name it.
    pub fn hold<'a>(&self, options: impl IntoIterator<Item = &'a str>) -> Running {
        let words = ["run"].into_iter().chain(options).chain(["--", "sh", "-c", "echo $$; read x"]);
        let mut running = Running::start(self.tenure(words));
        running.command = running.stdout.next().parse().unwrap();
        // A command may run before its pid is recorded, and the test could continue too early.
        let began = Instant::now();
        while !self.records_name(running.command) {
            assert!(began.elapsed() < PATIENCE, "the record never named the command");
        }
        running
    }

    /// Starts a call of `run` or `hold` with this `--max-hold` as [`Running::start`] does, again and again, until its command has
    /// printed a line before it was ended. On a busy machine a command may need longer for that than it may hold the lock.
    pub fn overrunning(&self, words: &[&str]) -> (Running, String) {
        let began = Instant::now();
        loop {
            let mut running = Running::start(self.tenure(words));
            if let Some(line) = running.stdout.next_or_end() {
                return (running, line);
            }
            running.wait();
            assert!(began.elapsed() < PATIENCE, "{words:?} was always ended before its command began");
        }
    }

    fn records_name(&self, command: i32) -> bool {
        let done = self.done(["status", "--json", "--pid", &command.to_string()]);
        // A command that has ended already holds nothing, and its files cannot be read.
        let Ok(found) = serde_json::from_str::<serde_json::Value>(&done.stdout) else { return true };
        let holds = found["holds"].as_array().unwrap();
        let native = holds.iter().map(|lock| &lock["holder"]).filter(|holder| holder["kind"] == "native");
        native.into_iter().all(|holder| holder["commandPid"] == command)
    }

    /// Returns the sorted names in the folder itself.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn json<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> serde_json::Value {
        let done = self.done(words);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(done.stdout.matches('\n').count(), 1, "one line: {done:?}");
        serde_json::from_str(&done.stdout).unwrap()
    }
}

/// The result of a call.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        Done {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A call that runs, with pipes for its three streams. Dropping this kills it.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    pub stdout: Lines,
    pub stderr: Lines,
    /// The command's pid, where [`Scratch::hold`] started it.
    pub command: i32,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Running { stdin: child.stdin.take(), child, stdout, stderr, command: 0 }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Closes its standard input and waits for its end.
    pub fn finish(&mut self) -> ExitStatus {
        self.close_input();
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        assert!(ends(self.pid()), "still running after {PATIENCE:?}");
        self.child.wait().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Returns whether there is a program of that name. Where not, the test is recorded as skipped, and with CI=true it fails.
pub fn needs(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()) {
        return true;
    }
    if let Some(log) = std::env::var_os("TENURE_SKIP_LOG") {
        let mut log = std::fs::File::options().append(true).create(true).open(log).unwrap();
        writeln!(log, "{}: needs {tool}", thread::current().name().unwrap_or("?")).unwrap();
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped under CI=true: needs {tool}");
    false
}

pub fn kill(pid: i32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Waits for the end of a process. Returns `false` after [`PATIENCE`].
pub fn ends(pid: i32) -> bool {
    let Ok(pidfd) = rustix::process::pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { return true };
    let patience = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)).unwrap() > 0
}

/// The lines from a pipe.
pub struct Lines(Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Lines(receiver)
    }

    /// Waits for the next line.
    pub fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("a line")
    }

    /// Waits for the next line, or for the end: `None`.
    pub fn next_or_end(&self) -> Option<String> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor the end"),
        }
    }

    /// Waits for the next line that contains `text`.
    pub fn until(&self, text: &str) -> String {
        loop {
            let line = self.next();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Returns the further lines that have arrived.
    pub fn so_far(&self) -> Vec<String> {
        self.0.try_iter().collect()
    }

    /// Returns all further lines until the pipe closes.
    pub fn rest(&self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.0.recv_timeout(PATIENCE) {
            lines.push(line);
        }
        lines
    }
}
