//! Closing many descriptors.

/// Closes the descriptors from `first` to `last` (`close_range(2)`). Async-signal-safe.
///
/// # Safety
///
/// No part of this process may own one of them.
pub(crate) unsafe fn close_range(first: i32, last: i32, _highest: i32) {
    // SAFETY: close_range(2) takes numbers only; the caller promises that nothing owns the descriptors.
    unsafe { libc::close_range(first.unsigned_abs(), last.unsigned_abs(), 0) };
}
