//! The end of a process with its parent.

use std::io;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Makes the kernel kill this process, a child between fork and exec, when `us` ends (`prctl(2)`, `PR_SET_PDEATHSIG`).
/// Async-signal-safe.
pub(crate) fn on_our_end(us: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have ended before that call.
    if getppid() == Some(us) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Makes the kernel kill this process when `parent`, or the thread of it that started this process, ends. Fails where the
/// parent has ended already.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    match rustix::process::getppid() {
        Some(now) if now.as_raw_nonzero().get().cast_unsigned() == parent => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "the doctor has ended")),
    }
}
