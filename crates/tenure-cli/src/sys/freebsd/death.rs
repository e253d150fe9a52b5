//! The end of a process with its parent (`procctl(2)`, `PROC_PDEATHSIG_CTL`).

use std::io;

use rustix::process::{Pid, getppid};

/// Makes the kernel kill this process, a child between fork and exec, when `us` ends. Async-signal-safe.
pub(crate) fn on_our_end(us: Pid) -> io::Result<()> {
    let mut signal = libc::SIGKILL;
    // SAFETY: procctl(2) requires a pointer to an integer for this command: `signal` is one. The id 0 is this process.
    if unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_PDEATHSIG_CTL, (&raw mut signal).cast()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have ended before that call.
    if getppid() == Some(us) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Makes the kernel kill this process when `parent` ends. Fails where the parent has ended already.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    let ended = || io::Error::new(io::ErrorKind::NotFound, "the doctor has ended");
    let parent = Pid::from_raw(parent.cast_signed()).ok_or_else(ended)?;
    on_our_end(parent).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => ended(),
        _ => error,
    })
}
