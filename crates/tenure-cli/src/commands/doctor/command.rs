//! The options and the course of `tenure doctor`.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use tenure::escape;
use tenure::server::{Scheme, scheme};

use super::checks::{self, Findings};
use super::json::DoctorJson;
use super::page::Page;
use super::random::Random;
use super::report;
use super::scratch::Scratch;
use super::server;
use super::stress::{self, Pace, Plan, StressRun};
use crate::locking::{Stop, next_ending_signal};
use crate::options::duration;
use crate::output::{Failure, exit, json, stream};
use crate::sys::{self, Signals, Waker};

/// Test what a folder, its file system and this kernel can do for a lock
///
/// Every feature is tested in a hidden temporary folder inside DIR, which is removed afterwards. Each answer is yes, no or
/// unknown, with its meaning for locks in DIR. With --stress, several processes then compete for one lock, some of them are
/// killed at random, and a witness outside the file system counts the processes that hold it. Run `doctor` before you rely
/// on a folder on a network.
#[derive(clap::Args)]
#[command(after_long_help = "\
Examples:
  test the current folder:
    tenure doctor
  test a folder on a network, with processes that compete for a lock:
    tenure doctor /mnt/share --stress 10s
  repeat a stress run with the same choices:
    tenure doctor /mnt/share --stress 1m --processes 32 --seed 7
  test a server:
    tenure doctor 'etcd://etcd-1:2379/sessions?ttl=2s' --stress 30s
  print what to report about a system or a file system:
    tenure doctor /mnt/share --report
  list what is missing:
    tenure doctor --json | jq -r '.checks[] | select(.answer != \"yes\") | .name'

The stress run:
  Each process acquires and releases as fast as it can. Half of them are killed by SIGKILL again and
  again, mostly while they hold the lock, and restarted. `double holds` must be 0. `hand-off` is the
  time from a release to the next grant in another process that waited; `takeover` is the time from
  a kill to the next grant. --seed determines which process is killed when, but not which process
  holds the lock at that moment. All processes run on this machine, so the run cannot test what a
  second machine observes.

JSON:
  {\"folder\", \"fileSystem\": {\"type\", \"shared\"},
   \"checks\": [{\"name\", \"answer\": \"yes\"|\"no\"|\"unknown\", \"means\"}],
   \"stress\": null | {\"processes\", \"seed\", \"durationMs\", \"grants\", \"doubleHolds\",
     \"handOff\": {\"count\", \"p50Us\", \"p99Us\", \"maxUs\"},
     \"fairness\": {\"processes\", \"least\", \"most\", \"longestWaitUs\"}, \"kills\",
     \"takeovers\": {\"count\", \"p50Us\", \"maxUs\"}, \"faults\": [..]}}
  Times are in microseconds. A time that was not measured is null.

Exit codes:
  0           fit for use, and the stress run found no fault
  1           an essential feature is missing, or the stress run found a fault
  64          usage error
  69          no server answers
  73, 74, 77  DIR is missing or read-only; input or output failed; permission denied")]
pub(crate) struct Args {
    /// The folder of your targets, or a server: etcd://.., postgres://..
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Try locks with real processes, and print a text to send to Tenure's authors; it names no folder, machine or user
    #[arg(long, conflicts_with_all = ["json", "stress"])]
    report: bool,

    /// After the checks, let processes compete for a lock for this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive, allow_hyphen_values = true)]
    stress: Option<Duration>,

    /// The number of processes, from 2 to 256
    #[arg(long, value_name = "N", requires = "stress", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(2..=256))]
    processes: u16,

    /// Seed of the random choices, to repeat a run
    #[arg(long, value_name = "N", requires = "stress")]
    seed: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let signals = Signals::catch_ending().map_err(|error| Failure::io("signals", &error))?;
    let on_server = scheme(&args.dir)?;
    if args.report && on_server.is_some() {
        return Err(Failure::new(exit::USAGE, "--report is about a folder, and not about a server"));
    }
    let scratch = if on_server.is_none() { Some(Scratch::create(&args.dir)?) } else { None };
    let examined = match (&scratch, on_server) {
        (Some(scratch), _) => examine_folder(args, scratch, &signals),
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

fn examine_server(args: &Args, kind: Scheme, signals: &Signals) -> Result<u8, Stop> {
    let dir = args.dir.clone();
    let found = run_beside_signals(signals, move || server::check(&dir, kind))?.map_err(Stop::Failed)?;
    // A dead holder blocks the lock for the rest of its lease. Faster kills would leave the lock blocked all the time.
    let pace = Pace { between_kills: found.lease / 2, starved: Pace::FILES.starved + found.lease * 4 };
    report_on(args, &found.findings, &found.target, pace, signals)
}

fn examine_folder(args: &Args, scratch: &Scratch, signals: &Signals) -> Result<u8, Stop> {
    let (dir, folder) = (args.dir.clone(), scratch.path.clone());
    let findings = run_beside_signals(signals, move || checks::check_folder(&dir, &folder))?.map_err(Stop::Failed)?;
    if args.report {
        let folder = scratch.path.clone();
        let trial = run_beside_signals(signals, move || checks::trial(&folder))?;
        stream::print(&report::render(&findings, &trial)).map_err(Stop::Failed)?;
        return Ok(if trial.is_yes() && findings.lacks.is_empty() { exit::OK } else { exit::UNFIT });
    }
    report_on(args, &findings, &scratch.path.join("stress"), Pace::FILES, signals)
}

/// Does the stress run, where it was requested and nothing essential is missing, and prints the answer.
fn report_on(args: &Args, findings: &Findings, target: &Path, pace: Pace, signals: &Signals) -> Result<u8, Stop> {
    let stress = match args.stress {
        None => StressRun::NotRequested,
        Some(_) if !findings.lacks.is_empty() => StressRun::Skipped,
        Some(duration) => {
            let seed = args.seed.unwrap_or_else(Random::any_seed);
            let plan = Plan { duration, processes: args.processes.into(), seed, pace };
            if !args.json {
                let (processes, time) = (plan.processes, escape::duration(duration));
                stream::message(&format!("{processes} processes for {time}, seed {seed} .."));
            }
            StressRun::Done(stress::run(target, plan, signals)?)
        }
    };
    if args.json {
        json::print(&DoctorJson::new(&args.dir, findings, stress.outcome())).map_err(Stop::Failed)?;
    } else {
        stream::print(&Page::of_terminal().render(&args.dir, findings, &stress)).map_err(Stop::Failed)?;
    }
    let wrong = !findings.lacks.is_empty() || stress.outcome().is_some_and(|outcome| !outcome.faults.is_empty());
    Ok(if wrong { exit::UNFIT } else { exit::OK })
}

/// Does `work` in another thread while this one handles signals, because a file system may not answer for a long time.
fn run_beside_signals<T: Send + 'static>(
    signals: &Signals,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stop> {
    struct Wake(Waker);
    impl Drop for Wake {
        fn drop(&mut self) {
            self.0.wake();
        }
    }
    let (sender, result) = channel();
    let waker = signals.waker();
    let thread = thread::Builder::new().name("tenure-doctor".to_owned()).spawn(move || {
        // Dropped last, even where the work panics.
        let _wake = Wake(waker);
        let sender = sender;
        let _ = sender.send(work());
    });
    thread.map_err(|error| Stop::Failed(Failure::io("a thread for the checks", &error)))?;
    loop {
        signals.wait(None, None).map_err(|error| Stop::Failed(Failure::io("poll", &error)))?;
        if let Some(signal) = next_ending_signal(signals) {
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
