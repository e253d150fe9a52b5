//! The model: the possible actions of each state.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use stateright::{Model, Property};

use crate::config::Config;
use crate::state::State;
use crate::{foreign, native, others, process, properties, suspend};

/// A possible action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A native's next step.
    Native(usize),
    /// The next step of a native's detached helper.
    Helper(usize),
    /// The watchdog of this native gives up the name of its broken lock file.
    GiveUpName(usize),
    /// The watchdog's check of a native's wait.
    Recheck(usize),
    /// The watchdog revokes a native's tenure.
    Revoke(usize),
    /// A native passes its tenure on.
    Pass(usize),
    /// A native passes its tenure on right after a check of the names, so that it only counts the links.
    PassAtOnce(usize),
    /// A native begins to suspend its tenure.
    Suspend(usize),
    /// A native has given way to a resumed tenure for its whole time, and goes on.
    Overtake(usize),
    /// A native dies.
    CrashNative(usize),
    /// A foreign program's next step.
    Foreign(usize),
    /// A foreign program dies.
    CrashForeign(usize),
    /// The break's next step.
    Break,
    /// The breaking process dies.
    CrashBreak,
    /// The pruning's next step.
    Prune,
    /// The pruning process dies.
    CrashPrune,
    /// `rm -r .tenure` removes this name.
    Wipe(usize),
    /// A person removes the lock file.
    UserRm,
}

impl Action {
    /// Returns whether this is a fault, which may also never happen.
    pub(crate) fn is_fault(self) -> bool {
        matches!(
            self,
            Action::Revoke(_)
                | Action::Suspend(_)
                | Action::Overtake(_)
                | Action::CrashNative(_)
                | Action::CrashForeign(_)
                | Action::CrashBreak
                | Action::CrashPrune
                | Action::UserRm
        )
    }
}

/// The protocol, in one configuration.
pub struct Protocol {
    /// The configuration.
    pub config: Config,
    /// Fingerprints of states from which every native can reach its end.
    pub(crate) known_to_end: Mutex<HashSet<u64>>,
    /// Properties with a discovery, as bits. Later discoveries are not reported, because the checker would keep the last, and
    /// a breadth-first search finds the shortest first.
    found: AtomicU32,
}

impl Protocol {
    /// Makes the protocol in this configuration.
    pub fn new(config: Config) -> Protocol {
        Protocol { config, known_to_end: Mutex::default(), found: AtomicU32::new(0) }
    }

    /// Returns whether this is the first discovery of a property.
    pub(crate) fn first(&self, property: u32, discovered: bool) -> bool {
        discovered && self.found.fetch_or(1 << property, Ordering::Relaxed) & (1 << property) == 0
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::start(&self.config)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for i in 0..state.natives.len() {
            actions.push(Action::Native(i));
            if state.natives[i].helper != native::Helper::None {
                actions.push(Action::Helper(i));
            }
            actions.push(Action::Recheck(i));
            if self.config.keeps_names() {
                actions.push(Action::GiveUpName(i));
            }
            if self.config.pass {
                actions.extend([Action::Pass(i), Action::PassAtOnce(i)]);
            }
            if state.left.suspends > 0 {
                actions.push(Action::Suspend(i));
            }
            if state.left.overtakes > 0 {
                actions.push(Action::Overtake(i));
            }
            if state.left.revokes > 0 {
                actions.push(Action::Revoke(i));
            }
        }
        actions.extend((0..state.foreign.len()).map(Action::Foreign));
        actions.extend([Action::Break, Action::Prune]);
        if state.wiper.on || state.left.wipes > 0 {
            actions.extend((0..4).map(Action::Wipe));
        }
        if state.left.crashes > 0 {
            actions.extend((0..state.natives.len()).map(Action::CrashNative));
            actions.extend((0..state.foreign.len()).map(Action::CrashForeign));
            actions.extend([Action::CrashBreak, Action::CrashPrune]);
        }
        actions.push(Action::UserRm);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let config = &self.config;
        let mut state = last.clone();
        let it = &mut state;
        match action {
            Action::Native(i) => native::step(config, it, i),
            Action::Helper(i) => process::helper_step(it, i),
            Action::Recheck(i) => process::recheck(config, it, i),
            Action::GiveUpName(i) => process::give_up_name(config, it, i),
            Action::Revoke(i) => process::revoke(it, i),
            Action::Pass(i) => process::pass(config, it, i, false),
            Action::PassAtOnce(i) => process::pass(config, it, i, true),
            Action::Suspend(i) => suspend::begin(it, i),
            Action::Overtake(i) => suspend::overtake(config, it, i),
            Action::CrashNative(i) => process::crash(it, i),
            Action::Foreign(i) => foreign::step(it, i),
            Action::CrashForeign(i) => foreign::crash(it, i),
            Action::Break => others::break_step(config, it),
            Action::CrashBreak => others::end_break(it),
            Action::Prune => others::prune_step(config, it),
            Action::CrashPrune => others::end_prune(it),
            Action::Wipe(name) => others::wipe_step(it, name),
            Action::UserRm => others::user_rm(it),
        }?;
        let died = [Action::CrashBreak, Action::CrashPrune].contains(&action)
            || matches!(action, Action::CrashNative(_) | Action::CrashForeign(_));
        if died {
            it.left.crashes -= 1;
        }
        if config.suspends > 0 {
            suspend::note(last, it);
        }
        it.normalize(config);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        properties::all()
    }
}
