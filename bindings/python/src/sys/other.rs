//! Systems without a port of the library: no descriptor can be made, and the error says so.

use std::io;
use std::time::Instant;

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "Tenure has no port to this platform yet"))
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
