//! Noticing a fork, and closing in the child what only the parent may hold.
//!
//! A `flock(2)` belongs to the open file, which a fork shares: a child that kept the descriptor would keep the parent's
//! lock after the parent's death. So a table has every descriptor that may carry a lock, and the child closes them
//! before it runs anything else (`pthread_atfork(3)`). A child that was made without the C library (a raw `clone(2)`,
//! `_Fork(3)`) is noticed at its first use of the library, by a word that the kernel sets to zero at a fork
//! (`this_unix::fork_witness`).
//!
//! Nothing here waits for a thread of the parent: at the fork it may have been anywhere, and it does not exist in the
//! child.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::{held_table, this_unix};

const NONE: i32 = -1;
const CHUNK: usize = 256;

/// The number of forks between the first process and this one, plus one.
static GENERATION: AtomicU64 = AtomicU64::new(1);
/// A word that reads as [`WIPED`] after a fork.
static WITNESS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
const WIPED: u64 = 0;
const CLEANING: u64 = 1;
const CLEANED: u64 = 2;
/// The pid of the process that [`GENERATION`] counts. Only a hook compares it.
static OWNER: AtomicI32 = AtomicI32::new(0);
static TABLE: AtomicPtr<Chunk> = AtomicPtr::new(ptr::null_mut());
/// The index of a cell of the first chunk that was free a moment ago. Only a hint.
static FREE: AtomicUsize = AtomicUsize::new(0);
/// The cell that was left last, which is tried first: in a process with thousands of open files a free one is hard to find.
static LEFT: AtomicPtr<AtomicI32> = AtomicPtr::new(ptr::null_mut());
/// Whether a thread has completed [`start`].
static STARTED: AtomicBool = AtomicBool::new(false);

struct Chunk {
    cells: [AtomicI32; CHUNK],
    next: *const Chunk,
}

/// A cell of the table of descriptors that a child closes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell(&'static AtomicI32);

/// Returns the number of this process in its line of forks.
///
/// An object that was made under another generation belongs to the parent: its locks, descriptors and mutexes must not be
/// touched.
#[inline]
pub(crate) fn fork_generation() -> u64 {
    // SAFETY: `as_ref` requires a null or a valid pointer: the word is mapped before its pointer is published, and never
    // unmapped.
    match unsafe { WITNESS.load(Ordering::Acquire).as_ref() } {
        // The pointer is published once the hook is registered.
        Some(witness) if witness.load(Ordering::Acquire) == CLEANED => GENERATION.load(Ordering::Acquire),
        _ => settled_generation(),
    }
}

/// Returns the generation after the preparations, or after the cleaning that a fork requires.
#[cold]
fn settled_generation() -> u64 {
    if !STARTED.load(Ordering::Acquire) {
        start();
    }
    // SAFETY: `as_ref` requires a null or a valid pointer: the word is mapped before its pointer is published, and never
    // unmapped.
    if let Some(witness) = unsafe { WITNESS.load(Ordering::Acquire).as_ref() } {
        while witness.load(Ordering::Acquire) != CLEANED {
            after_fork();
            // Another thread of this process may be closing the descriptors.
            std::hint::spin_loop();
        }
    }
    GENERATION.load(Ordering::Acquire)
}

/// Adds a descriptor that a forked child has to close.
pub(super) fn enter(fd: i32) -> Cell {
    let claim = |cell: &AtomicI32| cell.compare_exchange(NONE, fd, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let left = LEFT.load(Ordering::Acquire);
    // SAFETY: `as_ref` requires a null or a valid pointer: the cells of published chunks are leaked.
    if let Some(left) = unsafe { left.as_ref() }
        && claim(left)
    {
        return Cell(left);
    }
    loop {
        let head = TABLE.load(Ordering::Acquire);
        // SAFETY: `as_ref` requires a null or a valid pointer: published chunks are leaked.
        if let Some(chunk) = unsafe { head.as_ref() } {
            let hint = FREE.load(Ordering::Relaxed) % CHUNK;
            if claim(&chunk.cells[hint]) {
                FREE.store(hint + 1, Ordering::Relaxed);
                return Cell(&chunk.cells[hint]);
            }
        }
        let mut at = head.cast_const();
        // SAFETY: as above; a chunk's `next` was published before it.
        while let Some(chunk) = unsafe { at.as_ref() } {
            if let Some(cell) = chunk.cells.iter().find(|cell| claim(cell)) {
                return Cell(cell);
            }
            at = chunk.next;
        }
        let fresh = Box::into_raw(Box::new(Chunk { cells: [const { AtomicI32::new(NONE) }; CHUNK], next: head }));
        if TABLE.compare_exchange(head, fresh, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: `from_raw` requires a box's pointer that is used nowhere else: it was not published.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

impl Cell {
    /// Removes the descriptor, whose owner is about to close it.
    pub(super) fn leave(self) {
        self.0.store(NONE, Ordering::Release);
        LEFT.store(ptr::from_ref(self.0).cast_mut(), Ordering::Release);
    }
}

/// Prepares for forks. Two threads may do so at once: of two hooks, the second finds nothing left to do.
fn start() {
    OWNER.store(own_pid(), Ordering::Release);
    // SAFETY: pthread_atfork(3) requires a hook that is safe in a forked child of a process with threads: this one only
    // works on atomics and calls close(2). After a failure (no memory) the witness still shows a fork.
    unsafe { libc::pthread_atfork(None, None, Some(after_fork_hook)) };
    if WITNESS.load(Ordering::Acquire).is_null()
        && let Some(word) = this_unix::fork_witness::map()
    {
        word.store(CLEANED, Ordering::Relaxed);
        // A word that comes too late is leaked.
        let word = ptr::from_ref(word).cast_mut();
        let _ = WITNESS.compare_exchange(ptr::null_mut(), word, Ordering::AcqRel, Ordering::Relaxed);
    }
    STARTED.store(true, Ordering::Release);
}

extern "C" fn after_fork_hook() {
    // SAFETY: as in `fork_generation`.
    if let Some(witness) = unsafe { WITNESS.load(Ordering::Acquire).as_ref() }
        && OWNER.load(Ordering::Acquire) != own_pid()
    {
        // The kernel has done so already. qemu's user emulation before version 8 ignores `MADV_WIPEONFORK` and reports success.
        witness.store(WIPED, Ordering::Release);
    }
    after_fork();
}

fn own_pid() -> i32 {
    // SAFETY: getpid(2) has no precondition.
    unsafe { libc::getpid() }
}

/// Closes what the parent held. The first thread of the child to come here does it; without a witness, each hook does.
fn after_fork() {
    // SAFETY: as in `fork_generation`.
    let witness = unsafe { WITNESS.load(Ordering::Acquire).as_ref() };
    if let Some(witness) = witness
        && witness.compare_exchange(WIPED, CLEANING, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        return;
    }
    GENERATION.fetch_add(1, Ordering::AcqRel);
    held_table::forget_all();
    let mut at = TABLE.load(Ordering::Acquire).cast_const();
    // SAFETY: as in `enter`; the child has a copy of the memory.
    while let Some(chunk) = unsafe { at.as_ref() } {
        for cell in &chunk.cells {
            let fd = cell.swap(NONE, Ordering::AcqRel);
            if fd != NONE {
                // SAFETY: close(2) has no precondition, and the descriptor must not be closed again: only a `File` of the
                // parent owned it, and the generation keeps such a `File` from closing anything in this process.
                unsafe { libc::close(fd) };
            }
        }
        at = chunk.next;
    }
    OWNER.store(own_pid(), Ordering::Release);
    if let Some(witness) = witness {
        witness.store(CLEANED, Ordering::Release);
    }
}
