//! Interrupting a thread's wait in the kernel by a signal, whose handler does nothing (`signal(7)`, "Interruption of
//! system calls").
//!
//! A signal that arrives just before the call does not interrupt it, so the sender repeats the signal until the thread
//! has left its [`InterruptibleWait`]. None is sent after that, and none stays pending: later calls of the program are
//! never interrupted.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::sys::ForkLocal;
use crate::sys::unix::signal::{action_of, set_handler};

/// The library's signal, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Takes the highest real-time signal without a handler, and returns its number (`signal(7)`, `sigaction(2)`). Returns
/// the same number again while the signal is the library's.
pub(crate) fn install_interrupts() -> io::Result<i32> {
    static TAKING: ForkLocal<Mutex<()>> = ForkLocal::new();
    let _taking = TAKING.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let known = SIGNAL.load(Ordering::Acquire);
    if known != 0 && is_ours(known) {
        return Ok(known);
    }
    for signal in (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev() {
        if action_of(signal)?.sa_sigaction != libc::SIG_DFL {
            continue;
        }
        // Without SA_RESTART, which would continue the wait. The handler does nothing.
        set_handler(signal, handler(), 0)?;
        SIGNAL.store(signal, Ordering::Release);
        return Ok(signal);
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "every real-time signal has a handler already"))
}

/// Returns whether the library has a signal.
pub(crate) fn interrupts_enabled() -> bool {
    SIGNAL.load(Ordering::Acquire) != 0
}

extern "C" fn on_interrupt(_signal: i32) {}

fn handler() -> libc::sighandler_t {
    let handler: extern "C" fn(i32) = on_interrupt;
    handler as usize
}

fn is_ours(signal: i32) -> bool {
    action_of(signal).is_ok_and(|present| present.sa_sigaction == handler())
}

/// A thread's wait, as another thread sees it.
#[derive(Debug)]
pub(crate) struct InterruptHandle {
    /// The thread's id, until it leaves the wait.
    thread: Mutex<Option<libc::pid_t>>,
    interrupted: AtomicBool,
}

impl InterruptHandle {
    /// Interrupts the wait (`tgkill(2)`). Returns `false` once the thread has left it. Until then, the caller repeats
    /// this every millisecond or so.
    pub(crate) fn interrupt(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = *thread else { return false };
        self.interrupted.store(true, Ordering::SeqCst);
        // The program may have set its own handler meanwhile: then the library takes another signal.
        if let Ok(signal) = install_interrupts() {
            // SAFETY: tgkill(2) takes numbers only, and the id must still be the thread's: a thread has to lock this
            // mutex to leave its wait, and cannot end before that.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, signal) };
        }
        true
    }

    /// Returns `false`: Linux has no timer that repeats the signal until the thread has left, so the watchdog's thread does.
    pub(crate) fn schedule(self: &Arc<InterruptHandle>, _deadline: Option<Instant>) -> bool {
        false
    }

    /// Returns whether the wait was interrupted.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }
}

/// This thread's wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct InterruptibleWait {
    interrupt: Arc<InterruptHandle>,
    /// The signal, if the program had it blocked.
    blocked: Option<i32>,
    /// The thread that entered the wait leaves it.
    _here: PhantomData<*const ()>,
}

impl InterruptibleWait {
    /// Begins a wait that can be interrupted (`gettid(2)`, `pthread_sigmask(3)`). `None` without a free signal.
    pub(crate) fn enter() -> Option<InterruptibleWait> {
        let signal = install_interrupts().ok()?;
        let blocked = mask(libc::SIG_UNBLOCK, signal)?.then_some(signal);
        // SAFETY: gettid(2) has no precondition. A thread's id fits into a `pid_t`.
        let thread = Mutex::new(Some(unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t));
        let interrupt = Arc::new(InterruptHandle { thread, interrupted: AtomicBool::new(false) });
        Some(InterruptibleWait { interrupt, blocked, _here: PhantomData })
    }

    /// Returns the handle for other threads.
    pub(crate) fn interrupt(&self) -> &Arc<InterruptHandle> {
        &self.interrupt
    }
}

impl Drop for InterruptibleWait {
    fn drop(&mut self) {
        *self.interrupt.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.interrupt.is_interrupted() {
            // A signal that was sent may be pending. It arrives at the latest when the next system call returns, which
            // is this.
            std::thread::yield_now();
        }
        if let Some(signal) = self.blocked {
            mask(libc::SIG_BLOCK, signal);
        }
    }
}

/// Blocks or unblocks a signal in this thread (`pthread_sigmask(3)`). Returns whether it was blocked.
fn mask(how: libc::c_int, signal: i32) -> Option<bool> {
    let mut ours = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigsetops(3) and pthread_sigmask(3) require initialised sets: sigemptyset(3) initialises both, on this stack.
    unsafe {
        libc::sigemptyset(ours.as_mut_ptr());
        libc::sigemptyset(before.as_mut_ptr());
        libc::sigaddset(ours.as_mut_ptr(), signal);
        let done = libc::pthread_sigmask(how, ours.as_ptr(), before.as_mut_ptr()) == 0;
        done.then(|| libc::sigismember(before.as_ptr(), signal) == 1)
    }
}
