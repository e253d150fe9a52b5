//! The current holder, for an error that names it.

use super::examine::{examine, style};
use super::view::open_anchor;
use crate::file::lock_file;
use crate::file::paths::LockPaths;
use crate::model::error::Error;
use crate::model::holder::Holder;
use crate::model::options::{Options, Style};
use crate::process::Liveness;
use crate::record::io::read_stable;
use crate::record::{Content, Record, RecordState};

/// Returns the current holder, for an error that names it.
///
/// The kernel's lock table shows more, but reading it stops every `flock(2)` of the machine meanwhile. So the record is
/// read first, and the table only where the record names no live native that holds.
pub(crate) fn current_holder(paths: &LockPaths) -> Option<Holder> {
    recorded_holder(paths).or_else(|| examine(paths, &Options::default()).ok()?.holder)
}

/// Returns the live native that the record names as the holder.
fn recorded_holder(paths: &LockPaths) -> Option<Holder> {
    let record = current_record(paths)?;
    let holds = record.native.as_ref().is_some_and(|native| native.state == RecordState::Held)
        && record.identity().is_some_and(|identity| identity.verify().is_alive());
    // The record was written under the kernel lock that this process was refused.
    holds.then(|| Holder::from_record(Some(&record), Liveness::alive("it has the kernel lock")))
}

/// Returns the error of an acquire that found the lock held, with the holder.
pub(crate) fn busy(paths: &LockPaths) -> Error {
    let held_by = |holder| Error::busy_with(&paths.target_path, &paths.lock_path, holder);
    if let Some(holder) = recorded_holder(paths) {
        return held_by(Some(holder));
    }
    match examine(paths, &Options::default()) {
        Ok(found) if found.is_foreign_flock() => Error::busy_by_flock(&paths.target_path, found.holder),
        found => held_by(found.ok().and_then(|found| found.holder)),
    }
}

/// Returns the record in the lock file, or in the anchor where there is no lock file. In lock-file style a record
/// without its lock file is of a released tenure, and says nothing of the current holder.
pub(crate) fn current_record(paths: &LockPaths) -> Option<Record> {
    let content = match lock_file::read_existing(paths).ok()? {
        Some(found) => return as_record(found.content),
        None => open_anchor(paths).ok()?.and_then(|(file, _)| read_stable(&file).ok())?,
    };
    as_record(content).filter(|record| style(record) == Style::Flock)
}

fn as_record(content: Content) -> Option<Record> {
    match content {
        Content::Record(record) => Some(record),
        _ => None,
    }
}
