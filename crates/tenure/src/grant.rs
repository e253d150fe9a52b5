//! What a grant is made of.

use std::sync::Arc;
use std::time::Instant;

use crate::anchor::Anchor;
use crate::holder::Previous;
use crate::presence::{self, Presence};
use crate::record::Record;
use crate::sys::{File, FileId};

/// The target itself, locked in flock style.
#[derive(Debug)]
pub(crate) struct TargetFile {
    pub(crate) file: File,
    pub(crate) id: FileId,
}

/// What a grant is made of.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) anchor: Option<Arc<Anchor>>,
    pub(crate) target: Option<Arc<TargetFile>>,
    pub(crate) presence: Presence,
    pub(crate) previous: Previous,
    /// `None` for a shared lock and for one without a record.
    pub(crate) record: Option<Record>,
    /// Where the state's text stands in the record.
    pub(crate) state_offset: u64,
    /// The swap names a live foreign program's file: in flock style that is in nobody's way, and must not be forgotten.
    pub(crate) parked: bool,
    /// When its names were looked at.
    pub(crate) seen: Instant,
}

impl Grant {
    /// The record that says what `previous` says: for a grant that nobody was told of.
    pub(crate) fn untold(&self, record: Record) -> Record {
        presence::untold(&self.previous, record)
    }
}
