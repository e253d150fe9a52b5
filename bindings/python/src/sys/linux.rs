//! Linux: `eventfd(2)`, `pipe2(2)`, `poll(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

/// A descriptor that is readable from a signal on, until it is reset.
pub(crate) struct Event(OwnedFd);

impl Event {
    pub(crate) fn new() -> io::Result<Event> {
        Ok(Event(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Returns the descriptor's number.
    pub(crate) fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Makes the descriptor readable. The counter behind it must be reset before 2^64 calls.
    pub(crate) fn signal(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn reset(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// A pipe that neither end blocks at.
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Pipe> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe { read, write })
    }

    /// Returns the number of the end that is written to.
    pub(crate) fn writer(&self) -> i32 {
        self.write.as_raw_fd()
    }

    /// Writes a zero. A full pipe is readable already.
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&self.write, &[0]);
    }

    /// Empties the pipe. The bytes that are not zero go to `bytes`.
    pub(crate) fn drain(&self, bytes: &mut Vec<u8>) {
        let mut part = [0; 64];
        while let Ok(count @ 1..) = rustix::io::read(&self.read, &mut part) {
            bytes.extend(part[..count].iter().filter(|byte| **byte != 0));
        }
    }

    /// Sleeps until the pipe is written to, a signal arrives, or `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<()> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut fds = [PollFd::from_borrowed_fd(self.read.as_fd(), PollFlags::IN)];
        match rustix::event::poll(&mut fds, left.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The caller loops, so a time that the kernel cannot represent may be cut short.
fn timespec(time: Duration) -> Timespec {
    Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
}

/// Returns whether an error means that too many files are open.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
