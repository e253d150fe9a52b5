//! Looking without touching: who holds, since when, does it live, who waits.
//!
//! Nothing here creates a file, blocks, or disturbs a holder. Whether a kernel lock is held is read from `/proc/locks`;
//! only where that table cannot say (another pid namespace than the first, a file system that numbers its files
//! otherwise there) and a record claims a holder, a shared lock is tried and given back at once.

use std::path::Path;

use crate::file::paths::{LockPaths, lock_path};
use crate::file::status::examine;
use crate::model::error::Result;
use crate::model::options::Options;
use crate::model::status::{State, Status};
use crate::server;

use crate::maintenance::scan::{Looked, Scan, Scanned};
use crate::maintenance::walk::Depth;
pub use crate::maintenance::walk::ListOptions;

/// How the lock of `target` stands. A target whose folder does not exist is free.
///
/// A lock on the target that was taken with `flock(2)` by a program that is no native is told too (flock style, a
/// foreign holder): it does not keep a native in lock-file style out.
///
/// # Errors
///
/// [`is_obstructed`](crate::Error::is_obstructed) where the lock file's place is taken by something that is no lock;
/// the system's own where it cannot be read.
pub fn status(target: impl AsRef<Path>) -> Result<Status> {
    let target = target.as_ref();
    if let Some(server) = server::open(target)? {
        server.url().lock_name()?;
        return server.status();
    }
    match LockPaths::look(target)? {
        Some(paths) => examine(&paths, &Options::default()),
        None => Ok(Status::free(target, &lock_path(target))),
    }
}

/// Every lock in `dir` that is held or left behind, sorted by path; below it too with `recursive`, without following
/// links or crossing to another file system. A missing folder is an empty answer. What is no lock is passed over. Where
/// there are more than some hundreds, threads of the library's help.
///
/// # Errors
///
/// The system's own, where `dir` itself cannot be read. A folder below that cannot be read is passed over.
pub fn list(dir: impl AsRef<Path>, recursive: bool) -> Result<Vec<Status>> {
    list_with(dir, &ListOptions::default().recursive(recursive))
}

/// As [`list`], and where else to look.
///
/// # Errors
///
/// As there.
pub fn list_with(dir: impl AsRef<Path>, options: &ListOptions) -> Result<Vec<Status>> {
    if let Some(server) = server::open(dir.as_ref())? {
        // Names on a server have no folders: everything that is below is listed.
        let mut found = server.list()?;
        found.sort_by(|one, other| one.target.cmp(&other.target));
        return Ok(found);
    }
    let depth = Depth::of(options.recursive, options.cross_file_systems);
    let all = Scan::new(Options::default()).of(
        dir.as_ref(),
        depth,
        |_| true,
        |_, _| {},
        |_, surveyed| match surveyed {
            Scanned::Found(_, found) => Looked::Done(found),
            Scanned::PossiblyDead(suspect) => Looked::PutOff(suspect),
        },
        |_, _, found| found,
    )?;
    // What is no lock, or went away, or is closed to this user, is nothing to list.
    let mut found: Vec<_> = all.into_iter().flatten().filter(|found| found.state != State::Free).collect();
    found.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(found)
}
