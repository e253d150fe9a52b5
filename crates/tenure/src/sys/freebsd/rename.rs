//! Renaming and removing with conditions (`funlinkat(2)`).

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::renameat;
use rustix::io::retry_on_intr;

// The crate `libc` lacks it.
unsafe extern "C" {
    fn funlinkat(folder: c_int, path: *const c_char, file: c_int, flags: c_int) -> c_int;
}

/// Fails as unsupported: `renameat2(2)` came with FreeBSD 16.
pub(crate) fn exchange(_folder: BorrowedFd<'_>, _one: &CStr, _other: &CStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails as unsupported: `renameat2(2)` came with FreeBSD 16.
pub(crate) fn rename_new(_folder: BorrowedFd<'_>, _from: &CStr, _to: &CStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Renames, replacing the file of the new name (`renameat(2)`).
pub(crate) fn rename_over(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    Ok(retry_on_intr(|| renameat(folder, from, folder, to))?)
}

/// Fails as unsupported: only a privileged process links a file by its descriptor (`linkat(2)`).
pub(crate) fn link_open(_file: BorrowedFd<'_>, _folder: BorrowedFd<'_>, _to: &CStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes a name in one step, if it is the open file's (`funlinkat(2)`). Returns `false`, and removes nothing, if it is
/// another file's (EDEADLK) or missing.
pub(crate) fn unlink_same(folder: BorrowedFd<'_>, name: &CStr, file: BorrowedFd<'_>) -> io::Result<bool> {
    loop {
        // SAFETY: funlinkat(2) requires open descriptors, which are borrowed, and a path that ends in a zero byte, which a
        // `CStr` does.
        if unsafe { funlinkat(folder.as_raw_fd(), name.as_ptr(), file.as_raw_fd(), 0) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EDEADLK | libc::ENOENT) => return Ok(false),
            _ => return Err(error),
        }
    }
}
