//! A word that a fork sets to zero, which macOS does not have.

use std::sync::atomic::AtomicU64;

/// Returns `None`: no inheritance of `minherit(2)` sets memory to zero. Every fork goes through the C library here, which calls
/// the hook of `pthread_atfork(3)`.
pub(crate) fn map() -> Option<&'static AtomicU64> {
    None
}
