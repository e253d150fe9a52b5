//! Fairness between processes: a process that keeps reacquiring yields to waiters.
//!
//! A released kernel lock goes to the first process that locks it, and that is the running one: it reacquires again
//! and again while the waiter that the kernel has just woken is still on its way. That is fast, and starves waiters. So
//! a process reacquires a free lock without checking for waiters only during a time [`SLICE`]. After that it checks,
//! and where a waiter exists it unlocks and backs off until another process was granted the lock.
//!
//! Fairness only orders. A waiter is in the kernel's queue in any case, and announces itself by a byte of the anchor
//! that it has locked for reading ("Open file description locks", `fcntl(2)`). Nothing is written, and a dead waiter
//! leaves no trace. A waiter that does not run, because it is stopped, costs the others one pause a slice, and
//! slices grow longer while no other process is granted the lock.

use std::time::Duration;

use crate::file::anchor::Anchor;
use crate::file::paths::LockPaths;
use crate::sys;

/// How long a process may reacquire the lock while others wait: a millisecond.
const SLICE: u32 = 1_000_000 >> UNIT_BITS;
/// The maximum time of one back-off.
const BACK_OFF: Duration = Duration::from_millis(2);
/// The pause between two checks whether another process was granted the lock. A timer takes about as long by itself.
const CHECK_INTERVAL: Duration = Duration::from_micros(50);
/// The maximum number of times that a slice is doubled. A slice's start has no bits here.
const MAX_DOUBLINGS: u32 = 0b111;
/// A slice's start is counted in units of so many bits of nanoseconds: about eight microseconds.
const UNIT_BITS: u32 = 13;
/// The length of a record's beginning, which contains the fence and the pid.
const RECORD_HEAD: usize = 512;

/// Returns whether waiters can be marked. Where kernel locks are emulated by byte ranges (NFS, SMB), a mark would
/// conflict with them.
fn supports_marks(paths: &LockPaths) -> bool {
    !paths.file_system.shared
}

/// Announces that this process waits for the anchor's kernel lock, until the mark is removed.
pub(crate) fn announce_waiter(paths: &LockPaths, anchor: &Anchor) {
    if supports_marks(paths) {
        anchor.file.mark_waiting();
    }
}

/// The time slice in which a process may reacquire without yielding.
///
/// It takes half a word, because each attempt copies it: the time since boot when the slice began, but for the lowest bits, which
/// count the back-offs in a row after which no other process was granted the lock. Zero means that the slice began long ago, so it is over where a waiter exists. The count wraps after ten
/// hours; a process that reacquires at just that moment may have one slice more.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeSlice(u32);

impl TimeSlice {
    fn starting_now(doublings: u32) -> TimeSlice {
        TimeSlice(now() & !MAX_DOUBLINGS | doublings)
    }

    fn doublings(&self) -> u32 {
        self.0 & MAX_DOUBLINGS
    }

    /// Starts a slice, after a grant that had to be waited for.
    pub(crate) fn begin(&mut self) {
        *self = TimeSlice::starting_now(0);
    }

    /// Returns whether the slice is over and a waiter exists. The anchor's kernel lock was free just now, and is the
    /// caller's.
    pub(crate) fn should_yield(&mut self, paths: &LockPaths, anchor: &Anchor) -> bool {
        if !supports_marks(paths) || now().wrapping_sub(self.0 & !MAX_DOUBLINGS) < SLICE << self.doublings() {
            return false;
        }
        let has_waiters = anchor.file.has_waiters();
        if !has_waiters {
            *self = TimeSlice::starting_now(self.doublings());
        }
        has_waiters
    }

    /// Waits, without the lock, until another process was granted it.
    pub(crate) fn back_off(&mut self, anchor: &Anchor) {
        *self = match await_grant(anchor, &read_head(anchor), Pace::Steady) {
            // Where the lock is free again, the next waiter is to have it: this process queues as the others do.
            true => TimeSlice::default(),
            false => TimeSlice::starting_now((self.doublings() + 1).min(MAX_DOUBLINGS)),
        };
    }
}

/// The beginning of an anchor's record, which each grant changes. An anchor that cannot be read proves nothing: the next
/// acquire reports that error.
pub(crate) struct Head(Option<[u8; RECORD_HEAD]>);

pub(crate) fn read_head(anchor: &Anchor) -> Head {
    let mut head = [0; RECORD_HEAD];
    Head(anchor.file.read(&mut head).ok().map(|_| head))
}

/// How often the record is read while another process is to be granted the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Steady,
    /// After intervals that are each twice as long as the one before.
    Slowing,
}

/// Waits, without the lock, until another process was granted it since its record began with `before`, for [`BACK_OFF`] at
/// most. Returns whether one was.
pub(crate) fn await_grant(anchor: &Anchor, before: &Head, pace: Pace) -> bool {
    let end = sys::since_boot() + BACK_OFF;
    let mut interval = CHECK_INTERVAL;
    while sys::since_boot() < end {
        sys::pause(interval);
        if pace == Pace::Slowing {
            interval *= 2;
        }
        if let (Some(before), Some(after)) = (&before.0, &read_head(anchor).0)
            && before != after
        {
            return true;
        }
    }
    false
}

/// Returns the time since boot in units, truncated to the bits that fit.
fn now() -> u32 {
    (sys::since_boot().as_nanos() >> UNIT_BITS) as u32
}

#[cfg(all(test, any(target_os = "linux", windows)))]
mod tests {
    use super::*;
    use crate::model::options::Options;
    use crate::sys::LockKind;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_process_whose_slice_is_over_yields_to_a_marked_waiter_only() {
        let dir = tempfile::tempdir().unwrap();
        let paths = LockPaths::open(&dir.path().join("t"), false).unwrap();
        let open = || Anchor::open(&paths, &Options::default()).unwrap();
        let (own, waiter) = (open(), open());
        assert!(own.file.try_lock(LockKind::Exclusive).unwrap());
        assert!(!TimeSlice::default().should_yield(&paths, &own), "no process waits");

        let mut slice = TimeSlice::default();
        announce_waiter(&paths, &waiter);
        assert!(slice.should_yield(&paths, &own));
        announce_waiter(&paths, &own);
        assert!(slice.should_yield(&paths, &waiter), "a mark of its own is no other's, and the other's is seen");
        own.file.unlock().unwrap();
        slice.back_off(&own);
        assert_eq!(slice.doublings(), 1, "no other process was granted the lock");

        waiter.file.unmark();
        assert!(!TimeSlice::default().should_yield(&paths, &own), "the waiter has gone");
        assert!(!TimeSlice::default().should_yield(&paths, &waiter), "an unlock has removed the other's mark");
        announce_waiter(&paths, &waiter);
        // As the kernel does at a process's end.
        drop(waiter);
        assert!(!TimeSlice::default().should_yield(&paths, &own), "the waiter has ended");
    }
}
