//! Locks that a child inherits, which Windows does not have.

use std::io;
use std::process::Command;

/// A second handle of a locked file, for a child to inherit. None can be made.
#[derive(Debug)]
pub(crate) enum Inherited {}

pub(crate) fn inherit_always(handle: &Inherited) -> io::Result<()> {
    match *handle {}
}

pub(crate) fn inherit(_command: &mut Command, handle: Inherited) {
    match handle {}
}
