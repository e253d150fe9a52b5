//! A table that a signal handler may use: no lock, no allocation, nothing is ever freed.
//!
//! | state of a cell | who may change it |
//! | --- | --- |
//! | `FREE` | anyone, to `CLAIMED` |
//! | `CLAIMED` | who claimed it: it fills in the entry, and sets `HELD` |
//! | `HELD` | its owner, to `FREE`; a handler, to `TAKEN` |
//! | `TAKEN` | that handler: it works with the entry, and sets `DONE` |
//! | `DONE` | its owner, to `FREE` |
//!
//! So an entry that a handler works with is whole, and its owner has not left it: [`Entered::leave`] waits for that.

use std::ptr;

use crate::sys::sync::{AtomicPtr, AtomicU32, Ordering, yield_now};

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const HELD: u32 = 2;
const TAKEN: u32 = 3;
const DONE: u32 = 4;
const CHUNK: usize = 16;

pub(crate) struct Table<E: 'static>(AtomicPtr<Chunk<E>>);

struct Chunk<E: 'static> {
    cells: [Cell<E>; CHUNK],
    next: *const Chunk<E>,
}

struct Cell<E> {
    state: AtomicU32,
    entry: E,
}

/// What was entered, until it is left.
pub(crate) struct Entered<E: 'static>(&'static Cell<E>);

impl<E: Sync> Table<E> {
    pub(crate) const fn new() -> Table<E> {
        Table(AtomicPtr::new(ptr::null_mut()))
    }

    /// Takes a free cell, made by `empty` where none is left, and fills in its entry.
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
                // SAFETY: it was not published, so it is still ours alone.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }

    /// In a handler: `work` on each entry that is held, whose owner cannot leave it meanwhile; once for each entry.
    pub(crate) fn take_each(&self, mut work: impl FnMut(&E)) {
        for cell in cells(self.0.load(Ordering::Acquire)) {
            if cell.change(HELD, TAKEN) {
                work(&cell.entry);
                cell.state.store(DONE, Ordering::Release);
            }
        }
    }

    /// In a forked child, which has one thread: whatever was entered is the parent's.
    pub(crate) fn forget_all(&self) {
        for cell in cells(self.0.load(Ordering::Acquire)) {
            cell.state.store(FREE, Ordering::Release);
        }
    }
}

fn cells<E>(head: *const Chunk<E>) -> impl Iterator<Item = &'static Cell<E>> {
    // SAFETY: chunks are leaked when they are published: the pointers stay valid, and so does each `next`.
    let first = unsafe { head.as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, |chunk| unsafe { chunk.next.as_ref() }).flat_map(|chunk| &chunk.cells)
}

impl<E> Cell<E> {
    fn change(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl<E> Entered<E> {
    /// From here on no handler works with it: one that does so now is waited for.
    pub(crate) fn leave(&self) {
        // A handler that interrupted this very thread is through before this goes on.
        while !self.0.change(HELD, FREE) && !self.0.change(DONE, FREE) && self.0.state.load(Ordering::Acquire) != FREE {
            yield_now();
        }
    }

    pub(crate) fn entry(&self) -> &E {
        &self.0.entry
    }
}
