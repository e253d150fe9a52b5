//! The kernel lock: a range of bytes of a file (`LockFileEx`).
//!
//! A lock belongs to the handle and the process that took it. The kernel removes it when the handle is closed, and when
//! the process ends in whatever way. It is mandatory: no other handle can read or write the range.

use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};

use windows_sys::Win32::Storage::FileSystem::{
    LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::nt::is_lock_violation;
use crate::sys::types::LockKind;

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    offset: u64,
    bytes: u64,
}

impl Range {
    /// The kernel lock of an anchor and of a lock file: a byte far behind every record, so that all can read it.
    pub(super) const FAR: Range = Range { offset: 1 << 62, bytes: 1 };
    /// The byte of an anchor by which a waiter shows that it waits.
    pub(super) const MARK: Range = Range { offset: (1 << 62) + 1, bytes: 1 };
    /// The kernel lock of a target: the whole file, as the standard library's `File::lock` locks it.
    pub(super) const WHOLE: Range = Range { offset: 0, bytes: u64::MAX };

    /// Returns the byte of that number, by which a suspended tenure shows that it will come back: before the others, and far
    /// behind every record.
    pub(super) fn numbered(number: u64) -> io::Result<Range> {
        const FIRST: u64 = 1 << 61;
        match number < FIRST {
            true => Ok(Range { offset: FIRST + number, bytes: 1 }),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn overlapped(self) -> OVERLAPPED {
        let mut at = OVERLAPPED::default();
        at.Anonymous.Anonymous.Offset = self.offset as u32;
        at.Anonymous.Anonymous.OffsetHigh = (self.offset >> 32) as u32;
        at
    }
}

/// Locks the range if it is free (`LockFileEx` with `LOCKFILE_FAIL_IMMEDIATELY`). Returns `false` if it is not.
pub(super) fn try_lock(file: BorrowedHandle<'_>, range: Range, kind: LockKind) -> io::Result<bool> {
    match lock_with(file, range, kind, LOCKFILE_FAIL_IMMEDIATELY) {
        Ok(()) => Ok(true),
        Err(error) if is_lock_violation(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Locks the range, waiting in the kernel's queue (`LockFileEx`). No other thread can use the handle meanwhile.
pub(super) fn lock(file: BorrowedHandle<'_>, range: Range, kind: LockKind) -> io::Result<()> {
    lock_with(file, range, kind, 0)
}

fn lock_with(file: BorrowedHandle<'_>, range: Range, kind: LockKind, more: u32) -> io::Result<()> {
    let flags = more | if kind == LockKind::Exclusive { LOCKFILE_EXCLUSIVE_LOCK } else { 0 };
    let (low, high) = (range.bytes as u32, (range.bytes >> 32) as u32);
    let mut at = range.overlapped();
    // SAFETY: LockFileEx requires an open handle, which is borrowed, and a pointer to an `OVERLAPPED` that outlives the
    // request: the handle is synchronous, so the request is over when the call returns.
    match unsafe { LockFileEx(file.as_raw_handle(), flags, 0, low, high, &raw mut at) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Unlocks a range that this handle has locked (`UnlockFileEx`).
pub(super) fn unlock(file: BorrowedHandle<'_>, range: Range) -> io::Result<()> {
    let mut at = range.overlapped();
    let (low, high) = (range.bytes as u32, (range.bytes >> 32) as u32);
    // SAFETY: as for LockFileEx.
    match unsafe { UnlockFileEx(file.as_raw_handle(), 0, low, high, &raw mut at) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
