//! Names as a folder compares them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

/// Returns what is equal for two names exactly if they are one file's in this folder: the name.
pub(crate) fn name_key<'a>(_folder: BorrowedFd<'_>, name: &'a OsStr) -> Cow<'a, OsStr> {
    Cow::Borrowed(name)
}
