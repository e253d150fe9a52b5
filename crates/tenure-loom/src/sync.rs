//! Loom's types, under the names of the library's `sync`.
//!
//! Two differences from loom: a constant is made before any run begins, so an atomic makes its loom counterpart at its first
//! use. A wait with a timeout ends at once, with or without a notification. The mutex is free in between, so that other
//! threads can run, and the waiter finds the state of either end of a wait.

use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, OnceLock};
use std::time::Duration;

pub use loom::sync::atomic::Ordering;
pub use loom::thread::yield_now;
pub use std::sync::PoisonError;

#[derive(Debug)]
pub struct AtomicPtr<T>(OnceLock<loom::sync::atomic::AtomicPtr<T>>);

impl<T> AtomicPtr<T> {
    /// Makes a null pointer, the initial value of each of the library's.
    pub const fn new(null: *mut T) -> AtomicPtr<T> {
        assert!(null.is_null());
        AtomicPtr(OnceLock::new())
    }

    fn inner(&self) -> &loom::sync::atomic::AtomicPtr<T> {
        self.0.get_or_init(|| loom::sync::atomic::AtomicPtr::new(std::ptr::null_mut()))
    }

    pub fn load(&self, order: Ordering) -> *mut T {
        self.inner().load(order)
    }

    pub fn compare_exchange(&self, from: *mut T, to: *mut T, yes: Ordering, no: Ordering) -> Result<*mut T, *mut T> {
        self.inner().compare_exchange(from, to, yes, no)
    }
}

#[derive(Debug)]
pub struct AtomicU32(loom::sync::atomic::AtomicU32);

impl AtomicU32 {
    pub fn new(value: u32) -> AtomicU32 {
        AtomicU32(loom::sync::atomic::AtomicU32::new(value))
    }

    pub fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    pub fn store(&self, value: u32, order: Ordering) {
        self.0.store(value, order);
    }

    pub fn compare_exchange(&self, from: u32, to: u32, yes: Ordering, no: Ordering) -> Result<u32, u32> {
        self.0.compare_exchange(from, to, yes, no)
    }
}

#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: loom::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        // No mutex is poisoned, because a panic ends the run.
        Ok(MutexGuard { mutex: self, guard: self.0.lock().unwrap_or_else(PoisonError::into_inner) })
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

#[derive(Debug, Default)]
pub struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { mutex, guard } = guard;
        Ok(MutexGuard { mutex, guard: self.0.wait(guard).unwrap_or_else(PoisonError::into_inner) })
    }

    /// Waits with a timeout. The second value is `true` if the time was over.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let mutex = guard.mutex;
        drop(guard);
        yield_now();
        Ok((mutex.lock().unwrap_or_else(PoisonError::into_inner), true))
    }
}

/// Waits once, for a notification or for a time.
pub fn linger<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
    condvar.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
}
