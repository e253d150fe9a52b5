//! Systems other than Unix and Windows: no descriptor can be made, and the error says so. A thread that is not the main
//! one waits without.

use std::io;
use std::time::Instant;

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the waits of the main thread and of tasks have no port to this system yet",
    ))
}

/// Cannot be made here.
pub(crate) enum Event {}

impl Event {
    pub(crate) fn new() -> io::Result<Event> {
        unsupported()
    }

    pub(crate) fn raw(&self) -> i32 {
        match *self {}
    }

    pub(crate) fn signal(&self) {
        match *self {}
    }

    pub(crate) fn reset(&self) {
        match *self {}
    }
}

/// Cannot be made here.
pub(crate) enum Pipe {}

impl Pipe {
    pub(crate) fn new() -> io::Result<Pipe> {
        unsupported()
    }

    pub(crate) fn writer(&self) -> i32 {
        match *self {}
    }

    pub(crate) fn wake(&self) {
        match *self {}
    }

    pub(crate) fn drain(&self, _bytes: &mut Vec<u8>) {
        match *self {}
    }

    pub(crate) fn wait(&self, _deadline: Option<Instant>) -> io::Result<()> {
        match *self {}
    }
}

pub(crate) fn is_out_of_descriptors(_error: &io::Error) -> bool {
    false
}
