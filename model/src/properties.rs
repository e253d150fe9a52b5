//! The properties that must hold in every state, and the violations that no native can prevent.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::{Model, Property};

use crate::config::{System, Way};
use crate::model::{Action, Protocol};
use crate::native::{Native, Pc};
use crate::state::{State, Uncovered, Who};
use crate::suspend::Answer;

/// Two natives hold.
pub const NATIVES_EXCLUDE: &str = "no two natives hold";
/// Two natives pass a check at the same time.
pub const ONE_CHECKS: &str = "no two natives pass check()";
/// A native and a foreign program hold.
pub const FOREIGN_EXCLUDED: &str = "no native holds beside a live foreign holder";
/// A fence was granted twice, or a smaller one later.
pub const FENCE_GROWS: &str = "the fence grows with every grant";
/// A native waits for ever.
pub const NO_NATIVE_STUCK: &str = "from every state, every live native can come to its end";
/// A swap remains although a native has acquired since.
pub const SWAP_RECOVERED: &str = "no swap is left beside a holder";
/// A holder's check fails although no process took the lock.
pub const CHECK_IS_RIGHT: &str = "check() fails only after a break or a removal";
/// A lock file without a holder.
pub const NO_PHANTOM: &str = "a native's lock file without its holder is left by a crash alone";
/// A waiter, which may be stopped, excludes other processes.
pub const WAITERS_FREE: &str = "no waiter has the anchor's kernel lock";
/// A holder's lock file was removed although its holder keeps its name.
pub const NAME_IS_KEPT: &str = "where a holder keeps its lock file's name, no process removes it";
/// A waiter was granted the lock before a tenure that is resumed.
pub const RESUMED_FIRST: &str =
    "a tenure that is being resumed goes before every acquire that comes later to the kernel lock";
/// A resumed tenure relies on what another process has changed.
pub const NOBODY_IS_TRUE: &str = "where a resumed tenure says that no other process held, nobody did";
/// An acquire ended with an error.
pub const NO_ERRORS: &str = "no acquire ends with an error";
/// A resumed tenure has proof that no other process held.
pub const SAYS_NOBODY: &str = "a resumed tenure says nobody";
/// A resumed tenure says that another process held.
pub const SAYS_OTHERS: &str = "a resumed tenure says others";
/// A resumed tenure does not know whether another process held.
pub const SAYS_UNKNOWN: &str = "a resumed tenure says unknown";
/// The foreign protocol's own race.
pub const FOREIGN_RACE: &str = "a native beside a foreign holder: a foreign program removed a live lock file";
/// A violation after a person's removal.
pub const PERSON_REMOVED: &str = "a native beside a foreign holder: a person removed a live lock file";
/// A violation after a break, or after a person has removed both files of a holder.
pub const NATIVES_FORCED: &str = "two natives hold: one was broken, or both its files removed";

pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(NATIVES_EXCLUDE, |model, state: &State| {
            !model.first(0, state.natives_holding() > 1 && !natives_excused(state))
        }),
        Property::always(ONE_CHECKS, |model, state: &State| {
            !model.first(1, (0..state.natives.len()).filter(|i| state.passes_check(*i)).count() > 1)
        }),
        Property::always(FOREIGN_EXCLUDED, |model, state: &State| {
            !model.first(2, mixed(state, |one, other| (one, other) == (Uncovered::No, Uncovered::No)))
        }),
        Property::always(FENCE_GROWS, |model, state: &State| !model.first(3, state.past.fence_went_back)),
        Property::always(NO_NATIVE_STUCK, |model, state: &State| {
            !model.first(4, !state.waits_for_a_person() && !can_end(model, state))
        }),
        Property::always(SWAP_RECOVERED, |model, state: &State| {
            let forced = state.past.broken || state.past.wiped;
            let shown = state.natives.iter().any(|native| native.held && !native.flock);
            !model.first(5, shown && state.swap.is_some() && !forced)
        }),
        Property::always(NO_ERRORS, |model, state: &State| !model.first(6, !no_errors(model, state))),
        Property::always(CHECK_IS_RIGHT, |model, state: &State| {
            let forced = state.past.broken || state.past.wiped;
            let rightly = |i: usize| state.natives[i].uncovered != Uncovered::No || state.passes_check(i);
            !model.first(10, !forced && (0..state.natives.len()).any(|i| state.natives[i].held && !rightly(i)))
        }),
        Property::always(NO_PHANTOM, |model, state: &State| {
            let crashed = model.config.cut_off || state.left.crashes < model.config.crashes;
            let forced = state.past.broken || state.past.wiped || crashed;
            let phantom =
                state.lock.is_some_and(|ino| state.record(ino).is_native() && state.inode(ino).lock.is_none());
            !model.first(11, phantom && !forced)
        }),
        Property::always(WAITERS_FREE, |model, state: &State| {
            let waits = |pc| matches!(pc, Pc::Queue | Pc::WaitNative | Pc::WaitForeign);
            let has = |(i, native): (usize, &Native)| {
                waits(native.pc) && native.fd.is_some_and(|fd| state.inode(fd).lock == Some(Who::native(i)))
            };
            !model.first(12, state.natives.iter().enumerate().any(has))
        }),
        Property::always(NAME_IS_KEPT, |model, state: &State| {
            let forced = state.past.broken || state.past.wiped || model.config.system != System::Windows;
            let uncovered = |native: &Native| native.held && !native.flock && native.uncovered != Uncovered::No;
            !model.first(13, !forced && state.natives.iter().any(uncovered))
        }),
        Property::always(RESUMED_FIRST, |model, state: &State| {
            // The list is lost with the anchor, and another user's is not carried on.
            let lost = state.past.broken || state.past.wiped || model.config.users;
            !model.first(14, state.past.overtook && !lost)
        }),
        Property::always(NOBODY_IS_TRUE, |model, state: &State| !model.first(15, state.past.false_nobody)),
        Property::sometimes(SAYS_NOBODY, |model, state: &State| {
            model.first(16, state.past.answer == Some(Answer::Nobody))
        }),
        Property::sometimes(SAYS_OTHERS, |model, state: &State| {
            model.first(17, state.past.answer == Some(Answer::Others))
        }),
        Property::sometimes(SAYS_UNKNOWN, |model, state: &State| {
            model.first(18, state.past.answer == Some(Answer::Unknown))
        }),
        Property::sometimes(FOREIGN_RACE, |model, state: &State| {
            model.first(7, mixed(state, |one, other| one.max(other) == Uncovered::ByForeign))
        }),
        Property::sometimes(PERSON_REMOVED, |model, state: &State| {
            model.first(8, mixed(state, |one, other| one.max(other) == Uncovered::ByPerson))
        }),
        Property::sometimes(NATIVES_FORCED, |model, state: &State| {
            model.first(9, state.natives_holding() > 1 && natives_excused(state))
        }),
    ]
}

/// Returns whether a native and a foreign program hold with these values of `uncovered`.
fn mixed(state: &State, uncovered: impl Fn(Uncovered, Uncovered) -> bool) -> bool {
    // Flock style has no lock file, and ignores those of foreign programs.
    let natives = state.natives.iter().filter(|native| native.held && !native.flock);
    let foreign = || state.foreign.iter().filter(|foreign| foreign.holds());
    natives
        .flat_map(|native| foreign().map(move |foreign| (native.uncovered, foreign.uncovered)))
        .any(|(one, other)| uncovered(one, other))
}

/// Returns whether two natives may hold. A break takes the lock from its holder. After a removal of `.tenure` alone the lock
/// file still excludes natives, but after a removal of both the holder cannot be found.
fn natives_excused(state: &State) -> bool {
    let uncovered = state.natives.iter().any(|native| native.held && native.uncovered != Uncovered::No);
    state.past.broken || state.past.wiped && uncovered
}

/// Returns whether no acquire failed, or may have. Without exchanges only a dead native's copy can be taken over: not a dead
/// foreign program's lock file, and not an unfinished one that got its name because `.tenure` was removed.
fn no_errors(model: &Protocol, state: &State) -> bool {
    let in_place = model.config.way == Way::CopyInPlace;
    let excused = in_place && (model.config.foreign > 0 || state.past.wiped);
    excused || !state.natives.iter().any(|native| native.pc == Pc::Failed)
}

/// Returns whether some path leads from this state to the end of every native, without a crash, a removal or a revoke
/// (`AG EF`). The other natives must reach their ends without a holder whose lock was broken, or whose files were both
/// removed. The search is depth first, and stops at the first state with a known path.
fn can_end(model: &Protocol, state: &State) -> bool {
    let mut known = model.known_to_end.lock().expect("no thread panics with the mutex");
    let mut seen: HashSet<u64> = HashSet::new();
    let mut path: Vec<(u64, Vec<State>)> = Vec::new();
    let mut next = Some(state.clone());
    loop {
        if let Some(at) = next.take() {
            let print = fingerprint(&at);
            if known.contains(&print) || all_have_ended(&at) {
                known.insert(print);
                known.extend(path.iter().map(|(print, _)| *print));
                return true;
            }
            if seen.insert(print) {
                let mut actions = Vec::new();
                model.actions(&at, &mut actions);
                let steps = actions.into_iter().filter(|action: &Action| !action.is_fault()).rev();
                let steps = steps.filter(|action| may_come(&at, *action));
                path.push((print, steps.filter_map(|action| model.next_state(&at, action)).collect()));
            }
        }
        let Some((_, following)) = path.last_mut() else { return false };
        next = following.pop();
        if next.is_none() {
            path.pop();
        }
    }
}

/// Returns whether a holder's lock was broken: neither the anchor nor the lock file is its own, or the anchor is not after a
/// break.
fn was_broken(state: &State, i: usize) -> bool {
    let native = &state.natives[i];
    let hidden = native.flock || state.lock != native.lock_file() || state.past.broke;
    native.held && state.anchor != native.fd && hidden
}

fn all_have_ended(state: &State) -> bool {
    (0..state.natives.len()).all(|i| state.natives[i].has_ended() || was_broken(state, i))
}

/// Returns whether the action continues something: nothing new begins.
fn may_come(state: &State, action: Action) -> bool {
    match action {
        Action::Break => state.breaker != Default::default(),
        Action::Prune => state.pruner != Default::default(),
        Action::Wipe(_) => state.wiper.on,
        Action::Native(i) => !was_broken(state, i),
        Action::Pass(_) | Action::PassAtOnce(_) => false,
        _ => true,
    }
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}
