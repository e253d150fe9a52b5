//! The locks of which the slots of a target consist, and the rule that counts their holders.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::model::error::Result;
use crate::model::rank::Rank;
use crate::model::requester::RequesterId;
use crate::model::status::Status;
use crate::model::tenure::Backend;

/// The largest number of slots.
pub(crate) const MOST: u32 = 1000;
/// What the name of a slot's own lock adds to the target's, before the slot's number.
pub(crate) const SLOT_SUFFIX: &str = ".slot-";

/// One of the locks of which the slots of a target consist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Held by the holder of a slot, for its whole tenure.
    Slot(u32),
    /// Held by an acquire that counts the holders and takes a slot.
    Count,
    /// Held by the first of those that wait.
    Next,
}

impl Part {
    /// Returns what the name of this lock adds to the target's.
    pub(crate) fn suffix(self) -> String {
        match self {
            Part::Slot(number) => format!("{SLOT_SUFFIX}{number}"),
            Part::Count => ".slots".to_owned(),
            Part::Next => ".next".to_owned(),
        }
    }
}

/// Returns the number of a slot from what follows [`SLOT_SUFFIX`] in its name. It has one form: without a zero before it.
pub(crate) fn number(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let number = digits.parse().ok().filter(|number| *number < MOST)?;
    (digits.len() == 1 || !digits.starts_with('0')).then_some(number)
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

/// An acquire of a slot on a server: it waits for several locks, one after the other.
pub(crate) trait SlotAcquire: Send + Sync {
    /// Ends the acquire from outside, in whatever step it is.
    fn give_up(&self);

    /// Waits until the acquire has returned, or until `end`. Then it has no lock at the server but the one that it was granted.
    fn await_returned(&self, end: Instant);
}

/// The locks of which the slots of a name on a server consist.
pub(crate) trait SlotServer: fmt::Debug + Send + Sync {
    /// The name of which the slots are.
    fn target(&self) -> &Path;

    /// Returns the place of these slots in the order in which several locks are acquired: that of [`Part::Count`], because the
    /// lock without slots is another.
    fn rank(&self) -> Rank;

    /// As [`Backend::cluster`].
    fn cluster(&self, answer_by: Option<Instant>) -> Result<String>;

    /// Opens one of the locks.
    fn open(&self, part: Part) -> Result<Arc<dyn Backend>>;

    /// Examines each slot below `least` and each other one that the server knows, by one request. The server must answer by
    /// `answer_by`, or within a time of its own.
    fn survey(&self, least: u32, answer_by: Option<Instant>) -> Result<FoundSlots>;

    /// Returns whether `requester` acquired what this process holds of a slot.
    fn is_held_by(&self, number: u32, requester: RequesterId) -> bool;

    /// Returns in how many of the queues one acquire may wait at once.
    fn most_queues(&self) -> usize;

    /// Makes an acquire known that begins, so that the end of the program gives it up.
    fn add_waiting(&self, acquire: Weak<dyn SlotAcquire>);

    /// Returns the status of the lock without slots.
    fn status(&self) -> Result<Status>;
}

/// What a survey at a server found.
#[derive(Debug, Default)]
pub(crate) struct FoundSlots {
    /// In the order of their numbers.
    pub(crate) slots: Vec<FoundSlot>,
    /// Whether an acquire waits for room.
    pub(crate) is_awaited: bool,
}

/// A slot, as a survey at a server found it.
#[derive(Debug)]
pub(crate) struct FoundSlot {
    pub(crate) number: u32,
    pub(crate) status: Status,
    /// Its holder is gone, but may not know that yet: its lease is not over.
    pub(crate) is_relied_on: bool,
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
        for (digits, is) in [("0", 0), ("10", 10), ("999", 999)] {
            assert_eq!(number(digits.as_bytes()), Some(is), "{digits}");
        }
        for digits in ["", "00", "01", "1000", "-1", "+1", "1x"] {
            assert_eq!(number(digits.as_bytes()), None, "{digits}");
        }
        assert_eq!(Part::Slot(10).suffix(), ".slot-10");
    }
}
