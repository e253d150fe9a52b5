//! Sets the action of this process at a signal, and ends or stops the process by one.

use std::mem::MaybeUninit;
use std::ptr;

use signal_hook::{consts, low_level};

/// Returns whether this process ignores `signal`. Async-signal-safe.
pub(super) fn is_ignored(signal: i32) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action this only writes the present one to `now`, which is large enough and, being
    // zeroed, is a valid `sigaction` even where the call fails.
    unsafe {
        libc::sigaction(signal, ptr::null(), now.as_mut_ptr());
        now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Sets `signal` back to its default disposition. Async-signal-safe.
pub(super) fn set_default(signal: i32) {
    // SAFETY: SIG_DFL runs no code of this process.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Ignores `signal`. Async-signal-safe.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: SIG_IGN runs no code of this process.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Ends this process as `signal` would have without a handler.
///
/// `before` runs once the signal has its default disposition again. The function returns only where the kernel spares the
/// process (pid 1 of a container).
pub(crate) fn die_by(signal: i32, before: impl FnOnce()) {
    set_default(signal);
    before();
    let _ = low_level::raise(signal);
}

/// Stops this process until another process continues it.
pub(crate) fn stop_self() {
    let _ = low_level::raise(consts::SIGSTOP);
}

/// Returns the name of a signal, such as `SIGTERM`.
pub(crate) fn signal_name(signal: i32) -> String {
    low_level::signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}
