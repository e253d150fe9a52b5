//! Runs every order of a script's calls, random orders, or a given one.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use super::run::{Chooser, Failure, Outcome, run};
use super::schedule::{Choice, Schedule};
use super::script::Script;

/// The limits of an exploration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub schedules: Option<u64>,
    pub time: Option<Duration>,
}

/// The result of an exploration.
#[derive(Debug)]
pub struct Report {
    pub script: &'static str,
    /// The number of runs.
    pub schedules: u64,
    /// The number of runs that reached their end. The others reached a known state.
    pub whole: u64,
    /// The number of different states with a choice.
    pub states: u64,
    /// The number of system calls and other steps of all runs.
    pub steps: u64,
    /// The number of steps of the longest run.
    pub deepest: u64,
    /// Whether every order was run.
    pub complete: bool,
    pub time: Duration,
    pub failure: Option<Failure>,
}

impl Report {
    fn new(script: &Script) -> Report {
        Report {
            script: script.name,
            schedules: 0,
            whole: 0,
            states: 0,
            steps: 0,
            deepest: 0,
            complete: false,
            time: Duration::ZERO,
            failure: None,
        }
    }

    /// Returns the number of runs per minute.
    pub fn per_minute(&self) -> f64 {
        self.schedules as f64 * 60.0 / self.time.as_secs_f64().max(1e-9)
    }
}

/// Passes a fingerprint through, because it is as good as random.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only whole words are hashed");
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

type Known = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// A point with a choice.
struct Fork {
    first: usize,
    count: usize,
    taken: usize,
}

/// Chooses depth first: each run repeats the previous one up to the last point with an untried choice.
struct DepthFirst {
    forks: Vec<Fork>,
    choices: Vec<Choice>,
    depth: usize,
    known: Known,
    path: Vec<Choice>,
}

/// A chooser of many runs.
trait Explorer: Chooser {
    /// Returns the choices of this run.
    fn path(&self) -> &[Choice];

    /// Prepares the next run. Returns `false` when there is none.
    fn advance(&mut self) -> bool;
}

impl Explorer for DepthFirst {
    fn path(&self) -> &[Choice] {
        &self.path
    }

    fn advance(&mut self) -> bool {
        self.depth = 0;
        self.path.clear();
        while let Some(fork) = self.forks.last_mut() {
            fork.taken += 1;
            if fork.taken < fork.count {
                return true;
            }
            self.choices.truncate(fork.first);
            self.forks.pop();
        }
        false
    }
}

impl Chooser for DepthFirst {
    fn choose(&mut self, choices: &[Choice], fingerprint: &dyn Fn() -> u64) -> Option<usize> {
        if choices.len() == 1 {
            self.path.push(choices[0]);
            return Some(0);
        }
        let taken = match self.forks.get(self.depth) {
            Some(fork) => {
                let then = &self.choices[fork.first..fork.first + fork.count];
                assert!(
                    then == choices,
                    "the run differs from the previous one: something did not come from the simulated kernel"
                );
                fork.taken
            }
            None => {
                if !self.known.insert(fingerprint()) {
                    return None;
                }
                self.forks.push(Fork { first: self.choices.len(), count: choices.len(), taken: 0 });
                self.choices.extend_from_slice(choices);
                0
            }
        };
        self.depth += 1;
        self.path.push(choices[taken]);
        Some(taken)
    }

    fn ends(&mut self, fingerprint: u64) -> bool {
        self.known.insert(fingerprint ^ 1)
    }
}

/// Runs every order that the script allows, with every death and failure.
pub fn exhaustive(script: &Script, limits: Limits) -> Report {
    let mut chooser =
        DepthFirst { forks: Vec::new(), choices: Vec::new(), depth: 0, known: Known::default(), path: Vec::new() };
    let mut report = explore(script, limits, &mut chooser);
    report.states = chooser.known.len() as u64;
    report
}

/// Makes one run after the other, until one fails, none is left, or a limit is reached.
fn explore(script: &Script, limits: Limits, chooser: &mut impl Explorer) -> Report {
    let mut report = Report::new(script);
    let began = Instant::now();
    let mut choices = Vec::with_capacity(256);
    loop {
        let (outcome, steps) = run(script, chooser, &mut choices, None);
        count(&mut report, &outcome, steps);
        if let Outcome::Failed(what) = outcome {
            let schedule = Schedule(chooser.path().to_vec());
            report.failure = Some(Failure { script: script.name, face: script.fs.face, what, schedule });
            break;
        }
        if !chooser.advance() {
            report.complete = true;
            break;
        }
        if over(&report, limits, began) {
            break;
        }
    }
    report.time = began.elapsed();
    report
}

fn count(report: &mut Report, outcome: &Outcome, steps: u64) {
    report.schedules += 1;
    report.steps += steps;
    report.deepest = report.deepest.max(steps);
    report.whole += u64::from(!matches!(outcome, Outcome::Cut));
}

fn over(report: &Report, limits: Limits, began: Instant) -> bool {
    let time_is_over = || limits.time.is_some_and(|time| began.elapsed() >= time);
    limits.schedules.is_some_and(|most| report.schedules >= most)
        || (report.schedules.is_multiple_of(64) && time_is_over())
}

/// Chooses by a generator with a seed (splitmix64).
struct Random {
    state: u64,
    path: Vec<Choice>,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

impl Chooser for Random {
    fn choose(&mut self, choices: &[Choice], _fingerprint: &dyn Fn() -> u64) -> Option<usize> {
        // Deaths and failures are rare, so that they happen anywhere in a run and not all at its start.
        let runs = choices.iter().filter(|choice| matches!(choice, Choice::Run(_))).count();
        let rare = choices.len() - runs;
        let word = self.next();
        let chosen = if rare > 0 && (runs == 0 || word.is_multiple_of(24)) {
            runs + (word >> 32) as usize % rare
        } else if word & 0x300 == 0 {
            (word >> 32) as usize % runs
        } else {
            0
        };
        self.path.push(choices[chosen]);
        Some(chosen)
    }

    fn ends(&mut self, _fingerprint: u64) -> bool {
        true
    }
}

impl Explorer for Random {
    fn path(&self) -> &[Choice] {
        &self.path
    }

    fn advance(&mut self) -> bool {
        self.path.clear();
        true
    }
}

/// Runs random orders, with this seed.
pub fn random(script: &Script, seed: u64, limits: Limits) -> Report {
    explore(script, limits, &mut Random { state: seed, path: Vec::new() })
}

/// Follows a schedule. After its end, the first thread that can continue does.
struct Given<'a> {
    rest: &'a [Choice],
    missed: bool,
}

impl Chooser for Given<'_> {
    fn choose(&mut self, choices: &[Choice], _fingerprint: &dyn Fn() -> u64) -> Option<usize> {
        let Some((first, rest)) = self.rest.split_first() else { return Some(0) };
        self.rest = rest;
        let found = choices.iter().position(|choice| choice == first);
        self.missed |= found.is_none();
        found
    }

    fn ends(&mut self, _fingerprint: u64) -> bool {
        true
    }
}

/// Runs one schedule again. Returns its failure, and one line for each call.
///
/// # Errors
///
/// If the schedule does not fit this script, because it makes an impossible choice. The error has the lines up to there.
pub fn replay(script: &Script, schedule: &Schedule) -> Result<(Option<Failure>, Vec<String>), Vec<String>> {
    let mut chooser = Given { rest: &schedule.0, missed: false };
    // A schedule may have been found with any bound.
    let script = Script { preemptions: None, ..*script };
    let mut story = Vec::new();
    let (outcome, _) = run(&script, &mut chooser, &mut Vec::with_capacity(256), Some(&mut story));
    if chooser.missed {
        return Err(story);
    }
    let failure = match outcome {
        Outcome::Failed(what) => {
            Some(Failure { script: script.name, face: script.fs.face, what, schedule: schedule.clone() })
        }
        _ => None,
    };
    Ok((failure, story))
}
