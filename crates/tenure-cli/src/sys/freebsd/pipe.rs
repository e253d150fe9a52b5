//! Pipes.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;

/// Makes a pipe that an exec closes and that never blocks (`pipe2(2)`).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}
