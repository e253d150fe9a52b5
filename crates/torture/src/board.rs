//! The counters of the hot round: numbers in memory that all its processes map, and that outlive a killed process.
//!
//! The numbers of a target are read and written one after another, as by a program that relies on its lock: two holders
//! at once lose a count, or see a fence decrease. The numbers of a worker belong to it alone.

use std::fs::OpenOptions;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// One cache line for each, and its neighbour's.
const STRIDE: usize = 16;
/// The number of lines: targets first, then workers.
const LINES: usize = 128;
pub const TARGETS: usize = 16;

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
}

impl Board {
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
        }
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

// SAFETY: all shared data are atomics.
unsafe impl Sync for Board {}
