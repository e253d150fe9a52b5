//! Where no thread can be called back from a wait: helpers wait, for everyone.

use std::io;
use std::sync::Arc;
use std::time::Instant;

pub(crate) fn install_interrupts() -> io::Result<i32> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn interrupts_enabled() -> bool {
    false
}

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

#[derive(Debug)]
pub(crate) enum InterruptibleWait {}

impl InterruptibleWait {
    pub(crate) fn enter() -> Option<InterruptibleWait> {
        None
    }

    pub(crate) fn interrupt(&self) -> &Arc<InterruptHandle> {
        match *self {}
    }
}
