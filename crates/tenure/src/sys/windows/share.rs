//! The means of Windows in place of leases: an open that denies what other programs have the file open for, and so fails.

use std::os::windows::io::BorrowedHandle;

use windows_sys::Wdk::Storage::FileSystem::FILE_OPEN;
use windows_sys::Win32::Foundation::STATUS_SHARING_VIOLATION;
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_GENERIC_READ, FILE_SHARE_DELETE, FILE_SHARE_READ, SYNCHRONIZE,
};

use super::nt::{Open, SHARE_ALL, reopen};
use crate::sys::types::LeaseOutcome;

/// Returns whether a program has the file open for writing: then an open that denies writing fails
/// ("Creating and Opening Files").
///
/// For that moment another program's open for writing fails with a sharing violation; `Dir::open_at` repeats it.
pub(super) fn open_for_writing(file: BorrowedHandle<'_>) -> LeaseOutcome {
    outcome(file, FILE_GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE)
}

/// Returns whether a program has the file open without letting others delete it. Programs that have it open only for
/// reading, and share everything, are not detected.
pub(super) fn open_without_sharing(file: BorrowedHandle<'_>) -> LeaseOutcome {
    match open_for_writing(file) {
        LeaseOutcome::Granted => outcome(file, DELETE | SYNCHRONIZE, SHARE_ALL),
        other => other,
    }
}

fn outcome(file: BorrowedHandle<'_>, access: u32, share: u32) -> LeaseOutcome {
    match reopen(file, Open { access, share, disposition: FILE_OPEN, options: 0, attributes: 0, asynchronous: false }) {
        Ok(_) => LeaseOutcome::Granted,
        Err(status) if status.0 == STATUS_SHARING_VIOLATION => LeaseOutcome::Refused,
        Err(_) => LeaseOutcome::Unavailable,
    }
}
