//! The stress run: processes acquire and release one lock, some of them are killed at random, and a witness counts.

use std::io::{PipeReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::random::Random;
use super::tally::{self, Tally, WORDS};
use super::worker;
use crate::locking::{Stop, next_ending_signal};
use crate::output::Failure;
use crate::sys::{self, Child, SharedWords, Signals, monotonic};

/// The time that a process may take to end when it is requested to: far more than a queue of all processes needs.
const GRACE: Duration = Duration::from_secs(30);
/// The number of faults after which the run ends.
const MOST_FAULTS: usize = 16;
/// The longest interval between two checks of the processes.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The pace of a run.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// The time between two kills is at least this, and at most a little more than twice as much.
    pub(crate) between_kills: Duration,
    /// A process that waits for longer than this while others acquire the lock is starved.
    pub(crate) starved: Duration,
}

impl Pace {
    /// The pace for files, where the kernel reports a death at once.
    pub(crate) const FILES: Pace = Pace { between_kills: Duration::from_millis(30), starved: Duration::from_secs(10) };
}

/// The parameters of a run.
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    pub(crate) duration: Duration,
    pub(crate) processes: usize,
    pub(crate) seed: u64,
}

impl Plan {
    /// Returns the number of processes that are never killed. They come first.
    pub(crate) fn steady(&self) -> usize {
        self.processes - self.processes / 2
    }
}

/// The outcome of a run.
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    pub(crate) ran_for: Duration,
    pub(crate) memory: SharedWords,
    pub(crate) kills: u64,
    /// Descriptions of the faults.
    pub(crate) faults: Vec<String>,
}

impl Outcome {
    pub(crate) fn tally(&self) -> Tally<'_> {
        Tally::of(&self.memory)
    }

    /// Returns the least and the most grants among the processes that were never killed.
    pub(crate) fn fairness(&self) -> (u64, u64) {
        let grants = || (0..self.plan.steady()).map(|index| self.tally().grants_of(index));
        (grants().min().unwrap_or(0), grants().max().unwrap_or(0))
    }
}

/// Whether there was a stress run, and its outcome.
pub(crate) enum StressRun {
    NotRequested,
    /// An essential feature is missing, so there was no run.
    Skipped,
    Done(Outcome),
}

impl StressRun {
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match self {
            StressRun::Done(outcome) => Some(outcome),
            StressRun::NotRequested | StressRun::Skipped => None,
        }
    }
}

/// Runs the stress test on `target`. All processes that it started have ended when it returns.
pub(crate) fn run(target: &Path, plan: Plan, signals: &Signals) -> Result<Outcome, Stop> {
    let failed = |what: &'static str| move |error: std::io::Error| Stop::Failed(Failure::io(what, &error));
    let memory = SharedWords::create(WORDS).map_err(failed("memory for the stress run"))?;
    let mut random = Random::new(plan.seed);
    let mut crew = Crew { target, signals, memory: &memory, workers: Vec::new(), started: 0, faults: Vec::new() };
    for index in 0..plan.processes {
        let worker = crew.start(index, random.next()).map_err(failed("a process for the stress run"))?;
        crew.workers.push(worker);
    }

    let began = Instant::now();
    let between_kills = plan.pace.between_kills;
    let mut next_kill = began + between_kills;
    let mut kills = 0;
    let mut checked = began;
    loop {
        let now = Instant::now();
        let left = plan.duration.saturating_sub(now - began);
        if left.is_zero() || crew.faults.len() >= MOST_FAULTS {
            break;
        }
        if now >= next_kill {
            let index = crew.victim(plan.steady(), &mut random);
            crew.kill(index);
            kills += 1;
            let pause = between_kills.as_millis() as u64;
            next_kill = Instant::now() + between_kills + Duration::from_millis(random.below(pause + 10));
        }
        // Restart the processes that were killed or that failed. The others continue meanwhile, and so does the witness.
        for index in crew.absent() {
            let worker = crew.start(index, random.next()).map_err(failed("a process for the stress run"))?;
            crew.workers[index] = worker;
        }
        let timeout = left.min(CHECK_INTERVAL).min(next_kill.saturating_duration_since(Instant::now()));
        signals.wait(None, Some(timeout)).map_err(failed("poll"))?;
        if let Some(signal) = next_ending_signal(signals) {
            return Err(Stop::Signalled(signal));
        }
        crew.check_for_ended();
        // Skipped right after a stop of all processes (Ctrl-Z), when all of them seem to have waited.
        if checked.elapsed() < Duration::from_secs(1) {
            crew.check_for_starved(plan.pace.starved);
        }
        checked = Instant::now();
    }
    let ran_for = began.elapsed();
    crew.finish()?;
    let ended = std::mem::take(&mut crew.faults);
    drop(crew);
    // The witness comes first, because other faults mostly follow from what it observed.
    let mut faults = judge(&Tally::of(&memory));
    faults.extend(ended);
    Ok(Outcome { plan, ran_for, memory, kills, faults })
}

/// Returns the faults that the witness observed.
fn judge(tally: &Tally<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |count: u64, what: &str| {
        if count > 0 {
            let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
            faults.push(format!("{times} {what}"));
        }
    };
    fault(tally.double_holds(), "two processes held the lock at once");
    fault(tally.fences_that_shrank(), "a grant's fence was not greater than the fence before it");
    fault(tally.unreported_crashes(), "a holder was killed, and the next holder got no crash report");
    if tally.grants() == 0 {
        faults.push("the lock was never granted".to_owned());
    }
    faults
}

/// A process of the run.
struct Worker {
    incarnation: u64,
    /// `None` once the process has been reaped.
    child: Option<Child>,
    /// The process's standard error, where it reports failures.
    stderr: PipeReader,
}

/// All processes of a run. Dropping this kills them.
struct Crew<'a> {
    target: &'a Path,
    signals: &'a Signals,
    memory: &'a SharedWords,
    workers: Vec<Worker>,
    started: u64,
    faults: Vec<String>,
}

impl Crew<'_> {
    fn tally(&self) -> Tally<'_> {
        Tally::of(self.memory)
    }

    fn start(&mut self, index: usize, seed: u64) -> std::io::Result<Worker> {
        self.started += 1;
        let incarnation = tally::incarnation(self.started, index);
        self.tally().stops_waiting(index);
        let (stderr, error) = std::io::pipe()?;
        let part = [incarnation, seed, u64::from(std::process::id())];
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(worker::SUBCOMMAND).arg("--part").args(part.map(|number| number.to_string()));
        command.arg("--").arg(self.target);
        command.stdin(self.memory.descriptor()?).stdout(Stdio::null()).stderr(error);
        Ok(Worker { incarnation, child: Some(sys::spawn(command, self.signals)?), stderr })
    }

    /// Chooses a process to kill: mostly the present holder, where it is one that may be killed.
    fn victim(&self, steady: usize, random: &mut Random) -> usize {
        if random.below(4) > 0 {
            let until = Instant::now() + Duration::from_millis(5);
            while Instant::now() < until {
                let holder = self.tally().holder();
                let index = tally::index_of(holder);
                if holder != 0 && index >= steady && self.workers[index].incarnation == holder {
                    return index;
                }
                std::hint::spin_loop();
            }
        }
        steady + random.below((self.workers.len() - steady) as u64) as usize
    }

    fn absent(&self) -> Vec<usize> {
        (0..self.workers.len()).filter(|&index| self.workers[index].child.is_none()).collect()
    }

    fn kill(&mut self, index: usize) {
        let incarnation = self.workers[index].incarnation;
        // The kill is recorded before it happens, for the next holder, which finds this incarnation still recorded as the holder.
        self.tally().record_kill(incarnation, monotonic());
        if let Some(child) = self.workers[index].child.take() {
            child.signal(sys::SIGKILL);
            // A process that failed just before the kill is still a failure.
            if child.wait().is_ok_and(|status| sys::ended_by(status).is_none()) {
                self.failed(index, None);
            }
        }
    }

    /// Reports the processes that have ended by themselves.
    fn check_for_ended(&mut self) {
        for index in 0..self.workers.len() {
            if self.workers[index].child.as_ref().is_some_and(Child::has_ended)
                && let Some(child) = self.workers[index].child.take()
            {
                let signal = child.wait().ok().and_then(sys::ended_by);
                self.failed(index, signal);
            }
        }
    }

    /// Reports the processes that have waited for too long.
    fn check_for_starved(&mut self, starved: Duration) {
        let now = monotonic();
        for index in 0..self.workers.len() {
            if self.tally().waiting_time(index, now).is_some_and(|waits| waits > starved) {
                let fault = format!("process {} has waited for {starved:?} without a grant", index + 1);
                self.faults.push(fault);
                // The wait begins again here, so that it is reported once for each such time.
                self.tally().starts_waiting(self.workers[index].incarnation, now);
            }
        }
    }

    /// Adds a fault for a process that ended by itself, or by a signal from elsewhere.
    fn failed(&mut self, index: usize, signal: Option<i32>) {
        let mut text = Vec::new();
        let _ = (&mut self.workers[index].stderr).take(4096).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let why = match (text.trim(), signal) {
            ("", Some(signal)) => format!("ended by {}", sys::signal_name(signal)),
            ("", None) => "ended without an error message".to_owned(),
            (text, _) => text.strip_prefix("tenure: ").unwrap_or(text).to_owned(),
        };
        self.faults.push(format!("process {}: {why}", index + 1));
    }

    /// Requests all processes to stop, and waits until they have ended.
    fn finish(&mut self) -> Result<(), Stop> {
        self.tally().stop();
        let until = Instant::now() + GRACE;
        for index in 0..self.workers.len() {
            let Some(child) = self.workers[index].child.take() else { continue };
            while !child.has_ended() && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.signals.wait(Some(&child), Some(left));
                waited.map_err(|error| Stop::Failed(Failure::io("poll", &error)))?;
                if let Some(signal) = next_ending_signal(self.signals) {
                    self.workers[index].child = Some(child);
                    return Err(Stop::Signalled(signal));
                }
            }
            if !child.has_ended() {
                self.faults.push(format!("process {} is stuck: it did not end within {GRACE:?}", index + 1));
                child.signal(sys::SIGKILL);
                let _ = child.wait();
                continue;
            }
            match child.wait() {
                Ok(status) if status.success() => {}
                status => self.failed(index, status.ok().and_then(sys::ended_by)),
            }
        }
        Ok(())
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for child in self.workers.iter_mut().filter_map(|worker| worker.child.take()) {
            child.signal(sys::SIGKILL);
            let _ = child.wait();
        }
    }
}
