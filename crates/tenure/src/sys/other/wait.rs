//! Signals, forks, threads and waiting on systems without a port.

use std::io;
use std::thread;
use std::time::Duration;

use super::fs::File;
use super::process::ProcessHandle;

pub(crate) fn install_cleanup() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn clean_up() {}

pub(crate) fn install_cleanup_over(_signals: &[i32]) -> io::Result<()> {
    install_cleanup()
}

pub(crate) fn resets_itself(_signal: i32) -> io::Result<bool> {
    install_cleanup().map(|()| false)
}

/// Returns this process's pid (`getpid(2)`): a forked child has another one than each process that it descends from, as
/// long as those live.
pub(crate) fn fork_generation() -> u64 {
    u64::from(std::process::id())
}

/// Starts a detached thread.
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// Calls `start`: there are no signals to block.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    start()
}

/// A wake-up. None can be made.
#[derive(Debug)]
pub(crate) enum Wakeup {}

impl Wakeup {
    pub(crate) fn new() -> io::Result<Wakeup> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn wake(&self) {
        match *self {}
    }
}

/// A watch of a file. None can be made.
#[derive(Debug)]
pub(crate) enum FileWatch {}

impl FileWatch {
    pub(crate) const SHARES_EVENTS: bool = false;

    pub(crate) fn new(file: &File) -> io::Result<FileWatch> {
        match *file {}
    }

    pub(crate) fn wait(&self, _timeout: Duration) -> io::Result<bool> {
        match *self {}
    }
}

pub(crate) fn wait_any(
    _watch: Option<&FileWatch>,
    _process: Option<&ProcessHandle>,
    wakeup: &Wakeup,
    _timeout: Duration,
) -> io::Result<()> {
    match *wakeup {}
}
