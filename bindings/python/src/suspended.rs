//! A suspended lock, as a Python object.

use std::mem::ManuallyDrop;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use tenure::Meanwhile;

use crate::attempt::Source;
use crate::error;
use crate::event_loop::{self, Start};
use crate::guard::{Guard, RELEASED, or_add_to_body};
use crate::task::Task;
use crate::timeout::Timeout;
use crate::wait;

/// A suspended lock, which Guard.suspend() and Guard.suspended() return.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct Suspended {
    guard: Py<Guard>,
    timeout: Timeout,
    /// The lock of a resume() that waits in an event loop.
    waiting: ManuallyDrop<Mutex<Option<tenure::Suspended>>>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl Suspended {
    fn meanwhile(&self) -> Option<Meanwhile> {
        *self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<tenure::Suspended>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a resumption. Returns whether others may have held the lock.
    fn end(&self, py: Python<'_>, suspended: tenure::Suspended, outcome: PyResult<tenure::Guard>) -> PyResult<bool> {
        let meanwhile = self.guard.get().end_resumption(py, suspended, outcome)?;
        *self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner) = Some(meanwhile);
        Ok(meanwhile != Meanwhile::Nobody)
    }

    /// Waits as the caller said, or else as the block was opened with.
    fn resume_within(&self, py: Python<'_>, timeout: Timeout) -> PyResult<bool> {
        let suspended = self.guard.get().begin_resumption(py)?;
        let outcome = wait::acquire(py, Source::Suspended(&suspended), timeout.or(self.timeout));
        self.end(py, suspended, outcome)
    }
}

#[pymethods]
impl Suspended {
    /// Returns the object by which a guard is suspended, and resumed within the time.
    #[staticmethod]
    fn _of(guard: Py<Guard>, timeout: Timeout) -> Suspended {
        Suspended { guard, timeout, waiting: ManuallyDrop::new(Mutex::default()), meanwhile: Mutex::default() }
    }

    /// True if what was read before must be read again: False only where it is proven that no other process held the lock
    /// meanwhile. None until the lock is resumed.
    #[getter]
    fn changed(&self) -> Option<bool> {
        self.meanwhile().map(|meanwhile| meanwhile != Meanwhile::Nobody)
    }

    /// "nobody" where it is proven that no other process held the lock meanwhile, "others" where one did, and "unknown" where
    /// no process with Tenure did, and nothing proves that no other one did. None until the lock is resumed.
    #[getter(meanwhile)]
    fn meanwhile_name(&self) -> Option<&'static str> {
        self.meanwhile().map(Meanwhile::as_str)
    }

    /// Acquires the lock again, before processes that wait already. Returns True if what was read before must be read again
    /// (``changed``). The guard that was suspended holds it from then on, with a new ``fence`` and ``previous``.
    ///
    /// Args:
    ///     timeout: How long to wait, in seconds. None waits without a limit. The default is that of ``suspended()``.
    ///
    /// Raises:
    ///     tenure.Busy: After the timeout. The lock is given up for good, as after any other error, and the guard's release()
    ///         raises Lost.
    ///     RuntimeError: If the lock is not suspended, as in a second call.
    #[pyo3(signature = (timeout = Timeout::OfLock), text_signature = "($self, timeout=...)")]
    fn resume(&self, py: Python<'_>, timeout: Timeout) -> PyResult<bool> {
        self.resume_within(py, timeout)
    }

    /// Acquires the lock again like resume(), for an asyncio task. A cancelled call gives the lock up for good.
    #[pyo3(signature = (timeout = Timeout::OfLock), text_signature = "($self, timeout=...)")]
    fn resume_async<'py>(slf: &Bound<'py, Self>, timeout: Timeout) -> PyResult<Bound<'py, PyAny>> {
        let seconds = timeout.or(slf.get().timeout).duration().map(|duration| duration.as_secs_f64());
        slf.py().import("tenure._waits")?.call_method1("resume", (slf, seconds))
    }

    /// Starts to acquire the lock again. _end() or _fail() must follow.
    fn _start(&self, py: Python<'_>, timeout: Timeout, task: Option<Py<Task>>) -> PyResult<Start> {
        let suspended = self.guard.get().begin_resumption(py)?;
        match event_loop::start(py, Source::Suspended(&suspended), timeout, task.as_ref().map(Py::get)) {
            Ok(start) => {
                *self.waiting() = Some(suspended);
                Ok(start)
            }
            Err(error) => match self.guard.get().end_resumption(py, suspended, Err(error)) {
                Err(error) => Err(error),
                Ok(_) => unreachable!("an error was passed on"),
            },
        }
    }

    /// Puts the guard that was granted in the place of the suspended one. Returns ``changed``.
    fn _end(&self, py: Python<'_>, granted: &Guard) -> PyResult<bool> {
        let suspended = self.waiting().take();
        let guard = granted.take_library_guard(py);
        let (Some(suspended), Some(guard)) = (suspended, guard) else {
            return Err(error::lost(py, &self.guard.get().target, RELEASED));
        };
        self.end(py, suspended, Ok(guard))
    }

    /// Gives the lock up, whose wait failed.
    fn _fail(&self, py: Python<'_>) {
        let suspended = self.waiting().take();
        self.guard.get().give_up_suspended(py);
        py.detach(|| drop(suspended));
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().guard.get().suspend_guard(slf.py())?;
        Ok(slf)
    }

    /// Resumes the lock, also after an exception, which always propagates. If that fails too, its error is added to it.
    #[pyo3(signature = (_kind = None, error = None, _traceback = None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let guard = self.guard.get();
        // In a forked child nothing is resumed. Within the block it may have been resumed or given up.
        if !guard.is_own_process() || !guard.is_suspended() {
            return Ok(false);
        }
        or_add_to_body(py, self.resume_within(py, Timeout::OfLock), error).map(|_| false)
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("tenure._waits")?.call_method1("suspend", (slf,))
    }

    #[pyo3(signature = (_kind = None, error = None, _traceback = None))]
    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        _kind: Option<&Bound<'_, PyAny>>,
        error: Option<Bound<'py, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("tenure._waits")?.call_method1("resume_at_end", (slf, error))
    }

    /// Returns whether the lock is suspended, in the process that suspended it.
    fn _is_suspended(&self) -> bool {
        self.guard.get().is_own_process() && self.guard.get().is_suspended()
    }

    fn __repr__(&self) -> String {
        let guard = self.guard.get();
        let state = match self.meanwhile() {
            Some(meanwhile) => format!("resumed, meanwhile {}", meanwhile.as_str()),
            None if guard.is_suspended() => "suspended".to_owned(),
            None => "not suspended".to_owned(),
        };
        format!("<tenure.Suspended {}, {state}>", tenure::escape::path(&guard.target))
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if !self.guard.get().is_own_process() {
            return;
        }
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if waiting.is_some() {
            Python::try_attach(|py| py.detach(|| drop(waiting)));
        }
    }
}
