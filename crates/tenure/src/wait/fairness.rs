//! Turns between processes: who has had the lock for a while lets those in who wait for it.
//!
//! A kernel lock that is let go is free for whoever asks first, and that is the one who runs: it takes the lock again
//! and again while the one that the kernel has just woken is still on its way. That is fast, and starves those who wait.
//! So a process takes what is free without asking for one [`SLICE`]. Then it looks whether anybody waits, lets go, and
//! stays away until another was granted.
//!
//! It only orders. Who waits is in the kernel's queue as ever, and says so by a byte of the anchor that it has locked for
//! reading ("Open file description locks", `fcntl(2)`): nothing is written, and nothing is left behind by the dead. One
//! that waits but does not run (it is stopped) costs the others a pause a turn, and turns grow longer while nobody comes.

use std::time::Duration;

use crate::file::anchor::Anchor;
use crate::file::paths::LockPaths;
use crate::sys;

/// How long a process may take the lock again while others wait: a millisecond.
const SLICE: u32 = 1_000_000 >> UNIT;
/// For how long it stays away at most.
const BACK_OFF: Duration = Duration::from_millis(2);
/// How long between two looks whether another was granted. A timer takes about as long by itself.
const LOOK: Duration = Duration::from_micros(50);
/// A turn is doubled so many times at most. Its bits are those that a turn's beginning lacks.
const MOST_DOUBLINGS: u32 = 0b111;
/// A turn's beginning is counted in so many bits of nanoseconds: about eight microseconds.
const UNIT: u32 = 13;
/// The beginning of a record: its fence and its pid are there.
const HEAD: usize = 512;

/// Where kernel locks are emulated by byte ranges (NFS, SMB), ours would be in the way.
fn has_marks(paths: &LockPaths) -> bool {
    !paths.file_system.shared
}

/// Says that somebody waits for the anchor's kernel lock, until that is let go.
pub(crate) fn announce_waiter(paths: &LockPaths, anchor: &Anchor) {
    if has_marks(paths) {
        anchor.file.mark_waiting();
    }
}

/// What a process knows of its turn. Half a word, because a process may have a hundred thousand of them: the time since
/// boot when it began, but for the lowest bits, which say how many times in a row nobody came. Zero: it began long ago,
/// and is over where anybody waits. The count comes round after ten hours, and whoever asks in just that moment may have
/// one turn more.
#[derive(Clone, Debug, Default)]
pub(crate) struct TimeSlice(u32);

impl TimeSlice {
    fn beginning(alone: u32) -> TimeSlice {
        TimeSlice(now() & !MOST_DOUBLINGS | alone)
    }

    fn alone(&self) -> u32 {
        self.0 & MOST_DOUBLINGS
    }

    /// It was granted after a wait.
    pub(crate) fn begin(&mut self) {
        *self = TimeSlice::beginning(0);
    }

    /// The anchor's kernel lock was free just now: is the turn over, and does anybody wait?
    pub(crate) fn should_yield(&mut self, paths: &LockPaths, anchor: &Anchor) -> bool {
        if !has_marks(paths) || now().wrapping_sub(self.0 & !MOST_DOUBLINGS) < SLICE << self.alone() {
            return false;
        }
        let over = anchor.file.has_waiters();
        if !over {
            *self = TimeSlice::beginning(self.alone());
        }
        over
    }

    /// Stays away, without the lock, until another was granted.
    pub(crate) fn back_off(&mut self, anchor: &Anchor) {
        let head = || {
            let mut head = [0; HEAD];
            anchor.file.read(&mut head).map(|_| head)
        };
        let before = head();
        let end = sys::since_boot() + BACK_OFF;
        while sys::since_boot() < end {
            sys::pause(LOOK);
            // What cannot be read tells nothing: whoever asks next hears of it.
            if let (Ok(before), Ok(after)) = (&before, head())
                && *before != after
            {
                // What it finds free on its return is free for the next of them: it is to wait as they do.
                *self = TimeSlice::default();
                return;
            }
        }
        *self = TimeSlice::beginning((self.alone() + 1).min(MOST_DOUBLINGS));
    }
}

/// How long since boot, in units, as far as they fit.
fn now() -> u32 {
    (sys::since_boot().as_nanos() >> UNIT) as u32
}
