//! The user, and files with the credentials for a server: certificates, keys, a password file.

#![cfg_attr(
    not(feature = "postgres"),
    allow(dead_code, reason = "where a kind of server is left out, what it alone needs is not used")
)]

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Returns the effective user's number (`geteuid(2)`).
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Reads a whole file, following links, because the caller named it (`open(2)`, `read(2)`).
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

/// Returns whether other users than the owner have rights to the file (`stat(2)`).
pub(crate) fn others_may_read(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}
