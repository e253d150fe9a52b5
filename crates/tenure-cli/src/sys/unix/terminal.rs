//! The terminal.

use std::os::fd::AsFd;

/// Returns the number of columns of a terminal that reports it.
pub(crate) fn columns(terminal: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(size.ws_col.into()).filter(|columns| *columns > 0)
}

/// Returns whether this process is in the foreground of its terminal.
pub(crate) fn in_foreground() -> bool {
    // SAFETY: these calls take and return numbers only.
    unsafe {
        let own = libc::getpgrp();
        (0..=2).any(|fd| libc::tcgetpgrp(fd) == own)
    }
}
