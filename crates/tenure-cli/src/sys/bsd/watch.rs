//! Notices that a lock may have changed, without polling its files (`kqueue(2)`).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use rustix::event::kqueue::{Event, EventFilter, EventFlags, ProcessEvents, VnodeEvents, kevent, kqueue};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::Pid;

use crate::sys::types::Change;

/// A watch on a lock: on its folder, `.tenure` and the anchor, and on its holder's process.
///
/// It only reports when to check the lock. Where a file cannot be watched it reports nothing, and the caller relies on its
/// slow checks.
pub(crate) struct Watch {
    queue: Option<OwnedFd>,
    lock_file: PathBuf,
    watched: [Watched; 3],
    /// The inode of the lock file when the watches were set.
    inode: Option<u64>,
    holder: Option<i64>,
    /// A holder whose end was reported.
    ended: Option<i64>,
    /// The holder ended before it could be watched.
    missed: bool,
}

/// A file or folder, and its descriptor while it is watched.
struct Watched {
    path: PathBuf,
    open: Option<(OwnedFd, (u64, u64))>,
}

impl Watch {
    pub(crate) fn new(target: &Path) -> Watch {
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut lock = target.file_name().unwrap_or_default().to_owned();
        lock.push(".lock");
        let anchors = folder.join(".tenure");
        let watched =
            [folder.to_owned(), anchors.clone(), anchors.join(&lock)].map(|path| Watched { path, open: None });
        let queue = kqueue().ok().filter(|queue| fcntl_setfd(queue, FdFlags::CLOEXEC).is_ok());
        Watch { queue, lock_file: folder.join(lock), watched, inode: None, holder: None, ended: None, missed: false }
    }

    /// Watches the files that exist now. Must be called before each check, because they come and go.
    pub(crate) fn watch_folders(&mut self) {
        let Some(queue) = &self.queue else { return };
        for watched in &mut self.watched {
            let now = std::fs::symlink_metadata(&watched.path).ok().map(|found| (found.dev(), found.ino()));
            if watched.open.as_ref().map(|(_, id)| *id) == now {
                continue;
            }
            watched.open = now.and_then(|id| Some((watch(queue, &watched.path)?, id)));
        }
        self.inode = self.lock_file_inode();
    }

    /// Watches the process that holds the lock now. Must be called after each check.
    pub(crate) fn watch_holder(&mut self, pid: Option<i64>) {
        let pid = pid.filter(|&pid| Some(pid) != self.ended);
        if self.holder == pid {
            return;
        }
        self.holder = None;
        let Some(queue) = &self.queue else { return };
        let Some((pid, number)) = pid.and_then(|pid| Some((pid, Pid::from_raw(i32::try_from(pid).ok()?)?))) else {
            return;
        };
        let filter = EventFilter::Proc { pid: number, flags: ProcessEvents::EXIT };
        match change(queue, Event::new(filter, EventFlags::ADD, ptr::null_mut())) {
            Ok(()) => self.holder = Some(pid),
            Err(Errno::SRCH) => {
                self.ended = Some(pid);
                self.missed = true;
            }
            Err(_) => {}
        }
    }

    /// Waits until the lock's files change, the holder ends, or the timeout is over (`kevent(2)`).
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<Change> {
        if std::mem::take(&mut self.missed) {
            return Ok(Change::Possible);
        }
        let Some(queue) = &self.queue else {
            std::thread::sleep(timeout);
            return Ok(Change::Nothing);
        };
        let mut events = [const { MaybeUninit::<Event>::uninit() }; 8];
        // SAFETY: the watched descriptors stay open for as long as the queue watches them: a closed one is watched no more.
        let found = match unsafe { kevent(queue, &[], &mut events[..], Some(timeout)) } {
            Ok((found, _)) => found,
            Err(Errno::INTR) => return Ok(Change::Nothing),
            Err(error) => return Err(error.into()),
        };
        let mut seen = Change::Nothing;
        for event in found.iter() {
            seen = seen.max(Change::Possible);
            if let EventFilter::Proc { pid, .. } = event.filter() {
                self.ended = Some(i64::from(pid.as_raw_nonzero().get()));
                self.holder = None;
            }
        }
        if seen == Change::Possible && self.lock_file_inode() != self.inode {
            seen = Change::LockFile;
        }
        Ok(seen)
    }

    fn lock_file_inode(&self) -> Option<u64> {
        std::fs::symlink_metadata(&self.lock_file).ok().map(|found| found.ino())
    }
}

/// Opens a file or folder and watches its changes.
fn watch(queue: &OwnedFd, path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let events =
        VnodeEvents::WRITE | VnodeEvents::DELETE | VnodeEvents::RENAME | VnodeEvents::LINK | VnodeEvents::EXTEND;
    let filter = EventFilter::Vnode { vnode: file.as_raw_fd(), flags: events };
    change(queue, Event::new(filter, EventFlags::ADD | EventFlags::CLEAR, ptr::null_mut())).ok()?;
    Some(file)
}

fn change(queue: &OwnedFd, event: Event) -> Result<(), Errno> {
    let mut none: [MaybeUninit<Event>; 0] = [];
    // SAFETY: as in `Watch::wait`.
    unsafe { kevent(queue, &[event], &mut none[..], None) }.map(drop)
}
