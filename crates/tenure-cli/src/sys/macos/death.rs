//! The end of a process with its parent, which macOS's kernel does not bring about.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::event::kqueue::{Event, EventFilter, EventFlags, ProcessEvents, kevent, kqueue};
use rustix::process::{Pid, getppid};

/// Fails as unsupported, so that the command does not start. Async-signal-safe.
pub(crate) fn on_our_end(_us: Pid) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOTSUP))
}

/// Ends this process when `parent` ends, by a thread that watches it (`kqueue(2)`, `EVFILT_PROC`). Fails where the parent has
/// ended already.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    let ended = || io::Error::new(io::ErrorKind::NotFound, "the doctor has ended");
    let pid = Pid::from_raw(parent.cast_signed()).ok_or_else(ended)?;
    let queue = kqueue()?;
    let filter = EventFilter::Proc { pid, flags: ProcessEvents::EXIT };
    let event = Event::new(filter, EventFlags::ADD, std::ptr::null_mut());
    let mut none: [MaybeUninit<Event>; 0] = [];
    // SAFETY: the change names no descriptor.
    unsafe { kevent(&queue, &[event], &mut none[..], None) }?;
    // It may have ended before that, and another process have its pid.
    if getppid() != Some(pid) {
        return Err(ended());
    }
    std::thread::Builder::new().name("tenure-parent".to_owned()).spawn(move || {
        loop {
            let mut events = [MaybeUninit::<Event>::uninit()];
            // SAFETY: there is no change.
            let found = unsafe { kevent(&queue, &[], &mut events[..], None::<Duration>) };
            if found.is_ok_and(|(events, _)| !events.is_empty()) {
                // As by SIGKILL: nothing is cleaned up.
                // SAFETY: _exit(2) has no precondition.
                unsafe { libc::_exit(137) };
            }
        }
    })?;
    Ok(())
}
