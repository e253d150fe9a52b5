//! What only the holder's process knows of a tenure, for the history.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What only the holder's process knows of a tenure.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Noted>);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Noted {
    pub(super) waited: Duration,
    pub(super) exit_code: Option<i32>,
    /// Whether the history is to be rewritten, once the lock is free.
    pub(super) too_large: bool,
}

impl Notes {
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Noted) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
