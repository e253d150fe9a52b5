//! Notices that a lock may have changed, without polling its files.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::sys::types::Change;

/// A watch on a lock: on its folder and `.tenure` by inotify, on its holder by a pidfd.
///
/// It only reports when to check the lock. Where inotify is unavailable (no instance left, a folder that does not exist
/// yet) it reports nothing, and the caller relies on its slow checks.
pub(crate) struct Watch {
    inotify: Option<OwnedFd>,
    folder: PathBuf,
    anchors: PathBuf,
    lock_file: OsString,
    swap: OsString,
    target: OsString,
    folder_watch: Option<i32>,
    holder: Option<(i64, OwnedFd)>,
    /// A holder whose end was reported. Its pidfd would report the end for ever.
    ended: Option<i64>,
    /// The holder ended before it could be watched.
    missed: bool,
}

impl Watch {
    pub(crate) fn new(target: &Path) -> Watch {
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let name = target.file_name().unwrap_or_default();
        let with = |suffix: &str| {
            let mut joined = name.to_owned();
            joined.push(suffix);
            joined
        };
        Watch {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(),
            folder: folder.to_owned(),
            anchors: folder.join(".tenure"),
            lock_file: with(".lock"),
            swap: with(".lock.swap"),
            target: name.to_owned(),
            folder_watch: None,
            holder: None,
            ended: None,
            missed: false,
        }
    }

    /// Watches the folders that exist now. Must be called before each check, because folders come and go.
    pub(crate) fn watch_folders(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        // Reads are left out: our own checks would wake us.
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::CLOSE_WRITE;
        // The kernel keeps one watch for each inode, so this costs nothing where nothing has changed.
        self.folder_watch = inotify::add_watch(inotify, &self.folder, names | WatchFlags::ONLYDIR).ok();
        let _ = inotify::add_watch(inotify, &self.anchors, names | WatchFlags::MODIFY | WatchFlags::ONLYDIR);
    }

    /// Watches the process that holds the lock now. Must be called after each check.
    pub(crate) fn watch_holder(&mut self, pid: Option<i64>) {
        let pid = pid.filter(|&pid| Some(pid) != self.ended);
        if self.holder.as_ref().map(|(pid, _)| *pid) == pid {
            return;
        }
        self.holder = None;
        let Some((pid, number)) = pid.and_then(|pid| Some((pid, Pid::from_raw(i32::try_from(pid).ok()?)?))) else {
            return;
        };
        match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => self.holder = Some((pid, pidfd)),
            Err(Errno::SRCH) => {
                self.ended = Some(pid);
                self.missed = true;
            }
            Err(_) => {}
        }
    }

    /// Waits until the lock's files change, the holder ends, or the timeout is over.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<Change> {
        if std::mem::take(&mut self.missed) {
            return Ok(Change::Possible);
        }
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(2);
        fds.extend(self.inotify.iter().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        fds.extend(self.holder.iter().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)));
        match rustix::event::poll(&mut fds, Timespec::try_from(timeout).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let holder_ended = self.holder.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        let mut change = self.events();
        if holder_ended {
            self.ended = self.holder.take().map(|(pid, _)| pid);
            change = change.max(Change::Possible);
        }
        Ok(change)
    }

    /// Returns what the events that have arrived mean for this lock. Other files of the folder may have changed too.
    fn events(&self) -> Change {
        let Some(inotify) = &self.inotify else { return Change::Nothing };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let mut change = Change::Nothing;
        // The last read returns "would block".
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let found = match name {
                Some(name) if name == self.lock_file => {
                    let renamed = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
                    match Some(event.wd()) == self.folder_watch && event.events().intersects(renamed) {
                        true => Change::LockFile,
                        false => Change::Possible,
                    }
                }
                Some(name) if name == self.swap || name == self.target || name == ".tenure" => Change::Possible,
                Some(_) => Change::Nothing,
                // Events were lost, or a folder was removed.
                None => Change::Possible,
            };
            change = change.max(found);
        }
        change
    }
}
