//! The clock, and a pause.

use std::time::{Duration, SystemTime};

/// The time of day.
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Lets others go on with what takes them a few system calls.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
