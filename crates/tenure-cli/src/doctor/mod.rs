//! `tenure doctor`: what a folder can do for a lock, and a stress run that proves it.

mod means;
mod picture;
mod random;
mod server;
mod stress;
mod tally;
pub(crate) mod worker;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tenure::probe::{self, Answer, Feature, Probe};
use tenure::{Lock, Wait, escape};

use self::means::Short;
use self::random::Random;
use self::stress::{Outcome, Pace, Plan, Stop};
use crate::exit::{self, Failure};
use crate::sys::{self, Note, Signals, Waker};
use crate::{duration, json, report};

/// Find out what a folder, its file system and this kernel can do for a lock
///
/// Everything is tried, in a hidden temporary folder inside DIR that is removed afterwards. Each answer is yes, no or
/// unknown (it cannot be told), with what it means for whoever locks there. With --stress, several processes then
/// fight for one lock, some are killed at random, and a witness outside the file system counts who is inside. Run it
/// before you trust a folder on a network.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  tenure doctor
  tenure doctor /mnt/share --stress 10s
  tenure doctor /mnt/share --stress 1m --processes 32 --seed 7
  tenure doctor 'etcd://etcd-1:2379/sessions?ttl=2s' --stress 30s
  tenure doctor --json | jq -r '.checks[] | select(.answer != \"yes\") | .name'

The stress run:
  Each process acquires and releases as fast as it can. Half of them are killed (SIGKILL) again and
  again, mostly while they hold, and started anew. `double holds` must be 0. `hand-off` is the time
  from a release to the next grant in another process that waited; `takeover` that from a kill to
  the next grant. The seed says whom to kill when; who holds at that moment is up to the machine.
  All processes are on this machine: what a second machine sees cannot be tried from one.

JSON:
  {\"folder\", \"fileSystem\": {\"type\", \"shared\"},
   \"checks\": [{\"name\", \"answer\": \"yes\"|\"no\"|\"unknown\", \"means\"}],
   \"stress\": null | {\"processes\", \"seed\", \"durationMs\", \"grants\", \"doubleHolds\",
     \"handOff\": {\"count\", \"p50Us\", \"p99Us\", \"maxUs\"},
     \"fairness\": {\"processes\", \"least\", \"most\", \"longestWaitUs\"}, \"kills\",
     \"takeovers\": {\"count\", \"p50Us\", \"maxUs\"}, \"faults\": [..]}}
  Times are in microseconds; one that was never measured is null.

Exit codes:
  0           fit for use, and the stress run found nothing wrong
  1           something essential is missing, or the stress run found a fault
  64          the call's words are off
  69          no server answers
  73, 74, 77  DIR is missing or read-only; input or output failed; permission denied")]
pub(crate) struct Args {
    /// The folder: the one that your targets are in; or a server: etcd://.., postgres://..
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Then let processes fight for a lock for so long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, allow_hyphen_values = true)]
    stress: Option<Duration>,

    /// How many processes, from 2 to 256
    #[arg(long, value_name = "N", requires = "stress", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(2..=256))]
    processes: u16,

    /// The seed of a run, to make the same choices again
    #[arg(long, value_name = "N", requires = "stress")]
    seed: Option<u64>,
}

/// One line of the answer.
#[derive(Clone, Serialize)]
struct Check {
    name: &'static str,
    answer: &'static str,
    means: String,
    #[serde(skip)]
    short: Short,
}

impl Check {
    fn new(name: &'static str, answer: &Answer, means: &str) -> Check {
        let means = match answer {
            Answer::Yes => means.to_owned(),
            Answer::No(seen) | Answer::Unknown(seen) => format!("{means} ({})", escape::text(seen)),
        };
        let short = Short::of(answer);
        Check { name, answer: short.as_str(), means, short }
    }
}

/// All that was found out by trying.
struct Findings {
    file_system: String,
    shared: bool,
    checks: Vec<Check>,
    /// What is missing that is essential.
    lacks: Vec<&'static str>,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let signals = Signals::catch_ending().map_err(|error| Failure::io("signals", &error))?;
    let on_server = tenure::server::scheme(&args.dir)?;
    let scratch = if on_server.is_none() { Some(Scratch::make(&args.dir)?) } else { None };
    let examined = match (&scratch, on_server) {
        (Some(scratch), _) => examine(args, scratch, &signals),
        (None, Some(kind)) => examine_server(args, kind, &signals),
        (None, None) => return Ok(exit::UNFIT),
    };
    match examined {
        Ok(code) => {
            scratch.map_or(Ok(()), Scratch::remove)?;
            Ok(code)
        }
        Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::Signalled(signal)) => {
            drop(scratch);
            sys::die_by(signal, || ());
            Ok(exit::of_signal(signal))
        }
    }
}

fn examine_server(args: &Args, kind: tenure::server::Scheme, signals: &Signals) -> Result<u8, Stop> {
    let dir = args.dir.clone();
    let found = beside(signals, move || server::try_all(&dir, kind))?.map_err(Stop::Failed)?;
    // A dead holder blocks for the rest of its lease: killing faster would leave nothing else to be seen.
    let pace = Pace { between_kills: found.lease / 2, starved: Pace::FILES.starved + found.lease * 4 };
    report_on(args, &found.findings, &found.target, pace, signals)
}

fn examine(args: &Args, scratch: &Scratch, signals: &Signals) -> Result<u8, Stop> {
    let (dir, folder) = (args.dir.clone(), scratch.path.clone());
    let findings = beside(signals, move || try_all(&dir, &folder))?.map_err(Stop::Failed)?;
    report_on(args, &findings, &scratch.path.join("stress"), Pace::FILES, signals)
}

/// The stress run, if it is asked for and makes sense, and the answer.
fn report_on(args: &Args, findings: &Findings, target: &Path, pace: Pace, signals: &Signals) -> Result<u8, Stop> {
    let mut outcome = None;
    if let Some(duration) = args.stress.filter(|_| findings.lacks.is_empty()) {
        let seed = args.seed.unwrap_or_else(Random::any_seed);
        let plan = Plan { duration, processes: args.processes.into(), seed, pace };
        if !args.json {
            let (processes, time) = (plan.processes, escape::duration(duration));
            report::say(&format!("{processes} processes for {time}, seed {seed} .."));
        }
        outcome = Some(stress::run(target, plan, signals)?);
    }
    if args.json {
        let answer = DoctorJson::new(&args.dir, findings, outcome.as_ref());
        json::print(&answer).map_err(Stop::Failed)?;
    } else {
        let page = picture::Page::of_terminal();
        report::print(&page.render(&args.dir, findings, args.stress.is_some(), outcome.as_ref()))
            .map_err(Stop::Failed)?;
    }
    let wrong = !findings.lacks.is_empty() || outcome.is_some_and(|outcome| !outcome.faults.is_empty());
    Ok(if wrong { exit::UNFIT } else { exit::OK })
}

/// Does `work` in another thread, while this one hears signals: a file system may not answer for a long time.
fn beside<T: Send + 'static>(signals: &Signals, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stop> {
    struct Wake(Waker);
    impl Drop for Wake {
        fn drop(&mut self) {
            self.0.wake();
        }
    }
    let (sender, result) = channel();
    let waker = signals.waker();
    let thread = thread::Builder::new().name("tenure-doctor".to_owned()).spawn(move || {
        // Dropped last, also by a panic.
        let _wake = Wake(waker);
        let sender = sender;
        let _ = sender.send(work());
    });
    thread.map_err(|error| Stop::Failed(Failure::io("a thread to try things in", &error)))?;
    loop {
        signals.wait(None, None).map_err(|error| Stop::Failed(Failure::io("poll", &error)))?;
        if let Some(signal) = ending_signal(signals) {
            return Err(Stop::Signalled(signal));
        }
        match result.try_recv() {
            Ok(done) => return Ok(done),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(Stop::Failed(Failure::new(exit::IO, "the doctor itself failed")));
            }
        }
    }
}

/// A signal that came and would have ended this process.
fn ending_signal(signals: &Signals) -> Option<i32> {
    while let Some(note) = signals.next() {
        if let Note::Signal(arrival) = note
            && sys::ENDING.contains(&arrival.signal)
        {
            return Some(arrival.signal);
        }
    }
    None
}

fn try_all(dir: &Path, scratch: &Path) -> Result<Findings, Failure> {
    let probe = probe::folder(scratch)?;
    let second = second_process(&scratch.join("lock"));
    let clock = clock(probe::newest_fence(dir).ok().flatten());
    let mut checks = Vec::new();
    for (feature, answer) in &probe.answers {
        let mut means = means::feature(*feature, Short::of(answer)).to_owned();
        match (feature, probe.free) {
            (Feature::Room, Some(free)) if answer.is_yes() => means += &format!("; {} free", bytes(free)),
            (Feature::Inotify, _) if answer.is_yes() && probe.shared => means += "; those of others once a second",
            _ => {}
        }
        checks.push(Check::new(feature.as_str(), answer, &means));
        if *feature == Feature::KernelLock {
            checks.push(Check::new("second-process", &second, means::second_process(Short::of(&second))));
        }
    }
    checks.push(Check::new("clock", &clock, means::clock(Short::of(&clock))));
    let lacks = lacks(&probe, &second);
    Ok(Findings { file_system: probe.file_system, shared: probe.shared, checks, lacks })
}

/// What is missing that no lock can do without.
fn lacks(probe: &Probe, second: &Answer) -> Vec<&'static str> {
    let is = |feature| probe.answer(feature).is_yes();
    let mut lacks = Vec::new();
    if !is(Feature::KernelLock) {
        lacks.push("the kernel lock (flock)");
    }
    if !is(Feature::Room) {
        lacks.push("room for a record");
    }
    if !is(Feature::HardLink) && !is(Feature::ExclusiveRename) {
        lacks.push(
            "a way to show a lock file (hard link or exclusive rename), which flock style (--flock) does without",
        );
    }
    // Where one of those is missing, it cannot work anyway.
    if lacks.is_empty() {
        lacks.extend(lacks_second(second));
    }
    lacks
}

/// A try that failed is no answer: it says nothing about who is kept out.
fn lacks_second(second: &Answer) -> Option<&'static str> {
    match second {
        Answer::Yes => None,
        Answer::No(_) => Some("a lock that keeps a second process out"),
        Answer::Unknown(_) => Some("a lock that could be tried with a second process"),
    }
}

/// Holds a lock of the whole library, and asks a second process for it.
fn second_process(target: &Path) -> Answer {
    let tried = Lock::open(target).and_then(|lock| {
        let guard = lock.acquire_with(Wait::Never)?;
        let answer = second_process_beside(target);
        guard.release().map(|()| answer)
    });
    tried.unwrap_or_else(|error| Answer::Unknown(error.to_string()))
}

/// Asks a second process for the lock that this one holds.
fn second_process_beside(target: &Path) -> Answer {
    let tried = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.args([OsString::from(crate::args::DOCTOR_WORKER), "--".into(), target.into()]);
        command.stdin(Stdio::null()).output()
    });
    match tried {
        Ok(output) if output.status.code() == Some(exit::BUSY.into()) => Answer::Yes,
        Ok(output) if output.status.success() => Answer::No("it got the lock while this process held it".to_owned()),
        Ok(output) => Answer::Unknown(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Answer::Unknown(format!("it did not start: {error}")),
    }
}

/// Can the clock be trusted, with `newest` as the folder's newest fence?
fn clock(newest: Option<u64>) -> Answer {
    // Records of this moment, and clocks that are slewed, are no news.
    const SLACK: Duration = Duration::from_secs(1);
    let now = SystemTime::now();
    let granted = newest.and_then(|fence| SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(fence)));
    if let Some(ahead) = granted.and_then(|granted| granted.duration_since(now).ok())
        && ahead > SLACK
    {
        return Answer::No(format!("a grant in this folder is {} ahead of the clock", escape::duration(ahead)));
    }
    match probe::clock_is_steered() {
        Some(true) => Answer::Yes,
        Some(false) => Answer::Unknown("the kernel says that it is not synchronised".to_owned()),
        None => Answer::Unknown("the kernel does not say whether it is synchronised".to_owned()),
    }
}

/// `12 GB`: one unit, no fraction.
fn bytes(count: u64) -> String {
    let units = ["bytes", "KB", "MB", "GB", "TB", "PB"];
    let mut rest = count;
    let mut unit = 0;
    while rest >= 10_000 && unit + 1 < units.len() {
        rest /= 1000;
        unit += 1;
    }
    format!("{rest} {}", units[unit])
}

/// The hidden temporary folder. It is removed when this goes.
struct Scratch {
    path: PathBuf,
    removed: bool,
}

impl Scratch {
    fn make(dir: &Path) -> Result<Scratch, Failure> {
        let path = dir.join(format!(".tenure-doctor-{}-{}", std::process::id(), Random::any_seed()));
        match sys::doctor::make_folder(&path) {
            Ok(()) => Ok(Scratch { path, removed: false }),
            Err(error) => {
                let (code, hint) = match error.kind() {
                    io::ErrorKind::PermissionDenied => (
                        exit::PERMISSION,
                        "; run this as a user who may write there, or name another folder. Where a folder may only be \
                         read, `tenure run --no-record` can still lock",
                    ),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                        (exit::CANNOT_CREATE, "; name a folder that is there")
                    }
                    io::ErrorKind::ReadOnlyFilesystem => (
                        exit::CANNOT_CREATE,
                        "; nothing can be written there, so only `tenure run --no-record` can lock",
                    ),
                    _ => (Failure::io("", &error).code, ""),
                };
                let message = format!("{}: no temporary folder can be made in it: {error}{hint}", report::path(dir));
                Err(Failure::new(code, message))
            }
        }
    }

    /// Removes it, and says whether that went well.
    fn remove(mut self) -> Result<(), Failure> {
        self.removed = true;
        sys::doctor::remove_folder(&self.path).map_err(|error| {
            Failure::io(&format!("{}: the temporary folder cannot be removed", report::path(&self.path)), &error)
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.removed {
            let _ = sys::doctor::remove_folder(&self.path);
        }
    }
}

/// The whole answer; `--help` promises names and order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DoctorJson {
    folder: String,
    file_system: FileSystemJson,
    checks: Vec<Check>,
    stress: Option<StressJson>,
}

#[derive(Serialize)]
struct FileSystemJson {
    r#type: String,
    shared: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StressJson {
    processes: usize,
    seed: u64,
    duration_ms: u64,
    grants: u64,
    double_holds: u64,
    hand_off: HandOffJson,
    fairness: FairnessJson,
    kills: u64,
    takeovers: TakeoversJson,
    faults: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HandOffJson {
    count: u64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    max_us: Option<f64>,
}

#[derive(Serialize)]
struct FairnessJson {
    processes: usize,
    least: u64,
    most: u64,
    #[serde(rename = "longestWaitUs")]
    longest_wait_us: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TakeoversJson {
    count: u64,
    p50_us: Option<f64>,
    max_us: Option<f64>,
}

impl DoctorJson {
    fn new(dir: &Path, findings: &Findings, outcome: Option<&Outcome>) -> DoctorJson {
        DoctorJson {
            folder: dir.to_string_lossy().into_owned(),
            file_system: FileSystemJson { r#type: findings.file_system.clone(), shared: findings.shared },
            checks: findings.checks.clone(),
            stress: outcome.map(StressJson::from),
        }
    }
}

impl From<&Outcome> for StressJson {
    fn from(outcome: &Outcome) -> StressJson {
        let microseconds = |time: Option<Duration>| time.map(|time| time.as_nanos() as f64 / 1000.0);
        let tally = outcome.tally();
        let (hand_offs, takeovers) = (tally.hand_offs(), tally.takeover_times());
        let (least, most) = outcome.fairness();
        StressJson {
            processes: outcome.plan.processes,
            seed: outcome.plan.seed,
            duration_ms: u64::try_from(outcome.ran_for.as_millis()).unwrap_or(u64::MAX),
            grants: tally.grants(),
            double_holds: tally.double_holds(),
            hand_off: HandOffJson {
                count: hand_offs.count(),
                p50_us: microseconds(hand_offs.percentile(50)),
                p99_us: microseconds(hand_offs.percentile(99)),
                max_us: microseconds(hand_offs.max()),
            },
            fairness: FairnessJson {
                processes: outcome.plan.steady(),
                least,
                most,
                longest_wait_us: tally.longest_wait().as_nanos() as f64 / 1000.0,
            },
            kills: outcome.kills,
            takeovers: TakeoversJson {
                count: tally.takeovers(),
                p50_us: microseconds(takeovers.percentile(50)),
                max_us: microseconds(takeovers.max()),
            },
            faults: outcome.faults.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_from_the_future_is_told() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let at = |time: Duration| Some(time.as_micros() as u64);
        assert_ne!(Short::of(&clock(None)), Short::No);
        assert_ne!(Short::of(&clock(at(now - Duration::from_secs(3600)))), Short::No);
        let Answer::No(seen) = clock(at(now + Duration::from_secs(7300))) else { panic!() };
        assert!(seen.contains("2 h"), "{seen}");
    }

    #[test]
    fn bytes_in_one_unit() {
        let words = [(0, "0 bytes"), (9999, "9999 bytes"), (12_345, "12 KB"), (76_000_000_000, "76 GB")];
        for (count, want) in words {
            assert_eq!(bytes(count), want);
        }
    }
}
