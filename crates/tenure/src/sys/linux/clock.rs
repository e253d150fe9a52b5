//! Clocks.

use std::mem::MaybeUninit;
use std::time::Duration;

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
