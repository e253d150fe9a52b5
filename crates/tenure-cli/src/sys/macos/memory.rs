//! Files in memory.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd};

/// Creates an empty shared memory object, and removes its name (`shm_open(2)`, `shm_unlink(2)`).
pub(crate) fn create() -> io::Result<OwnedFd> {
    // Names have 31 letters at most.
    let name = CString::new(format!("/tenure-doctor-{}", std::process::id()))?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    // SAFETY: shm_open(2) and shm_unlink(2) require a name that ends in a zero byte, and the mode as a C `int`. `from_raw_fd`
    // requires a descriptor that nothing else closes: the successful call has just made it.
    let file = unsafe {
        let fd = libc::shm_open(name.as_ptr(), flags, 0o600);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::shm_unlink(name.as_ptr());
        OwnedFd::from_raw_fd(fd)
    };
    fcntl_setfd(&file, FdFlags::CLOEXEC)?;
    Ok(file)
}
