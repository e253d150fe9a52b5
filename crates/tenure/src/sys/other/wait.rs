//! Signals, forks, threads and waiting where there is no port yet.

use std::io;
use std::thread;
use std::time::Duration;

use super::fs::File;
use super::process::PidFd;

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

/// No fork is known of.
pub(crate) fn fork_generation() -> u64 {
    1
}

pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    start()
}

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

#[derive(Debug)]
pub(crate) enum FileWatch {}

impl FileWatch {
    pub(crate) fn new(file: &File) -> io::Result<FileWatch> {
        match *file {}
    }

    pub(crate) fn heard(&self, _timeout: Duration) -> io::Result<bool> {
        match *self {}
    }
}

pub(crate) fn wait_any(
    _watch: Option<&FileWatch>,
    _process: Option<&PidFd>,
    wakeup: &Wakeup,
    _timeout: Duration,
) -> io::Result<()> {
    match *wakeup {}
}
