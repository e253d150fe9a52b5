//! Explores one configuration, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::config::Config;
use crate::model::{Action, Protocol};
use crate::names;
use crate::properties::{FOREIGN_RACE, NATIVES_FORCED, PERSON_REMOVED};
use crate::state::State;

/// What came of it.
pub struct Outcome {
    /// Steps that were taken.
    pub states: usize,
    /// Different states that they led to.
    pub unique: usize,
    /// The longest of the shortest ways to a state, in steps.
    pub depth: usize,
    /// How long that took.
    pub took: Duration,
    /// What must never be, and was found, by its property; with the steps that lead there.
    pub faults: BTreeMap<&'static str, Vec<String>>,
    /// What no native can prevent, and was found.
    pub excused: Vec<&'static str>,
}

impl Outcome {
    /// In a few words.
    pub fn verdict(&self) -> String {
        if self.faults.is_empty() { "holds".to_owned() } else { format!("{} faults", self.faults.len()) }
    }
}

/// Explores every state of a configuration. Each fault comes with a shortest way to it.
pub fn explore(config: &Config) -> Outcome {
    explore_until(config, HasDiscoveries::All)
}

/// A shortest way to a state where `property` does not hold, if there is any. Explores no further than that.
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
    };
    for (name, path) in checker.discoveries() {
        if [FOREIGN_RACE, PERSON_REMOVED, NATIVES_FORCED].contains(&name) {
            outcome.excused.push(name);
        } else {
            outcome.faults.insert(name, steps(path));
        }
    }
    outcome.excused.sort_unstable();
    outcome
}

fn steps(path: Path<State, Action>) -> Vec<String> {
    let steps = path.into_vec().into_iter();
    steps.filter_map(|(state, action)| Some(names::line(&state, action?))).collect()
}
