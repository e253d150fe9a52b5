//! Processes on systems without a port: nothing but this process's own pid is known.

use std::convert::Infallible;
use std::io;

use crate::sys::types::ProcessFacts;

/// The sources of facts, for messages.
pub(crate) const BOOT_ID_SOURCE: &str = "the boot's id";
pub(crate) const PID_NAMESPACE_SOURCE: &str = "the pid namespace";
pub(crate) const UNIQUE_ID_SINCE: &str = "there is no port to this system";

/// Pids are 32 bits wide on Windows, fewer elsewhere.
pub(crate) const PID_LIMIT: i64 = u32::MAX as i64;

/// There are no pid namespaces.
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

pub(crate) fn host() -> Option<String> {
    None
}

pub(crate) fn command_line(_pid: u32) -> Option<String> {
    None
}

pub(crate) fn process_facts(_pid: i64) -> Option<ProcessFacts> {
    None
}

pub(crate) fn process_of_thread(_id: i64) -> Option<i64> {
    None
}

pub(crate) fn awaited_child(_pid: i64) -> Option<i64> {
    None
}

pub(crate) fn all_threads_ended(_pid: i64) -> bool {
    false
}

pub(crate) fn reads_start_times_alike(_pid: i64) -> bool {
    true
}

pub(crate) fn shows_its_start_time() -> bool {
    true
}

pub(crate) fn signal_zero(_pid: i64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn is_no_such_process(_error: &io::Error) -> bool {
    false
}

/// A handle of a process. None can be opened.
#[derive(Debug)]
pub(crate) struct ProcessHandle(Infallible);

impl ProcessHandle {
    pub(crate) fn open(_pid: i64) -> io::Result<ProcessHandle> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn exited(&self) -> io::Result<bool> {
        match self.0 {}
    }

    pub(crate) fn unique_id(&self) -> Option<u64> {
        match self.0 {}
    }

    /// Asks the process to end. There is no port yet.
    pub(crate) fn request_end(&self, _grace: std::time::Duration) -> io::Result<()> {
        match self.0 {}
    }

    /// Ends the process. There is no port yet.
    pub(crate) fn kill(&self) -> io::Result<()> {
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
