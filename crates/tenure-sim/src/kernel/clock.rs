//! The simulated clock, and the periods that go with it.

use std::time::{Duration, SystemTime};

use super::world;
use crate::sys::Moment;

/// Unlimited: it is compared with the real clock, by which nothing in a script may be decided.
pub(crate) const NAMES_CHECK_TTL: Duration = Duration::MAX;

/// Zero, so that every attempt to take a kernel lock is explored.
pub(crate) const SETTLED_AGE: Duration = Duration::ZERO;

/// Zero, so that every look at a process is explored.
pub(crate) const LIVES_TTL: Duration = Duration::ZERO;

pub(crate) fn now() -> SystemTime {
    world::with(|world| {
        let clock = world.kernel.clock;
        world.tell(clock);
        world.kernel.time()
    })
}

/// Returns the time of day, as the time since 1970.
pub(crate) fn since_epoch() -> Duration {
    now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Returns always the same moment: time does not pass while a process runs.
pub(crate) fn moment() -> Moment {
    Moment::default()
}

/// Returns the time of the clock of leases. Nothing is measured by it, because no server is simulated.
pub(crate) fn since_boot() -> Duration {
    now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Waits until another process has changed something, or for `time`.
pub(crate) fn pause(time: Duration) {
    world::pause(time.as_micros() as u64);
}
