//! Linux's clocks.

use std::mem::MaybeUninit;

/// Counts suspension (`clock_gettime(2)`, `CLOCK_BOOTTIME`).
pub(crate) const SINCE_BOOT: libc::clockid_t = libc::CLOCK_BOOTTIME;
/// Stops during suspension (`clock_gettime(2)`, `CLOCK_MONOTONIC`).
pub(crate) const MOMENT: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Returns whether a program keeps the clock right, as far as the kernel knows (`adjtimex(2)`). Reading needs no right.
pub(crate) fn clock_is_steered() -> Option<bool> {
    let mut clock = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: adjtimex(2) requires a pointer to a writable `timex`: zeros are a valid one, without a mode to set.
    let state = unsafe { libc::adjtimex(clock.as_mut_ptr()) };
    if state < 0 {
        return None;
    }
    // SAFETY: `assume_init` requires a valid `timex`: zeros are one, and the call has filled it in.
    let clock = unsafe { clock.assume_init() };
    Some(clock.status & libc::STA_UNSYNC == 0)
}
