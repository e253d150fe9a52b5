//! The library's own threads. Windows has neither signals nor forks.

use std::io;
use std::thread;

/// Starts a detached thread.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(1024 * 1024).spawn(run).map(drop)
}

/// Calls `start`: there are no signals to block.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    start()
}

/// Returns 1: there is no fork.
pub(crate) fn fork_generation() -> u64 {
    1
}
