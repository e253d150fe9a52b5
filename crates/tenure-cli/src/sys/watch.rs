//! Linux: being told that a lock may have changed, without looking all the time.

// This is where the command's system calls are made.
#![allow(clippy::disallowed_methods)]

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

use super::Stir;

/// A lock that is watched: its folder and `.tenure` by inotify, its holder by a pidfd.
///
/// It only says when to look. Where inotify is not to be had (no instance left, a folder that does not exist yet) it
/// says nothing, and the caller's slow look is what remains.
pub(crate) struct Watch {
    inotify: Option<OwnedFd>,
    folder: PathBuf,
    anchors: PathBuf,
    lock_file: OsString,
    swap: OsString,
    target: OsString,
    folder_watch: Option<i32>,
    holder: Option<(i64, OwnedFd)>,
    /// Its end has been told: a pidfd would tell it for ever.
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

    /// Watches the folders that are there now: to be called before each look, since they come and go.
    pub(crate) fn watch_folders(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        // Not what a reader does: our own looks would wake us.
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::CLOSE_WRITE;
        // The same inode has the same watch: this costs nothing where nothing has changed.
        self.folder_watch = inotify::add_watch(inotify, &self.folder, names | WatchFlags::ONLYDIR).ok();
        let _ = inotify::add_watch(inotify, &self.anchors, names | WatchFlags::MODIFY | WatchFlags::ONLYDIR);
    }

    /// Watches the process that holds now: to be called after each look.
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

    /// Waits until something happens to the lock's files or to its holder, or the time is over.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<Stir> {
        if std::mem::take(&mut self.missed) {
            return Ok(Stir::Something);
        }
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(2);
        fds.extend(self.inotify.iter().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        fds.extend(self.holder.iter().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)));
        match rustix::event::poll(&mut fds, Timespec::try_from(timeout).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let holder_ended = self.holder.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        let mut stir = self.events();
        if holder_ended {
            self.ended = self.holder.take().map(|(pid, _)| pid);
            stir = stir.max(Stir::Something);
        }
        Ok(stir)
    }

    /// What the events that have arrived mean for this lock. Other files of the folder may be busy.
    fn events(&self) -> Stir {
        let Some(inotify) = &self.inotify else { return Stir::Nothing };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let mut stir = Stir::Nothing;
        // It ends with "would block".
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let found = match name {
                Some(name) if name == self.lock_file => {
                    let renamed = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
                    match Some(event.wd()) == self.folder_watch && event.events().intersects(renamed) {
                        true => Stir::LockFile,
                        false => Stir::Something,
                    }
                }
                Some(name) if name == self.swap || name == self.target || name == ".tenure" => Stir::Something,
                Some(_) => Stir::Nothing,
                // Events were lost, or a folder went away.
                None => Stir::Something,
            };
            stir = stir.max(found);
        }
        stir
    }
}
