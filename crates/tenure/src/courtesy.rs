//! Turns between processes: who has had the lock for a while lets those in who wait for it.
//!
//! A kernel lock that is let go is free for whoever asks first, and that is the one who runs: it takes the lock again
//! and again while the one that the kernel has just woken is still on its way. That is fast, and starves those who wait.
//! So a process takes what is free without asking for one [`TURN`]. Then it looks whether anybody waits, lets go, and
//! stays away until another was granted.
//!
//! It only orders. Who waits is in the kernel's queue as ever, and says so by a byte of the anchor that it has locked for
//! reading ("Open file description locks", `fcntl(2)`): nothing is written, and nothing is left behind by the dead. One
//! that waits but does not run (it is stopped) costs the others a pause a turn, and turns grow longer while nobody comes.

use std::time::Duration;

use crate::anchor::Anchor;
use crate::place::Place;
use crate::sys;

/// How long a process may take the lock again while others wait: a millisecond.
const TURN: u64 = 1_000_000;
/// For how long it stays away at most.
const AWAY: Duration = Duration::from_millis(2);
/// How long between two looks whether another was granted. A timer takes about as long by itself.
const LOOK: Duration = Duration::from_micros(50);
/// A turn is doubled so many times at most.
const MOST_DOUBLINGS: u8 = 7;
/// The beginning of a record: its fence and its pid are there.
const HEAD: usize = 512;

/// What a process knows of its turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Courtesy {
    /// Nanoseconds since boot. Long ago: it is over where anybody waits.
    began: u64,
    /// How many times in a row nobody came.
    alone: u8,
}

impl Courtesy {
    /// It was granted after a wait.
    pub(crate) fn begin(&mut self) {
        self.began = now();
        self.alone = 0;
    }

    /// The anchor's kernel lock was free just now: is the turn over, and does anybody wait?
    pub(crate) fn is_over(&mut self, place: &Place, anchor: &Anchor) -> bool {
        // Where kernel locks are emulated by byte ranges (NFS, SMB), ours would be in the way.
        if place.file_system.shared {
            return false;
        }
        let now = now();
        if now.saturating_sub(self.began) < TURN << self.alone {
            return false;
        }
        let over = anchor.file.has_waiters();
        if !over {
            self.began = now;
        }
        over
    }

    /// Stays away, without the lock, until another was granted.
    pub(crate) fn stay_away(&mut self, anchor: &Anchor) {
        let head = || {
            let mut head = [0; HEAD];
            anchor.file.read(&mut head).map(|_| head)
        };
        let Ok(before) = head() else { return };
        let end = sys::since_boot() + AWAY;
        loop {
            sys::pause(LOOK);
            // What cannot be read tells nothing: whoever asks next hears of it.
            if head().map_or(true, |head| head != before) {
                // What it finds free on its return is free for the next of them: it is to wait as they do.
                *self = Courtesy::default();
                return;
            }
            if sys::since_boot() >= end {
                break;
            }
        }
        self.began = now();
        self.alone = (self.alone + 1).min(MOST_DOUBLINGS);
    }
}

/// Nanoseconds since boot: enough for 584 years.
fn now() -> u64 {
    u64::try_from(sys::since_boot().as_nanos()).unwrap_or(u64::MAX)
}
