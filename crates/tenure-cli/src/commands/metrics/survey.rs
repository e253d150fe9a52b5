//! What the locks of a folder and their histories show at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tenure::{Ending, Holder, PastTenure, State, Status, server};

use crate::options::WalkOptions;
use crate::output::Failure;
use crate::sys;
use crate::watching::walk_folders;

/// The values of the metrics. `None` is unknown.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The number of locks in each state but free.
    pub(super) states: BTreeMap<&'static str, u64>,
    pub(super) shared: u64,
    pub(super) slots: u64,
    pub(super) waiters: Option<u64>,
    pub(super) longest_hold: Option<Duration>,
    /// What the histories have; `None` where there is none.
    pub(super) past: Option<Past>,
}

/// What the histories of the locks have.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The number of tenures, by how they ended.
    pub(super) tenures: BTreeMap<&'static str, u64>,
    /// The number of acquires that ended without the lock.
    pub(super) waits: BTreeMap<&'static str, u64>,
    pub(super) longest_wait: Option<Duration>,
    pub(super) last_crash: Option<SystemTime>,
}

impl Survey {
    pub(super) fn of(dir: &Path, walk: WalkOptions) -> Result<Survey, Failure> {
        let mut survey = Survey::of_locks(&tenure::list(dir, &walk.for_list())?);
        if server::scheme(dir)?.is_none() {
            let mut past = Past::default();
            let targets = targets_with_history(dir, walk);
            for target in &targets {
                // A history that is removed meanwhile is empty.
                tenure::history(target)?.iter().for_each(|tenure| past.add(tenure));
            }
            survey.past = Some(past).filter(|_| !targets.is_empty());
        }
        Ok(survey)
    }

    fn of_locks(locks: &[Status]) -> Survey {
        let mut survey = Survey { waiters: Some(0), ..Survey::default() };
        for state in [State::Held, State::Stale, State::Unknown] {
            survey.states.insert(state.as_str(), 0);
        }
        for lock in locks {
            *survey.states.entry(lock.state.as_str()).or_default() += 1;
            let waiters = lock.waiters.and_then(|waiters| u64::try_from(waiters).ok());
            survey.waiters = survey.waiters.zip(waiters).map(|(sum, waiters)| sum + waiters);
            if lock.state != State::Held {
                continue;
            }
            let holder = lock.holder.as_ref();
            survey.shared += u64::from(holder.is_none());
            survey.slots += u64::from(holder.is_some_and(|holder| holder.slots.is_some()));
            survey.longest_hold = survey.longest_hold.max(holder.and_then(Holder::age));
        }
        survey
    }
}

impl Past {
    fn add(&mut self, tenure: &PastTenure) {
        let kind = if tenure.ended.was_held() { &mut self.tenures } else { &mut self.waits };
        *kind.entry(tenure.ended.as_str()).or_default() += 1;
        self.longest_wait = self.longest_wait.max(tenure.waited);
        if tenure.ended == Ending::Crashed {
            self.last_crash = self.last_crash.max(Some(tenure.until));
        }
    }
}

/// Returns the targets in a folder whose holders keep a history. A folder that cannot be read has none.
fn targets_with_history(dir: &Path, walk: WalkOptions) -> BTreeSet<PathBuf> {
    let mut targets = BTreeSet::new();
    walk_folders(dir, walk, &mut |folder| {
        let names = sys::folder_entries(&folder.join(".tenure")).unwrap_or_default();
        targets.extend(names.iter().filter_map(|entry| target_of_history(&entry.name)).map(|name| folder.join(name)));
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap_or_else(|never| match never {});
    targets
}

/// Returns the target `X` of a history's name `X.lock.1000.history`.
fn target_of_history(name: &OsStr) -> Option<&OsStr> {
    let name = Path::new(name);
    let user = (name.extension()? == "history").then(|| Path::new(name.file_stem().unwrap_or_default()))?;
    let is_number = |text: &OsStr| text.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let lock = user.extension().filter(|user| is_number(user)).and_then(|_| user.file_stem()).map(Path::new)?;
    (lock.extension()? == "lock").then(|| lock.file_stem()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_names_its_target() {
        for (name, target) in [
            ("a.lock.1000.history", Some("a")),
            ("main.jsonl.lock.0.history", Some("main.jsonl")),
            ("a.b.lock.7.history", Some("a.b")),
            ("a.lock", None),
            ("a.lock.history", None),
            ("a.lock.x.history", None),
            ("a.1000.history", None),
            (".history", None),
        ] {
            assert_eq!(target_of_history(OsStr::new(name)), target.map(OsStr::new), "{name}");
        }
    }
}
