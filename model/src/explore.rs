//! Explores one configuration, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::config::Config;
use crate::model::{Action, Protocol};
use crate::names;
use crate::properties::{FOREIGN_RACE, NATIVES_FORCED, PERSON_REMOVED, SAYS_NOBODY, SAYS_OTHERS, SAYS_UNKNOWN};
use crate::state::State;

/// The result of an exploration.
pub struct Outcome {
    /// The number of steps.
    pub states: usize,
    /// The number of different states.
    pub unique: usize,
    /// The length of the longest shortest path to a state.
    pub depth: usize,
    /// The time of the exploration.
    pub took: Duration,
    /// The violated properties, with the steps that lead to the violation.
    pub faults: BTreeMap<&'static str, Vec<String>>,
    /// The violations that no native can prevent, by their properties.
    pub excused: Vec<&'static str>,
    /// What resumed tenures say of the time in which they were suspended.
    pub answers: Vec<&'static str>,
}

impl Outcome {
    /// Returns the result in a few words.
    pub fn verdict(&self) -> String {
        if self.faults.is_empty() { "holds".to_owned() } else { format!("{} faults", self.faults.len()) }
    }
}

/// Explores every state of a configuration. Each violation has a shortest path to it.
pub fn explore(config: &Config) -> Outcome {
    explore_until(config, HasDiscoveries::All)
}

/// Returns a shortest path to a state that violates `property`, or `None`. Stops the exploration there.
pub fn counterexample(config: &Config, property: &'static str) -> Option<Vec<String>> {
    explore_until(config, HasDiscoveries::AnyOf(BTreeSet::from([property]))).faults.remove(property)
}

fn explore_until(config: &Config, found: HasDiscoveries) -> Outcome {
    let began = Instant::now();
    let checker = Protocol::new(config.clone()).checker().finish_when(found).spawn_bfs().join();
    let mut outcome = Outcome {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: began.elapsed(),
        faults: BTreeMap::new(),
        excused: Vec::new(),
        answers: Vec::new(),
    };
    for (name, path) in checker.discoveries() {
        if [FOREIGN_RACE, PERSON_REMOVED, NATIVES_FORCED].contains(&name) {
            outcome.excused.push(name);
        } else if [SAYS_NOBODY, SAYS_OTHERS, SAYS_UNKNOWN].contains(&name) {
            outcome.answers.push(name);
        } else {
            outcome.faults.insert(name, steps(path));
        }
    }
    outcome.excused.sort_unstable();
    outcome.answers.sort_unstable();
    outcome
}

fn steps(path: Path<State, Action>) -> Vec<String> {
    let steps = path.into_vec().into_iter();
    steps.filter_map(|(state, action)| Some(names::line(&state, action?))).collect()
}
