//! The parts of the library's `sys` that the compiled files use.

#![allow(unsafe_code)]

#[path = "../../tenure/src/sys/fork_local.rs"]
mod fork_local;
#[path = "../../tenure/src/sys/unix/table.rs"]
pub mod table;

use std::cell::Cell;
use std::io;

use loom::cell::UnsafeCell;

pub(crate) use fork_local::ForkLocal;

pub(crate) use crate::sync;

std::thread_local! {
    // Loom runs all threads of a run on one thread of the system, and each test on its own.
    static GENERATION: Cell<u64> = const { Cell::new(1) };
}

pub fn fork_generation() -> u64 {
    GENERATION.get()
}

/// Makes the caller a forked child.
pub fn fork() {
    GENERATION.set(fork_generation() + 1);
}

pub fn spawn(_name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    loom::thread::spawn(work);
    Ok(())
}

/// A table's entry: the number of its lock. Loom checks that no thread reads it while it is filled in.
pub struct Entry(UnsafeCell<usize>);

// SAFETY: loom fails at the first access beside a write, before it happens.
unsafe impl Sync for Entry {}

impl Entry {
    pub fn empty() -> Entry {
        Entry(UnsafeCell::new(usize::MAX))
    }

    pub fn fill(&self, lock: usize) {
        // SAFETY: the pointer is valid, and loom has checked that no other thread has one.
        self.0.with_mut(|inner| unsafe { *inner = lock });
    }

    pub fn lock(&self) -> usize {
        // SAFETY: the pointer is valid, and loom has checked that no thread writes.
        self.0.with(|inner| unsafe { *inner })
    }
}
