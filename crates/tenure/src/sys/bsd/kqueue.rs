//! Queues of kernel events (`kqueue(2)`).

use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::kqueue::{Event, kevent, kqueue};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};

use crate::sys::unix::fork_generation;

/// A queue. A forked child does not have it (`kqueue(2)`), and so does not close it: its number may be another file's there.
#[derive(Debug)]
pub(super) struct Queue {
    fd: ManuallyDrop<OwnedFd>,
    generation: u64,
}

impl Queue {
    /// Makes a queue, which an exec closes (`kqueue(2)`, `fcntl(2)`).
    pub(super) fn new() -> io::Result<Queue> {
        let fd = kqueue()?;
        fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
        Ok(Queue { fd: ManuallyDrop::new(fd), generation: fork_generation() })
    }

    /// Adds a filter or triggers an event (`kevent(2)`). An error is the kernel's about this very change, because there is no
    /// room for events.
    pub(super) fn change(&self, event: Event) -> io::Result<()> {
        let mut none: [MaybeUninit<Event>; 0] = [];
        // SAFETY: kevent(2) requires that the descriptors in the changes stay open while the queue watches them: where one is
        // closed, the kernel removes its filter.
        retry_on_intr(|| unsafe { kevent(&*self.fd, &[event], &mut none[..], None) }.map(drop))?;
        Ok(())
    }

    /// Takes the events that have come (`kevent(2)`).
    pub(super) fn drain(&self) {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; 8];
        // SAFETY: as in `change`; there is no change.
        let _ = unsafe { kevent(&*self.fd, &[], &mut events[..], Some(Duration::ZERO)) };
    }

    /// Waits for an event, which it does not take, and returns whether there is one (`poll(2)`).
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(self, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).ok();
        Ok(retry_on_intr(|| poll(&mut fds, timeout.as_ref()))? > 0)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.generation == fork_generation() {
            // SAFETY: `ManuallyDrop::drop` must be called once, and the value not be used again: `self` is being dropped,
            // here alone.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}
