//! Giving way: a waiter that the kernel granted the lock lets a suspended tenure that is being resumed go first.
//!
//! It unlocks, and queues again. That only orders: a tenure that is stopped keeps the process's waiters out for no longer than
//! [`MAX_TIME`], in which the lock was free and no native took it. Then a waiter goes first, and its record forgets the
//! tenure's place, so that no later acquire waits for it. A waiter for a share, which writes no record, changes the last one, but
//! only if no other process shared the lock in all that time: such a share, and not the tenure, would have kept the lock.

use std::time::Duration;

use crate::file::suspended::Yielding;

/// How long the waiters of one process give way to a tenure, with the lock free.
const MAX_TIME: Duration = Duration::from_secs(1);
/// How often they do so at least, because on a loaded machine the other process may have to wait for a processor.
const MIN_TIMES: u32 = 100;

/// How long the waiters of a queue have given way, with no tenure in between. It outlasts a helper: each acquire with a
/// short timeout, and each share, would give way from the start again. Nothing is allocated before they give way.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivingWay(Option<Box<SinceTenure>>);

/// How long the waiters have given way since the last tenure.
#[derive(Clone, Debug, Default)]
struct SinceTenure {
    /// The last record's fence.
    fence: u64,
    given: Vec<Given>,
}

/// How long the waiters have given way to one suspended tenure.
#[derive(Clone, Debug)]
struct Given {
    /// The suspended tenure's fence.
    to: u64,
    time: Duration,
    times: u32,
    /// Whether the waiter gives way to it now.
    now: bool,
    /// Whether no other process had the lock in all of that time, so that the tenure could have taken it.
    alone: bool,
    /// Whether it was to be forgotten already.
    late: bool,
}

impl Given {
    fn is_over(&self) -> bool {
        self.times >= MIN_TIMES && self.time >= MAX_TIME
    }
}

impl GivingWay {
    /// Returns whether to give way once more. `fence` is that of the last record, and `resumed` has those of the tenures that
    /// would go first. A waiter goes before them only if the time of each is over.
    pub(crate) fn yielding(&mut self, fence: u64, resumed: &[u64]) -> Yielding {
        let since = self.0.get_or_insert_default();
        if since.fence != fence {
            **since = SinceTenure { fence, given: Vec::new() };
        }
        for &to in resumed {
            if since.given.iter().all(|given| given.to != to) {
                since.given.push(Given { to, time: Duration::ZERO, times: 0, now: false, alone: true, late: false });
            }
        }
        let mut yielding = Yielding::ProceedAndForget;
        for given in &mut since.given {
            given.now = resumed.contains(&given.to);
            if given.now && !given.is_over() {
                yielding = Yielding::Yield;
            }
        }
        yielding
    }

    /// As [`yielding`](GivingWay::yielding), for a share. The tenures are forgotten only if all of them could have taken the
    /// lock, and once.
    pub(crate) fn yielding_share(&mut self, fence: u64, resumed: &[u64]) -> Yielding {
        match self.yielding(fence, resumed) {
            Yielding::ProceedAndForget if self.present().any(|given| !given.alone || given.late) => Yielding::Proceed,
            other => other,
        }
    }

    /// Returns the tenures that [`yielding`](GivingWay::yielding) had last.
    fn present(&mut self) -> impl Iterator<Item = &mut Given> {
        self.0.iter_mut().flat_map(|since| &mut since.given).filter(|given| given.now)
    }

    /// Notes that the waiter gave way for so long, to the tenures that [`yielding`](GivingWay::yielding) had last, and whether
    /// no other process had the lock then.
    pub(crate) fn gave(&mut self, time: Duration, alone: bool) {
        for given in self.present() {
            given.time += time;
            given.times += 1;
            given.alone &= alone;
        }
    }

    /// Notes that these tenures were to be forgotten, so that it is not tried again.
    pub(crate) fn forgot(&mut self) {
        self.present().for_each(|given| given.late = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long one turn takes, as a rule.
    const TURN: Duration = Duration::from_millis(2);

    /// Returns how often the waiter gives way, for that long each time.
    fn times(giving_way: &mut GivingWay, fence: u64, resumed: &[u64], each: Duration) -> u32 {
        let mut times = 0;
        while giving_way.yielding(fence, resumed) == Yielding::Yield {
            giving_way.gave(each, true);
            times += 1;
        }
        times
    }

    #[test]
    fn a_waiter_gives_way_for_a_bounded_time() {
        let mut giving_way = GivingWay::default();
        assert_eq!(times(&mut giving_way, 7, &[3], TURN), 500);
        assert_eq!(times(&mut giving_way, 7, &[3], TURN), 0, "the next helper does not begin again");
        assert_eq!(times(&mut giving_way, 8, &[3], MAX_TIME), MIN_TIMES, "another tenure was granted meanwhile");
    }

    #[test]
    fn each_tenure_has_the_whole_time() {
        let mut giving_way = GivingWay::default();
        assert_eq!(times(&mut giving_way, 7, &[3], TURN), 500);
        assert_eq!(times(&mut giving_way, 7, &[3, 4], TURN), 500, "the second began to resume only now");
        assert_eq!(times(&mut giving_way, 7, &[2, 3, 4], TURN), 500);
        assert_eq!(times(&mut giving_way, 7, &[2], TURN), 0);
        assert_eq!(giving_way.yielding(7, &[5, 6]), Yielding::Yield);
        giving_way.gave(TURN, true);
        assert_eq!(times(&mut giving_way, 7, &[5], TURN), 499);
        assert_eq!(times(&mut giving_way, 7, &[6], TURN), 499, "it was not given way to meanwhile");
    }

    #[test]
    fn a_share_forgets_once_and_only_what_could_have_taken_the_lock() {
        for busy in [false, true] {
            let mut giving_way = GivingWay::default();
            let mut turns = 0;
            let over = loop {
                match giving_way.yielding_share(7, &[3]) {
                    Yielding::Yield => giving_way.gave(TURN, !(busy && turns == 250)),
                    over => break over,
                }
                turns += 1;
            };
            assert_eq!(turns, 500);
            assert_eq!(over, if busy { Yielding::Proceed } else { Yielding::ProceedAndForget });
            giving_way.forgot();
            assert_eq!(giving_way.yielding_share(7, &[3]), Yielding::Proceed, "it was tried");
            assert_eq!(giving_way.yielding_share(7, &[3, 4]), Yielding::Yield, "each has its time");
        }
    }
}
