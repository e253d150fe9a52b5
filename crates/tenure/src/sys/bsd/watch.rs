//! Waiting for a foreign holder: its lock file's events (`kqueue(2)`, `EVFILT_VNODE`), its process's end (`EVFILT_PROC`), and
//! a wake-up by another thread (`EVFILT_USER`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use rustix::event::kqueue::{Event, EventFilter, EventFlags, UserDefinedFlags, UserFlags, VnodeEvents};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::kqueue::Queue;
use super::process_handle::ProcessHandle;
use super::this_bsd::vnode_events::CLOSED;
use crate::sys::unix::File;

/// The number of the one event of a [`Wakeup`].
const IDENT: isize = 1;

/// Wakes one waiting thread from another.
#[derive(Debug)]
pub(crate) struct Wakeup(Queue);

impl Wakeup {
    /// Makes a wake-up (`kevent(2)`, `EVFILT_USER`).
    pub(crate) fn new() -> io::Result<Wakeup> {
        let queue = Queue::new()?;
        queue.change(user_event(UserFlags::empty(), EventFlags::ADD | EventFlags::CLEAR))?;
        Ok(Wakeup(queue))
    }

    /// Ends the present or the next [`wait_any`] with this wake-up (`kevent(2)`, `NOTE_TRIGGER`).
    pub(crate) fn wake(&self) {
        let _ = self.0.change(user_event(UserFlags::TRIGGER, EventFlags::empty()));
    }
}

fn user_event(flags: UserFlags, action: EventFlags) -> Event {
    let filter = EventFilter::User { ident: IDENT, flags, user_flags: UserDefinedFlags::new(0) };
    Event::new(filter, action, ptr::null_mut())
}

/// Reports events of a file: it is removed or renamed, its links change, it is written, and where the system has that event,
/// a writer closes it (`kqueue(2)`, `EVFILT_VNODE`).
#[derive(Debug)]
pub(crate) struct FileWatch {
    queue: Queue,
    /// The watched descriptor. The kernel removes the filter when it is closed, and the caller may close its own.
    _watched: OwnedFd,
}

impl FileWatch {
    /// Whether a wait with one watch also ends at an event of the thread's other watches.
    pub(crate) const SHARES_EVENTS: bool = false;

    /// Watches a file (`kevent(2)`, `fcntl(2)`: `F_DUPFD_CLOEXEC`). The watch keeps the open file, and so a kernel lock that
    /// the caller has by it: a file to watch must not be locked.
    pub(crate) fn new(file: &File) -> io::Result<FileWatch> {
        let events = VnodeEvents::DELETE
            | VnodeEvents::RENAME
            | VnodeEvents::LINK
            | VnodeEvents::WRITE
            | VnodeEvents::EXTEND
            | VnodeEvents::ATTRIBUTES
            | VnodeEvents::REVOKE
            | CLOSED;
        let watched = fcntl_dupfd_cloexec(file.descriptor(), 3)?;
        let filter = EventFilter::Vnode { vnode: watched.as_raw_fd(), flags: events };
        let queue = Queue::new()?;
        queue.change(Event::new(filter, EventFlags::ADD | EventFlags::CLEAR, ptr::null_mut()))?;
        Ok(FileWatch { queue, _watched: watched })
    }

    /// Waits for an event, and returns whether there is one (`poll(2)`).
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        self.queue.wait(timeout)
    }
}

/// Waits until there is an event, the process ends, the thread is woken, or the timeout elapses (`poll(2)`: a queue polls
/// readable while it has events).
pub(crate) fn wait_any(
    watch: Option<&FileWatch>,
    process: Option<&ProcessHandle>,
    wakeup: &Wakeup,
    timeout: Duration,
) -> io::Result<()> {
    let mut fds = vec![PollFd::new(&wakeup.0, PollFlags::IN)];
    fds.extend(watch.map(|watch| PollFd::new(&watch.queue, PollFlags::IN)));
    fds.extend(process.map(|process| PollFd::new(process.queue(), PollFlags::IN)));
    let timeout = Timespec::try_from(timeout).ok();
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    wakeup.0.drain();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::{Dir, Name};

    #[test]
    fn a_removal_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let name = Name::new("a.lock".as_ref()).unwrap();
        let file = dir.create_new(&name, 0o644).unwrap();
        let watch = FileWatch::new(&file).unwrap();
        // A waiter closes its file before it waits.
        drop(file);
        assert!(!watch.wait(Duration::ZERO).unwrap());
        dir.unlink(&name).unwrap();
        assert!(watch.wait(Duration::from_secs(60)).unwrap());
    }

    #[test]
    fn a_wake_up_ends_one_wait() {
        let wakeup = Wakeup::new().unwrap();
        wakeup.wake();
        wait_any(None, None, &wakeup, Duration::from_secs(3600)).unwrap();
        wait_any(None, None, &wakeup, Duration::from_millis(1)).unwrap();
    }
}
