//! The standard library's types that threads share, in one place, so that other crates can replace them: `crates/tenure-loom`
//! compiles the concurrent parts with loom's types, `crates/tenure-sim` the whole library with those of its coroutines.

pub(crate) use std::sync::PoisonError;
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

// For the table of a signal's handler.
#[cfg(any(target_os = "freebsd", target_os = "linux", target_os = "macos"))]
pub(crate) use std::thread::yield_now;

/// Waits once, for a notification or for `time`. Without a reason it may return early: the caller does without a wait as
/// long as `time`.
pub(crate) fn linger<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
    condvar.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
}
