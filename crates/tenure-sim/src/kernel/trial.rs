//! Trials of folders, which the simulation does not make: its kernel keeps its promises.

use std::io;

use super::fs::{Dir, Name};

pub(crate) const SYSTEM: &str = "sim";

pub(crate) const fn is_proven() -> bool {
    true
}

/// A second process. None can be started.
#[derive(Debug)]
pub(crate) enum SecondProcess {}

impl SecondProcess {
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
