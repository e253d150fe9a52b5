//! Notices that a lock may have changed, without polling its files.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::folder_watch::FolderWatch;
use crate::sys::types::{Change, Entry, EntryChange, Notice, Part, WakeUps};

/// A watch on a lock: on its folder and `.tenure`, and on its holder.
///
/// It only reports when to check the lock. Where inotify is unavailable (no instance left, a folder that does not exist
/// yet) it reports nothing, and the caller relies on its slow checks.
pub(crate) struct Watch {
    watch: FolderWatch,
    folder: Arc<Path>,
    lock_file: OsString,
    swap: OsString,
    target: OsString,
}

impl Watch {
    pub(crate) fn new(target: &Path) -> Watch {
        let name = target.file_name().unwrap_or_default();
        let with = |suffix: &str| {
            let mut joined = name.to_owned();
            joined.push(suffix);
            joined
        };
        Watch {
            watch: FolderWatch::new().unwrap_or_else(|_| FolderWatch::of_processes()),
            folder: target.parent().unwrap_or(Path::new("")).into(),
            lock_file: with(".lock"),
            swap: with(".lock.swap"),
            target: name.to_owned(),
        }
    }

    /// Watches the folders that exist now. Must be called before each check, because folders come and go.
    pub(crate) fn watch_folders(&mut self) {
        let _ = self.watch.watch(&self.folder);
    }

    /// Watches the process that holds the lock now. Must be called after each check.
    pub(crate) fn watch_holder(&mut self, pid: Option<i64>) {
        self.watch.watch_processes(pid);
    }

    /// Waits until the lock's files change, the holder ends, or the timeout is over.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<Change> {
        let notices = self.watch.wait(timeout, WakeUps::default())?;
        Ok(notices.iter().map(|notice| self.change(notice)).max().unwrap_or(Change::Nothing))
    }

    /// Returns what a notice means for this lock. Other files of the folder may have changed too.
    fn change(&self, notice: &Notice) -> Change {
        let Notice::Entry(Entry { part, name, what, .. }) = notice else { return Change::Possible };
        if *name == self.lock_file {
            match (part, what) {
                (Part::Anchors, _) | (_, EntryChange::Written) => Change::Possible,
                (Part::Folder, _) => Change::LockFile,
            }
        } else if *name == self.swap || *name == self.target || name == ".tenure" {
            Change::Possible
        } else {
            Change::Nothing
        }
    }
}
