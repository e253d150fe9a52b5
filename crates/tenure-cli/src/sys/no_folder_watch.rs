//! Watches on whole folders, which only Linux (inotify) has here.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::types::{Notice, WakeUps};

/// Cannot be constructed here.
pub(crate) enum FolderWatch {}

impl FolderWatch {
    /// Fails as unsupported.
    pub(crate) fn new() -> io::Result<FolderWatch> {
        let why = "this needs events that name each changed file (inotify), and has no port to this system";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    pub(crate) fn watch(&mut self, _folder: &Arc<Path>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn watch_processes(&mut self, _pids: impl IntoIterator<Item = i64>) {
        match *self {}
    }

    pub(crate) fn wait(&mut self, _timeout: Duration, _wake_ups: WakeUps) -> io::Result<Vec<Notice>> {
        match *self {}
    }
}
