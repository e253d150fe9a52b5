//! Notices what happens in folders and to processes, without polling.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::sys::types::{Entry, EntryChange, Notice, Part, WakeUps};
use crate::sys::unix::Signals;

/// A watch on folders and on the `.tenure` of each, by inotify, and on processes, by pidfds.
pub(crate) struct FolderWatch {
    /// `None` where only processes are watched.
    inotify: Option<OwnedFd>,
    watched: HashMap<i32, (Arc<Path>, Part)>,
    /// The watch of each part of a folder.
    watches: HashMap<(Arc<Path>, Part), i32>,
    processes: BTreeMap<i64, OwnedFd>,
    /// Processes whose end was reported. A pidfd of theirs would report it for ever.
    ended: BTreeSet<i64>,
    /// Processes that ended before they could be watched, and whose end is still to be reported.
    missed: Vec<i64>,
}

impl FolderWatch {
    pub(crate) fn new() -> io::Result<FolderWatch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(FolderWatch { inotify: Some(inotify), ..FolderWatch::of_processes() })
    }

    /// Creates a watch that notices no changes of folders.
    pub(super) fn of_processes() -> FolderWatch {
        FolderWatch {
            inotify: None,
            watched: HashMap::new(),
            watches: HashMap::new(),
            processes: BTreeMap::new(),
            ended: BTreeSet::new(),
            missed: Vec::new(),
        }
    }

    /// Watches a folder, and its `.tenure` if it has one. Costs nothing where nothing has changed since the last call: the
    /// kernel has one watch for each inode.
    pub(crate) fn watch(&mut self, folder: &Arc<Path>) -> io::Result<()> {
        // Reads are left out: the caller's own looks would wake it.
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::CLOSE_WRITE;
        let events = names | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        let path = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let watched = self.add(path, events, folder, Part::Folder);
        let anchors = self.add(&path.join(".tenure"), events | WatchFlags::MODIFY, folder, Part::Anchors);
        watched?;
        match anchors {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn add(&mut self, path: &Path, events: WatchFlags, folder: &Arc<Path>, part: Part) -> Result<(), Errno> {
        let Some(inotify) = &self.inotify else { return Ok(()) };
        let added = inotify::add_watch(inotify, path, events);
        let key = (Arc::clone(folder), part);
        let before = match &added {
            Ok(watch) => self.watches.insert(key.clone(), *watch).filter(|before| before != watch),
            Err(Errno::NOENT | Errno::NOTDIR) => self.watches.remove(&key),
            Err(_) => None,
        };
        // The path led elsewhere before: a link was changed, or a folder above was renamed. That other folder may be watched by
        // another path as well. What has happened in it is still read, up to the event of the watch's end. One that was
        // deleted has no watch any more.
        if let Some(before) = before
            && self.watched.get(&before) == Some(&key)
        {
            let _ = inotify::remove_watch(inotify, before);
        }
        self.watched.insert(added?, key);
        Ok(())
    }

    /// Watches these processes, and no others.
    pub(crate) fn watch_processes(&mut self, pids: impl IntoIterator<Item = i64>) {
        let wanted: BTreeSet<i64> = pids.into_iter().collect();
        self.processes.retain(|pid, _| wanted.contains(pid));
        self.ended.retain(|pid| wanted.contains(pid));
        for pid in wanted {
            if self.processes.contains_key(&pid) || self.ended.contains(&pid) {
                continue;
            }
            let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
                Ok(pidfd) => {
                    self.processes.insert(pid, pidfd);
                }
                Err(Errno::SRCH) => {
                    self.ended.insert(pid);
                    self.missed.push(pid);
                }
                Err(_) => {}
            }
        }
    }

    /// Waits until something happens, or the timeout is over, and returns what has happened.
    pub(crate) fn wait(&mut self, timeout: Duration, wake_ups: WakeUps) -> io::Result<Vec<Notice>> {
        let missed = std::mem::take(&mut self.missed);
        let timeout = if !missed.is_empty() { Duration::ZERO } else { timeout };
        let (input, output) = (io::stdin(), io::stdout());
        let mut fds: Vec<PollFd<'_>> =
            self.processes.values().map(|process| PollFd::new(process, PollFlags::IN)).collect();
        let mut others = Vec::new();
        if let Some(notes) = Signals::descriptor().filter(|_| wake_ups.notes) {
            others.push(Notice::Note);
            fds.push(PollFd::from_borrowed_fd(notes, PollFlags::IN));
        }
        if wake_ups.input {
            others.push(Notice::Input);
            fds.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN));
        }
        if wake_ups.output_closed {
            others.push(Notice::OutputClosed);
            // An error is reported whatever events are asked for.
            fds.push(PollFd::from_borrowed_fd(output.as_fd(), PollFlags::empty()));
        }
        fds.extend(self.inotify.iter().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        match rustix::event::poll(&mut fds, Timespec::try_from(timeout).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (processes, rest) = happened.split_at(self.processes.len());
        let ended: Vec<i64> =
            self.processes.keys().zip(processes).filter(|(_, ended)| **ended).map(|(pid, _)| *pid).collect();
        let mut notices = self.entries();
        for pid in ended {
            self.processes.remove(&pid);
            self.ended.insert(pid);
            notices.push(Notice::Ended(pid));
        }
        notices.extend(missed.into_iter().map(Notice::Ended));
        notices.extend(others.into_iter().zip(rest).filter(|(_, happened)| **happened).map(|(notice, _)| notice));
        Ok(notices)
    }

    /// Returns what the events that have arrived mean.
    fn entries(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let Some(inotify) = &self.inotify else { return notices };
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        // The last read returns "would block".
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                notices.push(Notice::Overflow);
                continue;
            }
            let Some((folder, part)) = self.watched.get(&event.wd()) else { continue };
            let (folder, part) = (Arc::clone(folder), *part);
            let Some(name) = event.file_name() else {
                if flags.contains(ReadFlags::MOVE_SELF) {
                    // Its path is another folder's now, or none's.
                    let _ = inotify::remove_watch(inotify, event.wd());
                }
                if let Some(key) = self.watched.remove(&event.wd())
                    && self.watches.get(&key) == Some(&event.wd())
                {
                    self.watches.remove(&key);
                }
                notices.push(Notice::Gone(folder));
                continue;
            };
            let changes = [
                (ReadFlags::CREATE, EntryChange::Created),
                (ReadFlags::DELETE, EntryChange::Removed),
                (ReadFlags::MOVED_TO, EntryChange::MovedIn),
                (ReadFlags::MOVED_FROM, EntryChange::MovedOut),
            ];
            let change = changes.into_iter().find(|(flag, _)| flags.contains(*flag));
            notices.push(Notice::Entry(Entry {
                folder,
                part,
                name: OsStr::from_bytes(name.to_bytes()).to_owned(),
                is_folder: flags.contains(ReadFlags::ISDIR),
                what: change.map_or(EntryChange::Written, |(_, change)| change),
            }));
        }
        notices
    }
}
