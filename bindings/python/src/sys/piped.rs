//! Windows, and Unixes that are not known to have `eventfd(2)`: a pipe, or what is one there.

use std::io;

use super::Pipe;

/// A descriptor that is readable from a signal on, until it is reset.
pub(crate) struct Event(Pipe);

impl Event {
    pub(crate) fn new() -> io::Result<Event> {
        Ok(Event(Pipe::new()?))
    }

    /// Returns the descriptor's number.
    pub(crate) fn raw(&self) -> i32 {
        self.0.reader()
    }

    /// Makes the descriptor readable.
    pub(crate) fn signal(&self) {
        self.0.wake();
    }

    pub(crate) fn reset(&self) {
        self.0.drain(&mut Vec::new());
    }
}
