//! The wait of a thread or greenlet that acquires.
//!
//! The library wakes a waiter from a thread of its own, which never takes the GIL. A waiting thread is parked, except for
//! the main thread, which also waits for Python's signals ([`signal_wait`]).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tenure::{AcquireFuture, Lock, Requester};

use crate::attempt::{Attempt, try_once, try_or_enqueue};
use crate::error::{self, OrRaise};
use crate::event_loop::Waiting;
use crate::guard::Guard;
use crate::signal_wait;
use crate::timeout::Timeout;

/// Acquires, and runs Python's signal handlers meanwhile. If one of them raises, the wait ends and nothing is held.
pub(crate) fn acquire(py: Python<'_>, lock: &Lock, shared: bool, timeout: Timeout) -> PyResult<tenure::Guard> {
    let mut attempt = match timeout {
        Timeout::For(Duration::ZERO) => try_once(py, lock, shared),
        _ => try_or_enqueue(py, lock, shared, Requester::Thread),
    };
    let deadline = timeout.deadline();
    let would_deadlock = matches!(&attempt, Err(error) if error.is_would_deadlock());
    let must_wait = would_deadlock || matches!(&attempt, Ok(Attempt::Queued(_)));
    let green = if must_wait { green_threads(py) } else { None };
    if would_deadlock && green.is_some() {
        // The holder may be another greenlet of this thread.
        attempt = try_or_enqueue(py, lock, shared, Requester::Task);
    }
    let acquiring = match attempt.or_raise(py)? {
        Attempt::Granted(guard) => return Ok(guard),
        Attempt::Queued(acquiring) => acquiring,
    };
    match green {
        Some(green) => wait_green(py, &green, lock, acquiring, timeout),
        None if is_main_thread(py)? => signal_wait::wait(py, lock, acquiring, deadline),
        None => py.detach(|| wait_parked(acquiring, deadline)).or_raise(py),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on a thread that runs no signal handlers.
fn wait_parked(mut acquiring: AcquireFuture, deadline: Option<Instant>) -> tenure::Result<tenure::Guard> {
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

/// Returns the module that waits under gevent, where all greenlets share one thread, which must not sleep. Returns `None`
/// unless gevent has patched blocking calls.
fn green_threads(py: Python<'_>) -> Option<Bound<'_, PyModule>> {
    let modules = py.import("sys").and_then(|sys| sys.getattr("modules")).ok()?;
    let monkey = modules.get_item("gevent.monkey").ok()?;
    let patched = monkey.call_method1("is_object_patched", ("time", "sleep")).and_then(|patched| patched.extract());
    if !patched.unwrap_or(false) {
        return None;
    }
    // Prefer the loaded module: under gevent, threads that import at the same time deadlock in its import locks.
    match modules.get_item("tenure._gevent") {
        Ok(green) => green.cast_into().ok(),
        Err(_) => py.import("tenure._gevent").ok(),
    }
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
    lock: &Lock,
    acquiring: AcquireFuture,
    timeout: Timeout,
) -> PyResult<tenure::Guard> {
    let seconds = timeout.duration().map(|duration| duration.as_secs_f64());
    let waiting = Bound::new(py, Waiting::new(acquiring, lock))?;
    let guard: Py<Guard> = green.call_method1("wait", (waiting, seconds))?.extract()?;
    guard.get().take_library_guard(py).ok_or_else(|| error::lost(py, lock.target(), "the lock was released meanwhile"))
}
