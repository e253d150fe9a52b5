//! Names as a folder compares them.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Returns what is equal for two names exactly if they are one file's in this folder (`fpathconf(2)`,
/// `_PC_CASE_SENSITIVE`).
///
/// Only the letters of ASCII are folded, because two names of *different* files must not be equal here. Two names that are
/// one file's and differ in another letter, or in how an accent is written, count as two: a thread that acquires both
/// waits for itself.
pub(crate) fn name_key<'a>(folder: BorrowedFd<'_>, name: &'a OsStr) -> Cow<'a, OsStr> {
    // SAFETY: fpathconf(2) takes numbers only.
    match unsafe { libc::fpathconf(folder.as_raw_fd(), libc::_PC_CASE_SENSITIVE) } {
        0 => Cow::Owned(OsString::from_vec(name.as_bytes().to_ascii_lowercase())),
        _ => Cow::Borrowed(name),
    }
}
