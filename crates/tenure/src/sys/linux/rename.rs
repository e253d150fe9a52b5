//! Renaming with conditions (`renameat2(2)`).

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::retry_on_intr;

/// Swaps two names in one step (`renameat2(2)`, `RENAME_EXCHANGE`).
pub(crate) fn exchange(folder: BorrowedFd<'_>, one: &CStr, other: &CStr) -> io::Result<()> {
    rename(folder, one, other, RenameFlags::EXCHANGE)
}

/// Renames to a name that must be free (`renameat2(2)`, `RENAME_NOREPLACE`).
pub(crate) fn rename_new(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    rename(folder, from, to, RenameFlags::NOREPLACE)
}

/// Renames, replacing the file of the new name (`renameat2(2)`).
pub(crate) fn rename_over(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    rename(folder, from, to, RenameFlags::empty())
}

/// Fails as unsupported: no call of Linux removes a name only while it is a given file's (`unlink(2)`).
pub(crate) fn unlink_same(_folder: BorrowedFd<'_>, _name: &CStr, _file: BorrowedFd<'_>) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

fn rename(folder: BorrowedFd<'_>, from: &CStr, to: &CStr, flags: RenameFlags) -> io::Result<()> {
    Ok(retry_on_intr(|| renameat_with(folder, from, folder, to, flags))?)
}
