//! The current holder, for an error that names it.

use super::examine::{examine, style};
use super::view::open_anchor;
use crate::file::lock_file;
use crate::file::paths::LockPaths;
use crate::model::holder::Holder;
use crate::model::options::{Options, Style};
use crate::process::Liveness;
use crate::record::io::read_stable;
use crate::record::{Content, Record, RecordState};

/// Who holds now, for an error that says so.
///
/// The kernel's table tells more, but to read it stops every `flock(2)` of the machine meanwhile. So the record is asked
/// first, and the table only where it names no native that holds and lives.
pub(crate) fn current_holder(paths: &LockPaths) -> Option<Holder> {
    if let Some(record) = &current_record(paths)
        && record.native.as_ref().is_some_and(|native| native.state == RecordState::Held)
        && record.identity().is_some_and(|identity| identity.verify().is_alive())
    {
        // We were refused the kernel lock, and it was written under that lock.
        return Some(Holder::from_record(Some(record), Liveness::alive("it has the kernel lock")));
    }
    examine(paths, &Options::default()).ok()?.holder
}

/// The record that stands at the lock file's place, or on the anchor where nothing does. In lock-file style a record
/// without its lock file is of a tenure that has been released, and says nothing of who holds now.
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
