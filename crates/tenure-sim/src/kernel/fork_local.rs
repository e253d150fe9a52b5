//! Global state of a simulated process.

use std::marker::PhantomData;
use std::sync::atomic::AtomicU8;

use super::world;

/// A lazily initialised global: one value for each simulated process, for the length of a run.
pub(crate) struct ForkLocal<T: 'static>(AtomicU8, PhantomData<fn() -> T>);

impl<T: Send + Sync> ForkLocal<T> {
    pub(crate) const fn new() -> ForkLocal<T> {
        // Not of size zero, because its address identifies it.
        ForkLocal(AtomicU8::new(0), PhantomData)
    }

    /// Returns this process's value, which `make` makes at the first use.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &'static T {
        let key = &raw const self.0 as usize;
        if let Some(found) = world::global(key) {
            // SAFETY: under this key only this function enters, and always a leaked `T`.
            return unsafe { &*(found as *const T) };
        }
        let made: &'static T = Box::leak(Box::new(make()));
        world::set_global(key, std::ptr::from_ref(made) as usize);
        made
    }
}
