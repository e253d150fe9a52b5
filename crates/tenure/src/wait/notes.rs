//! What only the holder's process knows of a tenure, for the history.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::error::Error;

/// What only the holder's process knows of a tenure.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Noted>);

#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) waited: Duration,
    pub(super) exit_code: Option<i32>,
    /// Whether no caller received the grant.
    pub(super) undelivered: bool,
    /// Whether the history is to be rewritten, once the lock is free.
    pub(super) too_large: bool,
    /// The failure to enter the tenure, which is reported then.
    pub(super) failure: Option<Error>,
}

impl Notes {
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Noted) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
