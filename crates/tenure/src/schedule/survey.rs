//! A survey of the slots of a target: which are held, and how many their holders allow.

use std::sync::Arc;

use crate::file::paths::LockPaths;
use crate::file::status::{View, examine_after, kernel_numbers};
use crate::model::error::Result;
use crate::model::holder::Holder;
use crate::model::options::Options;
use crate::model::slots::{FoundSlot, has_room};
use crate::model::status::{State, Status};
use crate::process::Known;
use crate::sys;

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
