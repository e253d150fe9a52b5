//! The clock on which leases are measured. It counts suspension where the system has such a clock.

use std::time::Duration;

use crate::sys::types::Moment;

/// Returns the time since the machine booted, including the time in which it slept (`clock_gettime(3)`,
/// `CLOCK_MONOTONIC_RAW`). Apple's `CLOCK_UPTIME_RAW`, which the standard library reads, stops meanwhile.
#[cfg(target_vendor = "apple")]
pub(crate) fn since_boot() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(3) requires a pointer to a writable `timespec`: `now` is one.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &raw mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Returns the time since the first call, on the standard library's clock. FreeBSD and its like have no clock that counts
/// suspension and that no user can set.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn since_boot() -> Duration {
    use std::time::Instant;

    use crate::sys::ForkLocal;

    static START: ForkLocal<Instant> = ForkLocal::new();
    START.get(Instant::now).elapsed()
}

/// Returns the time of day, as the time since 1970. Zero before.
pub(crate) fn since_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Returns the present moment. Nothing is measured by it, because no file is locked here.
pub(crate) fn moment() -> Moment {
    Moment::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_advances_as_time_does() {
        let before = since_boot();
        std::thread::sleep(Duration::from_millis(100));
        let took = since_boot().checked_sub(before).unwrap();
        assert!((Duration::from_millis(80)..Duration::from_secs(60)).contains(&took), "{took:?}");
    }
}
