//! The Windows command and the Linux one exclude each other on servers. `scripts/test --windows` builds the Windows command
//! and runs these tests, which start it under wine: see [`WINDOWS`].

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use serde_json::Value;
use tenure_tests::servers::etcd::{self, Cluster};
use tenure_tests::servers::postgres::{self, Postgres};
use tenure_tests::{folder, signal, tenure_program, until};

/// The environment variable with the words that start the Windows command: wine's runner, a space, and `tenure.exe`.
const WINDOWS: &str = "TENURE_TEST_WINDOWS";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Linux,
    Windows,
}

use System::{Linux, Windows};

/// Returns a system's command.
fn tenure(system: System, words: &[&str]) -> Command {
    let mut command = match system {
        Linux => Command::new(tenure_program()),
        Windows => {
            let words = std::env::var(WINDOWS).expect("`scripts/test --windows` sets TENURE_TEST_WINDOWS");
            let (runner, program) = words.split_once(' ').expect("a runner, a space and a program");
            let mut command = Command::new(runner);
            command.arg(program);
            command
        }
    };
    command.args(words).stdin(Stdio::null());
    command
}

/// Returns the exit code, standard output and standard error.
fn done(system: System, words: &[&str]) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let run = || {
        let output = tenure(system, words).output().unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let mut done = run();
    // Now and then wine does not start a program. The command itself says something with every code but 0.
    for _ in 0..3 {
        if system != Windows || done != (Some(1), String::new(), String::new()) {
            break;
        }
        done = run();
    }
    done
}

/// Returns what `tenure status --json TARGET` prints.
fn status(system: System, target: &str) -> Value {
    let (code, out, said) = done(system, &["status", "--json", target]);
    assert_eq!(code, Some(0), "{system:?}: {said}");
    serde_json::from_str(&out).unwrap()
}

/// A running `tenure hold`.
struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Holder {
    /// Starts to wait for the lock.
    fn begin(system: System, words: &[&str]) -> Holder {
        let mut command = tenure(system, &["hold"]);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Holder { input: child.stdin.take(), child, output }
    }

    /// Waits until it holds the lock, and returns its record.
    fn record(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| {
            let _ = self.child.kill();
            let mut said = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it printed {line:?} ({error}) and said: {said}")
        })
    }

    /// Starts to hold the free lock, and returns the record.
    fn hold(system: System, target: &str) -> (Holder, Value) {
        let mut holder = Holder::begin(system, &["-n", target]);
        let record = holder.record();
        (holder, record)
    }

    /// Closes its input, which releases the lock, and waits for its end. Returns what it said.
    fn release(mut self) -> String {
        drop(self.input.take());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }

    /// Kills the process by SIGKILL. Under wine it is the process that runs the Windows program's code.
    fn kill(mut self) {
        signal(self.child.id(), libc::SIGKILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fence(record: &Value) -> u64 {
    record["tenure"]["fence"].as_u64().unwrap_or_else(|| panic!("no fence: {record}"))
}

/// One system's command holds: the other's is refused, names the holder, waits, and is granted at the release and after a
/// kill.
fn excludes(holds: System, asks: System, target: &str, server: &str) {
    assert_eq!(status(asks, target)["state"], "free");
    let (held, record) = Holder::hold(holds, target);
    let pid = record["pid"].as_u64().unwrap();

    for system in [holds, asks] {
        let (code, out, said) = done(system, &["hold", "-n", target]);
        assert_eq!((code, out.as_str()), (Some(75), ""), "{system:?}: {said}");
        assert!(said.contains(&format!("pid {pid}")), "{system:?}: {said}");
        let found = status(system, target);
        assert_eq!((&found["state"], &found["style"]), (&"held".into(), &server.into()), "{system:?}: {found}");
        assert_eq!(
            (&found["holder"]["pid"], &found["holder"]["fence"], &found["holder"]["kind"]),
            (&pid.into(), &fence(&record).into(), &"native".into()),
            "{system:?}: {found}"
        );
        let (code, out, _) = done(system, &["status", target]);
        assert!(code == Some(0) && out.contains(&pid.to_string()), "{system:?}: {out}");
    }
    let (code, _, said) = done(asks, &["hold", "--timeout", "3s", target]);
    assert!(code == Some(75) && said.contains(&format!("pid {pid}")), "{said}");
    let (code, _, said) = done(asks, &["wait", "--timeout", "3s", target]);
    assert_eq!(code, Some(75), "{said}");

    // Released: the waiter is granted.
    let mut waiter = Holder::begin(asks, &[target]);
    until("a waiter", || status(holds, target)["waiters"] == 1);
    held.release();
    let next = waiter.record();
    assert!(fence(&next) > fence(&record), "{record} {next}");
    let found = status(holds, target);
    assert_eq!((&found["state"], &found["holder"]["pid"]), (&"held".into(), &next["pid"]), "{found}");
    waiter.release();
    assert_eq!(status(holds, target)["state"], "free");

    // Killed: the waiter is granted once the lease or the session is over, and gets the crash report.
    let (held, record) = Holder::hold(holds, target);
    let mut waiter = Holder::begin(asks, &[target]);
    until("a waiter", || status(holds, target)["waiters"] == 1);
    held.kill();
    let next = waiter.record();
    assert!(fence(&next) > fence(&record), "{record} {next}");
    let said = waiter.release();
    assert!(said.contains("took over") && said.contains(&record["pid"].to_string()), "{said}");
    assert_eq!(status(holds, target)["state"], "free");
}

/// Commands of both systems take turns. Each reads a number in a file and writes the next one, which loses a turn where two
/// hold at once.
fn takes_turns(target: &str) {
    const TURNS: u64 = 10;
    let folder = folder();
    let path = folder.path().join("number");
    std::fs::write(&path, "0").unwrap();
    let turns = |system: System| {
        let mut fences = Vec::new();
        for _ in 0..TURNS {
            let mut holder = Holder::begin(system, &["--timeout", "60s", target]);
            let record = holder.record();
            let number: u64 = std::fs::read_to_string(&path).unwrap().parse().unwrap();
            // A look at the lock takes some milliseconds, in which another holder would read the same number.
            assert_eq!(status(Linux, target)["holder"]["pid"], record["pid"]);
            std::fs::write(&path, (number + 1).to_string()).unwrap();
            fences.push((fence(&record), number));
            holder.release();
        }
        fences
    };
    let turns = &turns;
    let mut all: Vec<(u64, u64)> = thread::scope(|scope| {
        let started = [Linux, Windows, Windows, Linux].map(|system| scope.spawn(move || turns(system)));
        started.into_iter().flat_map(|turns| turns.join().unwrap()).collect()
    });
    all.sort_unstable();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), (4 * TURNS).to_string());
    for (number, pair) in all.windows(2).enumerate() {
        assert!(pair[0].0 < pair[1].0 && pair[0].1 == number as u64, "fences and numbers grow together: {all:?}");
    }
}

/// Every case, each with a lock of its own: they wait for leases and for wine most of the time.
fn all_at_once(target_of: impl Fn(&str) -> String, server: &str) {
    thread::scope(|scope| {
        for (holds, asks) in [(Linux, Windows), (Windows, Linux), (Windows, Windows)] {
            let target = target_of(&format!("sessions/{holds:?}-{asks:?}"));
            scope.spawn(move || excludes(holds, asks, &target, server));
        }
        takes_turns(&target_of("sessions/main"));
    });
}

#[test]
#[ignore = "needs wine and the command for Windows: scripts/test --windows"]
fn the_windows_command_and_the_linux_one_exclude_each_other_on_etcd() {
    assert!(etcd::there(), "etcd is not installed");
    let cluster = Cluster::start(1);
    all_at_once(|name| cluster.target(name, 15), "etcd");
}

#[test]
#[ignore = "needs wine and the command for Windows: scripts/test --windows"]
fn the_windows_command_and_the_linux_one_exclude_each_other_on_postgres() {
    assert!(postgres::there(), "PostgreSQL is not installed");
    let postgres = Postgres::start();
    all_at_once(|name| postgres.target(name, 15), "postgres");
}
