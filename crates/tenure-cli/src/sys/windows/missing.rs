//! Facts that Windows does not show, and functions without a port.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::AtomicU64;

use crate::sys::types::{FileId, OpenFile};

fn unsupported<T>(what: &str) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("`tenure {what}` has no port to Windows")))
}

/// Fails as unsupported: Windows does not show which files a process has open.
pub(crate) fn open_wait_notes() -> io::Result<Vec<PathBuf>> {
    unsupported("status --deadlocks")
}

pub(crate) fn open_files(_pid: u32) -> io::Result<Vec<OpenFile>> {
    unsupported("status --pid")
}

pub(crate) fn flock_waits(_pid: u32) -> io::Result<Vec<FileId>> {
    unsupported("status --pid")
}

pub(crate) fn is_process(_pid: u32) -> bool {
    true
}

pub(crate) fn command_line(_pid: u32) -> Option<String> {
    None
}

/// Returns `false`: an event of the console has no sender.
pub(crate) fn descends_from(_pid: i32, _ancestor: u32) -> bool {
    false
}

/// Cannot be constructed here.
pub(crate) enum SharedWords {}

impl SharedWords {
    pub(crate) fn create(_count: usize) -> io::Result<SharedWords> {
        unsupported("doctor --stress")
    }

    pub(crate) fn of_stdin(_count: usize) -> io::Result<SharedWords> {
        unsupported("doctor --stress")
    }

    pub(crate) fn descriptor(&self) -> io::Result<Stdio> {
        match *self {}
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        match *self {}
    }
}

pub(crate) fn die_with(_parent: u32) -> io::Result<()> {
    unsupported("doctor --stress")
}

pub(crate) fn monotonic() -> u64 {
    0
}
