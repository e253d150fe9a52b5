//! Access lists of folders (`acl(3)`).

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use super::this_bsd::acl_kind::{is_trivial, kind_of};

// The crate `libc` lacks them.
unsafe extern "C" {
    fn acl_get_fd_np(fd: c_int, kind: c_int) -> *mut c_void;
    fn acl_set_fd_np(fd: c_int, acl: *mut c_void, kind: c_int) -> c_int;
    fn acl_free(object: *mut c_void) -> c_int;
}

/// A copy of a folder's access list.
pub(super) struct Acl {
    list: NonNull<c_void>,
    kind: c_int,
}

impl Acl {
    /// Reads the access list of a folder (`acl_get_fd_np(3)`). `None` where it has none beside its mode.
    pub(super) fn read(folder: BorrowedFd<'_>) -> io::Result<Option<Acl>> {
        let Some(kind) = kind_of(folder) else { return Ok(None) };
        // SAFETY: acl_get_fd_np(3) takes an open descriptor, which is borrowed, and a number.
        let list = unsafe { acl_get_fd_np(folder.as_raw_fd(), kind) };
        let Some(list) = NonNull::new(list) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // None; or a file system without lists.
                Some(libc::ENOENT | libc::ENOSYS | libc::EINVAL) => Ok(None),
                Some(code) if code == libc::EOPNOTSUPP || code == libc::ENOTSUP => Ok(None),
                _ => Err(error),
            };
        };
        let acl = Acl { list, kind };
        // SAFETY: `is_trivial` requires a list: this one is, until it is dropped.
        match unsafe { is_trivial(acl.list.as_ptr()) } {
            true => Ok(None),
            false => Ok(Some(acl)),
        }
    }

    /// Gives a folder this access list in place of its own (`acl_set_fd_np(3)`).
    pub(super) fn set(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: acl_set_fd_np(3) requires an open descriptor, which is borrowed, and a list, which `self` has.
        match unsafe { acl_set_fd_np(folder.as_raw_fd(), self.list.as_ptr(), self.kind) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: acl_free(3) requires a list that is used no more: `self` is being dropped, here alone.
        unsafe { acl_free(self.list.as_ptr()) };
    }
}
