//! Files in memory.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;

/// Creates an empty file in memory, without a name (`memfd_create(2)`).
pub(crate) fn create() -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(c"tenure-doctor", MemfdFlags::CLOEXEC)?)
}
