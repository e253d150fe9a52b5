//! The lock file as a file of its own, where hard links do not exist, are not the same inode, or could not be removed
//! by this user.

use std::io;
use std::sync::Arc;

use super::visible::{CopyFile, LockFile};
use crate::file::paths::LockPaths;
use crate::file::prepare::prepare;
use crate::model::error::{Advice, ErrorKind, Result};
use crate::model::options::Options;
use crate::record::Record;
use crate::sys;

/// Returns whether `link(2)` failed because the file system has no hard links.
pub(super) fn no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
        || error.raw_os_error().is_some_and(sys::means_no_links)
}

/// Publishes the lock file as a file of its own, complete and locked before it gets its name. Returns `None` if the
/// name is taken.
pub(super) fn publish_copy(paths: &LockPaths, record: &Record, options: &Options) -> Result<Option<LockFile>> {
    let lock_file = make_copy(paths, record, options)?;
    match paths.dir.rename_new(&paths.new, &paths.lock) {
        Ok(()) => Ok(Some(lock_file)),
        Err(error) => {
            let _ = paths.dir.unlink(&paths.new);
            // NotFound means that `.tenure` was removed meanwhile.
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) {
                return Ok(None);
            }
            if error.kind() == io::ErrorKind::CrossesDevices {
                return Err(paths.lock_error("cannot be created", error));
            }
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            let detail = "cannot be created: this file system has neither hard links nor exclusive renames";
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

/// Keeps other programs from removing a copy that has just become this tenure's lock file, where the system can. Returns
/// `false` if the name is another file's by now.
pub(super) fn keep_name(paths: &LockPaths, lock_file: &LockFile) -> Result<bool> {
    let LockFile::Copy(copy) = lock_file else { return Ok(true) };
    match paths.dir.keep_name(&paths.lock, &copy.file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(paths.lock_error("cannot be kept open", error)),
    }
}

/// Creates the copy under the name `new`. Where only owners may remove files, each user has its own `new`, so a half-made copy blocks no
/// other user.
pub(super) fn make_copy(paths: &LockPaths, record: &Record, options: &Options) -> Result<LockFile> {
    let file = prepare(paths, options, record)?;
    match file.ident() {
        Ok(stat) => Ok(LockFile::Copy(Arc::new(CopyFile { file, id: stat.id }))),
        Err(error) => {
            let _ = paths.dir.unlink(&paths.new);
            Err(paths.lock_error("cannot be created", error))
        }
    }
}
