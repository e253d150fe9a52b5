//! Descriptors that a child inherits, and with them the lock.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};

/// A second descriptor of a locked file, for a child to inherit.
pub(crate) type Inherited = OwnedFd;

/// Makes every child inherit the descriptor that is started while it is open (`fcntl(2)`, `F_SETFD`).
pub(crate) fn inherit_always(fd: &Inherited) -> io::Result<()> {
    Ok(fcntl_setfd(fd, FdFlags::empty())?)
}

/// Makes `command` inherit the descriptor: the child clears close-on-exec between `fork(2)` and `execve(2)`.
pub(crate) fn inherit(command: &mut Command, fd: Inherited) {
    let keep = move || Ok(fcntl_setfd(&fd, FdFlags::empty())?);
    // SAFETY: `pre_exec` requires that the closure do only what is safe after a fork of a process with threads. It makes
    // one system call and allocates nothing.
    unsafe { command.pre_exec(keep) };
}
