//! Waits of the main thread, which runs Python's signal handlers meanwhile.
//!
//! The thread sleeps at a pipe, which is Python's wakeup descriptor (`signal.set_wakeup_fd`) while the wait lasts. A signal
//! that arrives between the check for signals and the sleep writes to it, so that no signal is missed. The previous wakeup
//! descriptor is restored, and gets the bytes that it missed.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tenure::{AcquireFuture, Guard};

use crate::error::{self, OrRaise};
use crate::sys::Pipe;
use crate::timeout::Timeout;

/// Waits for a grant, for at most `timeout`. If a signal handler raises, the wait ends and nothing is held.
pub(crate) fn wait(py: Python<'_>, target: &Path, mut acquiring: AcquireFuture, timeout: Timeout) -> PyResult<Guard> {
    let deadline = acquiring.deadline();
    let Some(_wait) = InterruptibleWait::enter(target, timeout.duration().is_none()) else {
        return Err(error::waits_for_itself(py, target));
    };
    let pipe = WakePipe::new(py, target)?;
    let wakeup = WakeupFd::install(py, &pipe)?;
    let mut signals = Vec::new();
    let waited = poll_until(py, target, &mut acquiring, &pipe, deadline, &mut signals);
    let restored = wakeup.map_or(Ok(()), |wakeup| wakeup.restore(py, &pipe, signals));
    let outcome = py.detach(|| match waited {
        Ok(Waited::Settled(outcome)) => Ok(outcome),
        Ok(Waited::TimedOut) => Ok(acquiring.give_up()),
        Err(raised) => {
            drop(acquiring);
            Err(raised)
        }
    })?;
    let guard = outcome.or_raise(py)?;
    match restored {
        Ok(()) => Ok(guard),
        Err(error) => {
            py.detach(|| drop(guard));
            Err(error)
        }
    }
}

enum Waited {
    Settled(tenure::Result<Guard>),
    TimedOut,
}

/// Waits until the acquire settles or the deadline passes. The numbers of signals that arrived go to `signals`.
fn poll_until(
    py: Python<'_>,
    target: &Path,
    acquiring: &mut AcquireFuture,
    pipe: &Arc<WakePipe>,
    deadline: Option<Instant>,
    signals: &mut Vec<u8>,
) -> PyResult<Waited> {
    let waker = Waker::from(Arc::clone(pipe));
    loop {
        // A handler may have run meanwhile, and signals may have arrived while it did.
        py.check_signals()?;
        let waited = py.detach(|| {
            if let Poll::Ready(outcome) = Pin::new(&mut *acquiring).poll(&mut Context::from_waker(&waker)) {
                return Ok(Some(Waited::Settled(outcome)));
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(Some(Waited::TimedOut));
            }
            pipe.0.wait(deadline)?;
            pipe.0.drain(signals);
            // A grant wins: Python handles a signal that arrived with it after the return.
            match Pin::new(&mut *acquiring).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => Ok(Some(Waited::Settled(outcome))),
                Poll::Pending => Ok(None),
            }
        });
        if let Some(waited) = waited.map_err(|refused: io::Error| error::cannot_wait(py, target, refused))? {
            return Ok(waited);
        }
    }
}

/// A pipe that wakes the main thread. What drains from it are the numbers of signals that wrote to it.
struct WakePipe(Pipe);

impl WakePipe {
    fn new(py: Python<'_>, target: &Path) -> PyResult<Arc<WakePipe>> {
        match Pipe::new() {
            Ok(pipe) => Ok(Arc::new(WakePipe(pipe))),
            Err(refused) => Err(error::cannot_wait(py, target, refused)),
        }
    }
}

impl Wake for WakePipe {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

/// Python's wakeup descriptor while a [`WakePipe`] takes its place.
struct WakeupFd {
    previous: i32,
}

impl WakeupFd {
    /// Returns `None` on every thread but the main one, as no signal handler runs there.
    fn install(py: Python<'_>, pipe: &WakePipe) -> PyResult<Option<WakeupFd>> {
        match set_wakeup_fd(py, pipe.0.writer(), false) {
            Ok(previous) => Ok(Some(WakeupFd { previous })),
            Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(None),
            // For example, an exception of a signal handler that ran meanwhile.
            Err(error) => Err(error),
        }
    }

    /// Restores the previous descriptor, and writes the signals to it that it missed.
    fn restore(self, py: Python<'_>, pipe: &WakePipe, mut missed: Vec<u8>) -> PyResult<()> {
        set_wakeup_fd(py, self.previous, true)?;
        pipe.0.drain(&mut missed);
        // On Windows the descriptor is a socket, and `os.write` may take its number for that of a file.
        if cfg!(unix) && self.previous >= 0 && !missed.is_empty() {
            // The descriptor may be full or closed. Python ignores that as well.
            let _ = py.import("os")?.call_method1("write", (self.previous, missed));
        }
        Ok(())
    }
}

fn set_wakeup_fd(py: Python<'_>, fd: i32, warn: bool) -> PyResult<i32> {
    let set = py.import("signal")?.getattr("set_wakeup_fd")?;
    let keywords = PyDict::new(py);
    keywords.set_item("warn_on_full_buffer", warn)?;
    set.call((fd,), Some(&keywords))?.extract()
}

thread_local! {
    /// The targets that the main thread waits for: more than one when a signal handler acquires.
    static INTERRUPTIBLE: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// A wait of the main thread, which signal handlers may interrupt.
struct InterruptibleWait;

impl InterruptibleWait {
    /// Returns `None` if a signal handler would wait without a limit behind the wait that it interrupts, which continues
    /// only after the handler returns.
    fn enter(target: &Path, forever: bool) -> Option<InterruptibleWait> {
        INTERRUPTIBLE.with_borrow_mut(|waits| {
            if forever && waits.iter().any(|waited| waited == target) {
                return None;
            }
            waits.push(target.to_owned());
            Some(InterruptibleWait)
        })
    }
}

impl Drop for InterruptibleWait {
    fn drop(&mut self) {
        INTERRUPTIBLE.with_borrow_mut(Vec::pop);
    }
}
