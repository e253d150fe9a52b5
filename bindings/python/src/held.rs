//! A held lock in Python's hands.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use tenure::{Guard, Previous};

use crate::error::{self, OrRaise};
use crate::look::Holder;

const FORKED: &str = "the lock is the parent's: this is a forked child";
const RELEASED: &str = "it was released";

/// A held lock: what an acquire answers. It is released by release(), at the end of a with block, and when the last
/// reference to it goes.
///
/// In a forked child it holds nothing and releases nothing.
#[pyclass(frozen, weakref, module = "tenure")]
pub(crate) struct Held {
    /// Not dropped in a forked child, whose copy may be half-changed. Taken out for the time of a call: the mutex is
    /// locked under the GIL alone, for a move.
    guard: ManuallyDrop<Mutex<Slot>>,
    pid: u32,
    fence: u64,
    shared: bool,
    target: PathBuf,
    previous: Option<Holder>,
}

enum Slot {
    Here(Guard),
    /// A thread that has let the GIL go makes a call with it.
    Lent,
    Released,
}

impl Held {
    pub(crate) fn new(guard: Guard) -> Held {
        let previous = match guard.previous() {
            Previous::Crashed(holder) => Some(Holder::from(&**holder)),
            Previous::Clean => None,
        };
        Held {
            pid: std::process::id(),
            fence: guard.fence(),
            shared: guard.is_shared(),
            target: guard.target().to_owned(),
            previous,
            guard: ManuallyDrop::new(Mutex::new(Slot::Here(guard))),
        }
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.pid == std::process::id()
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the guard out. `None`: it was released.
    fn take(&self, py: Python<'_>, leaves: Slot) -> Option<Guard> {
        loop {
            let mut slot = self.slot();
            match std::mem::replace(&mut *slot, Slot::Lent) {
                Slot::Here(guard) => {
                    *slot = leaves;
                    return Some(guard);
                }
                Slot::Released => {
                    *slot = Slot::Released;
                    return None;
                }
                Slot::Lent => {}
            }
            drop(slot);
            // For a few system calls of another thread, which needs the GIL to end.
            py.detach(std::thread::yield_now);
        }
    }

    /// Makes a call with the guard, without the GIL.
    fn call<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&Guard) -> T + Send) -> PyResult<T> {
        if !self.is_ours() {
            return Err(error::lost(py, &self.target, FORKED));
        }
        let Some(guard) = self.take(py, Slot::Lent) else {
            return Err(error::lost(py, &self.target, RELEASED));
        };
        let (answer, guard) = py.detach(move || (call(&guard), guard));
        *self.slot() = Slot::Here(guard);
        Ok(answer)
    }

    fn let_go(&self, py: Python<'_>) -> PyResult<()> {
        match self.take(py, Slot::Released) {
            Some(guard) => py.detach(|| guard.release()).or_raise(py),
            None => Ok(()),
        }
    }

    /// Gives the guard away: `None` if it was released.
    pub(crate) fn give(&self, py: Python<'_>) -> Option<Guard> {
        self.take(py, Slot::Released)
    }

    pub(crate) fn is_released(&self) -> bool {
        matches!(*self.slot(), Slot::Released)
    }

    /// The end of a with block, which answers whether it swallows `body`, the block's exception: never.
    ///
    /// In a forked child the block is left as if nothing had been held. The block's exception goes on even if the lock
    /// was lost, and tells of that.
    pub(crate) fn leave(&self, py: Python<'_>, body: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if !self.is_ours() {
            return Ok(false);
        }
        match (self.let_go(py), body.filter(|body| !body.is_none())) {
            (Err(failed), Some(body)) => error::tell_beside(py, body, failed)?,
            (released, _) => released?,
        }
        Ok(false)
    }
}

#[pymethods]
impl Held {
    /// This tenure's number, greater than that of every tenure before. Hand it to a resource that refuses a smaller
    /// one than it has seen. 0 for a shared lock and for one without a record.
    #[getter]
    fn fence(&self) -> u64 {
        self.fence
    }

    /// The holder before, if it died while it held or its tenure was revoked: what the lock protects may be half-written.
    /// None: it released.
    #[getter]
    fn previous(&self) -> Option<Holder> {
        self.previous.clone()
    }

    /// True for a share.
    #[getter]
    fn shared(&self) -> bool {
        self.shared
    }

    /// The path that the lock protects.
    #[getter]
    fn target(&self) -> OsString {
        self.target.clone().into()
    }

    /// Raises Lost unless the lock is still ours: not broken, not revoked, not released, and this no forked child.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, Guard::check)?.or_raise(py)
    }

    /// True once the lock is no longer ours. Where that cannot be told, the system's own error is raised.
    #[getter]
    fn lost(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.is_ours() || self.is_released() {
            return Ok(true);
        }
        match self.call(py, Guard::check)? {
            Ok(()) => Ok(false),
            Err(error) if error.is_lost() => Ok(true),
            Err(error) => Err(error::exception(py, &error)),
        }
    }

    /// This holder, as others see it.
    #[getter]
    fn holder(&self, py: Python<'_>) -> PyResult<Holder> {
        Ok(Holder::from(&self.call(py, Guard::holder)?))
    }

    /// The record as others can read it, as JSON.
    #[getter]
    fn record_json(&self, py: Python<'_>) -> PyResult<String> {
        self.call(py, Guard::record_json)
    }

    /// Changes the label that others see.
    fn set_label(&self, py: Python<'_>, label: &str) -> PyResult<()> {
        self.call(py, |guard| guard.set_label(label))?.or_raise(py)
    }

    /// Releases. A second time it does nothing. Raises Lost where the lock was no longer ours.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_ours() {
            return Err(error::lost(py, &self.target, FORKED));
        }
        self.let_go(py)
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (_kind = None, error = None, _traceback = None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.leave(py, error)
    }

    fn __repr__(&self) -> String {
        let target = tenure::escape::path(&self.target);
        let state = match () {
            () if !self.is_ours() => "of the parent process",
            () if self.is_released() => "released",
            () => "held",
        };
        format!("<tenure.Held {target}, fence {}, {state}>", self.fence)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        let slot = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Slot::Here(guard) = std::mem::replace(slot, Slot::Released) {
            // Not at the interpreter's end, when it has no threads left to let go on.
            Python::try_attach(|py| py.detach(|| drop(guard)));
        }
    }
}
