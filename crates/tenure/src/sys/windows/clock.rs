//! Clocks.

use std::time::{Duration, Instant, SystemTime};

use windows_sys::Win32::System::SystemInformation::GetTickCount64;

use crate::sys::ForkLocal;
use crate::sys::types::Moment;

/// Returns the time since the machine booted, including the time in which it slept (`GetTickCount64`). No user can set this
/// clock. It moves in steps of 10 to 16 milliseconds, which is less than any part of a lease.
pub(crate) fn since_boot() -> Duration {
    // SAFETY: GetTickCount64 has no precondition.
    Duration::from_millis(unsafe { GetTickCount64() })
}

/// Returns the time of day, as the time since 1970. Zero before.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Returns the present moment, as the time since the first call on the standard library's clock
/// (`QueryPerformanceCounter`).
pub(crate) fn moment() -> Moment {
    static START: ForkLocal<Instant> = ForkLocal::new();
    Moment(u64::try_from(START.get(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Returns `None`: no call returns the state of the time service.
pub(crate) fn clock_is_steered() -> Option<bool> {
    None
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
