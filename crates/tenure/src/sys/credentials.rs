//! Files that a caller names or keeps for an engine's connection: certificates, keys, a password file.

#![cfg_attr(not(any(feature = "etcd", feature = "postgres")), allow(dead_code, reason = "no engine, no credentials"))]

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
