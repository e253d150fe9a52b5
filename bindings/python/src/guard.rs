//! A held lock, as a Python object.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tenure::{Meanwhile, Previous};

use crate::error::{self, OrRaise};
use crate::green::green_threads;
use crate::holder::Holder;
use crate::releasing::Releasing;
use crate::timeout::Timeout;

const FORKED: &str = "the parent process holds the lock, not this forked child";
pub(crate) const RELEASED: &str = "the lock was released";
const SUSPENDED: &str = "the lock is suspended";
const GIVEN_UP: &str = "the lock was given up: it could not be suspended or resumed";

/// A held lock, which acquire() and ``with`` return. It is released by release(), at the end of a with block, or when the
/// last reference to it is dropped.
///
/// In a forked child a guard holds nothing and releases nothing.
///
/// ::
///
///     guard = tenure.Lock("sessions/main.jsonl").acquire(timeout=10)
///     try:
///         ...  # Write, with guard.fence for a resource that checks it.
///         guard.check()
///     finally:
///         guard.release()
#[pyclass(frozen, weakref, module = "tenure")]
pub(crate) struct Guard {
    /// Never dropped in a forked child, whose copy may be half-changed. A call takes the guard out, so that the mutex is
    /// only locked for a move, with the GIL held.
    guard: ManuallyDrop<Mutex<Slot>>,
    pid: u32,
    shared: bool,
    pub(crate) target: PathBuf,
    facts: Mutex<Facts>,
}

/// What changes when a guard is resumed.
#[derive(Clone)]
struct Facts {
    fence: Option<u64>,
    previous: Option<Holder>,
}

impl Facts {
    fn of(guard: &tenure::Guard) -> Facts {
        let previous = match guard.previous() {
            Previous::Crashed(holder) => Some(Holder::from(&**holder)),
            Previous::Clean => None,
        };
        Facts { fence: guard.fence(), previous }
    }
}

enum Slot {
    Here(tenure::Guard),
    /// Another thread, which has released the GIL, makes a call with the guard.
    Lent,
    Suspended(tenure::Suspended),
    /// It is being resumed.
    Resuming,
    /// It could not be suspended or resumed, which the next release reports.
    GivenUp,
    Released,
}

impl Guard {
    pub(crate) fn new(guard: tenure::Guard) -> Guard {
        Guard {
            pid: std::process::id(),
            shared: guard.is_shared(),
            target: guard.target().to_owned(),
            facts: Mutex::new(Facts::of(&guard)),
            guard: ManuallyDrop::new(Mutex::new(Slot::Here(guard))),
        }
    }

    fn facts(&self) -> Facts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns false in a forked child of the process that acquired.
    pub(crate) fn is_own_process(&self) -> bool {
        self.pid == std::process::id()
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the guard out and leaves `replacement`. Returns `None` after a release, and while the lock is suspended.
    fn take(&self, py: Python<'_>, replacement: Slot) -> Option<tenure::Guard> {
        loop {
            let mut slot = self.slot();
            match std::mem::replace(&mut *slot, Slot::Lent) {
                Slot::Here(guard) => {
                    *slot = replacement;
                    return Some(guard);
                }
                Slot::Lent => {}
                other => {
                    *slot = other;
                    return None;
                }
            }
            drop(slot);
            // Another thread makes a few system calls with the guard, and needs the GIL to finish.
            py.detach(std::thread::yield_now);
        }
    }

    /// Calls a method of the guard without the GIL.
    fn call<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&tenure::Guard) -> T + Send) -> PyResult<T> {
        if !self.is_own_process() {
            return Err(error::lost(py, &self.target, FORKED));
        }
        let Some(guard) = self.take(py, Slot::Lent) else { return Err(self.not_held(py)) };
        let (result, guard) = py.detach(move || (call(&guard), guard));
        *self.slot() = Slot::Here(guard);
        Ok(result)
    }

    fn not_held(&self, py: Python<'_>) -> PyErr {
        let why = match *self.slot() {
            Slot::Released => RELEASED,
            Slot::GivenUp => GIVEN_UP,
            _ => SUSPENDED,
        };
        error::lost(py, &self.target, why)
    }

    /// Gives a suspended lock up at its release. One that is being resumed is released once it is held.
    fn release_suspended(&self, py: Python<'_>) {
        self.end_suspension(py, Slot::Released);
    }

    /// Gives a suspended lock up whose wait failed.
    pub(crate) fn give_up_suspended(&self, py: Python<'_>) {
        self.end_suspension(py, Slot::GivenUp);
    }

    fn end_suspension(&self, py: Python<'_>, end: Slot) {
        let mut slot = self.slot();
        if matches!(*slot, Slot::Suspended(_) | Slot::Resuming) {
            let suspended = std::mem::replace(&mut *slot, end);
            drop(slot);
            py.detach(|| drop(suspended));
        }
    }

    /// Raises Lost, once, if the lock was given up.
    fn report_given_up(&self, py: Python<'_>) -> PyResult<()> {
        let mut slot = self.slot();
        if !matches!(*slot, Slot::GivenUp) {
            return Ok(());
        }
        *slot = Slot::Released;
        drop(slot);
        Err(error::lost(py, &self.target, GIVEN_UP))
    }

    /// Suspends the lock.
    pub(crate) fn suspend_guard(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, tenure::Guard::can_suspend)?.or_raise(py)?;
        let Some(guard) = self.take(py, Slot::Lent) else { return Err(self.not_held(py)) };
        let suspended = py.detach(|| guard.suspend());
        let mut slot = self.slot();
        match suspended {
            Ok(suspended) => {
                *slot = Slot::Suspended(suspended);
                Ok(())
            }
            Err(error) => {
                *slot = Slot::GivenUp;
                drop(slot);
                Err(error::exception(py, &error))
            }
        }
    }

    /// Takes the suspended lock out, to resume it.
    pub(crate) fn begin_resumption(&self, py: Python<'_>) -> PyResult<tenure::Suspended> {
        if !self.is_own_process() {
            return Err(error::lost(py, &self.target, FORKED));
        }
        let mut slot = self.slot();
        match std::mem::replace(&mut *slot, Slot::Resuming) {
            Slot::Suspended(suspended) => Ok(suspended),
            other => {
                let why = match &other {
                    Slot::Released => RELEASED,
                    Slot::GivenUp => GIVEN_UP,
                    Slot::Resuming => "the lock is being resumed already",
                    _ => "the lock is not suspended",
                };
                *slot = other;
                drop(slot);
                Err(PyRuntimeError::new_err(format!("{}: {why}", tenure::escape::path(&self.target))))
            }
        }
    }

    /// Puts the resumed guard back, and returns what is known of the time in between. After an error the lock is given up.
    pub(crate) fn end_resumption(
        &self,
        py: Python<'_>,
        suspended: tenure::Suspended,
        outcome: PyResult<tenure::Guard>,
    ) -> PyResult<Meanwhile> {
        let resumed = outcome.map(|guard| py.detach(|| suspended.resumed(guard)));
        let mut slot = self.slot();
        let state = std::mem::replace(&mut *slot, Slot::Released);
        match (state, resumed) {
            (Slot::Resuming, Ok(resumed)) => {
                let meanwhile = resumed.meanwhile;
                *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Facts::of(&resumed.guard);
                *slot = Slot::Here(resumed.guard);
                drop(slot);
                py.detach(|| drop(suspended));
                Ok(meanwhile)
            }
            (state, resumed) => {
                // `Released` if another thread or task released it meanwhile.
                *slot = if matches!(state, Slot::Resuming | Slot::GivenUp) { Slot::GivenUp } else { Slot::Released };
                drop(slot);
                let error = match resumed {
                    Err(error) => error,
                    Ok(resumed) => {
                        py.detach(|| drop(resumed));
                        error::lost(py, &self.target, RELEASED)
                    }
                };
                py.detach(|| drop((state, suspended)));
                Err(error)
            }
        }
    }

    fn release_guard(&self, py: Python<'_>) -> PyResult<()> {
        self.release_suspended(py);
        let Some(guard) = self.take(py, Slot::Released) else { return self.report_given_up(py) };
        // Only the release of a lock with a lease waits for a server.
        match guard.lease().and_then(|_| green_threads(py)) {
            Some(green) => match py.detach(|| Releasing::start(guard)).or_raise(py)? {
                Some(releasing) => green.call_method1("settle", (releasing,)).map(drop),
                None => Ok(()),
            },
            None => py.detach(|| guard.release()).or_raise(py),
        }
    }

    /// Releases. Returns what is left to wait for.
    fn start_release(&self, py: Python<'_>) -> PyResult<Option<Releasing>> {
        self.release_suspended(py);
        match self.take(py, Slot::Released) {
            Some(guard) => py.detach(|| Releasing::start(guard)).or_raise(py),
            None => self.report_given_up(py).map(|()| None),
        }
    }

    /// Moves the library's guard out. Returns `None` after a release.
    pub(crate) fn take_library_guard(&self, py: Python<'_>) -> Option<tenure::Guard> {
        self.take(py, Slot::Released)
    }

    pub(crate) fn is_released(&self) -> bool {
        matches!(*self.slot(), Slot::Released | Slot::GivenUp)
    }

    pub(crate) fn is_suspended(&self) -> bool {
        matches!(*self.slot(), Slot::Suspended(_) | Slot::Resuming)
    }

    /// Releases at the end of a with block. Returns false: `body`, the block's exception, always propagates.
    ///
    /// If the release fails too, its error is added to `body`. In a forked child nothing is released.
    pub(crate) fn exit(&self, py: Python<'_>, body: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if !self.is_own_process() {
            return Ok(false);
        }
        or_add_to_body(py, self.release_guard(py), body).map(|_| false)
    }
}

/// Returns the object by which a guard is resumed.
fn suspended_of<'py>(guard: &Bound<'py, Guard>, timeout: Timeout) -> PyResult<Bound<'py, PyAny>> {
    let seconds = timeout.duration().map(|duration| duration.as_secs_f64());
    guard.py().import("tenure._tenure")?.getattr("Suspended")?.call_method1("_of", (guard, seconds))
}

/// Adds the error of a release to `body`, the exception of the block that ends, if there is one.
pub(crate) fn or_add_to_body<T>(
    py: Python<'_>,
    released: PyResult<T>,
    body: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<T>> {
    match (released, body.filter(|body| !body.is_none())) {
        (Err(failed), Some(body)) => error::add_to_body(py, body, failed).map(|()| None),
        (released, _) => released.map(Some),
    }
}

/// The rest of a lease on a server, if it is not renewed.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct LeaseLeft {
    /// The seconds until check() raises Lost. 0 once it does.
    #[pyo3(get)]
    lost_in: f64,
    /// The seconds until the server may grant the lock to another holder. Work under the lock must have stopped by then.
    #[pyo3(get)]
    free_in: f64,
}

#[pymethods]
impl LeaseLeft {
    fn __repr__(&self) -> String {
        format!("<tenure.LeaseLeft lost in {:.3} s, free in {:.3} s>", self.lost_in, self.free_in)
    }
}

#[pymethods]
impl Guard {
    /// The fencing token, greater than that of every earlier holder. A resource that checks it refuses a smaller one than
    /// it has seen. None for a shared lock and for one without a record, while the lock is suspended, and after a resume that
    /// failed: nothing may be written then.
    #[getter]
    fn fence(&self) -> Option<u64> {
        let is_held = !matches!(*self.slot(), Slot::Suspended(_) | Slot::Resuming | Slot::GivenUp);
        self.facts().fence.filter(|_| is_held)
    }

    /// The previous holder, if it died or was revoked while it held: the protected data may be half-written. None if it
    /// released the lock.
    #[getter]
    fn previous(&self) -> Option<Holder> {
        self.facts().previous
    }

    /// True for a shared lock.
    #[getter]
    fn shared(&self) -> bool {
        self.shared
    }

    /// The path that the lock protects.
    #[getter]
    fn target(&self) -> OsString {
        self.target.clone().into()
    }

    /// Raises Lost if the lock was broken, revoked or released, or in a forked child. Takes one or two system calls.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, tenure::Guard::check)?.or_raise(py)
    }

    /// True once check() would raise Lost. Raises the system's error where that cannot be determined.
    #[getter]
    fn lost(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.is_own_process() || self.is_released() || self.is_suspended() {
            return Ok(true);
        }
        // The call itself fails once another thread has released or suspended the lock.
        let Ok(checked) = self.call(py, tenure::Guard::check) else { return Ok(true) };
        match checked {
            Ok(()) => Ok(false),
            Err(error) if error.is_lost() => Ok(true),
            Err(error) => Err(error::exception(py, &error)),
        }
    }

    /// This holder, as other processes see it.
    #[getter]
    fn holder(&self, py: Python<'_>) -> PyResult<Holder> {
        Ok(Holder::from(&self.call(py, tenure::Guard::holder)?))
    }

    /// The lock file's record, as JSON.
    #[getter]
    fn record_json(&self, py: Python<'_>) -> PyResult<String> {
        self.call(py, tenure::Guard::record_json)
    }

    /// Changes the label that other processes see.
    fn set_label(&self, py: Python<'_>, label: &str) -> PyResult<()> {
        self.call(py, |guard| guard.set_label(label))?.or_raise(py)
    }

    /// The rest of the lease of a lock on a server. None for a lock in files, which needs no lease.
    #[getter]
    fn lease(&self, py: Python<'_>) -> PyResult<Option<LeaseLeft>> {
        let left = self.call(py, tenure::Guard::lease)?;
        Ok(left.map(|left| LeaseLeft { lost_in: left.lost_in.as_secs_f64(), free_in: left.free_in.as_secs_f64() }))
    }

    /// Sets the exit code of the work under the lock, which the lock's history shows once the lock is released.
    fn set_exit_code(&self, py: Python<'_>, code: i32) -> PyResult<()> {
        self.call(py, |guard| guard.set_exit_code(code))
    }

    /// The number of the slot that is held, from 0. None for a lock without slots.
    #[getter(slot)]
    fn slot_number(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        self.call(py, tenure::Guard::slot)
    }

    /// Records that the work succeeded, for later acquires with ``not_more_often_than``. Call it before the release.
    fn mark_successful(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, tenure::Guard::mark_successful)?.or_raise(py)
    }

    /// Lets others hold the lock for a while, as for a long network call, until resume() of the returned object. Then this
    /// guard holds it again, before processes that wait already, and resume() says whether others held it meanwhile.
    ///
    /// While it is suspended, check() raises Lost, fence is None, and release() gives it up for good.
    ///
    /// ::
    ///
    ///     suspended = guard.suspend()
    ///     answer = ask_a_model(messages)
    ///     if suspended.resume(timeout=60):
    ///         messages = read_again()
    ///
    /// Raises:
    ///     tenure.Unsupported: For a shared lock, one with slots, without a record or on a server, and while another guard
    ///         of this process holds it too. The lock stays held.
    ///     tenure.Lost: If the lock was lost.
    fn suspend<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().suspend_guard(slf.py())?;
        suspended_of(slf, Timeout::Forever)
    }

    /// Returns a context manager that suspends the lock for a ``with`` or an ``async with`` block, and resumes it at the
    /// block's end.
    ///
    /// ::
    ///
    ///     with guard.suspended() as suspended:
    ///         answer = ask_a_model(messages)
    ///     if suspended.changed:
    ///         messages = read_again()
    ///
    /// Args:
    ///     timeout: How long the end of the block waits for the lock, in seconds. None waits without a limit.
    #[pyo3(signature = (timeout = Timeout::Forever), text_signature = "($self, timeout=None)")]
    fn suspended<'py>(slf: &Bound<'py, Self>, timeout: Timeout) -> PyResult<Bound<'py, PyAny>> {
        suspended_of(slf, timeout.or(Timeout::Forever))
    }

    /// Releases the lock. A second call does nothing. Raises Lost if the lock had been lost, also by a resume that failed.
    ///
    /// On a server it waits for the answer, for a few seconds at most, and raises Unreachable without one. The lock is then
    /// free when its lease is over.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_own_process() {
            return Err(error::lost(py, &self.target, FORKED));
        }
        self.release_guard(py)
    }

    /// Releases the lock like release(), for an asyncio task: the event loop runs while a server is waited for. A cancelled
    /// call does not stop the release.
    fn release_async<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("tenure._waits")?.call_method1("release", (slf,))
    }

    /// Releases the lock. Returns what is left to wait for.
    fn _start_release(&self, py: Python<'_>) -> PyResult<Option<Releasing>> {
        if !self.is_own_process() {
            return Err(error::lost(py, &self.target, FORKED));
        }
        self.start_release(py)
    }

    /// Releases the lock at the end of a block that raised ``error``, or None. Returns what is left to wait for.
    fn _start_exit(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Releasing>> {
        if !self.is_own_process() {
            return Ok(None);
        }
        or_add_to_body(py, self.start_release(py), error).map(Option::flatten)
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
        self.exit(py, error)
    }

    fn __repr__(&self) -> String {
        let target = tenure::escape::path(&self.target);
        let state = match () {
            () if !self.is_own_process() => "of the parent process",
            () if matches!(*self.slot(), Slot::GivenUp) => "given up",
            () if self.is_released() => "released",
            () if self.is_suspended() => "suspended",
            () => "held",
        };
        let fence = self.fence().map_or("no fence".to_owned(), |fence| format!("fence {fence}"));
        format!("<tenure.Guard {target}, {fence}, {state}>")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_own_process() {
            return;
        }
        let slot = self.guard.get_mut().unwrap_or_else(PoisonError::into_inner);
        let slot = std::mem::replace(slot, Slot::Released);
        if matches!(slot, Slot::Here(_) | Slot::Suspended(_)) {
            // At the interpreter's end try_attach() fails, and drops the guard on this thread as it is.
            Python::try_attach(|py| py.detach(|| drop(slot)));
        }
    }
}
