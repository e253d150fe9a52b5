//! A table for a signal handler: without locks, without allocation in the handler, and never freed.
//!
//! | state of a cell | next state |
//! | --- | --- |
//! | `FREE` | any thread sets `CLAIMED` |
//! | `CLAIMED` | the thread that claimed it fills in the entry and sets `HELD` |
//! | `HELD` | its owner sets `FREE`; a handler sets `TAKEN` |
//! | `TAKEN` | that handler works with the entry and sets `DONE` |
//! | `DONE` | its owner sets `FREE` |
//!
//! So an entry that a handler works with is complete, and its owner has not left it: [`Entered::leave`] waits for that.

use std::ptr;

use crate::sys::sync::{AtomicPtr, AtomicU32, Ordering, yield_now};

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const HELD: u32 = 2;
const TAKEN: u32 = 3;
const DONE: u32 = 4;
const CHUNK: usize = 16;

/// A list of chunks of cells.
pub(crate) struct Table<E: 'static>(AtomicPtr<Chunk<E>>);

struct Chunk<E: 'static> {
    cells: [Cell<E>; CHUNK],
    next: *const Chunk<E>,
}

struct Cell<E> {
    state: AtomicU32,
    entry: E,
}

/// An entry, until its owner leaves it.
pub(crate) struct Entered<E: 'static>(&'static Cell<E>);

impl<E: Sync> Table<E> {
    pub(crate) const fn new() -> Table<E> {
        Table(AtomicPtr::new(ptr::null_mut()))
    }

    /// Claims a free cell, and fills in its entry. New cells are made by `empty`.
    pub(crate) fn enter(&self, empty: fn() -> E, fill: impl FnOnce(&E)) -> Entered<E> {
        let cell = self.claim(empty);
        fill(&cell.entry);
        cell.state.store(HELD, Ordering::Release);
        Entered(cell)
    }

    fn claim(&self, empty: fn() -> E) -> &'static Cell<E> {
        loop {
            let head = self.0.load(Ordering::Acquire);
            if let Some(cell) = cells(head).find(|cell| cell.change(FREE, CLAIMED)) {
                return cell;
            }
            let cells = std::array::from_fn(|_| Cell { state: AtomicU32::new(FREE), entry: empty() });
            let fresh = Box::into_raw(Box::new(Chunk { cells, next: head }));
            if self.0.compare_exchange(head, fresh, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // SAFETY: `from_raw` requires a box's pointer that is used nowhere else: it was not published.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }

    /// Calls `work` once on each entry that is held, in a handler. The owner cannot leave the entry meanwhile.
    pub(crate) fn take_each(&self, mut work: impl FnMut(&E)) {
        for cell in cells(self.0.load(Ordering::Acquire)) {
            if cell.change(HELD, TAKEN) {
                work(&cell.entry);
                cell.state.store(DONE, Ordering::Release);
            }
        }
    }

    /// Frees every cell, in a forked child, which has one thread: all entries are the parent's.
    pub(crate) fn forget_all(&self) {
        for cell in cells(self.0.load(Ordering::Acquire)) {
            cell.state.store(FREE, Ordering::Release);
        }
    }
}

fn cells<E>(head: *const Chunk<E>) -> impl Iterator<Item = &'static Cell<E>> {
    // SAFETY: `as_ref` requires a null or a valid pointer: published chunks are leaked.
    let first = unsafe { head.as_ref() };
    // SAFETY: as above; a chunk's `next` was published before it.
    std::iter::successors(first, |chunk| unsafe { chunk.next.as_ref() }).flat_map(|chunk| &chunk.cells)
}

impl<E> Cell<E> {
    fn change(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl<E> Entered<E> {
    /// Frees the cell. Waits for a handler that works with it.
    pub(crate) fn leave(&self) {
        // A handler that interrupted this very thread has returned before this continues.
        while !self.0.change(HELD, FREE) && !self.0.change(DONE, FREE) && self.0.state.load(Ordering::Acquire) != FREE {
            yield_now();
        }
    }

    pub(crate) fn entry(&self) -> &E {
        &self.0.entry
    }
}
