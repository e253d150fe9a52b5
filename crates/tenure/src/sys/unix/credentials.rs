//! Files that a caller names or keeps for an engine's connection: certificates, keys, a password file.

#![cfg_attr(
    not(feature = "postgres"),
    allow(dead_code, reason = "where an engine is left out, what it alone needs is not used")
)]

use std::io;
use std::path::Path;

/// A whole file, links followed: it is the caller's own.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// May others than its owner read it?
pub(crate) fn others_may_read(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}
