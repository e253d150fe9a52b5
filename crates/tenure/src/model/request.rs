//! The parameters of one acquire.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::options::{Options, Style};
use crate::record::RecordStyle;

/// The parameters of one acquire.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) options: Options,
    pub(crate) shared: bool,
    /// The suspended tenure that the acquire resumes.
    pub(crate) resumes: Option<Resumption>,
}

/// The suspended tenure that an acquire resumes.
#[derive(Debug)]
pub(crate) struct Resumption {
    /// The fence of the suspended tenure.
    pub(crate) fence: u64,
    /// The fence of the last record that the acquire found; zero where there was none.
    found: AtomicU64,
}

impl Resumption {
    pub(crate) fn new(fence: u64) -> Resumption {
        Resumption { fence, found: AtomicU64::new(0) }
    }

    /// Notes the fence of the last record before the grant.
    pub(crate) fn note_found(&self, fence: u64) {
        self.found.store(fence, Ordering::Relaxed);
    }

    /// Returns the fence that was noted last; `None` where there was no record.
    pub(crate) fn found(&self) -> Option<u64> {
        Some(self.found.load(Ordering::Relaxed)).filter(|fence| *fence != 0)
    }
}

impl Request {
    pub(crate) fn new(options: Options, shared: bool) -> Request {
        Request { options, shared, resumes: None }
    }

    /// Returns whether the lock is the bare kernel lock on the target, without anchor and record.
    pub(crate) fn bare(&self) -> bool {
        !self.options.record
    }

    /// Returns whether the target itself is locked with `flock(2)`.
    pub(crate) fn flock(&self) -> bool {
        self.options.style == Style::Flock || self.bare()
    }

    /// Returns the style as the record says it.
    pub(crate) fn record_style(&self) -> RecordStyle {
        if self.flock() { RecordStyle::Flock } else { RecordStyle::LockFile }
    }

    /// Returns whether a tenure of `other` can be passed on to this request without a change to its files.
    pub(crate) fn same_way(&self, other: &Request) -> bool {
        !self.shared && !other.shared && self.bare() == other.bare() && self.flock() == other.flock()
    }
}
