//! The bytes of an anchor by which a waiter shows that it waits, and a suspended tenure that it will come back: locks of the
//! open file (`fcntl(2)`, "Open file description locks").

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The offset of the byte, far behind every record.
pub(crate) const OFFSET: i64 = 1 << 62;
/// The offset of the first numbered byte, before the waiters' and far behind every record.
const FIRST_NUMBERED: i64 = 1 << 61;

/// Locks the byte for reading (`fcntl(2)`, `F_OFD_SETLK`).
pub(crate) fn mark(file: BorrowedFd<'_>) -> io::Result<()> {
    range_lock(file, OFFSET, libc::F_OFD_SETLK, libc::F_RDLCK).map(drop)
}

/// Unlocks the byte (`fcntl(2)`, `F_OFD_SETLK`).
pub(crate) fn unmark(file: BorrowedFd<'_>) -> io::Result<()> {
    range_lock(file, OFFSET, libc::F_OFD_SETLK, libc::F_UNLCK).map(drop)
}

/// Returns whether another open file has locked the byte (`fcntl(2)`, `F_OFD_GETLK`).
pub(crate) fn is_marked(file: BorrowedFd<'_>) -> io::Result<bool> {
    // A lock for writing conflicts with each lock for reading.
    Ok(range_lock(file, OFFSET, libc::F_OFD_GETLK, libc::F_WRLCK)? != libc::F_UNLCK)
}

/// Locks the byte of that number for reading, until the open file is closed (`fcntl(2)`, `F_OFD_SETLK`).
pub(crate) fn mark_numbered(file: BorrowedFd<'_>, number: u64) -> io::Result<()> {
    range_lock(file, offset(number)?, libc::F_OFD_SETLK, libc::F_RDLCK).map(drop)
}

/// Returns whether another open file has locked the byte of that number (`fcntl(2)`, `F_OFD_GETLK`).
pub(crate) fn is_numbered_marked(file: BorrowedFd<'_>, number: u64) -> io::Result<bool> {
    Ok(range_lock(file, offset(number)?, libc::F_OFD_GETLK, libc::F_WRLCK)? != libc::F_UNLCK)
}

fn offset(number: u64) -> io::Result<i64> {
    let number = i64::try_from(number).ok().filter(|number| *number < FIRST_NUMBERED);
    number.map(|number| FIRST_NUMBERED + number).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Makes the call, and returns the kind of lock that it leaves in its argument (`fcntl(2)`).
fn range_lock(file: BorrowedFd<'_>, offset: i64, command: libc::c_int, kind: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: `zeroed` requires a type for which zeros are valid: `flock` is plain data. `l_pid` must be zero here.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = offset;
    range.l_len = 1;
    // SAFETY: these commands of fcntl(2) require an open descriptor, which `file` borrows, and a pointer to one `flock`,
    // which outlives the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut range) } {
        0 => Ok(libc::c_int::from(range.l_type)),
        _ => Err(io::Error::last_os_error()),
    }
}
