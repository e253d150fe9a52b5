//! Renaming and linking with conditions (`renameat2(2)`, `linkat(2)`).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};
use rustix::io::{Errno, retry_on_intr};

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

/// Gives an open file another name, which must be free (`linkat(2)`, `AT_EMPTY_PATH`). A file without a name gets none.
pub(crate) fn link_open(file: BorrowedFd<'_>, folder: BorrowedFd<'_>, to: &CStr) -> io::Result<()> {
    match retry_on_intr(|| linkat(file, c"", folder, to, AtFlags::EMPTY_PATH)) {
        // Before Linux 6.10 this needs `CAP_DAC_READ_SEARCH`; the way by `/proc` does not.
        Err(Errno::NOENT) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            Ok(retry_on_intr(|| linkat(CWD, &*path, folder, to, AtFlags::SYMLINK_FOLLOW))?)
        }
        linked => Ok(linked?),
    }
}

fn rename(folder: BorrowedFd<'_>, from: &CStr, to: &CStr, flags: RenameFlags) -> io::Result<()> {
    Ok(retry_on_intr(|| renameat_with(folder, from, folder, to, flags))?)
}
