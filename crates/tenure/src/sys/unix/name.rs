//! Names of files, as the kernel takes them.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The longest file name, in bytes (`NAME_MAX`, `limits.h(0p)`).
pub(crate) const NAME_MAX: usize = 255;

/// A file's name relative to a [`Dir`](super::Dir). It may hold a `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(CString);

impl Name {
    /// Converts a name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name with a zero byte.
    pub(crate) fn new(name: &OsStr) -> io::Result<Name> {
        Ok(Name(CString::new(name.as_bytes())?))
    }

    /// Returns the name as the standard library has it.
    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(self.0.as_bytes())
    }

    pub(in crate::sys) fn as_c_str(&self) -> &CStr {
        &self.0
    }

    pub(super) fn of_entry(name: &CStr) -> Name {
        Name(name.to_owned())
    }
}

/// Returns the length of a name in the unit of [`NAME_MAX`].
pub(crate) fn name_len(name: &OsStr) -> usize {
    name.as_bytes().len()
}

/// Returns whether the path ends in `/`, `.` or `..`, as no file's path does (`path_resolution(7)`).
pub(crate) fn ends_without_name(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes.rsplit(|&b| b == b'/').next().unwrap_or_default();
    matches!(last, b"" | b"." | b"..")
}

/// Returns why the system does not take `name` for a file of this name. A Unix takes every name without a zero byte.
pub(crate) fn special_name(_name: &OsStr) -> Option<String> {
    None
}
