//! The wait of a thread or greenlet that acquires.
//!
//! The library wakes a waiter from a thread of its own, which never takes the GIL. A waiting thread is parked, except for
//! the main thread, which also waits for Python's signals ([`signal_wait`]).

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tenure::{AcquireFuture, Requester};

use crate::attempt::{Attempt, Source, try_or_enqueue};
use crate::error::{self, OrRaise};
use crate::event_loop::Waiting;
use crate::green::green_threads;
use crate::guard::Guard;
use crate::signal_wait;
use crate::timeout::Timeout;

/// Acquires, and runs Python's signal handlers meanwhile. If one of them raises, the wait ends and nothing is held.
pub(crate) fn acquire(py: Python<'_>, source: Source<'_>, timeout: Timeout) -> PyResult<tenure::Guard> {
    // Before the attempt: what this thread holds, another greenlet of it may release during the wait.
    let green = green_threads(py);
    let requester = if green.is_some() { Requester::Task } else { Requester::Thread };
    let acquiring = match try_or_enqueue(py, source, timeout.wait(), requester).or_raise(py)? {
        Attempt::Granted(guard) => return Ok(guard),
        Attempt::Queued(acquiring) => acquiring,
    };
    match green {
        Some(green) => wait_green(py, &green, source.target(), acquiring),
        None if is_main_thread(py)? => signal_wait::wait(py, source.target(), acquiring, timeout),
        None => py.detach(|| wait_parked(acquiring)).or_raise(py),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on a thread that runs no signal handlers.
fn wait_parked(mut acquiring: AcquireFuture) -> tenure::Result<tenure::Guard> {
    let deadline = acquiring.deadline();
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(outcome) = Pin::new(&mut acquiring).poll(&mut Context::from_waker(&waker)) {
            return outcome;
        }
        match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => std::thread::park(),
            Some(Duration::ZERO) => return acquiring.give_up(),
            Some(left) => std::thread::park_timeout(left),
        }
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    threading.call_method0("get_ident")?.eq(main)
}

/// Imports the modules that a wait needs, before it: a signal handler that runs in the middle of such an import could not
/// acquire, and most programs still have one thread.
pub(crate) fn import_early(py: Python<'_>) -> PyResult<()> {
    py.import("threading")?;
    green_threads(py);
    Ok(())
}

/// Waits under gevent, and lets other greenlets run.
fn wait_green(
    py: Python<'_>,
    green: &Bound<'_, PyModule>,
    target: &Path,
    acquiring: AcquireFuture,
) -> PyResult<tenure::Guard> {
    let waiting = Bound::new(py, Waiting::new(acquiring, target))?;
    let guard: Py<Guard> = green.call_method1("wait", (waiting,))?.extract()?;
    guard.get().take_library_guard(py).ok_or_else(|| error::lost(py, target, "the lock was released meanwhile"))
}
