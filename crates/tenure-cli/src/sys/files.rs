//! Files that the command reads and writes on every platform.

// System calls are made in this folder only.
#![allow(clippy::disallowed_methods)]

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::types::FolderEntry;

/// Writes `bytes` to a file, and creates or replaces it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)
}

/// Writes `bytes` to a file in one step: a reader finds the old content or the new, complete.
///
/// The bytes are written to a new file beside it, which is then renamed. Its name ends in `.tmp`, so that programs that
/// collect files by their ending pass over it. A symlink stays, and the file that it leads to is replaced. A device or a
/// pipe is written into.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes));
    }
    let path = &resolve(path)?;
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}.tmp", std::process::id()));
    let new = path.with_file_name(name);
    // A file with this name is what an earlier process with this pid left.
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let written = fs::File::create_new(&new).and_then(|mut file| file.write_all(bytes));
    let replaced = written.and_then(|()| fs::rename(&new, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&new);
    }
    replaced
}

/// Returns the path without symlinks. The file itself may be missing.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        // Links in a circle are another error, so this ends.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(leads_to) => resolve(&path.with_file_name(leads_to)),
            Err(_) => Ok(path.to_owned()),
        },
        resolved => resolved,
    }
}

/// Returns the names in a folder, sorted.
pub(crate) fn folder_entries(folder: &Path) -> io::Result<Vec<FolderEntry>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // The kind of a name that has just gone is unknown.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        found.push(FolderEntry { name: entry.file_name(), is_folder });
    }
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}
