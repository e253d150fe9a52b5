//! Watches of a name in a folder where the system has none that misses nothing, or none that this port uses.

use std::io;

use super::{Dir, Name, NameChange};

/// Reports what happened to a name in a folder. There is none.
#[derive(Debug)]
pub(crate) enum NameWatch {}

impl NameWatch {
    /// Fails as unsupported.
    pub(crate) fn new(_dir: &Dir, _name: &Name) -> io::Result<NameWatch> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn changes(&self) -> io::Result<Vec<NameChange>> {
        match *self {}
    }
}
