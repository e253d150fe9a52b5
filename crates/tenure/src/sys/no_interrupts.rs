//! Interrupts where the system has no signal for them: helper threads wait for every waiter.

use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Refuses, because there is no such signal.
pub(crate) fn install_interrupts() -> io::Result<i32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reports that the library has no signal.
pub(crate) fn interrupts_enabled() -> bool {
    false
}

/// A thread's wait, as another thread sees it. There is none.
#[derive(Debug)]
pub(crate) enum InterruptHandle {}

impl InterruptHandle {
    pub(crate) fn interrupt(&self) -> bool {
        match *self {}
    }

    pub(crate) fn schedule(self: &Arc<InterruptHandle>, _deadline: Option<Instant>) -> bool {
        match **self {}
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        match *self {}
    }
}

/// This thread's wait. There is none.
#[derive(Debug)]
pub(crate) enum InterruptibleWait {}

impl InterruptibleWait {
    /// Returns `None`, because there is no signal.
    pub(crate) fn enter() -> Option<InterruptibleWait> {
        None
    }

    pub(crate) fn interrupt(&self) -> &Arc<InterruptHandle> {
        match *self {}
    }
}
