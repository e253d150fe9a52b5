//! Leases, which tell whether another process has a file open (`fcntl(2)`, "Leases").

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::types::{LeaseOutcome, LockKind};

/// Missing in the libc crate for some targets (`fcntl(2)`).
const F_SETSIG: i32 = 10;

/// Asks for a lease, and gives it back at once (`fcntl(2)`, `F_SETLEASE`).
///
/// A shared lease is refused while a process has the file open for writing, an exclusive one while another open file of it
/// exists.
pub(crate) fn lease(file: BorrowedFd<'_>, kind: LockKind) -> LeaseOutcome {
    let kind = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    let fd = file.as_raw_fd();
    // SAFETY: these commands of fcntl(2) require an open descriptor, which `file` borrows, and integers. F_SETSIG comes
    // first, because a break of the lease must not deliver SIGIO, which ends a process by default. SIGURG is ignored by
    // default.
    unsafe {
        if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0 {
            return LeaseOutcome::Unavailable;
        }
        if libc::fcntl(fd, libc::F_SETLEASE, kind) == 0 {
            libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
            return LeaseOutcome::Granted;
        }
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => LeaseOutcome::Refused,
        _ => LeaseOutcome::Unavailable,
    }
}
