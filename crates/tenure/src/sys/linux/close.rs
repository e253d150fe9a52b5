//! Closing many descriptors.

/// Closes the descriptors from `first` to `last`, of which none above `highest` is open (`close_range(2)`, since Linux 5.9).
/// Async-signal-safe.
///
/// # Safety
///
/// No part of this process may own one of them.
pub(crate) unsafe fn close_range(first: i32, last: i32, highest: i32) {
    // SAFETY: close_range(2) and close(2) take numbers only; the caller promises that nothing owns the descriptors.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
            for fd in first..=last.min(highest) {
                libc::close(fd);
            }
        }
    }
}
