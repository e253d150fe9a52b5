//! The stress run: processes that acquire and release one lock, some of them killed at random, and a witness.

use std::io::{PipeReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::random::Random;
use super::tally::{self, Tally, WORDS};
use crate::exit::Failure;
use crate::sys::doctor::{SharedWords, monotonic};
use crate::sys::{self, Child, Signals};

/// How long a process may take to end when it is told to: far more than a queue of all of them needs.
const GRACE: Duration = Duration::from_secs(30);
/// After so many faults no more is to be learnt.
const ENOUGH_FAULTS: usize = 16;
/// How often is looked whether all are still there.
const TICK: Duration = Duration::from_millis(100);

/// How fast things go.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Between two kills: at least this, and up to as much again and a little more.
    pub(crate) between_kills: Duration,
    /// Who waits for longer than this, while others get the lock, is left out for good.
    pub(crate) starved: Duration,
}

impl Pace {
    /// Where the kernel tells of a death at once.
    pub(crate) const FILES: Pace = Pace { between_kills: Duration::from_millis(30), starved: Duration::from_secs(10) };
}

/// What is asked for.
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    pub(crate) duration: Duration,
    pub(crate) processes: usize,
    pub(crate) seed: u64,
}

impl Plan {
    /// So many are never killed: the first ones.
    pub(crate) fn steady(&self) -> usize {
        self.processes - self.processes / 2
    }
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    pub(crate) ran_for: Duration,
    pub(crate) memory: SharedWords,
    pub(crate) kills: u64,
    /// What was wrong, in words.
    pub(crate) faults: Vec<String>,
}

impl Outcome {
    pub(crate) fn tally(&self) -> Tally<'_> {
        Tally::of(&self.memory)
    }

    /// The least and the most grants among the processes that lived throughout.
    pub(crate) fn fairness(&self) -> (u64, u64) {
        let grants = || (0..self.plan.steady()).map(|index| self.tally().grants_of(index));
        (grants().min().unwrap_or(0), grants().max().unwrap_or(0))
    }
}

/// Why there is no outcome.
pub(crate) enum Stop {
    Failed(Failure),
    Signalled(i32),
}

/// Runs it on `target`. When this returns, every process that it started has ended.
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
    let mut looked = began;
    loop {
        let now = Instant::now();
        let left = plan.duration.saturating_sub(now - began);
        if left.is_zero() || crew.faults.len() >= ENOUGH_FAULTS {
            break;
        }
        if now >= next_kill {
            let index = crew.victim(plan.steady(), &mut random);
            crew.kill(index);
            kills += 1;
            let pause = between_kills.as_millis() as u64;
            next_kill = Instant::now() + between_kills + Duration::from_millis(random.below(pause + 10));
        }
        // Those that were killed, and those that failed: the others go on, and the witness with them.
        for index in crew.absent() {
            let worker = crew.start(index, random.next()).map_err(failed("a process for the stress run"))?;
            crew.workers[index] = worker;
        }
        let timeout = left.min(TICK).min(next_kill.saturating_duration_since(Instant::now()));
        signals.wait(None, Some(timeout)).map_err(failed("poll"))?;
        if let Some(signal) = super::ending_signal(signals) {
            return Err(Stop::Signalled(signal));
        }
        crew.look();
        // Not right after all of us were stopped (Ctrl-Z): then everybody seems to have waited.
        if looked.elapsed() < Duration::from_secs(1) {
            crew.look_for_starved(plan.pace.starved);
        }
        looked = Instant::now();
    }
    let ran_for = began.elapsed();
    crew.finish()?;
    let ended = std::mem::take(&mut crew.faults);
    drop(crew);
    // The witness first: the rest mostly follows from what it saw.
    let mut faults = judge(&Tally::of(&memory));
    faults.extend(ended);
    Ok(Outcome { plan, ran_for, memory, kills, faults })
}

/// What the witness says.
fn judge(tally: &Tally<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |count: u64, what: &str| {
        if count > 0 {
            let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
            faults.push(format!("{times} {what}"));
        }
    };
    fault(tally.double_holds(), "two processes were inside at once");
    fault(tally.fences_that_shrank(), "a grant's fence was not greater than the one before");
    fault(tally.untold_crashes(), "a holder was killed and the next one was not told");
    if tally.grants() == 0 {
        faults.push("the lock was never granted".to_owned());
    }
    faults
}

/// A process that takes part.
struct Worker {
    incarnation: u64,
    /// `None` once it has been waited for.
    child: Option<Child>,
    /// What it says on standard error: only what went wrong.
    says: PipeReader,
}

/// All processes of a run. They are killed when this goes.
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
        self.tally().asks_no_more(index);
        let (says, error) = std::io::pipe()?;
        let part = [incarnation, seed, u64::from(std::process::id())];
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(crate::args::DOCTOR_WORKER).arg("--part").args(part.map(|number| number.to_string()));
        command.arg("--").arg(self.target);
        command.stdin(self.memory.descriptor()?).stdout(Stdio::null()).stderr(error);
        Ok(Worker { incarnation, child: Some(sys::spawn(command, self.signals)?), says })
    }

    /// Whom to kill: mostly whoever holds just now, where that is one of those that may be killed.
    fn victim(&self, steady: usize, random: &mut Random) -> usize {
        if random.below(4) > 0 {
            let until = Instant::now() + Duration::from_millis(5);
            while Instant::now() < until {
                let inside = self.tally().inside();
                let index = tally::index_of(inside);
                if inside != 0 && index >= steady && self.workers[index].incarnation == inside {
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
        // Before the kill: who finds it inside must know.
        self.tally().is_killed(incarnation, monotonic());
        if let Some(child) = self.workers[index].child.take() {
            child.signal(sys::SIGKILL);
            // One that failed just before is still a failure.
            if child.wait().is_ok_and(|status| sys::ended_by(status).is_none()) {
                self.failed(index, None);
            }
        }
    }

    /// Has one ended that should not have?
    fn look(&mut self) {
        for index in 0..self.workers.len() {
            if self.workers[index].child.as_ref().is_some_and(Child::has_ended)
                && let Some(child) = self.workers[index].child.take()
            {
                let signal = child.wait().ok().and_then(sys::ended_by);
                self.failed(index, signal);
            }
        }
    }

    /// Is one left out?
    fn look_for_starved(&mut self, starved: Duration) {
        let now = monotonic();
        for index in 0..self.workers.len() {
            if self.tally().waits_for(index, now).is_some_and(|waits| waits > starved) {
                let fault = format!("process {} has waited for {starved:?} and is not granted the lock", index + 1);
                self.faults.push(fault);
                // Said once for each time that long.
                self.tally().asks(self.workers[index].incarnation, now);
            }
        }
    }

    /// A process has ended by itself, or by a signal that is not ours.
    fn failed(&mut self, index: usize, signal: Option<i32>) {
        let mut said = Vec::new();
        let _ = (&mut self.workers[index].says).take(4096).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let why = match (said.trim(), signal) {
            ("", Some(signal)) => format!("ended by {}", sys::signal_name(signal)),
            ("", None) => "ended without a word".to_owned(),
            (said, _) => said.strip_prefix("tenure: ").unwrap_or(said).to_owned(),
        };
        self.faults.push(format!("process {}: {why}", index + 1));
    }

    /// Tells all to stop and waits until they have.
    fn finish(&mut self) -> Result<(), Stop> {
        self.tally().stop();
        let until = Instant::now() + GRACE;
        for index in 0..self.workers.len() {
            let Some(child) = self.workers[index].child.take() else { continue };
            while !child.has_ended() && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.signals.wait(Some(&child), Some(left));
                waited.map_err(|error| Stop::Failed(Failure::io("poll", &error)))?;
                if let Some(signal) = super::ending_signal(self.signals) {
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
