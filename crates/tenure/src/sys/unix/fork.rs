//! Knowing that we are a forked child, and closing there what only the parent may hold.
//!
//! A `flock` belongs to the open file, which a fork shares: a child that kept the descriptor would keep the parent's
//! lock alive after the parent's death. So every descriptor that may carry a lock stands in a table, and the child
//! closes them before it runs anything else (`pthread_atfork`). A child made without libc's knowledge (a raw `clone`,
//! `_Fork`) is noticed at its first use of the library, by a page that the kernel wipes on fork (`MADV_WIPEONFORK`).
//!
//! Nothing here waits for a thread of the parent: at the fork it may have been anywhere, and it is not in the child.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

const NONE: i32 = -1;
const CHUNK: usize = 256;

/// Counts the forks between the first process and this one.
static GENERATION: AtomicU64 = AtomicU64::new(1);
/// A word in a page that reads as [`WIPED`] after a fork.
static WITNESS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
const WIPED: u64 = 0;
const SEEING_TO_IT: u64 = 1;
const SEEN_TO: u64 = 2;
static TABLE: AtomicPtr<Chunk> = AtomicPtr::new(ptr::null_mut());
/// Where a free cell was seen last; only a hint.
static FREE: AtomicUsize = AtomicUsize::new(0);
/// Has a thread been through [`start`]?
static STARTED: AtomicBool = AtomicBool::new(false);

struct Chunk {
    cells: [AtomicI32; CHUNK],
    next: *const Chunk,
}

/// A place in the table of descriptors that a child closes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell(&'static AtomicI32);

/// Which process of a line of forks this is. An object made under another generation belongs to the parent: its
/// locks, descriptors and mutexes must not be touched.
pub(crate) fn fork_generation() -> u64 {
    if !STARTED.load(Ordering::Acquire) {
        start();
    }
    // SAFETY: the page is mapped once, before the pointer is published, and never unmapped.
    if let Some(witness) = unsafe { WITNESS.load(Ordering::Acquire).as_ref() } {
        while witness.load(Ordering::Acquire) != SEEN_TO {
            after_fork();
            // Another thread of this very process sees to it.
            std::hint::spin_loop();
        }
    }
    GENERATION.load(Ordering::Acquire)
}

/// Enters a descriptor that a forked child is to close.
pub(super) fn enter(fd: i32) -> Cell {
    let claim = |cell: &AtomicI32| cell.compare_exchange(NONE, fd, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    loop {
        let head = TABLE.load(Ordering::Acquire);
        // SAFETY: chunks are leaked: a published pointer stays valid, and so does its `next`.
        if let Some(chunk) = unsafe { head.as_ref() } {
            let hint = FREE.load(Ordering::Relaxed) % CHUNK;
            if claim(&chunk.cells[hint]) {
                FREE.store(hint + 1, Ordering::Relaxed);
                return Cell(&chunk.cells[hint]);
            }
        }
        let mut at = head.cast_const();
        // SAFETY: as above.
        while let Some(chunk) = unsafe { at.as_ref() } {
            if let Some(cell) = chunk.cells.iter().find(|cell| claim(cell)) {
                return Cell(cell);
            }
            at = chunk.next;
        }
        let fresh = Box::into_raw(Box::new(Chunk { cells: [const { AtomicI32::new(NONE) }; CHUNK], next: head }));
        if TABLE.compare_exchange(head, fresh, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: it was not published, so it is still ours alone.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

impl Cell {
    /// Takes the descriptor out: its owner is about to close it.
    pub(super) fn leave(self) {
        self.0.store(NONE, Ordering::Release);
    }
}

/// Two threads may do this at once: then there are two hooks, of which the second finds nothing left to do.
fn start() {
    if WITNESS.load(Ordering::Acquire).is_null()
        && let Some(page) = wiped_page()
    {
        page.store(SEEN_TO, Ordering::Relaxed);
        // A page that comes too late is leaked.
        let page = ptr::from_ref(page).cast_mut();
        let _ = WITNESS.compare_exchange(ptr::null_mut(), page, Ordering::AcqRel, Ordering::Relaxed);
    }
    // SAFETY: `after_fork` only works on atomics and calls close(2), both allowed in a forked child of a process with
    // threads. A failure (no memory) leaves the wiped page to notice the fork.
    unsafe { libc::pthread_atfork(None, None, Some(after_fork_hook)) };
    STARTED.store(true, Ordering::Release);
}

extern "C" fn after_fork_hook() {
    after_fork();
}

/// Sees to it once a fork, by whichever thread of the child comes first. Where there is no such page: each time.
fn after_fork() {
    // SAFETY: as in `generation`.
    let witness = unsafe { WITNESS.load(Ordering::Acquire).as_ref() };
    if let Some(witness) = witness
        && witness.compare_exchange(WIPED, SEEING_TO_IT, Ordering::AcqRel, Ordering::Relaxed).is_err()
    {
        return;
    }
    GENERATION.fetch_add(1, Ordering::AcqRel);
    super::cleanup::forget_all();
    let mut at = TABLE.load(Ordering::Acquire).cast_const();
    // SAFETY: as in `enter`; the child has its own copy of the memory.
    while let Some(chunk) = unsafe { at.as_ref() } {
        for cell in &chunk.cells {
            let fd = cell.swap(NONE, Ordering::AcqRel);
            if fd != NONE {
                // SAFETY: the table holds only descriptors that a `File` of the parent owns; no object of this process
                // closes them again, because the generation tells each that it is not its own.
                unsafe { libc::close(fd) };
            }
        }
        at = chunk.next;
    }
    if let Some(witness) = witness {
        witness.store(SEEN_TO, Ordering::Release);
    }
}

fn wiped_page() -> Option<&'static AtomicU64> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    // Not rustix's `page_size`: it reads the auxiliary vector, and follows a pointer there that is gone under Valgrind.
    // SAFETY: no precondition.
    let length = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    // SAFETY: a fresh anonymous mapping aliases nothing.
    let page =
        unsafe { mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE).ok()? };
    // SAFETY: `page` is that mapping, whole, and nobody uses it yet.
    unsafe {
        if madvise(page, length, Advice::LinuxWipeOnFork).is_err() {
            let _ = munmap(page, length);
            return None;
        }
        // Aligned to a page, zeroed, never unmapped from here on.
        Some(&*page.cast::<AtomicU64>())
    }
}
