//! The steps of the protocol that macOS allows.

use std::io;

use crate::sys::types::{LockFileKind, ReplaceSteps, TakeoverSteps};

/// Returns the steps of a takeover: APFS exchanges two names (`renameatx_np(2)`, `RENAME_SWAP`).
pub(crate) const fn takeover_steps() -> TakeoverSteps {
    TakeoverSteps::Exchange
}

/// Returns the lock files that macOS allows: a name of a locked inode can be removed (`unlink(2)`).
pub(crate) const fn lock_file_kind() -> LockFileKind {
    LockFileKind::Link
}

/// Returns the steps of a replacement: a rename replaces a file that is open (`rename(2)`).
pub(crate) const fn replace_steps() -> ReplaceSteps {
    ReplaceSteps::One
}

/// Returns whether [`Dir::keep_name`](super::Dir::keep_name) keeps other processes from removing a name.
pub(crate) const fn keeps_names() -> bool {
    false
}

/// Returns whether a name could not be removed or renamed because a process has the file open.
pub(crate) const fn means_in_use(_error: &io::Error) -> bool {
    false
}
