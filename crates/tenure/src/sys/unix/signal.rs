//! Handlers of signals, set and read.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Returns the action of a signal (`sigaction(2)`).
pub(crate) fn action_of(signal: i32) -> io::Result<libc::sigaction> {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction(2) requires that the third pointer be to a writable `sigaction`: `present` is one, on this
    // stack. The second is null, so nothing is set.
    if unsafe { libc::sigaction(signal, ptr::null(), present.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `assume_init` requires a valid `sigaction`: zeros are one, and the call has filled it in.
    Ok(unsafe { present.assume_init() })
}

/// Returns an action with this handler, an empty mask and these flags.
fn action(handler: libc::sighandler_t, flags: libc::c_int) -> libc::sigaction {
    // SAFETY: `assume_init` requires a valid `sigaction`: zeros are one, with an empty mask and no flags.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    action
}

/// Sets a handler that runs on the alternate stack where there is one (`sigaction(2)`, `SA_ONSTACK`). The handler must be
/// async-signal-safe.
pub(crate) fn set_handler(signal: i32, handler: libc::sighandler_t, flags: libc::c_int) -> io::Result<()> {
    set(signal, &action(handler, libc::SA_ONSTACK | flags))
}

/// Returns the action by which a signal has its default effect.
pub(super) fn default_action() -> libc::sigaction {
    action(libc::SIG_DFL, 0)
}

/// Sets the action of a signal (`sigaction(2)`). Async-signal-safe.
pub(super) fn set(signal: i32, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: sigaction(2) requires a pointer to a `sigaction`, whose handler the callers keep async-signal-safe.
    if unsafe { libc::sigaction(signal, action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
