//! The lock file as a file of its own, where a hard link is not to be had, is no link, or would not be ours to remove.

use std::io;
use std::sync::Arc;

use super::types::LockFile;
use crate::file::anchor::Anchor;
use crate::file::paths::LockPaths;
use crate::file::prepare::prepare;
use crate::model::error::{Advice, ErrorKind, Result};
use crate::model::options::Options;
use crate::record::io::read_stable;
use crate::record::{Content, Record};
use crate::sys::{self, Access, Name};

/// In a sticky folder a link to another user's anchor would not be ours to remove.
pub(crate) fn must_copy(paths: &LockPaths, anchor: &Anchor) -> bool {
    if !paths.is_sticky() {
        return false;
    }
    let user = sys::effective_user();
    user != 0 && user != anchor.owner && user != paths.dir_stat.owner
}

/// What file systems without hard links answer to `link(2)`.
pub(super) fn no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
        || error.raw_os_error().is_some_and(sys::means_no_links)
}

/// Is what was just linked to `name` the anchor itself? On some file systems each name of a file has a number, a kernel lock
/// and a count of links of its own (sshfs): such a link shows nobody, and it goes again. Looked at once in a place.
pub(super) fn is_link(paths: &LockPaths, anchor: &Anchor, name: &Name, record: &Record) -> Result<bool> {
    if paths.links_are_known() {
        return Ok(true);
    }
    let failed = |error| paths.lock_error("cannot be compared with its anchor", error);
    let Some(found) = paths.dir.ident_at(name).map_err(failed)? else { return Ok(true) };
    if found.id == anchor.id {
        paths.set_links_known();
        return Ok(true);
    }
    // Another may have put theirs in its place since.
    if !says(paths, name, record).map_err(failed)? {
        return Ok(true);
    }
    match paths.dir.unlink(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(paths.lock_error("is no link to its anchor, and cannot be removed", error))
        }
        _ => {
            paths.set_copies();
            Ok(false)
        }
    }
}

/// Is this the record of our tenure, by another name?
fn says(paths: &LockPaths, name: &Name, record: &Record) -> io::Result<bool> {
    let file = match paths.dir.open_at(name, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let fence = |record: &Record| record.native.as_ref().and_then(|native| native.fence);
    Ok(match read_stable(&file)? {
        Content::Record(found) => found.pid == record.pid && fence(&found).is_some() && fence(&found) == fence(record),
        _ => false,
    })
}

/// Makes the lock file as a file of its own: complete and locked before it gets its name. `None`: the name is taken.
pub(super) fn publish_copy(paths: &LockPaths, record: &Record, options: &Options) -> Result<Option<LockFile>> {
    let lock_file = make_copy(paths, record, options)?;
    match paths.dir.rename_new(&paths.new, &paths.lock) {
        Ok(()) => Ok(Some(lock_file)),
        Err(error) => {
            let _ = paths.dir.unlink(&paths.new);
            // Not there: `.tenure` was removed under us.
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) {
                return Ok(None);
            }
            if error.kind() == io::ErrorKind::CrossesDevices {
                return Err(paths.lock_error("cannot be made", error));
            }
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            let detail = "cannot be made: this file system has neither hard links nor exclusive renames";
            let error = paths.lock_error(detail, error);
            Err(match denied {
                true => error,
                false => error
                    .with_kind(ErrorKind::Unsupported)
                    .with_hint("flock style needs neither: style(Style::Flock), --flock")
                    .with_advice(Advice::UseFlockStyle),
            })
        }
    }
}

/// Under the name `new`, which is each user's own in a sticky folder: what is half-made there is nobody else's trouble.
pub(super) fn make_copy(paths: &LockPaths, record: &Record, options: &Options) -> Result<LockFile> {
    let file = prepare(paths, options, record)?;
    match file.ident() {
        Ok(stat) => Ok(LockFile::Copy { file: Arc::new(file), id: stat.id }),
        Err(error) => {
            let _ = paths.dir.unlink(&paths.new);
            Err(paths.lock_error("cannot be made", error))
        }
    }
}
