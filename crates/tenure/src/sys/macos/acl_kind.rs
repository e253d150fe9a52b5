//! The kind of access list that macOS has (`acl(3)`).

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

/// `ACL_TYPE_EXTENDED` (`acl_get(3)`).
const EXTENDED: c_int = 0x100;

/// Returns the kind of the folder's access list.
pub(crate) fn kind_of(_folder: BorrowedFd<'_>) -> Option<c_int> {
    Some(EXTENDED)
}

/// Returns `false`: a list says what the mode does not (`acl(3)`).
///
/// # Safety
///
/// The list must be one. It is not read.
pub(crate) unsafe fn is_trivial(_list: *mut c_void) -> bool {
    false
}
