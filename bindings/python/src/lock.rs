//! A lock that is opened once and acquired many times.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tenure::{Overrun, StalePolicy, Style};

use crate::cleanup;
use crate::error::OrRaise;
use crate::held::Held;
use crate::look::{Status, Target, style_name};
use crate::wait::{self, Start, Timeout};

/// A number of seconds; infinity is [`Duration::MAX`].
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    if value == f64::INFINITY {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name} must be a number of seconds from 0 on, not {value}")))
}

fn style_of(name: &str) -> PyResult<Style> {
    [Style::LockFile, Style::Flock]
        .into_iter()
        .find(|style| style_name(*style) == name)
        .ok_or_else(|| PyValueError::new_err(format!("style must be \"lock-file\" or \"flock\", not {name:?}")))
}

fn overrun_of(name: &str) -> PyResult<Overrun> {
    match name {
        "report" => Ok(Overrun::Report),
        "revoke" => Ok(Overrun::Revoke),
        _ => Err(PyValueError::new_err(format!("overrun must be \"report\" or \"revoke\", not {name:?}"))),
    }
}

/// The synchronous half of tenure.Lock, which documents both.
#[pyclass(frozen, subclass, module = "tenure._tenure")]
pub(crate) struct Lock {
    lock: tenure::Lock,
    timeout: Timeout,
    shared: bool,
    style: Style,
    entered: Mutex<Vec<Entered>>,
    /// `sys._getframe`: to look for it at each block would cost as much as a release.
    get_frame: Py<PyAny>,
}

/// What a with block has entered.
struct Entered {
    /// The number of the thread or task that entered.
    by: u64,
    /// The address of the frame that entered, only to compare: 0 where there is none.
    frame: usize,
    held: Py<Held>,
}

impl Lock {
    /// The address of the frame that calls us, 0 where there is none.
    fn calling_frame(&self, py: Python<'_>) -> usize {
        self.get_frame.call0(py).map_or(0, |frame| frame.as_ptr() as usize)
    }

    fn keep(&self, by: u64, frame: usize, held: Py<Held>) {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner).push(Entered { by, frame, held });
    }

    /// Finds what the with block entered that is being left.
    ///
    /// A block is left in the frame in which it was entered, on whatever thread or task that runs by then. Where the
    /// frame does not tell (`ExitStack`, `wait_for(lock.__aenter__())`), the innermost block of this thread or task is
    /// meant, and if there is none, any. Of any, a tenure that was released inside its block goes first: another
    /// block's, which is held, must not be released in its place.
    fn take(&self, by: u64, frame: usize) -> PyResult<Py<Held>> {
        let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entered
            .iter()
            .rposition(|block| frame != 0 && block.frame == frame)
            .or_else(|| entered.iter().rposition(|block| block.by == by && block.held.get().is_ours()))
            .or_else(|| entered.iter().rposition(|block| block.held.get().is_ours() && block.held.get().is_released()))
            .or_else(|| entered.iter().rposition(|block| block.held.get().is_ours()))
            // A forked child leaves what its parent entered.
            .or_else(|| entered.len().checked_sub(1));
        let block = at.map(|at| entered.remove(at));
        drop(entered);
        block.map(|block| block.held).ok_or_else(|| not_entered(self.lock.target()))
    }
}

fn not_entered(target: &Path) -> PyErr {
    PyRuntimeError::new_err(format!("{}: no with block has entered this lock", tenure::escape::path(target)))
}

/// A number for this thread that no task has: those are addresses of objects, which are even.
fn this_thread() -> u64 {
    thread_local!(static NUMBER: u8 = const { 0 });
    NUMBER.with(|number| std::ptr::from_ref(number) as u64 * 2 + 1)
}

#[pymethods]
impl Lock {
    #[new]
    #[pyo3(signature = (path, timeout = Timeout::Forever, *, label = None, style = "lock-file", shared = false,
        reentrant = false, deadlock_check = true, max_hold = None, overrun = "report", steal_after = None,
        stale_after = None, malformed_grace = None, refresh_interval = None, create_parents = true, mode = None,
        record = true), text_signature = "(path, timeout=None, *, label=None, style='lock-file', shared=False, \
        reentrant=False, deadlock_check=True, max_hold=None, overrun='report', steal_after=None, stale_after=None, \
        malformed_grace=None, refresh_interval=None, create_parents=True, mode=None, record=True)")]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        py: Python<'_>,
        path: Target,
        timeout: Timeout,
        label: Option<String>,
        style: &str,
        shared: bool,
        reentrant: bool,
        deadlock_check: bool,
        max_hold: Option<f64>,
        overrun: &str,
        steal_after: Option<f64>,
        stale_after: Option<f64>,
        malformed_grace: Option<f64>,
        refresh_interval: Option<f64>,
        create_parents: bool,
        mode: Option<u32>,
        record: bool,
    ) -> PyResult<Lock> {
        let style = style_of(style)?;
        let mut options = tenure::Lock::options()
            .style(style)
            .reentrant(reentrant)
            .deadlock_check(deadlock_check)
            .overrun(overrun_of(overrun)?)
            .create_parents(create_parents)
            .record(record);
        if let Some(label) = label {
            options = options.label(label);
        }
        if let Some(age) = max_hold {
            options = options.max_hold(seconds("max_hold", age)?);
        }
        if let Some(age) = steal_after {
            options = options.stale_policy(StalePolicy::StealAfter(seconds("steal_after", age)?));
        }
        if let Some(age) = stale_after {
            options = options.stale_after(seconds("stale_after", age)?);
        }
        if let Some(grace) = malformed_grace {
            options = options.malformed_grace(seconds("malformed_grace", grace)?);
        }
        if let Some(interval) = refresh_interval {
            options = options.refresh_interval(seconds("refresh_interval", interval)?);
        }
        if let Some(mode) = mode {
            options = options.mode(mode);
        }
        let lock = py.detach(|| options.open(path.0)).or_raise(py)?;
        cleanup::install(py);
        wait::prepare(py);
        let get_frame = py.import("sys")?.getattr("_getframe")?.unbind();
        let timeout = timeout.or(Timeout::Forever);
        Ok(Lock { lock, timeout, shared, style, entered: Mutex::default(), get_frame })
    }

    /// Acquire, waiting for as many seconds as the lock's own timeout says, or this one. None: as long as it takes.
    ///
    /// Raises:
    ///     tenure.Busy: with the holder, when the time is over.
    ///     tenure.WouldDeadlock: at once, when this very thread holds it.
    ///     tenure.Error: what else goes wrong.
    #[pyo3(signature = (timeout = Timeout::OfLock), text_signature = "($self, timeout=...)")]
    fn acquire(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Held> {
        wait::acquire(py, &self.lock, self.shared, timeout.or(self.timeout)).map(Held::new)
    }

    /// Tries, and begins to wait where that is not enough.
    fn _begin(&self, py: Python<'_>) -> PyResult<Start> {
        wait::start(py, &self.lock, self.shared)
    }

    /// Remembers what a with block of a task entered.
    fn _keep(&self, by: u64, frame: usize, held: Py<Held>) {
        self.keep(by, frame, held);
    }

    /// What _keep() remembered for the block that is left.
    fn _take(&self, by: u64, frame: usize) -> PyResult<Py<Held>> {
        self.take(by, frame)
    }

    /// The path that it protects.
    #[getter]
    fn target(&self) -> OsString {
        self.lock.target().into()
    }

    /// The seconds that an acquire waits where it is told nothing else; None: as long as it takes.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        match self.timeout {
            Timeout::For(duration) => Some(duration.as_secs_f64()),
            Timeout::Forever | Timeout::OfLock => None,
        }
    }

    /// "lock-file" or "flock".
    #[getter]
    fn style(&self) -> &'static str {
        style_name(self.style)
    }

    /// True where acquire() shares.
    #[getter]
    fn shared(&self) -> bool {
        self.shared
    }

    /// How it stands, without touching it.
    fn status(&self, py: Python<'_>) -> PyResult<Status> {
        Ok(Status::from(py.detach(|| self.lock.status()).or_raise(py)?))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<Held>> {
        let held = Py::new(py, self.acquire(py, Timeout::OfLock)?)?;
        self.keep(this_thread(), self.calling_frame(py), held.clone_ref(py));
        Ok(held)
    }

    #[pyo3(signature = (_kind = None, error = None, _traceback = None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.take(this_thread(), self.calling_frame(py))?.get().leave(py, error)
    }

    fn __repr__(&self) -> String {
        format!("<tenure.Lock {}, {} style>", tenure::escape::path(self.lock.target()), style_name(self.style))
    }
}
