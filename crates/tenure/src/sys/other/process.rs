//! Processes where there is no port yet.

use std::convert::Infallible;
use std::io;

/// Pids are 32 bits wide on Windows, fewer elsewhere.
pub(crate) const PID_LIMIT: i64 = u32::MAX as i64;

/// No namespace has this number here, for there are none.
pub(crate) const FIRST_PID_NAMESPACE: u64 = 0;

pub(crate) fn clock_is_steered() -> Option<bool> {
    None
}

pub(crate) fn pid() -> u32 {
    std::process::id()
}

pub(crate) fn boot_id() -> Option<String> {
    None
}

pub(crate) fn pid_namespace() -> Option<u64> {
    None
}

pub(crate) fn time_namespace(_pid: i64) -> Option<u64> {
    None
}

pub(crate) fn host() -> Option<String> {
    None
}

pub(crate) fn command_line(_pid: u32) -> Option<String> {
    None
}

pub(crate) fn stat_line(_pid: i64) -> Option<String> {
    None
}

pub(crate) fn status_text(_pid: i64) -> Option<String> {
    None
}

pub(crate) fn thread_stat_lines(_pid: i64) -> Option<Vec<String>> {
    None
}

pub(crate) fn signal_zero(_pid: i64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn is_no_such_process(_error: &io::Error) -> bool {
    false
}

/// None can be made.
#[derive(Debug)]
pub(crate) struct PidFd(Infallible);

impl PidFd {
    pub(crate) fn open(_pid: i64) -> io::Result<PidFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn exited(&self) -> io::Result<bool> {
        match self.0 {}
    }

    pub(crate) fn inode(&self) -> Option<u64> {
        match self.0 {}
    }
}

pub(crate) fn lock_keepers(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

pub(crate) fn marked_waiters(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

pub(crate) fn openers(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}
