//! The parameters of one acquire.

use crate::model::options::{Options, Style};
use crate::record::RecordStyle;

/// The parameters of one acquire.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) options: Options,
    pub(crate) shared: bool,
}

impl Request {
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
