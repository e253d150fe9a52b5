//! Looking without touching: who holds, since when, does it live, who waits.
//!
//! Nothing here creates a file, blocks, or disturbs a holder. Whether a kernel lock is held is read from `/proc/locks`;
//! only where that table cannot say (another pid namespace than the first, a file system that numbers its files
//! otherwise there) and a record claims a holder, a shared lock is tried and given back at once.

use std::path::Path;

use crate::file::paths::{LockPaths, lock_path};
use crate::file::status::examine;
use crate::maintenance::scan::{Looked, Scan, Scanned};
use crate::maintenance::walk::{Depth, ListOptions};
use crate::model::error::Result;
use crate::model::options::Options;
use crate::model::status::{State, Status};

/// Returns how the lock of `target` stands.
pub(crate) fn status(target: &Path) -> Result<Status> {
    match LockPaths::look(target)? {
        Some(paths) => examine(&paths, &Options::default()),
        None => Ok(Status::free(target, &lock_path(target))),
    }
}

/// Returns every lock in `dir` that is held or stale.
pub(crate) fn list(dir: &Path, options: ListOptions) -> Result<Vec<Status>> {
    let depth = Depth::of(options.recursive, options.cross_file_systems);
    let all = Scan::new(Options::default()).of(
        dir,
        depth,
        |_| true,
        |_, _| {},
        |_, surveyed| match surveyed {
            Scanned::Found(_, found) => Looked::Done(found),
            Scanned::PossiblyDead(suspect) => Looked::PutOff(suspect),
        },
        |_, _, found| found,
    )?;
    // A file that is no lock, was removed meanwhile, or is closed to this user is not listed.
    Ok(all.into_iter().flatten().filter(|found| found.state != State::Free).collect())
}
