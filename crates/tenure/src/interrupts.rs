//! Lets the calling thread wait in the kernel's queue itself, interrupted by a signal.
//!
//! By default a helper thread waits in the kernel and then wakes the calling thread. These two wake-ups take about twice as
//! long as one. A thread that waits there itself can only be interrupted by a signal, at its deadline and when an operator
//! breaks the lock. A library must not use a signal unasked, so the program has to enable it.
//!
//! # Pitfalls
//!
//! - The highest real-time signal without a handler is used, and another one if the program later sets a handler for it. A
//!   program that waits for real-time signals in another way (`signalfd(2)`, `sigwaitinfo(2)`) has to set a handler for the
//!   highest of them first.
//! - The signal is only sent to a thread inside of [`Lock::acquire`](crate::Lock::acquire), so it interrupts none of the
//!   program's own calls. It is unblocked in that thread during the wait.
//! - A debugger stops at real-time signals, unless gdb is told `handle SIG64 nostop noprint pass`.
//! - A thread that times out leaves the kernel's queue, and its next acquire starts at the end. By default the helper thread
//!   keeps its position for the next waiter of the process.
//! - It applies to the first thread of a process that waits for a lock. Futures, and threads behind the first, wait as by
//!   default.

use std::path::Path;

use crate::model::error::{Error, Result};
use crate::sys;

/// Enables waiting in the kernel's queue by the calling thread itself, for file locks. Returns the number of the signal that is
/// used. A further call does nothing. A forked child inherits it.
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
/// The system's error where every real-time signal has a handler; [`is_unsupported`](crate::Error::is_unsupported) on
/// Windows and on a platform without a port.
pub fn install() -> Result<i32> {
    let cannot =
        |error| Error::io(Path::new("(this process)"), "no signal is free to interrupt waiting threads", error);
    sys::install_interrupts().map_err(cannot)
}
