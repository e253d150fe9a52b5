//! Giving way: a waiter that the kernel granted the lock lets a suspended tenure that is being resumed go first.
//!
//! It unlocks, and queues again. That only orders: a tenure that is stopped keeps no waiter out for longer than
//! [`MAX_TIME`], in which the lock was free and nobody took it. Then the waiter goes first, and its record forgets the
//! tenure's place, so that no later acquire waits for it.

use std::time::Duration;

use crate::file::suspended::Yielding;
use crate::sys::{self, Moment};

/// How long a waiter gives way, with the lock free.
const MAX_TIME: Duration = Duration::from_secs(1);
/// How often it does so at least, because on a loaded machine the other process may have to wait for a processor.
const MIN_TIMES: u32 = 100;

/// How long a helper has given way, with no tenure in between.
#[derive(Debug, Default)]
pub(crate) struct GivingWay {
    /// The last record's fence when the waiter began to give way.
    fence: u64,
    since: Moment,
    times: u32,
}

impl GivingWay {
    /// Returns whether to give way once more. `fence` is that of the last record.
    pub(crate) fn yielding(&mut self, fence: u64) -> Yielding {
        if self.times == 0 || self.fence != fence {
            *self = GivingWay { fence, since: sys::moment(), times: 0 };
        }
        if self.times >= MIN_TIMES && sys::moment().since(self.since) >= MAX_TIME {
            return Yielding::ProceedAndForget;
        }
        self.times += 1;
        Yielding::Yield
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "reads the clock")]
    fn a_waiter_gives_way_for_a_bounded_time() {
        let mut giving_way = GivingWay::default();
        for _ in 0..3 * MIN_TIMES {
            assert_eq!(giving_way.yielding(7), Yielding::Yield, "the time is not over");
        }
        giving_way.since = Moment::default();
        assert_eq!(giving_way.yielding(7), Yielding::ProceedAndForget);
        assert_eq!(giving_way.yielding(8), Yielding::Yield, "another tenure was granted meanwhile");
        giving_way.since = Moment::default();
        assert_eq!(giving_way.yielding(8), Yielding::Yield, "the other process may wait for a processor");
    }
}
