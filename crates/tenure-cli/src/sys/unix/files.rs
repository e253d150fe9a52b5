//! Metadata of files: identity, and the times by which reads and changes are noticed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::Timespec;
use rustix::fs::{AtFlags, CWD, Timestamps, UTIME_OMIT};

/// Returns the number of the file system that a folder is on.
pub(crate) fn device(folder: &Path) -> io::Result<u64> {
    Ok(fs::metadata(folder)?.dev())
}

/// The time of the last read of a file: seconds and nanoseconds.
pub(crate) type AccessTime = (i64, i64);

/// Makes the access time of a lock file a little older than its text, so that the next read updates it (with `relatime`
/// too).
///
/// Returns the new access time, and whether the text was read since it was written. Returns `None` where there is no such
/// file or it belongs to another user.
pub(crate) fn age_access_time(file: &Path) -> Option<(AccessTime, bool)> {
    const OLDER: i64 = 2;
    let found = fs::symlink_metadata(file).ok()?;
    let (accessed, modified) = ((found.atime(), found.atime_nsec()), (found.mtime(), found.mtime_nsec()));
    // The library's own reads leave no access time. A new file has the access time of its creation.
    let created = found.created().ok().and_then(|created| created.duration_since(std::time::UNIX_EPOCH).ok());
    let created =
        created.and_then(|created| Some((i64::try_from(created.as_secs()).ok()?, i64::from(created.subsec_nanos()))));
    let was_read = accessed >= modified && created != Some(accessed);
    let times = Timestamps {
        last_access: Timespec { tv_sec: found.mtime() - OLDER, tv_nsec: 0 },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    rustix::fs::utimensat(CWD, file, &times, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    // The file system may store the time less precisely.
    Some((access_time(file)?, was_read))
}

/// Returns the access time of a file.
pub(crate) fn access_time(file: &Path) -> Option<AccessTime> {
    let metadata = fs::symlink_metadata(file).ok()?;
    Some((metadata.atime(), metadata.atime_nsec()))
}

/// Inode and change time of a lock file.
pub(crate) type Stamp = (u64, i64, i64);

/// Returns a value that differs whenever the lock file has changed: a cheap check for a new holder.
pub(crate) fn stamp(lock_file: &Path) -> Option<Stamp> {
    let metadata = fs::symlink_metadata(lock_file).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}
