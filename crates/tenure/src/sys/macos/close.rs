//! Closing many descriptors.

/// Closes the descriptors from `first` to `last`, of which none above `highest` is open (`close(2)`). Async-signal-safe.
///
/// # Safety
///
/// No part of this process may own one of them.
pub(crate) unsafe fn close_range(first: i32, last: i32, highest: i32) {
    for fd in first..=last.min(highest) {
        // SAFETY: close(2) takes a number only; the caller promises that nothing owns the descriptor.
        unsafe { libc::close(fd) };
    }
}
