//! All memory of one simulated run, discarded as a whole.
//!
//! A run ends at any point: processes die between two system calls, and a run that reaches a known state is cut off.
//! Unwinding the stacks would cost more than the run. So a run allocates from one piece of memory, which the next run reuses
//! from its start. Values that outlive a run are allocated [`outside`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// More than any run needs. Only the pages that are touched cost memory.
const SIZE: usize = 256 << 20;

/// The allocator of a program that runs simulations.
#[derive(Debug)]
pub struct Arena;

#[derive(Clone, Copy)]
struct State {
    base: usize,
    used: usize,
    on: bool,
}

/// Maximum number of failed runs of one thread.
const KEPT: usize = 64;

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State { base: 0, used: 0, on: false }) };
    /// Arenas of failed runs. They are kept, and not used again.
    static KEEP: Cell<[usize; KEPT]> = const { Cell::new([0; KEPT]) };
}

/// Makes this thread allocate from the start of its arena. The contents of an earlier run are lost.
pub(crate) fn begin() {
    let mut state = STATE.get();
    if state.base == 0 {
        // SAFETY: the size is not zero. It is never given back: as long as the thread lives it is used again.
        let base = unsafe { System.alloc(Layout::from_size_align_unchecked(SIZE, 4096)) };
        assert!(!base.is_null(), "no memory for the simulation");
        state.base = base as usize;
    }
    STATE.set(State { used: 0, on: true, ..state });
}

/// Makes this thread allocate from the system again.
pub(crate) fn end() {
    STATE.set(State { on: false, ..STATE.get() });
}

/// Runs `run` with the system's allocator, so that its values outlive the simulated run.
pub(crate) fn outside<T>(run: impl FnOnce() -> T) -> T {
    let before = STATE.get();
    STATE.set(State { on: false, ..before });
    let result = run();
    STATE.set(State { on: before.on, ..STATE.get() });
    result
}

/// Keeps the last run's memory for ever, because a failure may still point into it.
pub(crate) fn keep() {
    let mut state = STATE.get();
    let mut kept = KEEP.get();
    if let Some(free) = kept.iter_mut().find(|kept| **kept == 0) {
        *free = std::mem::take(&mut state.base);
        KEEP.set(kept);
    }
    STATE.set(State { on: false, ..state });
}

// SAFETY: memory is either the system allocator's or a piece of this thread's arena that is handed out once; the two are
// distinguished by their addresses. Memory of a run is not used after the next `begin` (`crate::sim` keeps none of it).
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let state = STATE.get();
        if state.on {
            let start = (state.base + state.used).next_multiple_of(layout.align());
            let used = start + layout.size() - state.base;
            if used <= SIZE {
                STATE.set(State { used, ..state });
                return ptr::with_exposed_provenance_mut(start);
            }
        }
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if !is_ours(memory) {
            // SAFETY: it came from there.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_ours(memory) {
            // SAFETY: it came from there.
            return unsafe { System.realloc(memory, layout, new_size) };
        }
        let mut state = STATE.get();
        let start = memory as usize;
        if start + layout.size() == state.base + state.used && start + new_size <= state.base + SIZE {
            state.used = start + new_size - state.base;
            STATE.set(state);
            return memory;
        }
        // SAFETY: a fresh piece, as large as asked for, and the old one as large as its layout says.
        unsafe {
            let fresh = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !fresh.is_null() {
                ptr::copy_nonoverlapping(memory, fresh, layout.size().min(new_size));
            }
            fresh
        }
    }
}

fn is_ours(memory: *mut u8) -> bool {
    let within = |base: usize| base != 0 && (memory as usize).wrapping_sub(base) < SIZE;
    within(STATE.get().base)
        || KEEP.with(|kept| {
            // SAFETY: no reference outlives this, and this thread makes no other one meanwhile.
            let kept = unsafe { &*kept.as_ptr() };
            kept[0] != 0 && kept.iter().any(|base| within(*base))
        })
}
