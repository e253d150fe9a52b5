//! Global state that a forked child starts anew.

use std::ptr;

use super::fork_generation;
use crate::sys::sync::{AtomicPtr, Ordering};

/// A lazily made global: one a process, even after a fork, where the parent's may be locked by a thread that no longer
/// exists. What a parent left is leaked.
pub(crate) struct ForkLocal<T: 'static>(AtomicPtr<Stamped<T>>);

struct Stamped<T> {
    generation: u64,
    value: T,
}

impl<T: Send + Sync> ForkLocal<T> {
    pub(crate) const fn new() -> ForkLocal<T> {
        ForkLocal(AtomicPtr::new(ptr::null_mut()))
    }

    /// This process's, made by `make` at the first use.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &'static T {
        let generation = fork_generation();
        let found = self.0.load(Ordering::Acquire);
        // SAFETY: what is published is leaked and so valid for ever.
        if let Some(found) = unsafe { found.as_ref() }
            && found.generation == generation
        {
            return &found.value;
        }
        let fresh = Box::into_raw(Box::new(Stamped { generation, value: make() }));
        match self.0.compare_exchange(found, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: just leaked; never freed.
            Ok(_) => &unsafe { &*fresh }.value,
            Err(theirs) => {
                // SAFETY: `fresh` was not published and is still ours; `theirs` was published by a thread of this
                // process, hence of this generation, and is leaked.
                unsafe {
                    drop(Box::from_raw(fresh));
                    &(*theirs).value
                }
            }
        }
    }
}
