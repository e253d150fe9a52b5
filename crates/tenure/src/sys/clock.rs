//! The clock, a pause, and the periods that decide what the library does next.
//!
//! The periods are here because they depend on the clock: `crates/tenure-sim` compiles the library with a simulated clock,
//! which only moves when nothing else can happen, and with periods to match.

use std::time::{Duration, SystemTime};

/// How long a check of the lock's names stays valid. Within this period a release compares only the link count, because a
/// name that is moved aside meanwhile cannot be told from one that is moved right after the check.
pub(crate) const NAMES_CHECK_TTL: Duration = Duration::from_millis(1);

/// The age from which a tenure is not part of a quick series. A process that tries a kernel lock that is passed on quickly
/// may delay the next holder.
pub(crate) const SETTLED_AGE: Duration = Duration::from_millis(100);

/// How long a look at a process stays valid where very many records are examined. A status is as old by the time that it is
/// shown.
pub(crate) const LIVES_TTL: Duration = Duration::from_millis(1);

/// Returns the time of day (`clock_gettime(2)`, `CLOCK_REALTIME`).
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Pauses this thread (`nanosleep(2)`), so that others finish what takes them a few system calls.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
