//! Counts what uses the sessions of a server, so that they end when nothing does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The acquires and tenures at a server.
pub(super) struct Users {
    count: AtomicUsize,
    idle_since: Mutex<Instant>,
}

/// An acquire or a tenure.
pub(super) struct User(Arc<Users>);

impl Users {
    pub(super) fn new() -> Arc<Users> {
        Arc::new(Users { count: AtomicUsize::new(0), idle_since: Mutex::new(Instant::now()) })
    }

    /// Counts one more until the value is dropped.
    pub(super) fn add(self: &Arc<Self>) -> User {
        self.count.fetch_add(1, Ordering::AcqRel);
        User(Arc::clone(self))
    }

    /// Returns whether there has been none for that long.
    pub(super) fn are_idle(&self, time: Duration) -> bool {
        let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.count.load(Ordering::Acquire) == 0 && since.elapsed() >= time
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}
