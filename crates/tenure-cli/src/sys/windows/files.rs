//! Files and folders.

use std::fs;
use std::io;
use std::os::windows::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Returns two numbers that order folders alike in all processes, made from the folder's path.
pub(crate) fn device_and_inode(folder: &Path) -> io::Result<(u64, u64)> {
    let path = fs::canonicalize(folder)?;
    let hash = |seed: u64| {
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        path.as_os_str().as_encoded_bytes().iter().fold(seed, fold)
    };
    Ok((hash(0xcbf2_9ce4_8422_2325), hash(0x6c62_272e_07bb_0142)))
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
