//! Files and folders.

use std::fs;
use std::io;
use std::os::windows::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Returns one number for all folders: another volume below a folder is reached by a link only, and links are not followed.
pub(crate) fn device(_folder: &Path) -> io::Result<u64> {
    Ok(0)
}

/// Access times are not kept by default on Windows.
pub(crate) type AccessTime = ();

pub(crate) fn age_access_time(_file: &Path) -> Option<(AccessTime, bool)> {
    None
}

pub(crate) fn access_time(_file: &Path) -> Option<AccessTime> {
    None
}

/// The times of a lock file's creation and last change, and its size.
pub(crate) type Stamp = (u64, u64, u64);

/// Returns a value that differs whenever the lock file has changed: a cheap check for a new holder.
pub(crate) fn stamp(lock_file: &Path) -> Option<Stamp> {
    let found = fs::symlink_metadata(lock_file).ok()?;
    Some((found.creation_time(), found.last_write_time(), found.file_size()))
}

/// Creates a folder, with the access list that it inherits. Its parent must exist.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// Removes a folder of this process with everything in it. Does not follow links.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    // A process that was just killed keeps its files for a moment.
    for _ in 0..50 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(()) => return Ok(()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    fs::remove_dir_all(path)
}
