//! The clock that leases and turns are measured on.

use std::time::Duration;

/// Since this machine's boot, the time in which it was suspended included (`CLOCK_BOOTTIME`). Nobody can set it.
pub(crate) fn since_boot() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Not rustix's: it looks for the vDSO in the auxiliary vector, and follows a pointer there that is gone under Valgrind.
    // SAFETY: `now` is a whole `timespec`, which outlives the call. A kernel without this clock leaves zeros.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
