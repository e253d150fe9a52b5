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
use crate::model::slots::{self, FoundSlot, Part, SLOT_SUFFIX, has_room};
use crate::model::status::{State, Status};
use crate::process::Known;
use crate::sys::{self, Name};

/// Returns the target of a slot's own lock.
pub(crate) fn slot_path(target: &Path, number: u32) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(Part::Slot(number).suffix());
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
    let prefix = joined(of.target.as_os_str(), SLOT_SUFFIX);
    let names = dir.entries().map_err(failed)?;
    Ok(names.iter().filter_map(|(name, _)| number(target_of_anchor(name.as_os_str())?, &prefix)).collect())
}

/// Returns the number in a slot's name.
fn number(name: &OsStr, prefix: &OsString) -> Option<u32> {
    slots::number(name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes())?)
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

    pub(crate) fn limit(&self) -> Option<u32> {
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

    /// Returns what a survey at a server found. A holder that is gone, and whose lease is not over, may work on.
    pub(crate) fn at_server(found: Vec<FoundSlot>) -> Survey {
        let slot = |FoundSlot { number, mut status, is_relied_on }| {
            if is_relied_on {
                status.state = State::Unknown;
            }
            Found { number, status }
        };
        Survey(found.into_iter().map(slot).collect())
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
