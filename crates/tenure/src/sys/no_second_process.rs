//! Trials of a folder where a second process cannot be forked.

use std::io;

use super::{Dir, Name};

/// A second process. None can be started.
#[derive(Debug)]
pub(crate) enum SecondProcess {}

impl SecondProcess {
    /// Fails as unsupported: this system has no fork.
    pub(crate) fn start(_dir: &Dir, _locked: &Name, _opened: &Name) -> io::Result<SecondProcess> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn pid(&self) -> i64 {
        match *self {}
    }

    pub(crate) fn try_lock(&mut self) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn open(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn kill(self) -> io::Result<()> {
        match self {}
    }
}
