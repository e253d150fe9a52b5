//! Facts about processes, and those that these systems show to none or not to every user.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::this_bsd::proc;
use crate::sys::types::{FileId, OpenFile};

fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "`tenure status --pid` has no port to this system"))
}

/// Fails as unsupported: the open files of other processes are not read.
pub(crate) fn open_wait_notes() -> io::Result<Vec<PathBuf>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "`tenure status --deadlocks` needs a folder on this system"))
}

/// Fails as unsupported: a process's open files do not show their locks.
pub(crate) fn open_files(_pid: u32) -> io::Result<Vec<OpenFile>> {
    unsupported()
}

/// Fails as unsupported: the waiters for a lock are not shown.
pub(crate) fn flock_waits(_pid: u32) -> io::Result<Vec<FileId>> {
    unsupported()
}

/// Returns whether there is a process with this pid, as far as this user may see (`kill(2)`).
pub(crate) fn is_process(pid: u32) -> bool {
    Pid::from_raw(pid.cast_signed()).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// Returns `None`: what the record says is enough.
pub(crate) fn command_line(_pid: u32) -> Option<String> {
    None
}

/// Returns whether `pid` is the process `ancestor` or descends from it, at any depth.
pub(crate) fn descends_from(pid: i32, ancestor: u32) -> bool {
    let mut pid = pid;
    // Deeper than any tree of processes on one terminal. Parents may change between the steps, so a circle might appear.
    for _ in 0..64 {
        if pid <= 1 {
            return false;
        }
        if pid.cast_unsigned() == ancestor {
            return true;
        }
        let Some(parent) = proc::parent(pid) else { return false };
        pid = parent;
    }
    false
}
