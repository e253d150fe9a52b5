//! Reports the status of locks without touching them.
//!
//! No function here creates a file, blocks, or disturbs a holder. The kernel's table of locks shows whether a kernel lock is
//! held. Where that table is not complete (in a container, or on a file system that numbers its files differently there) and a
//! record names a holder, a shared lock is tried and released at once.

use std::path::Path;

use crate::file::history;
use crate::file::paths::{LockPaths, lock_path};
use crate::file::status::examine;
use crate::maintenance::scan::{Handled, Scan, Scanned};
use crate::maintenance::walk::{Depth, ListOptions};
use crate::model::error::Result;
use crate::model::history::PastTenure;
use crate::model::options::Options;
use crate::model::status::{State, Status};

/// The remedy where the folder's names cannot be looked up.
const MAY_NOT_SEARCH: &str =
    "this user may not search the folder, so it is not known whether the lock is held; ask as a user who may";

/// Returns the status of the lock of `target`.
pub(crate) fn status(target: &Path) -> Result<Status> {
    match LockPaths::look(target)? {
        Some(paths) => {
            let found = examine(&paths, &Options::default())?;
            if found.state == State::Unknown {
                // Where this user may not even search the folder, it is not known whether there is a lock file at all.
                paths.lock_file_id().map_err(|error| error.with_hint(MAY_NOT_SEARCH))?;
            }
            Ok(found)
        }
        None => Ok(Status::free(target, &lock_path(target))),
    }
}

/// Returns the history of the lock of `target`.
pub(crate) fn history(target: &Path) -> Result<Vec<PastTenure>> {
    LockPaths::look(target)?.map_or_else(|| Ok(Vec::new()), |paths| history::read(&paths))
}

/// Returns every lock in `dir` that is held or stale.
pub(crate) fn list(dir: &Path, options: ListOptions) -> Result<Vec<Status>> {
    let depth = Depth::of(options.recursive, options.cross_file_systems);
    let all = Scan::new(Options::default()).run(
        dir,
        depth,
        |_| true,
        |_, _| {},
        |_, scanned| match scanned {
            Scanned::Found(_, found) => Handled::Done(found),
            Scanned::PossiblyDead(lock) => Handled::Deferred(lock),
        },
        |_, _, found| found,
    )?;
    // A file that is no lock, has disappeared or may not be read by this user is not listed.
    Ok(all.into_iter().flatten().filter(|found| found.state != State::Free).collect())
}
