//! Marks of waiters and of suspended tenures, which these systems cannot have: a lock of a byte (`fcntl(2)`) and a lock of the file (`flock(2)`)
//! exclude each other here (`flock(2)`, "NOTES", of FreeBSD).

use std::io;
use std::os::fd::BorrowedFd;

/// Fails as unsupported.
pub(crate) fn mark(_file: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails as unsupported.
pub(crate) fn unmark(_file: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails as unsupported.
pub(crate) fn is_marked(_file: BorrowedFd<'_>) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails as unsupported.
pub(crate) fn mark_numbered(_file: BorrowedFd<'_>, _number: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails as unsupported.
pub(crate) fn is_numbered_marked(_file: BorrowedFd<'_>, _number: u64) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}
