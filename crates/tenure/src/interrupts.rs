//! Threads that wait for a lock in the kernel's queue themselves, where a signal calls them back.
//!
//! Without this a thread of the library's waits in the kernel and wakes the one that asked: two wake-ups for a grant,
//! which take about twice as long as one. A thread that waited there itself could be called back by nothing but a
//! signal: at its deadline, and when an operator breaks the lock. A library must not take a signal unasked, so this is
//! for the program to say.
//!
//! # Pitfalls
//!
//! - It takes the highest real-time signal that has no handler, and another one where the program sets a handler for that
//!   later. A program that waits for real-time signals in another way (`signalfd(2)`, `sigwaitinfo(2)`) gives the highest
//!   of them a handler first.
//! - The signal is sent to a thread inside of [`Lock::acquire`](crate::Lock::acquire) alone, never to one that has
//!   returned from it, so nothing of the program's is interrupted. If the thread has it blocked, it is let through for
//!   the time of the wait.
//! - A debugger shows real-time signals: `handle SIG64 nostop noprint pass` in gdb.
//! - Who gives up at its deadline leaves the kernel's queue, and stands at its end when it asks again. Without this, what
//!   waits in the kernel keeps the place for the next of the process.
//! - It serves the one thread of a process that is first to wait for a lock. Futures, and the threads behind it, wait as
//!   without it.

use std::path::Path;

use crate::model::error::{Error, Result};
use crate::sys;

/// From here on a thread that waits for a file's lock does so in the kernel's queue itself. Returns the number of the
/// signal that was taken. Calling it again does nothing; a forked child has it as well.
///
/// ```
/// # if cfg!(target_os = "linux") {
/// tenure::interrupts::install()?;
/// # }
/// # Ok::<(), tenure::Error>(())
/// ```
///
/// # Errors
///
/// Where every real-time signal has a handler; [`is_unsupported`](crate::Error::is_unsupported) where the platform has no
/// port.
pub fn install() -> Result<i32> {
    let cannot = |error| Error::io(Path::new("(this process)"), "no signal can be taken to call threads back", error);
    sys::install_interrupts().map_err(cannot)
}
