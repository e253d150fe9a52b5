//! Files in memory.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Creates an empty file in memory, without a name, which an exec closes (`shm_open(2)`, `SHM_ANON`).
pub(crate) fn create() -> io::Result<OwnedFd> {
    // SAFETY: shm_open(2) takes the constant in place of a name. `from_raw_fd` requires a descriptor that nothing else closes:
    // the successful call has just made it.
    unsafe {
        match libc::shm_open(libc::SHM_ANON, libc::O_RDWR, 0o600) {
            fd if fd < 0 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}
