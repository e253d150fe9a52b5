//! Waits of tasks and greenlets.
//!
//! A process has one [`Doorbell`], however many of them wait. Its descriptor becomes readable when some of them should poll
//! again, and it returns which.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tenure::{AcquireFuture, Lock, Requester};

use crate::attempt::{Attempt, try_or_enqueue};
use crate::error::{self, OrRaise};
use crate::guard::Guard;
use crate::sys::Event;

/// A descriptor that becomes readable when tasks or greenlets of this process should poll their Waiting.
#[pyclass(frozen, module = "tenure._tenure")]
pub(crate) struct Doorbell(Arc<Bells>);

struct Bells {
    event: Event,
    /// The numbers of the waiters to wake. Locked without the GIL, but only for a push or a move. A forked child never locks
    /// its parent's.
    rung: Mutex<Vec<u64>>,
    pid: u32,
}

struct Ringer {
    bells: Arc<Bells>,
    number: u64,
}

impl Wake for Ringer {
    fn wake(self: Arc<Self>) {
        let mut rung = self.bells.rung.lock().unwrap_or_else(PoisonError::into_inner);
        rung.push(self.number);
        if rung.len() == 1 {
            // answer() resets it before the next of these calls.
            self.bells.event.signal();
        }
    }
}

#[pymethods]
impl Doorbell {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Doorbell> {
        let event = Event::new().map_err(|refused| error::cannot_wait(py, Path::new("(this process)"), refused))?;
        Ok(Doorbell(Arc::new(Bells { event, rung: Mutex::default(), pid: std::process::id() })))
    }

    /// Returns the descriptor that becomes readable.
    fn fileno(&self) -> i32 {
        self.0.event.raw()
    }

    /// Returns the numbers of the waiters to wake, and resets the descriptor. In a forked child it returns none.
    fn answer(&self) -> Vec<u64> {
        if self.0.pid != std::process::id() {
            return Vec::new();
        }
        let mut rung = self.0.rung.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.event.reset();
        std::mem::take(&mut *rung)
    }
}

/// A queued acquire, for an event loop.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct Waiting {
    queued: Mutex<Option<Queued>>,
    target: PathBuf,
}

struct Queued {
    acquiring: AcquireFuture,
    waker: Waker,
}

/// The first outcome of an asynchronous acquire.
#[allow(clippy::large_enum_variant, reason = "it is converted to a Python object immediately")]
#[derive(IntoPyObject)]
pub(crate) enum Start {
    Granted(Guard),
    Waiting(Waiting),
}

/// Tries to acquire, and joins the queue if the lock is busy.
pub(crate) fn start(py: Python<'_>, lock: &Lock, shared: bool) -> PyResult<Start> {
    Ok(match try_or_enqueue(py, lock, shared, Requester::Task).or_raise(py)? {
        Attempt::Granted(guard) => Start::Granted(Guard::new(guard)),
        Attempt::Queued(acquiring) => Start::Waiting(Waiting::new(acquiring, lock)),
    })
}

impl Waiting {
    pub(crate) fn new(acquiring: AcquireFuture, lock: &Lock) -> Waiting {
        let queued = Queued { acquiring, waker: Waker::noop().clone() };
        Waiting { queued: Mutex::new(Some(queued)), target: lock.target().to_owned() }
    }

    fn queued(&self) -> MutexGuard<'_, Option<Queued>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> PyErr {
        PyValueError::new_err(format!("{}: the wait is over", tenure::escape::path(&self.target)))
    }
}

#[pymethods]
impl Waiting {
    /// Rings the doorbell with this number, from the next poll() on, when it is time to poll again.
    fn listen(&self, doorbell: &Doorbell, number: u64) -> PyResult<()> {
        let ringer = Ringer { bells: Arc::clone(&doorbell.0), number };
        self.queued().as_mut().ok_or_else(|| self.over())?.waker = Waker::from(Arc::new(ringer));
        Ok(())
    }

    /// Returns the guard, or None while the lock is busy.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Guard>> {
        let mut queued = self.queued().take().ok_or_else(|| self.over())?;
        let polled =
            py.detach(|| match Pin::new(&mut queued.acquiring).poll(&mut Context::from_waker(&queued.waker)) {
                Poll::Ready(outcome) => outcome.map(Some),
                Poll::Pending => Ok(None),
            });
        let granted = polled.or_raise(py)?;
        if granted.is_none() {
            *self.queued() = Some(queued);
        }
        Ok(granted.map(Guard::new))
    }

    /// Ends the wait as a deadline does. Returns the guard if the lock was granted by then, and raises Busy otherwise.
    fn give_up(&self, py: Python<'_>) -> PyResult<Guard> {
        let queued = self.queued().take().ok_or_else(|| self.over())?;
        Ok(Guard::new(py.detach(|| queued.acquiring.give_up()).or_raise(py)?))
    }

    /// Leaves the queue. A lock that was granted meanwhile is released.
    fn close(&self, py: Python<'_>) {
        let queued = self.queued().take();
        py.detach(|| drop(queued));
    }
}
