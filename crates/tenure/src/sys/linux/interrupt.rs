//! Calls a thread back that waits in the kernel: by a signal, which does nothing but end the system call.
//!
//! A signal that comes just before the call is lost on it, so it has to be repeated until the thread has left its
//! [`InterruptHandle`]. None is sent after that, and none is left over: what the program does next is never interrupted.

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::cleanup;
use crate::sys::ForkLocal;

/// The signal that is ours, once there is one.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Takes the highest real-time signal that nobody uses, and says which. The same one again, if it is ours already.
pub(crate) fn install_interrupts() -> io::Result<i32> {
    static TAKING: ForkLocal<Mutex<()>> = ForkLocal::new();
    let _taking = TAKING.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let known = SIGNAL.load(Ordering::Acquire);
    if known != 0 && is_ours(known) {
        return Ok(known);
    }
    for signal in (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev() {
        if cleanup::present(signal)?.sa_sigaction != libc::SIG_DFL {
            continue;
        }
        // Without SA_RESTART, which would go on with the wait. The handler does nothing.
        cleanup::set_handler(signal, handler(), 0)?;
        SIGNAL.store(signal, Ordering::Release);
        return Ok(signal);
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "every real-time signal has a handler already"))
}

/// Was a signal taken?
pub(crate) fn interrupts_enabled() -> bool {
    SIGNAL.load(Ordering::Acquire) != 0
}

extern "C" fn on_recall(_signal: i32) {}

fn handler() -> libc::sighandler_t {
    let handler: extern "C" fn(i32) = on_recall;
    handler as usize
}

fn is_ours(signal: i32) -> bool {
    cleanup::present(signal).is_ok_and(|present| present.sa_sigaction == handler())
}

/// Where a thread sits that may be called back.
#[derive(Debug)]
pub(crate) struct InterruptHandle {
    /// Of the thread, while it sits there.
    thread: Mutex<Option<libc::pid_t>>,
    recalled: AtomicBool,
}

impl InterruptHandle {
    /// Calls its thread back. `false` once it has left: until then this is to be done again, every millisecond or so.
    pub(crate) fn interrupt(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = *thread else { return false };
        self.recalled.store(true, Ordering::SeqCst);
        // The program may have set its own handler for it meanwhile: then another one is ours.
        if let Ok(signal) = install_interrupts() {
            // SAFETY: numbers only. The thread lives: it has to pass by this mutex to leave its seat, and before that it
            // cannot end, so the number is its own.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, signal) };
        }
        true
    }

    /// Returns `false`: Linux has no timer that repeats the signal until the thread has left, so the watchdog's thread does.
    pub(crate) fn schedule(self: &Arc<InterruptHandle>, _deadline: Option<Instant>) -> bool {
        false
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.recalled.load(Ordering::SeqCst)
    }
}

/// This thread's, for as long as it sits there.
#[derive(Debug)]
pub(crate) struct InterruptibleWait {
    interrupt: Arc<InterruptHandle>,
    /// The signal, if the program had it blocked.
    blocked: Option<i32>,
    /// It is left by the thread that took it.
    _here: PhantomData<*const ()>,
}

impl InterruptibleWait {
    /// `None` where there is no signal for it any more.
    pub(crate) fn enter() -> Option<InterruptibleWait> {
        let signal = install_interrupts().ok()?;
        let blocked = mask(libc::SIG_UNBLOCK, signal)?.then_some(signal);
        // SAFETY: no precondition. The number of a thread fits.
        let thread = Mutex::new(Some(unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t));
        let interrupt = Arc::new(InterruptHandle { thread, recalled: AtomicBool::new(false) });
        Some(InterruptibleWait { interrupt, blocked, _here: PhantomData })
    }

    pub(crate) fn interrupt(&self) -> &Arc<InterruptHandle> {
        &self.interrupt
    }
}

impl Drop for InterruptibleWait {
    fn drop(&mut self) {
        *self.interrupt.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.interrupt.is_interrupted() {
            // What was sent is pending. It arrives at the latest as the next system call returns, which is to be this.
            std::thread::yield_now();
        }
        if let Some(signal) = self.blocked {
            mask(libc::SIG_BLOCK, signal);
        }
    }
}

/// Blocks or unblocks a signal in this thread. Was it blocked?
fn mask(how: libc::c_int, signal: i32) -> Option<bool> {
    let mut ours = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are on this stack; sigemptyset(3) initialises them before anything else is done with them.
    unsafe {
        libc::sigemptyset(ours.as_mut_ptr());
        libc::sigemptyset(before.as_mut_ptr());
        libc::sigaddset(ours.as_mut_ptr(), signal);
        let done = libc::pthread_sigmask(how, ours.as_ptr(), before.as_mut_ptr()) == 0;
        done.then(|| libc::sigismember(before.as_ptr(), signal) == 1)
    }
}
