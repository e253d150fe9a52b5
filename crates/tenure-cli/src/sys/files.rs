//! Files that the command writes on every platform.

// System calls are made in this folder only.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io;
use std::path::Path;

/// Writes `bytes` to a file, and creates or replaces it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)
}
