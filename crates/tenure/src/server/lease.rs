//! The arithmetic of a lease, on a clock that cannot be set and that counts suspension.
//!
//! A server may grant the lock to the next waiter when `ttl` has passed since it received the last renewal. It received the
//! renewal *after* the holder sent it, so counting from the sending errs on the safe side, whatever the network's delay.
//!
//! ```text
//! sent          1/3              2/3     3/4               1
//!  ├─────────────┼────────────────┼───────┼────────────────┤
//!  confirmed     renewed                  lost: check()    the server may
//!                                         fails, `run`     give it away
//!                                         ends its command
//! ```

use std::time::Duration;

use crate::sys;

/// The maximum time of one call, all endpoints together, however long the lease. A server that does not answer is asked
/// again, or another one is.
pub(crate) const CALL: Duration = Duration::from_secs(5);

/// The time that a server gets to answer, however soon the caller's deadline is; and to take a place back after that.
pub(crate) const ANSWER: Duration = Duration::from_secs(1);

/// Returns how long a call may take that is not bound to a lease's end.
pub(crate) fn call_limit(ttl: Duration) -> Duration {
    (ttl / 3).min(CALL)
}

/// A moment on the clock of this machine's boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(Duration);

impl BootTime {
    pub(crate) fn now() -> BootTime {
        BootTime(sys::since_boot())
    }

    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn of_nanos(nanos: u64) -> BootTime {
        BootTime(Duration::from_nanos(nanos))
    }

    pub(crate) fn after(self, wait: Duration) -> BootTime {
        BootTime(self.0.saturating_add(wait))
    }

    /// Returns the time from `now` until this moment; zero once it has passed.
    pub(crate) fn from(self, now: BootTime) -> Duration {
        self.0.saturating_sub(now.0)
    }
}

/// The last confirmed renewal, and for how long it is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) ttl: Duration,
    /// When the last confirmed renewal was *sent*.
    pub(crate) confirmed: BootTime,
}

impl Lease {
    /// Returns when the lease is renewed next.
    pub(crate) fn renew_at(self) -> BootTime {
        self.confirmed.after(self.ttl / 3)
    }

    /// Returns when the holder must stop relying on the lock. The rest of the lease is the time to stop its work.
    pub(crate) fn lost_at(self) -> BootTime {
        self.confirmed.after(self.ttl / 4 * 3)
    }

    /// Returns the earliest moment at which the server may grant the lock to the next waiter.
    pub(crate) fn free_at(self) -> BootTime {
        self.confirmed.after(self.ttl)
    }

    /// Returns how long a renewal that begins `now` may take, all endpoints together: a third of the lease, at most a few
    /// seconds, and never beyond [`lost_at`](Lease::lost_at).
    pub(crate) fn call_limit(self, now: BootTime) -> Duration {
        call_limit(self.ttl).min(self.lost_at().from(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime(Duration::from_millis(millis))
    }

    #[test]
    fn it_is_lost_before_the_server_may_give_it_away() {
        let lease = Lease { ttl: Duration::from_secs(12), confirmed: at(1000) };
        assert_eq!(lease.renew_at(), at(5000));
        assert_eq!(lease.lost_at(), at(10_000));
        assert_eq!(lease.free_at(), at(13_000));
    }

    #[test]
    fn a_call_never_outlasts_the_lease() {
        let lease = Lease { ttl: Duration::from_secs(12), confirmed: at(0) };
        assert_eq!(lease.call_limit(at(4000)), Duration::from_secs(4));
        assert_eq!(lease.call_limit(at(8000)), Duration::from_secs(1));
        assert_eq!(lease.call_limit(at(9000)), Duration::ZERO);
        assert_eq!(lease.call_limit(at(90_000)), Duration::ZERO, "a machine that was suspended");
    }

    #[test]
    fn a_long_lease_does_not_make_a_call_long() {
        let lease = Lease { ttl: Duration::from_secs(24 * 3600), confirmed: at(0) };
        assert_eq!(lease.call_limit(at(4000)), CALL);
        assert_eq!(call_limit(Duration::from_secs(3)), Duration::from_secs(1));
    }

    #[test]
    fn nothing_overflows() {
        let lease = Lease { ttl: Duration::MAX, confirmed: at(1) };
        assert!(lease.renew_at() > at(1) && lease.lost_at() <= lease.free_at());
    }
}
