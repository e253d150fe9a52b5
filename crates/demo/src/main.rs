//! The main use case on real files: many processes append to one transcript, and some are killed in the middle of a line.
//!
//! Programs with the library, calls of `tenure run`, and a foreign program that knows only the lock file share `main.jsonl`.
//! Each append reads the last line's number `n` and writes line `n + 1` in two halves, so a second writer in between would
//! show. A native and a foreign holder are killed after their first half. At the end every acknowledged line must be there
//! once, in order and complete, and a witness file, which is independent of Tenure, must never have detected two writers.
//!
//! Then `tenure run` and programs with OpenClaw's whole protocol, which removes the lock file of a dead process at once,
//! share another transcript. No process is killed there, and the witness must not have detected two writers of any kind.
//!
//! Run it with `scripts/demo`. It exits with 1 where anything is wrong.

// The foreign program opens and removes files itself, as such programs do.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio, exit};
use std::sync::{RwLock, mpsc};
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tenure::{Lock, Previous, Wait};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long the appenders work, and the timeout of each wait.
const WORK: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(10);
/// A foreign program's pause between two tries, and before it takes a holder for dead.
const POLL: Duration = Duration::from_millis(1);
const SECOND_CHECK: Duration = Duration::from_millis(150);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        [tenure] => demonstrate(Path::new(tenure)),
        ["native", dir] => native(Path::new(dir), Fate::Completes),
        ["native-victim", dir] => native(Path::new(dir), Fate::IsKilled),
        ["foreign", dir] => foreign(Path::new(dir), Fate::Completes, SECOND_CHECK),
        ["foreign-victim", dir] => foreign(Path::new(dir), Fate::IsKilled, SECOND_CHECK),
        ["openclaw", dir] => openclaw(Path::new(dir)),
        ["append", dir] => append_once(Path::new(dir)),
        _ => Err("usage: tenure-demo TENURE (other arguments are internal)".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tenure-demo {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

// The appenders. Each reports its actions as JSON lines on standard output.

/// Appends with the library's guard around each append.
fn native(dir: &Path, fate: Fate) -> Result<()> {
    let lock = Lock::options().label("transcript").open(dir.join("main.jsonl"))?;
    let end = Instant::now() + WORK;
    while Instant::now() < end {
        let guard = lock.acquire_with(Wait::For(PATIENCE))?;
        let crashed = match guard.previous() {
            Previous::Crashed(holder) => holder.pid(),
            Previous::Clean => None,
        };
        if let Some(pid) = crashed {
            println!("{}", json!({ "crashed": pid }));
        }
        append(dir, "library", guard.fence(), crashed, fate)?;
        guard.check()?;
        guard.release()?;
        sleep(POLL);
    }
    Ok(())
}

/// Appends once, as the command that `tenure run` starts. It does not lock anything itself.
fn append_once(dir: &Path) -> Result<()> {
    let fence = std::env::var("TENURE_FENCE")?.parse()?;
    append(dir, "tenure run", Some(fence), None, Fate::Completes)
}

/// Appends as a program that knows only the lock file: creates it exclusively, writes it and keeps it open; then closes and
/// removes it.
fn foreign(dir: &Path, fate: Fate, doubt: Duration) -> Result<()> {
    let path = dir.join("main.jsonl.lock");
    let end = Instant::now() + WORK;
    while Instant::now() < end {
        let held = foreign_acquire(&path, doubt)?;
        append(dir, "foreign", None, None, fate)?;
        drop(held);
        fs::remove_file(&path)?;
        sleep(POLL);
    }
    Ok(())
}

/// Appends with OpenClaw's whole protocol, which checks a holder once.
fn openclaw(dir: &Path) -> Result<()> {
    foreign(dir, Fate::Completes, Duration::ZERO)?;
    // Another program that has read this one's lock file may not have checked its pid yet.
    sleep(Duration::from_secs(1));
    Ok(())
}

fn foreign_acquire(path: &Path, doubt: Duration) -> Result<File> {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(mut file) => {
                let pid = std::process::id();
                let start = start_time(pid).ok_or("no start time")?;
                let now = jiff::Timestamp::try_from(SystemTime::now())?;
                // The record is formatted first, because it must be written in one call.
                let record =
                    format!("{{\n  \"pid\": {pid},\n  \"createdAt\": \"{now:.3}\",\n  \"starttime\": {start}\n}}");
                file.write_all(record.as_bytes())?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        // The protocol's weakness: by the removal the lock file may be another holder's. So a dead holder is checked twice,
        // with a pause in which a native takes over first. This makes the race rare, not impossible.
        if let Some(dead) = dead_record(path) {
            sleep(doubt);
            if doubt.is_zero() || dead_record(path).is_some_and(|again| again == dead) {
                fs::remove_file(path)?;
            }
        }
        sleep(POLL);
    }
    Err("the lock file was not removed in time".into())
}

/// Returns the lock file's text, where the process that it names has ended.
fn dead_record(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let record: Value = serde_json::from_str(&text).ok()?;
    let pid = record["pid"].as_u64()?.try_into().ok()?;
    let now = start_time(pid);
    let same = now.is_some() && (record["starttime"].is_null() || record["starttime"].as_u64() == now);
    (!same).then_some(text)
}

/// Returns when a process started; `None` for a process that has ended.
fn start_time(pid: u32) -> Option<u64> {
    tenure::process::is_alive(pid).then(|| tenure::process::start_time(pid)).flatten()
}

/// What happens to an append.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Completes,
    /// The process is killed after the first half of the line.
    IsKilled,
}

/// Appends a line, under the lock. `crashed` is the previous holder, if it crashed. Its incomplete line is removed first.
fn append(dir: &Path, by: &str, fence: Option<u64>, crashed: Option<i64>, fate: Fate) -> Result<()> {
    let witness = dir.join("witness");
    if let Some(dead) = crashed
        && fs::read_to_string(&witness).is_ok_and(|text| text == dead.to_string())
    {
        fs::remove_file(&witness)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(&witness) {
        Ok(mut file) => write!(file, "{}", std::process::id())?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            println!("{}", json!({ "double": fs::read_to_string(&witness).unwrap_or_default() }));
            return Err("another process works under the same lock".into());
        }
        Err(error) => return Err(error.into()),
    }

    let mut file = OpenOptions::new().read(true).append(true).create(true).open(dir.join("main.jsonl"))?;
    let end = file.seek(SeekFrom::End(0))?;
    let start = file.seek(SeekFrom::Start(end.saturating_sub(4096)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < tail.len() {
        if crashed.is_none() {
            return Err("an incomplete line without a crash report".into());
        }
        file.set_len(start + whole as u64)?;
        println!("{}", json!({ "repaired": String::from_utf8_lossy(&tail[whole..]) }));
    }
    let last = tail[..whole].trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let n =
        if last.is_empty() { 0 } else { serde_json::from_slice::<Value>(last)?["n"].as_u64().ok_or("no number")? };

    let fence = fence.map_or(String::new(), |fence| format!(r#","fence":{fence}"#));
    let line = format!(r#"{{"n":{},"by":"{by}","pid":{}{fence}}}"#, n + 1, std::process::id());
    let text = format!("{line}\n");
    let (first, second) = text.split_at(text.len() / 2);
    file.write_all(first.as_bytes())?;
    if fate == Fate::IsKilled {
        println!("{}", json!({ "half": first }));
        io::stdin().read_line(&mut String::new())?; // The process is killed here.
        exit(1);
    }
    file.write_all(second.as_bytes())?;
    fs::remove_file(&witness)?;
    println!("{line}");
    Ok(())
}

// The demonstration.

/// A report of a child, with its time.
type Report = (Instant, Value);

/// Starts this program in a role. Sends its reports to `reports`.
fn start(role: &str, dir: &Path, reports: &mpsc::Sender<Report>) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(role)
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let reports = reports.clone();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(io::Result::ok) {
            // A malformed report is sent as null, and shows later as a line that was not acknowledged.
            let _ = reports.send((Instant::now(), serde_json::from_str(&line).unwrap_or_default()));
        }
    });
    Ok(child)
}

/// Appends through the command until the time is over. The gate is closed while a holder is killed, so that the next holder
/// is a program with the library, which gets the crash report.
fn run_commands(tenure: &Path, dir: &Path, gate: &RwLock<()>, reports: &mpsc::Sender<Report>) -> Result<()> {
    let end = Instant::now() + WORK;
    while Instant::now() < end {
        let open = gate.read().map_err(|_| "the gate is poisoned")?;
        let output = Command::new(tenure)
            .args(["run", "--quiet", "--timeout", "10s"])
            .arg(dir.join("main.jsonl"))
            .arg("--")
            .arg(std::env::current_exe()?)
            .arg("append")
            .arg(dir)
            .stderr(Stdio::inherit())
            .output()?;
        drop(open);
        if !output.status.success() {
            return Err(format!("tenure run: {}", output.status).into());
        }
        reports.send((Instant::now(), serde_json::from_slice(&output.stdout)?))?;
        sleep(POLL);
    }
    Ok(())
}

/// Lets a holder write half a line, and kills it. Returns its pid and the time of the kill.
fn kill_in_the_middle(role: &str, dir: &Path, gate: &RwLock<()>) -> Result<(u32, Instant)> {
    let closed = gate.write().map_err(|_| "the gate is poisoned")?;
    let (sender, reports) = mpsc::channel();
    let mut child = start(role, dir, &sender)?;
    drop(sender); // The channel closes with the child.
    let half = loop {
        let (_, report) = reports.recv_timeout(PATIENCE).map_err(|_| format!("{role} wrote no half line"))?;
        if let Some(half) = report["half"].as_str() {
            break half.to_owned();
        }
    };
    println!("  {role} (pid {}) holds the lock and has written half a line: {half}", child.id());
    sleep(Duration::from_millis(50)); // The other processes queue up meanwhile.
    let killed = Instant::now();
    child.kill()?;
    child.wait()?;
    sleep(Duration::from_millis(50)); // The gate is still closed for the next holder.
    drop(closed);
    println!("  {role} killed with SIGKILL");
    Ok((child.id(), killed))
}

/// Runs both parts. `tenure` is the command's binary.
fn demonstrate(tenure: &Path) -> Result<()> {
    if !tenure.exists() {
        return Err(format!("{} is missing: cargo build -p tenure-cli", tenure.display()).into());
    }
    with_kills(tenure)?;
    println!();
    without_kills(tenure)?;
    println!("All is well: no line is lost, doubled or incomplete.");
    Ok(())
}

fn with_kills(tenure: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path();
    println!("Appending to {} for {} s:", dir.join("main.jsonl").display(), WORK.as_secs());
    println!("  3 programs with the library, 2 loops of `tenure run`, 1 foreign program that knows only the lock file");

    let (sender, receiver) = mpsc::channel();
    let mut children = Vec::new();
    for role in ["native", "native", "native", "foreign"] {
        children.push((role, start(role, dir, &sender)?));
    }
    let gate = RwLock::new(());
    let mut faults: Vec<String> = Vec::new();
    let mut kills = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let runners: Vec<_> =
            (0..2).map(|_| scope.spawn(|| run_commands(tenure, dir, &gate, &sender.clone()))).collect();
        for victim in ["native-victim", "foreign-victim"] {
            sleep(WORK / 4);
            match kill_in_the_middle(victim, dir, &gate) {
                Ok(kill) => kills.push(kill),
                Err(error) => faults.push(error.to_string()),
            }
        }
        for runner in runners {
            if let Err(error) = runner.join().map_err(|_| "a thread panicked")? {
                faults.push(error.to_string());
            }
        }
        Ok(())
    })?;
    for (role, mut child) in children {
        let status = child.wait()?;
        if !status.success() {
            faults.push(format!("a {role} ended with {status}"));
        }
    }
    drop(sender);
    let reports: Vec<Report> = receiver.iter().collect();

    examine(dir, &reports, &["library", "tenure run", "foreign"], &mut faults)?;
    let repaired = reports.iter().filter(|(_, report)| !report["repaired"].is_null()).count();
    for (pid, killed) in &kills {
        match reports.iter().find(|(_, report)| report["crashed"] == *pid) {
            Some((at, _)) => println!(
                "pid {pid} was killed while it held the lock; the next holder got the crash report {:.1} ms later",
                at.duration_since(*killed).as_secs_f64() * 1e3
            ),
            None => {
                faults.push(format!("pid {pid} was killed while it held the lock, and no holder got a crash report"))
            }
        }
    }
    println!("incomplete lines removed: {repaired}");
    if repaired != kills.len() {
        faults.push("see the line above".to_owned());
    }
    verdict(&faults)
}

/// Runs without kills, where two writers at once are always a fault.
fn without_kills(tenure: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path();
    println!("Appending to {} for {} s, without kills:", dir.join("main.jsonl").display(), WORK.as_secs());
    println!("  3 loops of `tenure run`, 3 programs with OpenClaw's own lock");
    let (sender, receiver) = mpsc::channel();
    let children: Vec<Child> = (0..3).map(|_| start("openclaw", dir, &sender)).collect::<Result<_>>()?;
    let gate = RwLock::new(());
    let mut faults: Vec<String> = Vec::new();
    thread::scope(|scope| {
        let runners: Vec<_> =
            (0..3).map(|_| scope.spawn(|| run_commands(tenure, dir, &gate, &sender.clone()))).collect();
        for runner in runners {
            match runner.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => faults.push(error.to_string()),
                Err(_) => faults.push("a thread panicked".to_owned()),
            }
        }
    });
    for mut child in children {
        let status = child.wait()?;
        if !status.success() {
            faults.push(format!("a program with OpenClaw's lock ended with {status}"));
        }
    }
    drop(sender);
    let reports: Vec<Report> = receiver.iter().collect();
    examine(dir, &reports, &["tenure run", "foreign"], &mut faults)?;
    verdict(&faults)
}

fn verdict(faults: &[String]) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("WRONG:\n  {}", faults.join("\n  ")).into())
}

/// Checks that every line is complete, in order, without gaps or duplicates; that fences grow; that exactly the acknowledged
/// lines are there; and that the witness never detected two writers.
fn examine(dir: &Path, reports: &[Report], kinds: &[&str], faults: &mut Vec<String>) -> Result<()> {
    let mut grants: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut fence = 0;
    for (index, text) in fs::read_to_string(dir.join("main.jsonl"))?.split_inclusive('\n').enumerate() {
        let Some(Ok(line)) = text.strip_suffix('\n').map(serde_json::from_str::<Value>) else {
            faults.push(format!("line {} is incomplete: {text}", index + 1));
            continue;
        };
        if line["n"] != index as u64 + 1 {
            faults.push(format!("line {} has the number {}", index + 1, line["n"]));
        }
        if let Some(next) = line["fence"].as_u64() {
            if next <= fence {
                faults.push(format!("line {}: fence {next} does not come after {fence}", index + 1));
            }
            fence = next;
        }
        *grants.entry(line["by"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
        lines.push(line);
    }
    let mut acknowledged: Vec<&Value> =
        reports.iter().map(|(_, report)| report).filter(|r| !r["n"].is_null()).collect();
    acknowledged.sort_by_key(|line| line["n"].as_u64());
    if !acknowledged.iter().copied().eq(&lines) {
        faults.push(format!("{} lines were acknowledged, {} are there", acknowledged.len(), lines.len()));
    }
    let doubles = reports.iter().filter(|(_, report)| !report["double"].is_null()).count();

    println!("\n{} lines, {} acknowledged; lines by kind:", lines.len(), acknowledged.len());
    for kind in kinds {
        let count = grants.get(*kind).copied().unwrap_or_default();
        println!("  {kind:<10} {count:>6}");
        if count == 0 {
            faults.push(format!("{kind}: no grant at all"));
        }
    }
    println!("two writers at once, detected by the witness: {doubles}");
    if doubles != 0 {
        faults.push("see the line above".to_owned());
    }
    Ok(())
}
