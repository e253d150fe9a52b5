//! macOS's clocks.

/// Counts the time in which the machine slept (`clock_gettime(3)`, `CLOCK_MONOTONIC_RAW`): the C library reads it by
/// `mach_continuous_time(3)`.
pub(crate) const SINCE_BOOT: libc::clockid_t = libc::CLOCK_MONOTONIC_RAW;
/// Stops while the machine sleeps (`clock_gettime(3)`, `CLOCK_UPTIME_RAW`).
pub(crate) const MOMENT: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
