//! Every Unix: `pipe(2)`, `poll(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// A pipe that neither end blocks at.
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Pipe> {
        let (read, write) = ends()?;
        Ok(Pipe { read, write })
    }

    /// Returns the number of the end that is read from, which is readable while the pipe has bytes.
    #[cfg(any(not(target_os = "linux"), feature = "pipes"))]
    pub(crate) fn reader(&self) -> i32 {
        self.read.as_raw_fd()
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

/// Returns the ends of a new pipe, neither of which blocks or survives an `exec`.
#[cfg(not(target_vendor = "apple"))]
fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)?)
}

/// Returns the ends of a new pipe, neither of which blocks or survives an `exec`. Apple's kernels have no `pipe2(2)`, so a program
/// that another thread starts at this moment may inherit them.
#[cfg(target_vendor = "apple")]
fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    for end in [&read, &write] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(end, rustix::fs::OFlags::NONBLOCK)?;
    }
    Ok((read, write))
}

/// The caller loops, so a long time may be cut short: `poll(2)` takes 24 days at most where it counts milliseconds.
fn timespec(time: Duration) -> Timespec {
    const DAY: Timespec = Timespec { tv_sec: 86_400, tv_nsec: 0 };
    Timespec::try_from(time).map_or(DAY, |time| if time.tv_sec < DAY.tv_sec { time } else { DAY })
}

/// Returns whether an error means that too many files are open.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
