//! The steps of the protocol that Windows allows.

use std::io;

use super::nt::is_sharing_violation;
use crate::sys::types::{LockFileKind, ReplaceSteps, TakeoverSteps};

/// Returns the steps of a takeover: no call swaps two names, but a file can be removed by its handle
/// ("FILE_DISPOSITION_INFORMATION_EX").
pub(crate) const fn takeover_steps() -> TakeoverSteps {
    TakeoverSteps::Removal
}

/// Returns the lock files that Windows allows: copies, because a holder keeps its lock file's name
/// ([`Dir::keep_name`](super::Dir::keep_name)), and the anchor must stay free for all to open.
pub(crate) const fn lock_file_kind() -> LockFileKind {
    LockFileKind::Copy
}

/// Returns the steps of a replacement: a rename fails where a program has the replaced file open ("FILE_RENAME_INFORMATION").
pub(crate) const fn replace_steps() -> ReplaceSteps {
    ReplaceSteps::Two
}

/// Returns whether [`Dir::keep_name`](super::Dir::keep_name) keeps other processes from removing a name.
pub(crate) const fn keeps_names() -> bool {
    true
}

/// Returns whether a name could not be removed because a program has the file open without letting others delete it.
pub(crate) fn means_in_use(error: &io::Error) -> bool {
    is_sharing_violation(error)
}
