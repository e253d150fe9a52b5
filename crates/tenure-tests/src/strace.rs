//! Uses `strace` as a seam: it makes a system call of a running process fail, or kills or stops the process at the
//! call.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::Actor;

/// The calls of an acquire and a release: those on files, and those that wait.
pub const CALLS: &str = "openat,newfstatat,statx,fstat,mkdirat,fchmod,fchown,fgetxattr,flock,pread64,pwrite64,linkat,unlinkat,renameat2,fcntl";

/// A tracer that is attached to a process.
pub struct Strace {
    child: Child,
    lines: Receiver<String>,
}

/// One call of a trace: its name, and its index among the calls of that name.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub nth: usize,
    /// The call in strace's format.
    pub text: String,
}

impl Strace {
    /// Attaches to `pid` and returns once attached. strace counts `when=N` separately for each thread, from this
    /// moment.
    pub fn attach(pid: u32, args: &[&str]) -> Strace {
        let mut child = Command::new("strace")
            .args(args)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        // Drained without pause, so that strace never waits for the test; the channel closes when strace ends.
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let strace = Strace { child, lines };
        strace.wait_for("attached");
        strace
    }

    /// Attaches with faults for single calls: each is the text after `inject=`.
    pub fn inject(pid: u32, faults: &[&str]) -> Strace {
        let names: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
        let mut args = vec!["-f".to_owned(), "-e".to_owned(), format!("trace={}", names.join(","))];
        for fault in faults {
            args.extend(["-e".to_owned(), format!("inject={fault}")]);
        }
        Strace::attach(pid, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Sends an actor a line during which one of these faults stops it, and returns once it has stopped.
    pub fn stops(actor: &mut Actor, line: &str, faults: &[&str]) -> Strace {
        let strace = Strace::inject(actor.pid(), faults);
        actor.send(line);
        strace.wait_for("stopped by SIGSTOP");
        strace
    }

    /// Returns the next line that contains `what`.
    pub fn wait_for(&self, what: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut seen = String::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => seen.push_str(&line),
                Err(RecvTimeoutError::Timeout) => panic!("strace never printed {what:?}: {seen}"),
                Err(RecvTimeoutError::Disconnected) => panic!("strace ended before it printed {what:?}: {seen}"),
            }
        }
    }

    /// Returns whether a line within the next millisecond contains `what`. Other lines are discarded.
    pub fn says(&self, what: &str) -> bool {
        let end = Instant::now() + Duration::from_millis(1);
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(what) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// Detaches from the process, and returns the lines since the last read.
    pub fn detach(mut self) -> Vec<String> {
        // SAFETY: no precondition; the child is not reaped yet.
        unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), libc::SIGINT) };
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }

    /// Detaches and parses the calls, without those of other threads than the traced one.
    pub fn calls(self) -> Vec<Call> {
        let mut calls: Vec<Call> = Vec::new();
        for text in self.detach() {
            let Some((name, _)) = text.split_once('(') else { continue };
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue;
            }
            let nth = calls.iter().filter(|call| call.name == name).count() + 1;
            calls.push(Call { name: name.to_owned(), nth, text: text.trim_end().to_owned() });
        }
        calls
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGINT makes strace detach; a second one does no harm.
        // SAFETY: no precondition; a child that was reaped already is not waited for again.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), libc::SIGINT) };
            let _ = self.child.wait();
        }
    }
}

/// Returns the calls of an actor's line that change something. Kills before each of them produce every state that a
/// crash can leave.
pub fn changing_calls(actor: &mut Actor, line: &str, more: &[&str]) -> Vec<Call> {
    let trace = format!("trace={CALLS}");
    let mut args = vec!["-e", trace.as_str()];
    args.extend(more);
    let strace = Strace::attach(actor.pid(), &args);
    actor.must(line);
    let mut calls = strace.calls();
    calls.retain(|call| match call.name.as_str() {
        "openat" => call.text.contains("O_CREAT"),
        "newfstatat" | "statx" | "fstat" | "pread64" | "fcntl" | "fgetxattr" => false,
        _ => true,
    });
    calls
}

/// Prepares an actor with `prepare` and kills it at the given call of the line. It retries, because the number of reads
/// of `/proc` varies.
pub fn kill_at<T>(mut prepare: impl FnMut(usize) -> (Actor, String, T), call: &Call, more: &[&str]) -> T {
    for at in 0..50 {
        let (actor, line, made) = prepare(at);
        if try_to_kill_at(actor, &line, call, more) {
            return made;
        }
    }
    panic!("never reached {call:?}");
}

fn try_to_kill_at(mut actor: Actor, line: &str, call: &Call, more: &[&str]) -> bool {
    let fault = format!("inject={}:signal=KILL:when={}", call.name, call.nth);
    let trace = format!("trace={CALLS}");
    let mut args = vec!["-e", trace.as_str()];
    args.extend(more);
    args.extend(["-e", fault.as_str()]);
    let strace = Strace::attach(actor.pid(), &args);
    actor.send(line);
    let ended = actor.receive_or_end().is_none();
    drop(strace);
    if ended {
        assert_eq!(actor.child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
    ended
}
