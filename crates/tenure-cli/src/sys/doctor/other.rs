//! Platforms without a port.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::AtomicU64;

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "`tenure doctor` has no port to this platform yet"))
}

pub(crate) fn make_folder(_path: &Path) -> io::Result<()> {
    unsupported()
}

pub(crate) fn remove_folder(_path: &Path) -> io::Result<()> {
    unsupported()
}

/// Cannot be made here.
pub(crate) enum SharedWords {}

impl SharedWords {
    pub(crate) fn create(_count: usize) -> io::Result<SharedWords> {
        unsupported()
    }

    pub(crate) fn of_stdin(_count: usize) -> io::Result<SharedWords> {
        unsupported()
    }

    pub(crate) fn descriptor(&self) -> io::Result<Stdio> {
        match *self {}
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        match *self {}
    }
}

pub(crate) fn die_with(_parent: u32) -> io::Result<()> {
    unsupported()
}

pub(crate) fn monotonic() -> u64 {
    0
}

pub(crate) fn terminal_width() -> Option<usize> {
    None
}
