//! The clock that leases are measured on.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Since this machine's boot, the time in which it was suspended included (`CLOCK_BOOTTIME`). Nobody can set it.
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
