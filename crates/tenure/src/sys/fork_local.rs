//! Global state that a forked child makes for itself.

use std::ptr;

use super::fork_generation;
use crate::sys::sync::{AtomicPtr, Ordering};

/// A global that is made at its first use, one for each process.
///
/// After a fork, the parent's value may be locked by a thread that does not exist in the child, so the child makes its
/// own. The parent's is leaked there.
pub(crate) struct ForkLocal<T: 'static>(AtomicPtr<Stamped<T>>);

struct Stamped<T> {
    generation: u64,
    value: T,
}

impl<T: Send + Sync> ForkLocal<T> {
    /// Returns an empty global.
    pub(crate) const fn new() -> ForkLocal<T> {
        ForkLocal(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns this process's value, made by `make` at the first use.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &'static T {
        let generation = fork_generation();
        let found = self.0.load(Ordering::Acquire);
        // SAFETY: `as_ref` requires a null or a valid pointer: a published value is leaked.
        if let Some(found) = unsafe { found.as_ref() }
            && found.generation == generation
        {
            return &found.value;
        }
        let fresh = Box::into_raw(Box::new(Stamped { generation, value: make() }));
        match self.0.compare_exchange(found, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: a reference requires a valid pointer: `fresh` was leaked just now and is never freed.
            Ok(_) => &unsafe { &*fresh }.value,
            Err(theirs) => {
                // SAFETY: `from_raw` requires a box's pointer that is used nowhere else: `fresh` was not published.
                // `theirs` was published by a thread of this process, hence of this generation, and is leaked, so it
                // stays valid.
                unsafe {
                    drop(Box::from_raw(fresh));
                    &(*theirs).value
                }
            }
        }
    }
}
