//! FreeBSD's clocks.

/// Stops during suspension (`clock_gettime(2)`, `CLOCK_MONOTONIC`): FreeBSD has no clock that counts it and that no user can
/// set.
pub(crate) const SINCE_BOOT: libc::clockid_t = libc::CLOCK_MONOTONIC;
/// Stops during suspension (`clock_gettime(2)`, `CLOCK_MONOTONIC`).
pub(crate) const MOMENT: libc::clockid_t = libc::CLOCK_MONOTONIC;
