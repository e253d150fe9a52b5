//! A survey of the slots of a target: which are held, and how many their holders allow.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file::paths::{ANCHORS, LockPaths, joined, target_of_anchor};
use crate::file::status::{View, examine_after, kernel_numbers};
use crate::model::error::{Error, Result};
use crate::model::holder::Holder;
use crate::model::options::Options;
use crate::model::status::{State, Status};
use crate::process::Known;
use crate::sys::{self, Name};

/// The largest number of slots.
pub(crate) const MOST: u32 = 1000;
const SUFFIX: &str = ".slot-";

/// Returns the target of a slot's own lock.
pub(crate) fn slot_path(target: &Path, number: u32) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(format!("{SUFFIX}{number}"));
    path.into()
}

/// Returns the paths of a slot's lock, in the folder of the target.
pub(crate) fn slot_paths(of: &LockPaths, number: u32) -> Result<LockPaths> {
    of.beside(slot_path(&of.target_path, number))
}

/// Returns the numbers of the slots that have an anchor, in their order.
pub(crate) fn existing(of: &LockPaths) -> Result<BTreeSet<u32>> {
    let failed = |error| Error::io(of.anchor_path(), "the folder of anchors cannot be read", error);
    let dir = match Name::new(ANCHORS.as_ref()).and_then(|name| of.dir.open_dir(&name)) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(error)),
    };
    let prefix = joined(of.target.as_os_str(), SUFFIX);
    let names = dir.entries().map_err(failed)?;
    Ok(names.iter().filter_map(|(name, _)| number(target_of_anchor(name.as_os_str())?, &prefix)).collect())
}

/// Returns the number in a slot's name, as this file writes it: without a zero before it.
fn number(name: &OsStr, prefix: &OsString) -> Option<u32> {
    let digits = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes())?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let number = digits.parse().ok().filter(|number| *number < MOST)?;
    (digits.len() == 1 || !digits.starts_with('0')).then_some(number)
}

/// One slot, as a survey found it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) number: u32,
    pub(crate) status: Status,
}

impl Found {
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.status.state, State::Held | State::Unknown)
    }

    fn limit(&self) -> Option<u32> {
        self.status.holder.as_ref()?.slots
    }
}

/// The state of all slots of a target.
#[derive(Debug, Default)]
pub(crate) struct Survey(pub(crate) Vec<Found>);

impl Survey {
    /// Examines these slots. A holder that releases meanwhile may still be counted.
    pub(crate) fn of<'a>(slots: impl Iterator<Item = (u32, &'a Arc<LockPaths>)>) -> Result<Survey> {
        let (locks, known, options) = (sys::lock_table(), Known::default(), Options::default());
        let examine = |(number, paths): (u32, &Arc<LockPaths>)| {
            let view = View::new(paths, &options, locks.as_ref(), &known, kernel_numbers(paths));
            Ok(Found { number, status: examine_after(view, None)? })
        };
        slots.map(examine).collect::<Result<_>>().map(Survey)
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = &Found> {
        self.0.iter().filter(|found| found.is_held())
    }

    /// Returns whether one more may hold that agrees to `limit`: the smallest number of all counts, its own and those of the
    /// present holders.
    pub(crate) fn has_room(&self, limit: u32) -> bool {
        has_room(self.held().map(Found::limit), limit)
    }

    /// Returns the slots that are free, or whose holder is dead, of those below `limit`.
    pub(crate) fn free(&self, limit: u32) -> impl Iterator<Item = u32> {
        self.0.iter().filter(move |found| found.number < limit && !found.is_held()).map(|found| found.number)
    }

    /// Returns the first holder, for an error that names it.
    pub(crate) fn first_holder(&self) -> Option<Holder> {
        self.held().find_map(|found| found.status.holder.clone())
    }

    /// Returns what distinguishes the tenures of this survey from those of another.
    pub(crate) fn tenures(&self) -> Vec<(u32, Option<u64>)> {
        let fence = |found: &Found| found.status.holder.as_ref().and_then(|holder| holder.fence);
        self.held().map(|found| (found.number, fence(found))).collect()
    }
}

/// Returns whether one more holder fits beside holders with these limits. A holder without one is a lock on the slot's own
/// name, which limits nothing but is counted.
pub(crate) fn has_room(holders: impl Iterator<Item = Option<u32>>, limit: u32) -> bool {
    let (mut count, mut smallest) = (0, limit);
    for holder in holders {
        count += 1;
        smallest = smallest.min(holder.unwrap_or(u32::MAX));
    }
    count < smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_number_of_all_counts() {
        let fits = |holders: &[Option<u32>], limit| has_room(holders.iter().copied(), limit);
        assert!(fits(&[], 1) && fits(&[Some(4); 3], 4) && !fits(&[Some(4); 4], 4));
        // A smaller one waits until fewer hold, and a larger one does not break its promise.
        assert!(!fits(&[Some(4); 2], 2) && fits(&[Some(4)], 2));
        assert!(!fits(&[Some(2), Some(2)], 4) && !fits(&[Some(4), Some(2)], 4) && fits(&[Some(2)], 4));
        assert!(!fits(&[Some(1)], 1000) && !fits(&[Some(1000)], 1));
        assert!(fits(&[None], 2) && !fits(&[None, Some(2)], 4), "a holder of the slot's own name is counted");
    }

    #[test]
    fn a_slots_name_has_one_form() {
        let prefix = OsString::from("a.slot-");
        for (name, is) in [("a.slot-0", Some(0)), ("a.slot-10", Some(10)), ("a.slot-999", Some(999))] {
            assert_eq!(number(OsStr::new(name), &prefix), is, "{name}");
        }
        for name in
            ["a.slot-", "a.slot-00", "a.slot-01", "a.slot-1000", "a.slot--1", "a.slot-+1", "a.slot-1x", "b.slot-1"]
        {
            assert_eq!(number(OsStr::new(name), &prefix), None, "{name}");
        }
    }
}
