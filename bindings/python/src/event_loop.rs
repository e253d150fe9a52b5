//! Waits of tasks and greenlets.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tenure::{AcquireFuture, Requester};

use crate::attempt::{Attempt, Source, try_or_enqueue};
use crate::doorbell::Doorbell;
use crate::error::OrRaise;
use crate::guard::Guard;
use crate::task::Task;
use crate::timeout::Timeout;

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

/// Tries to acquire, and joins the queue if the lock is busy. `task` is that of the scope, if there is one.
pub(crate) fn start(py: Python<'_>, source: Source<'_>, timeout: Timeout, task: Option<&Task>) -> PyResult<Start> {
    let attempt = || try_or_enqueue(py, source, timeout.wait(), Requester::Task);
    let attempted = match task {
        Some(task) => task.0.sync_scope(attempt),
        None => attempt(),
    };
    Ok(match attempted.or_raise(py)? {
        Attempt::Granted(guard) => Start::Granted(Guard::new(guard)),
        Attempt::Queued(acquiring) => Start::Waiting(Waiting::new(acquiring, source.target())),
    })
}

impl Waiting {
    pub(crate) fn new(acquiring: AcquireFuture, target: &Path) -> Waiting {
        let queued = Queued { acquiring, waker: Waker::noop().clone() };
        Waiting { queued: Mutex::new(Some(queued)), target: target.to_owned() }
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
        self.queued().as_mut().ok_or_else(|| self.over())?.waker = doorbell.waker(number);
        Ok(())
    }

    /// Returns the seconds until give_up() is due. None where the wait has no limit, and for a server, whose wait ends by
    /// itself.
    fn left(&self) -> PyResult<Option<f64>> {
        let deadline = self.queued().as_ref().ok_or_else(|| self.over())?.acquiring.deadline();
        Ok(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()).as_secs_f64()))
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
