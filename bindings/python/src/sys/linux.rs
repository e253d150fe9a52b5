//! Linux: `eventfd(2)`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::EventfdFlags;

/// A descriptor that is readable from a signal on, until it is reset.
pub(crate) struct Event(OwnedFd);

impl Event {
    pub(crate) fn new() -> io::Result<Event> {
        Ok(Event(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Returns the descriptor's number.
    pub(crate) fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Makes the descriptor readable. The counter behind it must be reset before 2^64 calls.
    pub(crate) fn signal(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn reset(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}
