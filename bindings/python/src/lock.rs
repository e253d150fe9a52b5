//! A lock that is opened once and acquired many times.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tenure::{StalePolicy, Style};

use crate::attempt::Source;
use crate::cleanup;
use crate::convert::{Target, if_busy_of, overrun_of, seconds, style_name, style_of};
use crate::error::{self, OrRaise};
use crate::event_loop::{self, Start};
use crate::guard::Guard;
use crate::status::Status;
use crate::task::Task;
use crate::timeout::Timeout;
use crate::wait;

/// The synchronous half of tenure.Lock, which documents both halves.
#[pyclass(frozen, subclass, module = "tenure._tenure")]
pub(crate) struct Lock {
    lock: tenure::Lock,
    timeout: Timeout,
    shared: bool,
    style: Style,
    /// Whether a server keeps the lock.
    server: bool,
    entered: Mutex<Vec<Entered>>,
    /// `sys._getframe`, kept because a lookup at each block would cost as much as a release.
    get_frame: Py<PyAny>,
}

/// Returns the indexes of locks in the order in which `acquire_all` acquires them. Servers may have to be asked, and
/// have the time that an acquire with this timeout gives them.
#[pyfunction]
pub(crate) fn _order_of(py: Python<'_>, locks: Vec<PyRef<'_, Lock>>, timeout: Timeout) -> PyResult<Vec<usize>> {
    let locks: Vec<tenure::Lock> = locks.iter().map(|lock| lock.lock.clone()).collect();
    let order = py.detach(|| tenure::command::distinct_order_of(&locks.iter().collect::<Vec<_>>(), timeout.wait()));
    order.or_raise(py)
}

/// A with block that has been entered and not left.
struct Entered {
    /// The number of the thread or task that entered.
    by: u64,
    /// The address of the frame that entered, for comparison only. 0 without a frame.
    frame: usize,
    guard: Py<Guard>,
}

impl Lock {
    /// Returns the address of the calling frame, or 0 without one.
    fn calling_frame(&self, py: Python<'_>) -> usize {
        self.get_frame.call0(py).map_or(0, |frame| frame.as_ptr() as usize)
    }

    fn source(&self) -> Source<'_> {
        Source::Lock { lock: &self.lock, shared: self.shared }
    }

    fn keep(&self, by: u64, frame: usize, guard: Py<Guard>) {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner).push(Entered { by, frame, guard });
    }

    /// Returns the guard that was entered by the with block that is being left.
    ///
    /// A block is left in the frame in which it was entered, though maybe on another thread or task. Where the frame does
    /// not match (`ExitStack`, `wait_for(lock.__aenter__())`), the innermost block of this thread or task is used, and
    /// without one, any block. Among those, a guard that was released inside its block comes first, so that the guard of
    /// another block, which is still held, is not released in its place.
    fn take(&self, by: u64, frame: usize) -> PyResult<Py<Guard>> {
        let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        let at = entered
            .iter()
            .rposition(|block| frame != 0 && block.frame == frame)
            .or_else(|| entered.iter().rposition(|block| block.by == by && block.guard.get().is_own_process()))
            .or_else(|| {
                entered.iter().rposition(|block| block.guard.get().is_own_process() && block.guard.get().is_released())
            })
            .or_else(|| entered.iter().rposition(|block| block.guard.get().is_own_process()))
            // In a forked child, a block that the parent entered.
            .or_else(|| entered.len().checked_sub(1));
        let block = at.map(|at| entered.remove(at));
        drop(entered);
        block.map(|block| block.guard).ok_or_else(|| not_entered(self.lock.target()))
    }
}

fn not_entered(target: &Path) -> PyErr {
    PyRuntimeError::new_err(format!("{}: no with block has entered this lock", tenure::escape::path(target)))
}

/// Returns a number for this thread. It is odd, as a task's number is the address of an object, which is even.
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
        record = true, history = 0, slots = None, if_busy = "wait", grace = None, not_more_often_than = None),
        text_signature = "(path, timeout=None, *, label=None, style='lock-file', shared=False, \
        reentrant=False, deadlock_check=True, max_hold=None, overrun='report', steal_after=None, stale_after=None, \
        malformed_grace=None, refresh_interval=None, create_parents=True, mode=None, record=True, history=0, slots=None, \
        if_busy='wait', grace=None, not_more_often_than=None)")]
    #[allow(clippy::too_many_arguments, reason = "they are keyword arguments in Python")]
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
        history: usize,
        slots: Option<u32>,
        if_busy: &str,
        grace: Option<f64>,
        not_more_often_than: Option<f64>,
    ) -> PyResult<Lock> {
        let style = style_of(style)?;
        let mut options = tenure::Lock::options()
            .style(style)
            .reentrant(reentrant)
            .deadlock_check(deadlock_check)
            .overrun(overrun_of(overrun)?)
            .create_parents(create_parents)
            .record(record)
            .history(history)
            .if_busy(if_busy_of(if_busy)?);
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
        if let Some(slots) = slots {
            options = options.slots(slots);
        }
        if let Some(grace) = grace {
            options = options.grace(seconds("grace", grace)?);
        }
        if let Some(interval) = not_more_often_than {
            options = options.not_more_often_than(seconds("not_more_often_than", interval)?);
        }
        let server = tenure::server::scheme(&path.0).or_raise(py)?;
        let lock = py.detach(|| options.open(path.0)).or_raise(py)?;
        if server.is_some() {
            let given = [
                ("stale_after", stale_after.is_some()),
                ("malformed_grace", malformed_grace.is_some()),
                ("refresh_interval", refresh_interval.is_some()),
                ("create_parents", !create_parents),
            ];
            if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(error::for_files_only(py, lock.target(), option));
            }
            cleanup::give_up_at_exit(py)?;
        }
        cleanup::install(py);
        wait::import_early(py)?;
        let get_frame = py.import("sys")?.getattr("_getframe")?.unbind();
        let timeout = timeout.or(Timeout::Forever);
        Ok(Lock { lock, timeout, shared, style, server: server.is_some(), entered: Mutex::default(), get_frame })
    }

    /// Acquires the lock, and waits for at most ``timeout`` seconds. None waits without a limit. The default is the
    /// lock's own timeout.
    ///
    /// ::
    ///
    ///     try:
    ///         guard = lock.acquire(timeout=10)
    ///     except tenure.Busy as busy:
    ///         print("held by", busy.holder)
    ///
    /// Raises:
    ///     tenure.Busy: After the timeout, with the holder.
    ///     tenure.WouldDeadlock: Immediately, if this thread holds the lock.
    ///     tenure.Unreachable: If the server does not answer.
    ///     tenure.Error: For any other failure.
    #[pyo3(signature = (timeout = Timeout::OfLock), text_signature = "($self, timeout=...)")]
    fn acquire(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Guard> {
        wait::acquire(py, self.source(), timeout.or(self.timeout)).map(Guard::new)
    }

    /// Tries to acquire, and joins the queue if the lock is busy.
    #[pyo3(signature = (timeout = Timeout::OfLock, task = None), text_signature = "($self, timeout=..., task=None)")]
    fn _start(&self, py: Python<'_>, timeout: Timeout, task: Option<Py<Task>>) -> PyResult<Start> {
        event_loop::start(py, self.source(), timeout.or(self.timeout), task.as_ref().map(Py::get))
    }

    /// Remembers the guard that a with block of a task entered.
    fn _keep(&self, by: u64, frame: usize, guard: Py<Guard>) {
        self.keep(by, frame, guard);
    }

    /// Returns the guard that _keep() remembered for the block that is being left.
    fn _take(&self, by: u64, frame: usize) -> PyResult<Py<Guard>> {
        self.take(by, frame)
    }

    /// The path that the lock protects.
    #[getter]
    fn target(&self) -> OsString {
        self.lock.target().into()
    }

    /// The default timeout of an acquire, in seconds. None waits without a limit.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        self.timeout.duration().map(|duration| duration.as_secs_f64())
    }

    /// "lock-file" or "flock".
    #[getter]
    fn style(&self) -> &'static str {
        style_name(self.style)
    }

    /// True if acquire() takes a shared lock.
    #[getter]
    fn shared(&self) -> bool {
        self.shared
    }

    /// Returns the state of the lock, as :func:`tenure.status` does. Does not acquire or change anything.
    ///
    /// ::
    ///
    ///     if lock.status().state == "held":
    ///         print("held by", lock.status().holder)
    fn status(&self, py: Python<'_>) -> PyResult<Status> {
        Ok(Status::from(py.detach(|| self.lock.status()).or_raise(py)?))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<Guard>> {
        let guard = Py::new(py, self.acquire(py, Timeout::OfLock)?)?;
        self.keep(this_thread(), self.calling_frame(py), guard.clone_ref(py));
        Ok(guard)
    }

    #[pyo3(signature = (_kind = None, error = None, _traceback = None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        error: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        self.take(this_thread(), self.calling_frame(py))?.get().exit(py, error)
    }

    fn __repr__(&self) -> String {
        let target = tenure::escape::path(self.lock.target());
        match self.server {
            true => format!("<tenure.Lock {target}>"),
            false => format!("<tenure.Lock {target}, {} style>", style_name(self.style)),
        }
    }
}
