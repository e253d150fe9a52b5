//! The kinds of access lists that FreeBSD has (`acl(3)`).

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};

/// `ACL_TYPE_ACCESS` and `ACL_TYPE_NFS4` (`sys/acl.h`).
const ACCESS: c_int = 2;
const NFS4: c_int = 4;
/// `_PC_ACL_EXTENDED` and `_PC_ACL_NFS4` (`fpathconf(2)`).
const PC_ACL_EXTENDED: c_int = 59;
const PC_ACL_NFS4: c_int = 64;

// The crate `libc` lacks it.
unsafe extern "C" {
    fn acl_is_trivial_np(list: *mut c_void, trivial: *mut c_int) -> c_int;
}

/// Returns the kind of the folder's access list (`fpathconf(2)`). `None` where its file system has none.
pub(crate) fn kind_of(folder: BorrowedFd<'_>) -> Option<c_int> {
    // SAFETY: fpathconf(2) takes numbers only.
    let has = |name| unsafe { libc::fpathconf(folder.as_raw_fd(), name) } == 1;
    [(PC_ACL_NFS4, NFS4), (PC_ACL_EXTENDED, ACCESS)].into_iter().find(|(name, _)| has(*name)).map(|(_, kind)| kind)
}

/// Returns whether a list says no more than the mode does (`acl_is_trivial_np(3)`).
///
/// # Safety
///
/// The list must be one that `acl_get_fd_np(3)` returned.
pub(crate) unsafe fn is_trivial(list: *mut c_void) -> bool {
    let mut trivial = 0;
    // SAFETY: acl_is_trivial_np(3) requires a list, as the caller promises, and a number to write.
    unsafe { acl_is_trivial_np(list, &raw mut trivial) == 0 && trivial == 1 }
}
