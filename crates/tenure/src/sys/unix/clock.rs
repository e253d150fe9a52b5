//! Clocks (`clock_gettime(2)`). Which of them a Unix has is in `this_unix::clock`.

use std::time::Duration;

use super::this_unix::clock::{MOMENT, SINCE_BOOT};
use crate::sys::types::Moment;

/// Returns the time since the machine booted, including the time in which it was suspended where the system has such a
/// clock (`clock_gettime(2)`, `this_unix::clock`). No user can set this clock.
pub(crate) fn since_boot() -> Duration {
    let now = read(SINCE_BOOT);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Returns the time of day, as the time since 1970 (`clock_gettime(2)`, `CLOCK_REALTIME`). Zero before.
#[inline]
pub(crate) fn since_epoch() -> Duration {
    let now = read(libc::CLOCK_REALTIME);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), now.tv_nsec as u32)
}

/// Returns the present moment (`clock_gettime(2)`, `this_unix::clock`).
#[inline]
pub(crate) fn moment() -> Moment {
    let now = read(MOMENT);
    // Neither is ever negative on this clock.
    Moment((now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64))
}

/// Reads a clock. A kernel without this clock leaves zeros.
///
/// Not by rustix: it looks for the vDSO in the auxiliary vector, and follows a pointer there that is invalid under
/// Valgrind.
#[inline]
fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) requires a pointer to a writable `timespec`: `now` is one.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "sleeps")]
    fn they_advance_as_time_does() {
        let (boot, moment_before) = (since_boot(), moment());
        std::thread::sleep(Duration::from_millis(100));
        let took = since_boot().checked_sub(boot).unwrap();
        let more = moment().since(moment_before);
        for took in [took, more] {
            assert!((Duration::from_millis(80)..Duration::from_secs(600)).contains(&took), "{took:?}");
        }
    }
}
