//! Where a signal came from.

use crate::sys::unix::in_foreground;

/// The code of a signal that a process queued with a value (`sys/signal.h`). The crate `libc` lacks it.
pub(crate) const SI_QUEUE: i32 = 0x10002;

/// Returns whether the terminal probably sent the signal to the whole process group: no process is named as the sender, the
/// signal is one of those that a terminal sends, and this process is in the foreground. No code of a signal says so here
/// (`sigaction(2)`).
///
/// Called by the thread that reads the notes, and not in a handler.
pub(crate) fn is_from_terminal(signal: i32, _code: i32, sender: i32) -> bool {
    let of_terminals = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGHUP, libc::SIGWINCH];
    sender == 0 && of_terminals.contains(&signal) && in_foreground()
}
