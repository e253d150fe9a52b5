//! Clocks.

use std::mem::MaybeUninit;
use std::time::Duration;

use crate::sys::types::Moment;

/// Returns the time since the machine booted, including the time in which it was suspended (`clock_gettime(2)`,
/// `CLOCK_BOOTTIME`). No user can set this clock.
pub(crate) fn since_boot() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Not rustix's: it looks for the vDSO in the auxiliary vector, and follows a pointer there that is invalid under
    // Valgrind. SAFETY: clock_gettime(2) requires a pointer to a writable `timespec`: `now` is one. A kernel without
    // this clock leaves zeros.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Returns the time of day, as the time since 1970 (`clock_gettime(2)`, `CLOCK_REALTIME`). Zero before.
#[inline]
pub(crate) fn since_epoch() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as in `since_boot`.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), now.tv_nsec as u32)
}

/// Returns the present moment (`clock_gettime(2)`, `CLOCK_MONOTONIC`).
#[inline]
pub(crate) fn moment() -> Moment {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as in `since_boot`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    // Neither is ever negative on this clock.
    Moment((now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64))
}

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
