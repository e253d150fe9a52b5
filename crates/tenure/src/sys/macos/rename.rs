//! Renaming with conditions (`renameatx_np(2)`).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::renameat;
use rustix::io::retry_on_intr;

/// Swaps two names in one step (`renameatx_np(2)`, `RENAME_SWAP`).
pub(crate) fn exchange(folder: BorrowedFd<'_>, one: &CStr, other: &CStr) -> io::Result<()> {
    rename(folder, one, other, libc::RENAME_SWAP)
}

/// Renames to a name that must be free (`renameatx_np(2)`, `RENAME_EXCL`).
pub(crate) fn rename_new(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    rename(folder, from, to, libc::RENAME_EXCL)
}

/// Renames, replacing the file of the new name (`renameat(2)`).
pub(crate) fn rename_over(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    Ok(retry_on_intr(|| renameat(folder, from, folder, to))?)
}

/// Fails as unsupported: no call of macOS removes a name only while it is a given file's (`unlink(2)`).
pub(crate) fn unlink_same(_folder: BorrowedFd<'_>, _name: &CStr, _file: BorrowedFd<'_>) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails as unsupported: no call of macOS links a file by its descriptor.
pub(crate) fn link_open(_file: BorrowedFd<'_>, _folder: BorrowedFd<'_>, _to: &CStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn rename(folder: BorrowedFd<'_>, from: &CStr, to: &CStr, flags: libc::c_uint) -> io::Result<()> {
    let folder = folder.as_raw_fd();
    loop {
        // SAFETY: renameatx_np(2) requires paths that end in a zero byte, which a `CStr` does.
        if unsafe { libc::renameatx_np(folder, from.as_ptr(), folder, to.as_ptr(), flags) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // The file system has no such rename.
            Some(libc::ENOTSUP | libc::EOPNOTSUPP) => return Err(io::Error::new(io::ErrorKind::Unsupported, error)),
            _ => return Err(error),
        }
    }
}
