//! The counters of the hot round: numbers in memory that all its processes map, and that outlive a killed process.
//!
//! The numbers of a target are read and written one after another, as by a program that relies on its lock: two holders
//! at once lose a count, or see a fence decrease. The numbers of a worker belong to it alone.

use std::fs::OpenOptions;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One cache line for each, and its neighbour's.
const STRIDE: usize = 16;
/// The number of lines: targets first, then workers.
const LINES: usize = 128;
pub const TARGETS: usize = 16;
/// The number of holders that a worker of the round with slots may have inside.
pub const SEATS: usize = 4;
/// The words of a target's line in the round with slots, after its count, its fence and its acknowledged grants: the fence of
/// a holder that has not left, and the largest that was released.
const OPEN: usize = 3;
const RELEASED: usize = 4;
/// The first word of a worker's line for its seats.
const INSIDE: usize = 12;

pub struct Board(NonNull<AtomicU64>);

/// The counts of a worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub grants: u64,
    pub takeovers: u64,
    /// Another process had the witness's byte.
    pub doubles: u64,
    /// Another thread of this process was inside.
    pub double_threads: u64,
    pub fences_down: u64,
    pub busy: u64,
    pub errors: u64,
    /// More were inside than one of them agreed to.
    pub too_many: u64,
    /// A crash of this slot's last holder was not reported.
    pub unreported: u64,
    /// A holder that had released was reported as crashed.
    pub false_reports: u64,
}

/// A holder of a slot, as it says so itself.
#[derive(Clone, Copy, Debug)]
pub struct Inside {
    /// How many slots it asked for.
    pub slots: u32,
    pub slot: u32,
    /// When its lease is over, in milliseconds.
    pub until: Option<Duration>,
}

impl Board {
    /// The number of workers: the last line belongs to the driver.
    pub const WORKERS: usize = 64;

    pub fn create(path: &Path) -> Board {
        std::fs::write(path, vec![0; LINES * STRIDE * 8]).unwrap();
        Board::open(path)
    }

    pub fn open(path: &Path) -> Board {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (protection, flags) =
            (rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE, rustix::mm::MapFlags::SHARED);
        // SAFETY: a new mapping of a file that is long enough and never truncated; it stays to the process's end.
        let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), LINES * STRIDE * 8, protection, flags, &file, 0) };
        Board(NonNull::new(at.unwrap().cast()).unwrap())
    }

    fn word(&self, line: usize, at: usize) -> &AtomicU64 {
        assert!(line < LINES && at < STRIDE);
        // SAFETY: within the mapping, aligned, and only ever used as an atomic.
        unsafe { self.0.add(line * STRIDE + at).as_ref() }
    }

    /// Does a holder's work: increments the target's count, and sets its fence to `fence`. Returns `false` if the fence
    /// decreases.
    pub fn enter(&self, target: usize, fence: u64) -> bool {
        let (count, last) = (self.word(target, 0), self.word(target, 1));
        count.store(count.load(Ordering::Acquire) + 1, Ordering::Release);
        let grew = last.load(Ordering::Acquire) < fence;
        last.store(fence, Ordering::Release);
        grew
    }

    pub fn count(&self, target: usize) -> u64 {
        self.word(target, 0).load(Ordering::Acquire)
    }

    pub fn add(&self, worker: usize, which: usize, target: usize) {
        self.word(TARGETS + worker, which).fetch_add(1, Ordering::Relaxed);
        if which == GRANTS {
            self.word(target, 2).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the number of grants of a target that their holders have acknowledged.
    pub fn acknowledged(&self, target: usize) -> u64 {
        self.word(target, 2).load(Ordering::Acquire)
    }

    pub fn counts(&self, worker: usize) -> Counts {
        let word = |which| self.word(TARGETS + worker, which).load(Ordering::Acquire);
        Counts {
            grants: word(GRANTS),
            takeovers: word(TAKEOVERS),
            doubles: word(DOUBLES),
            double_threads: word(DOUBLE_THREADS),
            fences_down: word(FENCES_DOWN),
            busy: word(BUSY),
            errors: word(ERRORS),
            too_many: word(TOO_MANY),
            unreported: word(UNREPORTED),
            false_reports: word(FALSE_REPORTS),
        }
    }

    /// Returns the holder in this seat of a worker.
    pub fn inside(&self, worker: usize, seat: usize) -> Option<Inside> {
        let word = self.word(TARGETS + worker, INSIDE + seat).load(Ordering::Acquire);
        let [slots, slot, ..] = word.to_le_bytes();
        let until = Some(word >> 16).filter(|until| *until > 0).map(Duration::from_millis);
        (slots > 0).then(|| Inside { slots: slots.into(), slot: slot.into(), until })
    }

    pub fn set_inside(&self, worker: usize, seat: usize, inside: Option<Inside>) {
        let word = inside.map_or(0, |Inside { slots, slot, until }| {
            let until = until.map_or(0, |until| until.as_millis() as u64);
            until << 16 | u64::from(slot) << 8 | u64::from(slots)
        });
        self.word(TARGETS + worker, INSIDE + seat).store(word, Ordering::Release);
    }

    /// Returns the fence of the holder that entered a slot and has not left, dead or alive; 0 without one.
    pub fn open_fence(&self, slot: usize) -> u64 {
        self.word(slot, OPEN).load(Ordering::Acquire)
    }

    pub fn set_open(&self, slot: usize, fence: u64) {
        self.word(slot, OPEN).store(fence, Ordering::Release);
    }

    /// Returns the largest fence of a slot whose holder has released.
    pub fn released(&self, slot: usize) -> u64 {
        self.word(slot, RELEASED).load(Ordering::Acquire)
    }

    pub fn set_released(&self, slot: usize, fence: u64) {
        self.word(slot, RELEASED).fetch_max(fence, Ordering::AcqRel);
    }

    /// Asks all workers to end after one more grant.
    pub fn say_last(&self) {
        self.word(LINES - 1, 0).store(1, Ordering::Release);
    }

    pub fn is_last(&self) -> bool {
        self.word(LINES - 1, 0).load(Ordering::Acquire) == 1
    }
}

pub const GRANTS: usize = 0;
pub const TAKEOVERS: usize = 1;
pub const DOUBLES: usize = 2;
pub const DOUBLE_THREADS: usize = 3;
pub const FENCES_DOWN: usize = 4;
pub const BUSY: usize = 5;
pub const ERRORS: usize = 6;
pub const TOO_MANY: usize = 7;
pub const UNREPORTED: usize = 8;
pub const FALSE_REPORTS: usize = 9;

// SAFETY: all shared data are atomics.
unsafe impl Sync for Board {}
