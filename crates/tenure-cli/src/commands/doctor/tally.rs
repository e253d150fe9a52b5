//! The memory that the processes of a stress run share: the witness and the counters.
//!
//! The witness is one word of memory: the number of the holder. It is swapped after an acquire and compared before a
//! release. Together with the time of the last release it detects every overlap, independently of what the lock is made of:
//! it uses no file and no kernel lock. A process that is killed while it holds leaves its number there. The doctor records
//! each kill *before* it happens, which distinguishes that case from a double hold.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::sys::SharedWords;

/// The largest number of processes of a run.
pub(crate) const MOST_PROCESSES: usize = 256;

const HOLDER: usize = 0;
const LAST_FENCE: usize = 1;
const RELEASED_AT: usize = 2;
const RELEASED_BY: usize = 3;
const STOP: usize = 4;
const DOUBLE_HOLDS: usize = 5;
const FENCES_THAT_SHRANK: usize = 6;
const UNREPORTED_CRASHES: usize = 7;
const TAKEOVERS: usize = 8;
const LONGEST_WAIT: usize = 9;
const GRANTS: usize = 16;
const KILLED_AT: usize = GRANTS + MOST_PROCESSES;
const KILLED_UP_TO: usize = KILLED_AT + MOST_PROCESSES;
const WAITING_SINCE: usize = KILLED_UP_TO + MOST_PROCESSES;
const HAND_OFFS: usize = WAITING_SINCE + MOST_PROCESSES;
const TAKEOVER_TIMES: usize = HAND_OFFS + Times::WORDS;
pub(crate) const WORDS: usize = TAKEOVER_TIMES + Times::WORDS;

/// Returns the number of an incarnation of a process. It is never 0, unique, and greater than the process's earlier
/// numbers.
pub(crate) fn incarnation(count: u64, index: usize) -> u64 {
    count * MOST_PROCESSES as u64 + index as u64
}

/// Returns the index of the process that an incarnation belongs to.
pub(crate) fn index_of(incarnation: u64) -> usize {
    (incarnation % MOST_PROCESSES as u64) as usize
}

/// The shared memory, with names for its words.
pub(crate) struct Tally<'a>(&'a [AtomicU64]);

/// A grant of the lock.
pub(crate) struct Grant {
    pub(crate) incarnation: u64,
    pub(crate) fence: u64,
    /// The guard reports that the last holder crashed.
    pub(crate) crashed: bool,
    /// When the lock was requested and when it was granted, in nanoseconds.
    pub(crate) asked: u64,
    pub(crate) granted: u64,
}

impl<'a> Tally<'a> {
    pub(crate) fn of(memory: &'a SharedWords) -> Tally<'a> {
        Tally(memory.words())
    }

    fn get(&self, word: usize) -> u64 {
        self.0[word].load(SeqCst)
    }

    fn set(&self, word: usize, value: u64) {
        self.0[word].store(value, SeqCst);
    }

    fn count(&self, word: usize) {
        self.0[word].fetch_add(1, SeqCst);
    }

    /// Returns when an incarnation was killed, if it was.
    fn killed_at(&self, incarnation: u64) -> Option<u64> {
        let index = index_of(incarnation);
        (incarnation <= self.get(KILLED_UP_TO + index)).then(|| self.get(KILLED_AT + index))
    }

    /// Records that an incarnation starts to wait for the lock.
    pub(crate) fn starts_waiting(&self, incarnation: u64, now: u64) {
        self.set(WAITING_SINCE + index_of(incarnation), now);
    }

    /// Records that a process does not wait: it was granted the lock, or restarted.
    pub(crate) fn stops_waiting(&self, index: usize) {
        self.set(WAITING_SINCE + index, 0);
    }

    /// Returns how long a process has been waiting.
    pub(crate) fn waiting_time(&self, index: usize, now: u64) -> Option<Duration> {
        let asked = self.get(WAITING_SINCE + index);
        (asked > 0).then(|| Duration::from_nanos(now.saturating_sub(asked)))
    }

    /// Records a grant.
    pub(crate) fn enter(&self, grant: &Grant) {
        let before = self.0[HOLDER].swap(grant.incarnation, SeqCst);
        if self.0[LAST_FENCE].swap(grant.fence, SeqCst) >= grant.fence {
            self.count(FENCES_THAT_SHRANK);
        }
        let released = self.get(RELEASED_AT);
        let by_another = self.get(RELEASED_BY) != grant.incarnation;
        match before {
            // Another process held and released the lock after this grant.
            0 if by_another && released > grant.granted => self.count(DOUBLE_HOLDS),
            0 if grant.crashed => self.count(TAKEOVERS),
            0 => {
                // Counts only where this process waited, because otherwise the lock was not handed over.
                if by_another && released > grant.asked {
                    self.hand_offs().add(grant.granted.saturating_sub(released));
                }
            }
            _ => match self.killed_at(before) {
                None => self.count(DOUBLE_HOLDS),
                Some(killed) => {
                    self.count(TAKEOVERS);
                    self.takeover_times().add(grant.granted.saturating_sub(killed));
                    if !grant.crashed {
                        self.count(UNREPORTED_CRASHES);
                    }
                }
            },
        }
        self.0[LONGEST_WAIT].fetch_max(grant.granted.saturating_sub(grant.asked), SeqCst);
        self.count(GRANTS + index_of(grant.incarnation));
        self.stops_waiting(index_of(grant.incarnation));
    }

    /// Records that the lock is about to be released.
    pub(crate) fn leave(&self, incarnation: u64, now: u64) {
        if self.0[HOLDER].compare_exchange(incarnation, 0, SeqCst, SeqCst).is_err() {
            self.count(DOUBLE_HOLDS);
        }
        self.set(RELEASED_BY, incarnation);
        self.set(RELEASED_AT, now);
    }

    /// Returns the incarnation that holds now; 0 for none.
    pub(crate) fn holder(&self) -> u64 {
        self.get(HOLDER)
    }

    /// Records a kill. Must be called right before it.
    pub(crate) fn record_kill(&self, incarnation: u64, now: u64) {
        let index = index_of(incarnation);
        self.set(KILLED_AT + index, now);
        self.set(KILLED_UP_TO + index, incarnation);
    }

    pub(crate) fn stop(&self) {
        self.set(STOP, 1);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.get(STOP) != 0
    }

    pub(crate) fn grants_of(&self, index: usize) -> u64 {
        self.get(GRANTS + index)
    }

    pub(crate) fn grants(&self) -> u64 {
        (0..MOST_PROCESSES).map(|index| self.grants_of(index)).sum()
    }

    pub(crate) fn double_holds(&self) -> u64 {
        self.get(DOUBLE_HOLDS)
    }

    pub(crate) fn fences_that_shrank(&self) -> u64 {
        self.get(FENCES_THAT_SHRANK)
    }

    pub(crate) fn unreported_crashes(&self) -> u64 {
        self.get(UNREPORTED_CRASHES)
    }

    pub(crate) fn longest_wait(&self) -> Duration {
        Duration::from_nanos(self.get(LONGEST_WAIT))
    }

    pub(crate) fn takeovers(&self) -> u64 {
        self.get(TAKEOVERS)
    }

    pub(crate) fn hand_offs(&self) -> Times<'a> {
        Times(&self.0[HAND_OFFS..HAND_OFFS + Times::WORDS])
    }

    pub(crate) fn takeover_times(&self) -> Times<'a> {
        Times(&self.0[TAKEOVER_TIMES..TAKEOVER_TIMES + Times::WORDS])
    }
}

/// Times in buckets, 32 to each doubling, so that a percentile is wrong by 3 % at most. The largest time is exact.
pub(crate) struct Times<'a>(&'a [AtomicU64]);

impl Times<'_> {
    const PARTS: u64 = 32;
    const BUCKETS: usize = 60 * Times::PARTS as usize;
    const WORDS: usize = Times::BUCKETS + 1;

    fn bucket(nanoseconds: u64) -> usize {
        if nanoseconds < Times::PARTS {
            return nanoseconds as usize;
        }
        let doubling = nanoseconds.ilog2();
        let part = (nanoseconds >> (doubling - 5)) - Times::PARTS;
        ((u64::from(doubling - 4) * Times::PARTS) + part) as usize
    }

    /// Returns the smallest time of a bucket.
    fn floor(bucket: usize) -> u64 {
        let (row, part) = (bucket as u64 / Times::PARTS, bucket as u64 % Times::PARTS);
        match row {
            0 => part,
            _ => (Times::PARTS + part) << (row - 1),
        }
    }

    fn add(&self, nanoseconds: u64) {
        self.0[Times::bucket(nanoseconds)].fetch_add(1, SeqCst);
        self.0[Times::BUCKETS].fetch_max(nanoseconds, SeqCst);
    }

    fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0[..Times::BUCKETS].iter().enumerate().map(|(at, word)| (Times::floor(at), word.load(SeqCst)))
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets().map(|(_, count)| count).sum()
    }

    pub(crate) fn max(&self) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.0[Times::BUCKETS].load(SeqCst)))
    }

    /// Returns the time that this percentage of the times does not exceed.
    pub(crate) fn percentile(&self, percent: u64) -> Option<Duration> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (floor, count) in self.buckets() {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_nanos(floor));
            }
        }
        None
    }

    /// Returns the number of times in each doubling, with the shortest time of the doubling, from the first doubling that
    /// has any to the last.
    pub(crate) fn doublings(&self) -> Vec<(Duration, u64)> {
        let mut rows = vec![0; 64];
        for (floor, count) in self.buckets() {
            rows[floor.max(1).ilog2() as usize] += count;
        }
        let Some(first) = rows.iter().position(|&count| count > 0) else { return Vec::new() };
        let last = rows.iter().rposition(|&count| count > 0).unwrap_or(first);
        (first..=last).map(|row| (Duration::from_nanos(1 << row), rows[row])).collect()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_where_they_say() {
        for time in [0, 1, 31, 32, 33, 63, 64, 65, 1000, 1 << 20, (1 << 40) + 12_345, u64::MAX] {
            let bucket = Times::bucket(time);
            assert!(bucket < Times::BUCKETS, "{time}");
            assert!(Times::floor(bucket) <= time && time - Times::floor(bucket) <= time / 32, "{time}");
        }
        assert_eq!(Times::bucket(32), 32);
        assert!((0..Times::BUCKETS).all(|at| Times::bucket(Times::floor(at)) == at));
    }

    #[test]
    fn percentiles_and_the_maximum() {
        let memory = SharedWords::create(WORDS).unwrap();
        let times = Tally::of(&memory).hand_offs();
        assert_eq!((times.percentile(50), times.max(), times.doublings()), (None, None, vec![]));
        for time in 1..=100 {
            times.add(time * 1024);
        }
        let close = |found: Option<Duration>, want: u64| {
            let found = found.unwrap().as_nanos() as u64;
            assert!(found <= want && want - found <= want / 32, "{found} for {want}");
        };
        close(times.percentile(50), 50 * 1024);
        close(times.percentile(99), 99 * 1024);
        assert_eq!(times.max(), Some(Duration::from_nanos(102_400)));
        assert_eq!(times.count(), 100);
        let rows = times.doublings();
        assert_eq!(rows.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 37]);
        assert_eq!(rows[0].0, Duration::from_nanos(1024));
    }

    #[test]
    fn an_incarnation_belongs_to_its_process() {
        let last = MOST_PROCESSES - 1;
        assert!(incarnation(1, last) < incarnation(2, last) && incarnation(1, 0) > 0);
        assert_eq!(index_of(incarnation(77, last)), last);
    }

    /// Returns a grant of an incarnation of the first process.
    fn grant(count: u64, fence: u64, crashed: bool) -> Grant {
        Grant { incarnation: incarnation(count, 0), fence, crashed, asked: 0, granted: 1000 }
    }

    #[test]
    fn the_witness_detects_double_holds_and_knows_the_killed() {
        let memory = SharedWords::create(WORDS).unwrap();
        let tally = Tally::of(&memory);
        tally.enter(&grant(1, 10, false));
        tally.leave(incarnation(1, 0), 400);
        tally.enter(&grant(2, 11, false));
        assert_eq!((tally.double_holds(), tally.hand_offs().max()), (0, Some(Duration::from_nanos(600))));

        tally.enter(&grant(3, 12, false));
        assert_eq!(tally.double_holds(), 1, "2 holds");
        tally.leave(incarnation(2, 0), 500);
        assert_eq!(tally.double_holds(), 2, "3 was granted while 2 held");
        tally.leave(incarnation(3, 0), 500);

        tally.record_kill(incarnation(3, 0), 300);
        tally.enter(&grant(3, 13, false));
        tally.enter(&grant(4, 14, true));
        assert_eq!((tally.double_holds(), tally.takeovers(), tally.unreported_crashes()), (2, 1, 0));
        assert_eq!(tally.takeover_times().max(), Some(Duration::from_nanos(700)));
        tally.record_kill(incarnation(4, 0), 300);
        tally.enter(&grant(5, 14, false));
        assert_eq!((tally.unreported_crashes(), tally.fences_that_shrank()), (1, 1));

        tally.leave(incarnation(5, 0), 1001);
        tally.enter(&grant(6, 15, false));
        assert_eq!(tally.double_holds(), 3, "5 released after 6 had been granted");
    }
}
