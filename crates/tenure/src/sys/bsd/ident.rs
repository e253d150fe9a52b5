//! Files and mounts, identified by `stat(2)`.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, fstat, statat};

use crate::sys::types::FileIdent;
use crate::sys::unix::stat::stat;

/// Identifies the file of that name in a folder, not a link's target; without a name, the open file (`fstatat(2)`,
/// `fstat(2)`).
pub(crate) fn ident(file: BorrowedFd<'_>, name: Option<&CStr>) -> rustix::io::Result<FileIdent> {
    let found = match name {
        Some(name) => statat(file, name, AtFlags::SYMLINK_NOFOLLOW)?,
        None => fstat(file)?,
    };
    Ok(stat(&found).ident())
}

/// Returns the number of the open file's names (`fstat(2)`).
pub(crate) fn links(file: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    Ok(stat(&fstat(file)?).links)
}

/// Identifies the mount that a folder was reached through (`fstat(2)`): each mount has a device number of its own here, one
/// of nullfs too.
pub(crate) fn mount(folder: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(stat(&fstat(folder)?).id.device)
}
