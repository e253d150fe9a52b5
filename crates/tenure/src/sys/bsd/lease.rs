//! Leases, which these systems lack.

use std::os::fd::BorrowedFd;

use crate::sys::types::{LeaseOutcome, LockKind};

/// Reports that it cannot be told whether another process has the file open.
pub(crate) fn lease(_file: BorrowedFd<'_>, _kind: LockKind) -> LeaseOutcome {
    LeaseOutcome::Unavailable
}
