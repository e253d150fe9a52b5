//! The torture: many programs on one lock, killed and stopped at random, and a witness that counts double holds.
//!
//! ```text
//! torture [--for 10m] [--round 15s] [--seed N] [--dir D] [--only ROUND]
//! ```
//!
//! It goes in rounds, each in a fresh folder:
//!
//! | round | who | what may not be |
//! | --- | --- | --- |
//! | natives | natives of both styles | two that hold |
//! | careful | natives in lock-file style, foreign programs that never remove another's lock file | two that hold |
//! | seed | natives of both styles, foreign programs with the seed's whole protocol (which robs live locks now and then), a person who removes lock files, a cleaner | two natives that hold |
//! | pruned | natives of both styles that open the lock anew each time, a cleaner that prunes every anchor it may | two that hold |
//!
//! The witness knows nothing of Tenure: POSIX record locks on a file of its own, byte 0 for natives, byte 1 for foreign
//! programs, byte 2 for natives that foreign programs can see (flock style shows no lock file). Whoever is in sets its
//! own byte, then looks at the other's, so an overlap is seen by whoever came later. The kernel drops these locks as a
//! dying process closes its files, before it drops a `flock`. Node has no `fcntl(2)`: it makes a file that names its
//! pid.
//!
//! Everyone appends to the transcript that the lock protects, in two writes: a holder that dies between them leaves a
//! torn line, which the next one cuts off, and which it must have been warned of (`previous()`).
//!
//! A worker says a line at a time: `ready`, `grant FENCE PID COUNT CRASHED` (the append is done), `busy`,
//! `double PAIR TEXT`, `fault TEXT`, and, after it was told `last` and was granted once more, `last`. It ends with its
//! input. On a fault or a double hold the exit code is 1, and the folder stays.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use tenure::{CleanOptions, Guard, Lock, Options, State, Style, Wait};

use crate::{has, sibling};

/// How long everyone that is left may take for one more grant, once nobody is killed any more.
const LAST: Duration = Duration::from_secs(5);
/// How long a worker may take to start, or to end, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The witness's bytes.
const NATIVES: i64 = 0;
const FOREIGN: i64 = 1;
const SEEN_NATIVES: i64 = 2;
/// Where natives and foreign programs write their pids in the witness.
const SLOTS: [u64; 2] = [64, 128];

pub fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker", kind, folder, phase, seed] => worker(kind, Path::new(folder), phase, seed.parse().unwrap()),
        ["inside", style, folder, phase, seed] => inside(style, Path::new(folder), phase, seed.parse().unwrap()),
        words => std::process::exit(drive(words)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Natives,
    Careful,
    Seed,
    Pruned,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Natives, Phase::Careful, Phase::Seed, Phase::Pruned];

    fn name(self) -> &'static str {
        match self {
            Phase::Natives => "natives",
            Phase::Careful => "careful",
            Phase::Seed => "seed",
            Phase::Pruned => "pruned",
        }
    }

    /// Is a cleaner at work? It may be told of a crash in place of the next native.
    fn cleaned(self) -> bool {
        matches!(self, Phase::Seed | Phase::Pruned)
    }

    fn named(name: &str) -> Phase {
        Phase::ALL.into_iter().find(|phase| phase.name() == name).unwrap()
    }
}

/// Chance that a number repeats (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn micros(&mut self, limit: u64) -> Duration {
        Duration::from_micros(self.below(limit))
    }
}

// ---- Those who work -------------------------------------------------------------------------------------------------

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write a line, so that a kill never leaves half of one in the pipe. The driver may be gone.
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

/// What a worker works on.
struct Site {
    target: PathBuf,
    witness: File,
    mark: PathBuf,
    phase: Phase,
}

/// Threads of this process that are inside: record locks do not tell them apart.
static INSIDE: AtomicBool = AtomicBool::new(false);

impl Site {
    fn open(folder: &Path, phase: &str) -> Site {
        Site {
            target: folder.join("transcript.jsonl"),
            witness: OpenOptions::new().read(true).write(true).open(folder.join("witness/bytes")).unwrap(),
            mark: folder.join("witness/mark"),
            phase: Phase::named(phase),
        }
    }

    /// What the lock protects. `crashed`: what `previous()` said, where it can be asked.
    fn work(&self, chance: &mut Chance, fence: u64, crashed: Option<bool>, count: u64, visible: bool) {
        let pid = std::process::id();
        let alone = !INSIDE.swap(true, Ordering::SeqCst);
        if !alone {
            say(&format!("double native-native pid {pid} fence {fence}: two of its threads hold"));
        }
        let mine = record_lock(&self.witness, NATIVES, libc::F_WRLCK);
        if !mine {
            let other = self.slot(SLOTS[0]);
            say(&format!("double native-native pid {pid} fence {fence} came in while {other} held"));
        } else {
            let text = format!("{pid:<19} fence {fence:<19}");
            self.witness.write_all_at(text.as_bytes(), SLOTS[0]).unwrap();
        }
        if visible {
            record_lock(&self.witness, SEEN_NATIVES, libc::F_WRLCK);
        }
        if visible && record_locked(&self.witness, FOREIGN) {
            let other = self.slot(SLOTS[1]);
            say(&format!("double native-foreign pid {pid} fence {fence} came in while {other} held"));
        }
        if visible
            && let Ok(text) = std::fs::read_to_string(&self.mark)
            && process_lives(&text)
        {
            say(&format!("double native-foreign pid {pid} fence {fence} came in while node {text} held"));
        }
        self.append(chance, fence, crashed, count);
        match chance.below(100) {
            0..60 => {}
            60..90 => std::thread::sleep(chance.micros(500)),
            90..98 => std::thread::sleep(chance.micros(3000)),
            _ => std::thread::sleep(chance.micros(30_000)),
        }
        let warned = u8::from(crashed == Some(true));
        say(&format!("grant {fence} {pid} {count} {warned}"));
        if visible {
            record_lock(&self.witness, SEEN_NATIVES, libc::F_UNLCK);
        }
        if mine {
            record_lock(&self.witness, NATIVES, libc::F_UNLCK);
        }
        if alone {
            INSIDE.store(false, Ordering::SeqCst);
        }
    }

    fn slot(&self, at: u64) -> String {
        let mut text = [0; 48];
        let length = self.witness.read_at(&mut text, at).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn append(&self, chance: &mut Chance, fence: u64, crashed: Option<bool>, count: u64) {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.target).unwrap();
        let length = file.metadata().unwrap().len();
        let mut end = vec![0; length.min(256) as usize];
        file.read_exact_at(&mut end, length - length.min(256)).unwrap();
        if end.last().is_some_and(|byte| *byte != b'\n') {
            // A cleaner may have been told instead, or a foreign program may have come in between.
            if !self.phase.cleaned() && crashed == Some(false) {
                say(&format!("fault fence {fence} found a torn line, but nobody was said to have crashed"));
            }
            let kept = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            file.set_len(length - (end.len() - kept) as u64).unwrap();
        }
        let line = format!("N {fence} {} {count} .\n", std::process::id());
        // A command that dies is no crash of the holder, so it leaves nothing torn.
        let cut = if crashed.is_some() { chance.below(line.len() as u64) as usize } else { 0 };
        let (first, second) = line.as_bytes().split_at(cut);
        if !first.is_empty() {
            file.write_all(first).unwrap();
            if chance.below(3) == 0 {
                std::thread::sleep(chance.micros(200));
            }
        }
        file.write_all(second).unwrap();
    }
}

fn record_lock(file: &File, byte: i64, kind: i32) -> bool {
    // SAFETY: all zeroes is a valid `flock`, and it lives over the call.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: the descriptor is open, `lock` is as F_SETLK wants it.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw mut lock) == 0 }
}

/// Does another process have this byte?
fn record_locked(file: &File, byte: i64) -> bool {
    // SAFETY: as above.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: as above, for F_GETLK.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
    assert_eq!(asked, 0);
    lock.l_type != libc::F_UNLCK as libc::c_short
}

fn process_lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), None | Some('Z' | 'X')))
}

fn worker(kind: &str, folder: &Path, phase: &str, seed: u64) {
    let last = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&last);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            told.store(line.is_ok_and(|line| line == "last"), Ordering::SeqCst);
        }
        std::process::exit(1);
    });
    if kind == "cleaner" {
        return cleaner(folder, seed, &last);
    }
    let site = Site::open(folder, phase);
    // A foreign program that was killed between create and write should not stop everyone for five seconds.
    let options = Lock::options().malformed_grace(Duration::from_millis(100)).label(format!("torture {kind}"));
    let mix = seed ^ (u64::from(std::process::id()) << 32);
    if kind == "anew" {
        say("ready");
        labour_anew(&site, &[options.clone(), options.style(Style::Flock)], mix, &last);
        say("last");
        std::process::exit(0);
    }
    let refreshed = options.clone().refresh_interval(Duration::from_millis(20));
    let lock_file = options.clone().open(&site.target).unwrap();
    let flock = refreshed.clone().style(Style::Flock).open(&site.target).unwrap();
    let refreshed = refreshed.open(&site.target).unwrap();
    say("ready");
    match kind {
        "lock-file" => labour(&site, &[(lock_file, true), (refreshed, true)], false, mix, &last),
        "flock" => labour(&site, &[(flock, false)], false, mix, &last),
        "mixed" => labour(&site, &[(lock_file, true), (flock, false)], false, mix, &last),
        "crowd" | "mixed-crowd" => std::thread::scope(|scope| {
            for thread in 0..3 {
                let mut locks = vec![(lock_file.clone(), true), (refreshed.clone(), true)];
                if kind == "mixed-crowd" {
                    locks.push((flock.clone(), false));
                }
                let (site, last) = (&site, &last);
                scope.spawn(move || labour(site, &locks, true, mix.wrapping_add(thread), last));
            }
        }),
        other => panic!("no worker {other}"),
    }
    say("last");
    std::process::exit(0);
}

/// `locks`: each with whether its holders are seen by foreign programs.
fn labour(site: &Site, locks: &[(Lock, bool)], futures: bool, seed: u64, last: &AtomicBool) {
    let mut chance = Chance(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for count in 1.. {
        let is_last = last.load(Ordering::SeqCst);
        let (lock, visible) = &locks[chance.below(locks.len() as u64) as usize];
        let wait = match chance.below(10) {
            _ if is_last => Wait::Forever,
            0 => Wait::Never,
            1 | 2 => Wait::For(chance.micros(20_000)),
            _ => Wait::Forever,
        };
        let outcome = match futures && chance.below(3) == 0 {
            // Dropped before its end, now and then.
            true if !is_last && chance.below(3) == 0 => runtime
                .block_on(async { tokio::time::timeout(chance.micros(10_000), lock.acquire_async(wait)).await.ok() }),
            true => Some(runtime.block_on(lock.acquire_async(wait))),
            false => Some(lock.acquire(wait)),
        };
        match outcome {
            Some(Ok(guard)) => {
                hold(site, guard, &mut chance, count, *visible);
                if is_last {
                    return;
                }
            }
            Some(Err(error)) if error.is_busy() && wait != Wait::Forever => say("busy"),
            None => say("busy"),
            Some(Err(error)) => say(&format!("fault pid {} could not acquire: {error}", std::process::id())),
        }
        if chance.below(4) != 0 {
            std::thread::sleep(chance.micros(2000));
        }
    }
}

/// Opens the lock for each try, and does not wait: who has it open, or waits, keeps the anchor from being pruned.
fn labour_anew(site: &Site, styles: &[Options; 2], seed: u64, last: &AtomicBool) {
    let mut chance = Chance(seed);
    for count in 1.. {
        let is_last = last.load(Ordering::SeqCst);
        let style = chance.below(2) as usize;
        let wait = if is_last { Wait::Forever } else { Wait::Never };
        match styles[style].open(&site.target).and_then(|lock| lock.acquire(wait)) {
            Ok(guard) => hold(site, guard, &mut chance, count, style == 0),
            Err(error) if error.is_busy() => say("busy"),
            Err(error) => say(&format!("fault pid {} could not acquire: {error}", std::process::id())),
        }
        if is_last {
            return;
        }
        std::thread::sleep(chance.micros(2000));
    }
}

fn hold(site: &Site, guard: Guard, chance: &mut Chance, count: u64, visible: bool) {
    let fence = guard.fence();
    site.work(chance, fence, Some(guard.previous().is_crashed()), count, visible);
    let fault = |what: &str, error: &dyn std::fmt::Display| {
        say(&format!("fault pid {} fence {fence} {what}: {error}", std::process::id()));
    };
    if chance.below(8) == 0
        && let Err(error) = guard.set_label(&format!("label {}", "x".repeat(chance.below(40) as usize)))
    {
        fault("could not change its label", &error);
    }
    // In a seed round lock files are robbed; the anchor never is.
    match guard.check() {
        Err(error) if site.phase != Phase::Seed || !error.is_lost() => fault("lost the lock", &error),
        _ if !guard.excludes_natives() => fault("lost the lock", &"its anchor was removed"),
        _ => {}
    }
    match guard.release() {
        Err(error) if site.phase != Phase::Seed || !error.is_lost() => fault("could not release", &error),
        _ => {}
    }
}

/// Sweeps all the time, prunes every anchor that it may, and looks.
fn cleaner(folder: &Path, seed: u64, last: &AtomicBool) {
    say("ready");
    let mut chance = Chance(seed);
    let options = CleanOptions::default().idle_anchor_age(Duration::ZERO).malformed_grace(Duration::from_millis(100));
    while !last.load(Ordering::SeqCst) {
        match tenure::clean(folder, &options) {
            Ok(report) if report.pruned > 0 => say("pruned"),
            Ok(_) => {}
            Err(error) => say(&format!("fault the cleaner: {error}")),
        }
        if let Err(error) = tenure::inspect(folder.join("transcript.jsonl")) {
            say(&format!("fault a look: {error}"));
        }
        std::thread::sleep(chance.micros(1000));
    }
    say("last");
    std::process::exit(0);
}

/// What `tenure run` runs: one piece of work under its lock.
fn inside(style: &str, folder: &Path, phase: &str, seed: u64) {
    let fence = std::env::var("TENURE_FENCE").unwrap().parse().unwrap();
    let mut chance = Chance(seed ^ (u64::from(std::process::id()) << 32));
    Site::open(folder, phase).work(&mut chance, fence, None, 1, style == "lock-file");
}

// ---- The driver -----------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A process of this program: `torture worker NAME`.
    Native(&'static str),
    /// `tenure run` and a command; one grant a process.
    Run {
        flock: bool,
    },
    Python,
    Node,
    Cleaner,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Native(name) => name,
            Kind::Run { flock: false } => "run",
            Kind::Run { flock: true } => "run --flock",
            Kind::Python => "python",
            Kind::Node => "node",
            Kind::Cleaner => "cleaner",
        }
    }

    fn foreign(self) -> bool {
        matches!(self, Kind::Python | Kind::Node)
    }

    /// Ends after one grant, without having been told.
    fn once(self) -> bool {
        matches!(self, Kind::Run { .. })
    }
}

/// How to start what is not ours.
struct Programs {
    torture: PathBuf,
    tenure: Option<PathBuf>,
    python: Option<PathBuf>,
    node: bool,
}

impl Programs {
    fn find() -> Programs {
        let tenure = std::env::var_os("TENURE_BIN").map_or_else(|| sibling("tenure"), PathBuf::from);
        let says = |command: &mut Command| {
            let out = command.stderr(Stdio::null()).output().ok()?;
            let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            (out.status.success() && !text.is_empty()).then_some(text)
        };
        // A shim in the place of python would cost more than all the rest at every restart.
        let python = says(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
        Programs {
            torture: std::env::current_exe().unwrap(),
            tenure: says(Command::new(&tenure).arg("--version")).map(|_| tenure),
            python: python.map(PathBuf::from),
            node: has("node"),
        }
    }

    fn team(&self, phase: Phase) -> Vec<Kind> {
        let natives = match phase {
            // A native in flock style and a program that knows only lock files do not see each other.
            Phase::Careful => ["lock-file", "lock-file", "lock-file", "crowd"].as_slice(),
            Phase::Pruned => &["anew", "anew", "anew"],
            _ => &["lock-file", "lock-file", "flock", "flock", "mixed", "mixed-crowd"],
        };
        let mut team: Vec<Kind> = natives.iter().map(|name| Kind::Native(name)).collect();
        if self.tenure.is_some() && phase != Phase::Pruned {
            team.push(Kind::Run { flock: false });
            team.push(Kind::Run { flock: phase != Phase::Careful });
        }
        let foreigners = matches!(phase, Phase::Careful | Phase::Seed);
        if self.python.is_some() && foreigners {
            team.push(Kind::Python);
        }
        if self.node && foreigners {
            team.push(Kind::Node);
        }
        if phase.cleaned() {
            team.push(Kind::Cleaner);
        }
        team
    }

    fn command(&self, kind: Kind, folder: &Path, phase: Phase, seed: &str) -> Command {
        let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(name);
        let mut command = match kind {
            Kind::Native(_) | Kind::Cleaner => {
                let mut command = Command::new(&self.torture);
                command.args(["worker", kind.name()]);
                command
            }
            Kind::Run { flock } => {
                let mut command = Command::new(self.tenure.as_ref().unwrap());
                command.arg("run").args(flock.then_some("--flock")).arg(folder.join("transcript.jsonl"));
                command.arg("--").arg(&self.torture).arg("inside");
                command.arg(if flock { "flock" } else { "lock-file" }).process_group(0);
                command
            }
            Kind::Python => {
                let mut command = Command::new(self.python.as_ref().unwrap());
                command.arg(script("torture.py"));
                command
            }
            Kind::Node => {
                let mut command = Command::new("node");
                command.arg(script("torture.mjs"));
                command
            }
        };
        command.arg(folder).args([phase.name(), seed]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if kind.once() {
            // It says so when it has waited for a while.
            command.stderr(Stdio::null());
        }
        // SAFETY: prctl(2) may be called between fork and exec. It ends even a stopped worker with the driver.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        command
    }
}

struct Member {
    kind: Kind,
    child: Option<Child>,
    input: Option<ChildStdin>,
    /// Which process of this member it is: an older one's lines may still be in the pipe.
    life: u64,
    ready: bool,
    /// It was told to end after one more grant.
    told: bool,
    /// It said that it had that.
    last: bool,
    killed: bool,
    goes_on_at: Option<Instant>,
    starts_at: Instant,
}

enum Said {
    Line { member: usize, life: u64, line: String },
    End,
}

/// What a round, or all of them, came to.
#[derive(Default)]
struct Sum {
    grants: BTreeMap<&'static str, u64>,
    takeovers: u64,
    busy: u64,
    kills: u64,
    kills_of_holders: u64,
    stops: u64,
    removed: u64,
    pruned: u64,
    doubles: BTreeMap<String, u64>,
    faults: Vec<String>,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        for (kind, count) in other.grants {
            *self.grants.entry(kind).or_default() += count;
        }
        for (pair, count) in other.doubles {
            *self.doubles.entry(pair).or_default() += count;
        }
        self.takeovers += other.takeovers;
        self.busy += other.busy;
        self.kills += other.kills;
        self.kills_of_holders += other.kills_of_holders;
        self.stops += other.stops;
        self.removed += other.removed;
        self.pruned += other.pruned;
        self.faults.extend(other.faults);
    }

    fn double(&self, pair: &str) -> u64 {
        self.doubles.get(pair).copied().unwrap_or(0)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "grants": self.grants.values().sum::<u64>(),
            "grantsBy": self.grants,
            "takeovers": self.takeovers,
            "busy": self.busy,
            "kills": self.kills,
            "killsOfHolders": self.kills_of_holders,
            "stops": self.stops,
            "lockFilesRemoved": self.removed,
            "anchorsPruned": self.pruned,
            "doubles": {
                "native-native": self.double("native-native"),
                "native-foreign": self.double("native-foreign"),
                "foreign-foreign": self.double("foreign-foreign"),
            },
            "faults": self.faults,
        })
    }
}

fn duration(text: &str) -> Duration {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().expect("a duration: 300ms, 10s, 5m");
    Duration::from_millis(match unit {
        "ms" => number,
        "s" | "" => number * 1000,
        "m" => number * 60_000,
        other => panic!("no unit of time: {other}"),
    })
}

fn drive(words: &[&str]) -> i32 {
    let (mut length, mut each, mut seed, mut dir) = (Duration::from_secs(60), Duration::from_secs(15), None, None);
    let mut phases = Phase::ALL.to_vec();
    for pair in words.chunks(2) {
        match pair {
            ["--for", text] => length = duration(text),
            ["--round", text] => each = duration(text),
            ["--seed", text] => seed = Some(text.parse().expect("a number")),
            ["--dir", text] => dir = Some(PathBuf::from(text)),
            ["--only", text] => phases = vec![Phase::named(text)],
            _ => {
                eprintln!("usage: torture [--for 10m] [--round 15s] [--seed N] [--dir D] [--only ROUND]");
                return 64;
            }
        }
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed: u64 = seed.unwrap_or(since.as_micros() as u64);
    let dir = dir.unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&dir).unwrap();
    let base = tempfile::Builder::new().prefix("torture-").tempdir_in(&dir).unwrap();
    let programs = Programs::find();
    println!("seed {seed}, in {}", base.path().display());
    for (what, there) in
        [("tenure run", programs.tenure.is_some()), ("python3", programs.python.is_some()), ("node", programs.node)]
    {
        if !there {
            println!("without {what}: it is not there");
        }
    }
    // Commands that outlive their `tenure` come to us, so that nothing is left behind unseen.
    // SAFETY: no precondition.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };

    let started = Instant::now();
    let mut all = Sum::default();
    for number in 0.. {
        // At least one of each phase.
        if number >= phases.len() && started.elapsed() >= length {
            break;
        }
        let phase = phases[number % phases.len()];
        let folder = base.path().join(format!("round-{number}"));
        let sum = Round::new(&programs, &folder, phase, seed.wrapping_add(number as u64)).run(each);
        println!("round {number} ({}): {}", phase.name(), sum.json());
        let bad = !sum.faults.is_empty();
        all.add(sum);
        if bad {
            break;
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    println!("{}", all.json());
    if all.faults.is_empty() {
        return 0;
    }
    for fault in &all.faults {
        eprintln!("{fault}");
    }
    eprintln!("seed {seed}; its files are in {}", base.keep().display());
    1
}

struct Round<'a> {
    programs: &'a Programs,
    folder: &'a Path,
    phase: Phase,
    seed: u64,
    chance: Chance,
    members: Vec<Member>,
    sum: Sum,
    said: Receiver<Said>,
    say: Sender<Said>,
    open_pipes: usize,
    /// Acknowledged lines of the transcript.
    acknowledged: HashSet<String>,
}

impl<'a> Round<'a> {
    fn new(programs: &'a Programs, folder: &'a Path, phase: Phase, seed: u64) -> Round<'a> {
        std::fs::create_dir_all(folder.join("witness")).unwrap();
        std::fs::write(folder.join("witness/bytes"), [b' '; 256]).unwrap();
        let (say, said) = channel();
        let now = Instant::now();
        let team = programs.team(phase).into_iter();
        let members = team.map(|kind| Member {
            kind,
            child: None,
            input: None,
            life: 0,
            ready: false,
            told: false,
            last: false,
            killed: false,
            goes_on_at: None,
            starts_at: now,
        });
        Round {
            programs,
            folder,
            phase,
            seed,
            chance: Chance(seed),
            members: members.collect(),
            sum: Sum::default(),
            said,
            say,
            open_pipes: 0,
            acknowledged: HashSet::new(),
        }
    }

    fn run(mut self, length: Duration) -> Sum {
        let end = Instant::now() + length;
        let mut next_blow = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end && self.sum.faults.is_empty() {
            self.tend();
            if Instant::now() >= next_blow {
                self.strike();
                next_blow = Instant::now() + self.chance.micros(60_000);
            }
            self.listen(Duration::from_millis(2));
        }
        self.last_grants();
        self.judge();
        self.sum
    }

    /// Starts who is due, lets go on who was stopped, notices who ended.
    fn tend(&mut self) {
        let now = Instant::now();
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            if member.goes_on_at.is_some_and(|then| now >= then) {
                member.goes_on_at = None;
                if let Some(child) = &member.child {
                    signal(child, libc::SIGCONT);
                }
            }
            match member.child.as_mut().map(|child| child.try_wait().unwrap()) {
                None if now >= member.starts_at && !member.told => self.start(at),
                None | Some(None) => {}
                Some(Some(status)) => {
                    let member = &mut self.members[at];
                    let expected = member.killed || member.kind.once() || member.told;
                    if !expected {
                        let name = member.kind.name();
                        let how = status.signal().map_or(format!("{status}"), |signal| format!("signal {signal}"));
                        self.sum.faults.push(format!("{name} ended by itself: {how}"));
                    }
                    let member = &mut self.members[at];
                    (member.child, member.input, member.goes_on_at) = (None, None, None);
                    (member.ready, member.killed) = (false, false);
                    let pause = if member.kind.once() { 2000 } else { 50_000 };
                    member.starts_at = now + self.chance.micros(pause);
                }
            }
        }
        // Commands whose `tenure` was killed: their parent is us now. The members' own are asked for by their pids.
        self.reap_orphans();
    }

    fn reap_orphans(&self) {
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        let known: HashSet<u32> = self.members.iter().filter_map(|member| Some(member.child.as_ref()?.id())).collect();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()) {
            if !known.contains(&pid) {
                // SAFETY: no status is asked for. A child that still runs is left alone.
                unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), libc::WNOHANG) };
            }
        }
    }

    fn start(&mut self, at: usize) {
        let seed = self.chance.next().to_string();
        let member = &mut self.members[at];
        let mut child = self.programs.command(member.kind, self.folder, self.phase, &seed).spawn().unwrap();
        member.life += 1;
        member.ready = member.kind.once();
        member.input = child.stdin.take();
        let (life, say) = (member.life, self.say.clone());
        let out = child.stdout.take().unwrap();
        member.child = Some(child);
        self.open_pipes += 1;
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = say.send(Said::Line { member: at, life, line });
            }
            let _ = say.send(Said::End);
        });
    }

    fn listen(&mut self, time: Duration) {
        let mut next = self.said.recv_timeout(time).ok();
        while let Some(said) = next {
            match said {
                Said::Line { member, life, line } => self.hear(member, life, &line),
                Said::End => self.open_pipes -= 1,
            }
            next = self.said.try_recv().ok();
        }
    }

    fn hear(&mut self, at: usize, life: u64, line: &str) {
        let member = &mut self.members[at];
        let name = member.kind.name();
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["ready"] => member.ready |= member.life == life,
            ["last"] => member.last |= member.life == life,
            ["busy"] => self.sum.busy += 1,
            ["pruned"] => self.sum.pruned += 1,
            ["grant", fence, pid, count, crashed] => {
                *self.sum.grants.entry(name).or_default() += 1;
                self.sum.takeovers += u64::from(*crashed == "1");
                if !member.kind.foreign() {
                    self.acknowledged.insert(format!("N {fence} {pid} {count} ."));
                } else if self.phase == Phase::Careful {
                    self.acknowledged.insert(format!("F {pid} {count} ."));
                }
            }
            ["double", pair, ..] => {
                *self.sum.doubles.entry((*pair).to_owned()).or_default() += 1;
                // What the seed's protocol does to itself, and to others, in a seed round is its own.
                if self.phase != Phase::Seed || *pair == "native-native" {
                    self.sum.faults.push(format!("{name}: {line}"));
                }
            }
            _ => self.sum.faults.push(format!("{name}: {line}")),
        }
    }

    /// Kills or stops somebody, or removes the lock file.
    fn strike(&mut self) {
        let blow = self.chance.below(100);
        if self.phase == Phase::Seed && blow < 5 {
            let removed = std::fs::remove_file(self.folder.join("transcript.jsonl.lock"));
            self.sum.removed += u64::from(removed.is_ok());
            return;
        }
        let holder = match self.chance.below(3) {
            0 => None,
            _ => self.holder(),
        };
        let at = holder.unwrap_or_else(|| self.chance.below(self.members.len() as u64) as usize);
        // Those that take long to start are let live longer.
        if self.members[at].kind.foreign() && self.chance.below(3) != 0 {
            return;
        }
        let member = &mut self.members[at];
        let Some(child) = member.child.as_mut().filter(|_| member.ready) else { return };
        if blow < 75 {
            if child.try_wait().unwrap().is_some() {
                return;
            }
            if member.kind.once() && blow.is_multiple_of(2) {
                // The command as well. Its leader is not reaped, so the group is still this one.
                // SAFETY: no precondition.
                unsafe { libc::killpg(child.id() as i32, libc::SIGKILL) };
            } else {
                child.kill().unwrap();
            }
            member.killed = true;
            self.sum.kills += 1;
            self.sum.kills_of_holders += u64::from(holder.is_some());
        } else {
            signal(child, libc::SIGSTOP);
            member.goes_on_at = Some(Instant::now() + self.chance.micros(80_000));
            self.sum.stops += 1;
        }
    }

    /// The member that holds now, as far as the witness tells.
    fn holder(&mut self) -> Option<usize> {
        let mut text = [0; 256];
        let mut file = File::open(self.folder.join("witness/bytes")).ok()?;
        let length = file.read(&mut text).ok()?;
        let slot = SLOTS[self.chance.below(2) as usize] as usize;
        let pid = String::from_utf8_lossy(text.get(slot..length)?).split_whitespace().next()?.parse::<u32>().ok()?;
        self.members.iter().position(|member| member.child.as_ref().is_some_and(|child| child.id() == pid))
    }

    /// No more kills: everyone that is left must be granted once more, natives first, who clear what the dead left.
    fn last_grants(&mut self) {
        let started = Instant::now();
        loop {
            for member in &mut self.members {
                if member.goes_on_at.is_some() {
                    member.goes_on_at = Some(Instant::now());
                }
                member.starts_at = Instant::now();
            }
            self.tend();
            self.listen(Duration::from_millis(2));
            let all = self
                .members
                .iter()
                .all(|member| member.kind.once() || (member.ready && member.goes_on_at.is_none() && !member.killed));
            if all || !self.sum.faults.is_empty() {
                break;
            }
            if started.elapsed() > PATIENCE {
                self.sum.faults.push("not everyone started".into());
                return;
            }
        }
        for foreign in [false, true] {
            let mut waits = Vec::new();
            for (at, member) in self.members.iter_mut().enumerate() {
                if member.kind.foreign() == foreign && !member.kind.once() {
                    if let Some(input) = &mut member.input {
                        let _ = writeln!(input, "last");
                    }
                    member.told = true;
                    waits.push(at);
                }
            }
            let started = Instant::now();
            while !waits.iter().all(|at| self.members[*at].last) {
                self.tend();
                self.listen(Duration::from_millis(2));
                if started.elapsed() > LAST {
                    self.stuck(&waits);
                    return;
                }
            }
            // A run's grants come one a process: those that run now end, and no more are started.
            for member in self.members.iter_mut().filter(|member| member.kind.once()) {
                member.told = true;
            }
            let started = Instant::now();
            while !foreign && self.members.iter().any(|member| member.kind.once() && !member.last) {
                for member in self.members.iter_mut().filter(|member| member.kind.once()) {
                    if let Some(child) = &mut member.child
                        && let Some(status) = child.try_wait().unwrap()
                    {
                        member.last = true;
                        if !status.success() && !member.killed {
                            self.sum.faults.push(format!("{} ended with {status}", member.kind.name()));
                        }
                    } else if member.child.is_none() {
                        member.last = true;
                    }
                }
                self.listen(Duration::from_millis(2));
                if started.elapsed() > LAST {
                    self.sum.faults.push("a `tenure run` waits for a lock that is free".into());
                    return;
                }
            }
        }
        let started = Instant::now();
        while self.open_pipes > 0 {
            self.listen(Duration::from_millis(10));
            if started.elapsed() > PATIENCE {
                self.sum.faults.push("somebody does not end".into());
                return;
            }
        }
    }

    fn stuck(&mut self, waits: &[usize]) {
        let found = tenure::inspect(self.folder.join("transcript.jsonl"));
        for at in waits {
            let member = &self.members[*at];
            if !member.last {
                let (name, pid) = (member.kind.name(), member.child.as_ref().map(Child::id));
                self.sum.faults.push(format!("{name} {pid:?} was not granted again within {LAST:?}: {found:?}"));
            }
        }
    }

    /// What the round left.
    fn judge(&mut self) {
        if !self.sum.faults.is_empty() {
            // What stays is to be looked at; who works on it is not needed any more.
            self.end_all();
            return;
        }
        let target = self.folder.join("transcript.jsonl");
        match tenure::inspect(&target) {
            Ok(found) if found.state == State::Free && found.waiters.unwrap_or(0) == 0 => {}
            other => self.sum.faults.push(format!("the lock is not free at the end: {other:?}")),
        }
        for left in [self.folder.join("transcript.jsonl.lock"), self.folder.join(".tenure/transcript.jsonl.lock.swap")]
        {
            if left.exists() {
                self.sum.faults.push(format!("left behind: {}", left.display()));
            }
        }
        let text = std::fs::read_to_string(&target).unwrap();
        let mut fence = 0;
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["N", now, _, _, "."] => {
                    let now: u64 = now.parse().unwrap();
                    if now <= fence {
                        let place = number + 1;
                        self.sum.faults.push(format!("line {place}: fence {now} came after fence {fence}"));
                    }
                    fence = now;
                }
                ["F", _, _, "."] if self.phase == Phase::Careful => {}
                _ => self.sum.faults.push(format!("line {} is torn: {line:?}", number + 1)),
            }
        }
        let lines: HashSet<&str> = text.lines().collect();
        for line in self.acknowledged.iter().filter(|line| !lines.contains(line.as_str())) {
            self.sum.faults.push(format!("lost, though it was acknowledged: {line:?}"));
        }
        self.end_all();
    }

    fn end_all(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.reap_orphans();
        for fault in &mut self.sum.faults {
            fault.insert_str(0, &format!("round with seed {}: ", self.seed));
        }
    }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: our own child, not reaped yet: its pid is nobody else's.
    unsafe { libc::kill(child.id() as i32, signal) };
}
