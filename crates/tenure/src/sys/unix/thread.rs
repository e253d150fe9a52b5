//! The library's own threads, in which no signal of the program is handled.

use std::io;
use std::mem::MaybeUninit;
use std::thread;

/// Starts a detached thread with every signal blocked (`pthread_create(3)`, `pthread_sigmask(3)`).
pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = thread::Builder::new().name(name.into()).stack_size(1024 * 1024);
    with_signals_blocked(|| builder.spawn(run)).map(drop)
}

/// Calls `start` with every signal of this thread blocked. A thread that `start` starts inherits the full mask.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: pthread_sigmask(3) requires an initialised set to read and a writable one to fill: sigfillset(3) initialises
    // the first, and both are on this stack.
    let masked = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0
    };
    let started = start();
    if masked {
        // SAFETY: pthread_sigmask(3) requires an initialised set: the successful call above has filled in `before`. The new
        // thread has inherited the full mask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    }
    started
}
