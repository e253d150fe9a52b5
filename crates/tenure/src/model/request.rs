//! What one acquire asks for.

use crate::model::options::{Options, Style};

/// What one acquire asks for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) options: Options,
    pub(crate) shared: bool,
}

impl Request {
    /// The bare kernel lock on the target: no anchor, no record.
    pub(crate) fn bare(&self) -> bool {
        !self.options.record
    }

    pub(crate) fn flock(&self) -> bool {
        self.options.style == Style::Flock || self.bare()
    }

    /// May a tenure of `other` be passed on to this one as it stands?
    pub(crate) fn same_way(&self, other: &Request) -> bool {
        !self.shared && !other.shared && self.bare() == other.bare() && self.flock() == other.flock()
    }
}
