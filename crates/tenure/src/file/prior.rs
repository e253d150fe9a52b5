//! The record as the last holder left it, and how that tenure ended.

use std::sync::Arc;

use crate::file::anchor::Anchor;
use crate::file::crash::{crash_of, is_other_boot};
use crate::file::paths::LockPaths;
use crate::model::error::Result;
use crate::model::holder::{Holder, Previous};
use crate::process::Liveness;
use crate::record::{self, Content, MAX_BYTES, PriorState, Record, RecordState};
use crate::sys::FileIdent;

/// The record as the last holder left it.
#[derive(Debug)]
pub(crate) struct Prior<'a> {
    /// The anchor from which the record was read. It keeps the text.
    anchor: &'a Anchor,
    state: Option<PriorState>,
    /// The anchor from which the record was read, where that was replaced. This process still has its kernel lock.
    pub(crate) replaced: Option<Arc<Anchor>>,
}

impl<'a> Prior<'a> {
    /// Reads the record of `anchor`, whose `stat` is current. Its text is not parsed where this process wrote it.
    #[inline(always)]
    pub(crate) fn read(anchor: &'a Anchor, paths: &LockPaths, stat: &FileIdent) -> Result<Prior<'a>> {
        let size = usize::try_from(stat.size).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        let state = anchor.read_prior(size, scan).map_err(|error| paths.anchor_error("cannot be read", error))?;
        Ok(Prior { anchor, state, replaced: None })
    }

    /// Returns whether the record names suspended tenures.
    #[inline]
    pub(crate) fn names_suspended(&self) -> bool {
        self.state.is_some_and(|state| state.suspended)
    }

    /// Returns the record's text.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.anchor.prior_text()
    }

    /// Returns the record's state. `None` where no native has written one.
    pub(crate) fn state(&self) -> Option<PriorState> {
        self.state
    }

    /// Returns whether the record proves that a native has held this lock in lock-file style. Then the lock file's path
    /// was free, so a file found there later was created by a program that removes it.
    pub(crate) fn was_shown(&self) -> bool {
        self.state.is_some_and(PriorState::was_published)
    }

    pub(crate) fn record(&self) -> Option<Record> {
        parse(&self.bytes())
    }

    /// Returns how the last tenure ended. `crashed`: the holder of a dead native's lock file that was found.
    pub(crate) fn previous(&self, crashed: Option<Holder>) -> Previous {
        if let Some(holder) = crashed {
            return Previous::Crashed(Box::new(holder));
        }
        let Some(why) = self.state.and_then(|state| crash_of(state.style, state.state)) else { return Previous::Clean };
        let record = self.record();
        // A revoked holder may still run.
        let lives = record.as_ref().and_then(Record::identity).is_some_and(|identity| identity.verify().is_alive());
        let liveness =
            if lives { Liveness::alive("it was cut off while it held, and still runs") } else { Liveness::dead(why) };
        Previous::Crashed(Box::new(Holder::from_record(record.as_ref(), liveness)))
    }

    /// Returns how the last tenure ended where the lock file is the anchor's own inode. This process has its kernel
    /// lock, on this machine.
    pub(crate) fn previous_by_link(&self) -> Previous {
        if self.state.is_some_and(|state| state.state == RecordState::Released) {
            return Previous::Clean;
        }
        let record = self.record();
        let other_boot = record.as_ref().is_some_and(is_other_boot);
        let why = if other_boot { "the machine was restarted" } else { "its kernel lock is free" };
        let holder = Holder::from_record(record.as_ref(), Liveness::dead(why));
        Previous::Crashed(Box::new(holder))
    }
}

/// Returns the state of a record that cannot change meanwhile, because this process has its kernel lock.
#[inline]
fn scan(bytes: &[u8], unpadded: &mut usize) -> Option<PriorState> {
    record::parse_prior(bytes, unpadded).or_else(|| state_of(parse(bytes)))
}

#[cold]
fn state_of(record: Option<Record>) -> Option<PriorState> {
    let native = record?.native?;
    Some(PriorState {
        fence: native.fence.unwrap_or(0),
        state: native.state,
        style: native.style,
        suspended: native.suspended.is_some(),
    })
}

fn parse(bytes: &[u8]) -> Option<Record> {
    match record::read(bytes) {
        Content::Record(record) => Some(record),
        _ => None,
    }
}

/// As [`Prior::was_shown`], of a record's text that was read without the kernel lock.
pub(crate) fn proves_use(text: &[u8]) -> bool {
    state_of(parse(text)).is_some_and(PriorState::was_published)
}
