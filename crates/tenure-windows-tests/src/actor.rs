//! Actors: processes that follow a test's commands.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The way to end an actor.
#[derive(Clone, Copy, Debug)]
pub enum Kill {
    /// `TerminateProcess`, as `Child::kill` and Node's `kill` do.
    Terminate,
    /// SIGKILL of the Unix process behind it, under wine. On Windows this is `TerminateProcess` too.
    Sigkill,
}

/// A process that runs `windows-actor`. It is killed when this is dropped.
pub struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    token: String,
}

impl Actor {
    /// Starts an actor in `dir`.
    pub fn start(dir: &Path, words: &[&str]) -> Actor {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // By this its Unix process is found under wine.
        let token = format!("actor-{}-{}-end", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(super::programs().join("windows-actor.exe"));
        command.arg(&token).args(words).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            start(&mut command).expect("windows-actor starts; build it: cargo build -p tenure-windows-tests");
        let input = child.stdin.take();
        let lines = lines_of(child.stdout.take().expect("it was piped"));
        Actor { child, input, lines, token }
    }

    /// Returns the process's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a command.
    pub fn send(&mut self, command: &str) {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{command}").and_then(|()| input.flush()).expect("the actor reads commands");
    }

    /// Returns its next line. Panics where none comes within a minute.
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the actor is silent"),
            Err(RecvTimeoutError::Disconnected) => panic!("the actor has ended"),
        }
    }

    /// Returns its next line, if one comes within `time`.
    pub fn line_within(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    /// Sends a command, and returns the answer.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.line()
    }

    /// Ends the process, and waits for its end.
    pub fn kill(&mut self, how: Kill) {
        match how {
            Kill::Sigkill if super::is_wine() => {
                // By one look at all processes. The brackets keep the pattern from matching this shell and its grep.
                let script = format!(
                    "kill -9 $(grep -la '{}[-]end' /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3)",
                    self.token.strip_suffix("-end").expect("a token ends in -end")
                );
                // Wine has no handle of a Unix process by which its end could be awaited. That of the actor is.
                let killer = Command::new("Z:\\bin\\sh").args(["-c", &script]).stdin(Stdio::null()).spawn();
                std::mem::forget(killer.expect("wine starts Unix's programs"));
            }
            _ => self.child.kill().expect("a child can be terminated"),
        }
        self.child.wait().expect("a child can be waited for");
    }

    /// Closes the process's input, at which it ends in the ordinary way, and returns its exit code.
    pub fn end(&mut self) -> Option<i32> {
        self.input = None;
        self.child.wait().expect("a child can be waited for").code()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a process. Wine now and then fails to start one with an internal error, where it has started thousands.
fn start(command: &mut Command) -> io::Result<Child> {
    const INTERNAL_ERROR: i32 = 1359;
    for _ in 0..5 {
        match command.spawn() {
            Err(error) if error.raw_os_error() == Some(INTERNAL_ERROR) && super::is_wine() => {
                eprintln!("wine: {error}");
            }
            other => return other,
        }
    }
    command.spawn()
}

fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { return };
            if sender.send(line.trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    lines
}
