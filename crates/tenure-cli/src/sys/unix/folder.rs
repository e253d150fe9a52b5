//! Temporary folders.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Creates a folder that only this user may enter. Its parent must exist.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Removes a folder of this process with everything in it. Does not follow links.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    for _ in 0..5 {
        match fs::remove_dir_all(path) {
            // A process that was just killed, or a thread that is still at work, may have added a file meanwhile.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    fs::remove_dir_all(path)
}
