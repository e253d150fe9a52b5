//! Types that the threads of a simulated process share: a mutex, and a condition variable that the simulation knows.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::LockResult;
use std::time::Duration;

use super::world;

// The real kernel's `sys` takes these from here, for the table of a signal's handler.
pub(crate) use std::sync::PoisonError;
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
pub(crate) use std::thread::yield_now;

/// A mutex. No thread stops at a point while it has the mutex, so no thread ever waits for it.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: std::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let guard = self.0.try_lock().expect("no thread stops at a point with it");
        Ok(MutexGuard { mutex: self, guard })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// A condition variable for one sleeping thread at a time, which is all that the library needs.
#[derive(Debug, Default)]
pub(crate) struct Condvar(Cell<Option<usize>>);

// SAFETY: all threads of a simulated process are coroutines of one real thread, and their values never leave it.
unsafe impl Sync for Condvar {}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar::default()
    }

    pub(crate) fn notify_one(&self) {
        if let Some(thread) = self.0.take() {
            world::wake(thread);
        }
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex;
        self.0.set(world::current());
        drop(guard);
        world::sleep();
        mutex.lock()
    }

    /// Waits without a timeout: deadlines go by the real clock, which no script waits for.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, ())> {
        self.wait(guard).map(|guard| (guard, ())).map_err(|_| unreachable!("no mutex is poisoned here"))
    }
}

/// Returns at once, so that no idle thread stays for its next job.
pub(crate) fn linger<'a, T>(_condvar: &Condvar, guard: MutexGuard<'a, T>, _time: Duration) -> MutexGuard<'a, T> {
    guard
}
