//! `status()` and `break_lock()`: a lock's state, and an operator's way to free it.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::circle::{self, CircleWait};
use crate::convert::{Target, style_name};
use crate::error::{self, OrRaise};
use crate::holder::Holder;

/// The state of a lock when :func:`status` read it.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct Status {
    found: tenure::Status,
}

impl From<tenure::Status> for Status {
    fn from(found: tenure::Status) -> Status {
        Status { found }
    }
}

#[pymethods]
impl Status {
    /// The path that the lock protects, or the target on a server.
    #[getter]
    fn target(&self) -> OsString {
        self.found.target.clone().into()
    }

    /// The path of the lock file: ``<target>.lock``. On a server, the lock's name there.
    #[getter]
    fn lock_file(&self) -> OsString {
        self.found.lock_file.clone().into()
    }

    /// "free", "held", "stale" (the holder is dead, and the next acquire takes over) or "unknown".
    #[getter]
    fn state(&self) -> &'static str {
        self.found.state.as_str()
    }

    /// "etcd" or "postgres" for a lock that a server keeps, None for one in files.
    #[getter]
    fn server(&self) -> Option<&'static str> {
        self.found.server.map(tenure::server::Scheme::as_str)
    }

    /// "lock-file" or "flock". "lock-file" for a lock that a server keeps.
    #[getter]
    fn style(&self) -> &'static str {
        style_name(self.found.style)
    }

    /// The reasons for which OpenClaw's protocol would call the lock file stale.
    #[getter]
    fn reasons(&self) -> Vec<&'static str> {
        self.found.reasons.iter().map(|reason| reason.as_str()).collect()
    }

    /// The holder, alive or dead. None for a free lock and for shared locks, whose holders open_by lists.
    #[getter]
    fn holder(&self) -> Option<Holder> {
        self.found.holder.as_ref().map(Holder::from)
    }

    /// The number of waiters in the kernel's queue, or in the server's. None where that cannot be read.
    #[getter]
    fn waiters(&self) -> Option<usize> {
        self.found.waiters
    }

    /// The process ids of the waiters, in the order of their arrival.
    #[getter]
    fn queue(&self) -> Vec<i64> {
        self.found.queue.clone()
    }

    /// The process ids that have the lock open and are not the holder: shared holders, and heirs of a descriptor.
    #[getter]
    fn open_by(&self) -> Vec<i64> {
        self.found.open_by.clone()
    }

    /// The processes that have suspended the lock and mean to resume it, in the order in which they were suspended.
    #[getter]
    fn suspended(&self) -> Vec<SuspendedHolder> {
        let suspended = self.found.suspended.iter();
        suspended.map(|suspended| SuspendedHolder { pid: suspended.pid, fence: suspended.fence }).collect()
    }

    fn __repr__(&self) -> String {
        let target = tenure::escape::path(&self.found.target);
        match &self.found.holder {
            Some(holder) => format!("<tenure.Status {target}: {}, {holder}>", self.state()),
            None => format!("<tenure.Status {target}: {}>", self.state()),
        }
    }
}

/// A process that has suspended a lock, and means to resume it.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct SuspendedHolder {
    /// The process id, in the process's own pid namespace.
    #[pyo3(get)]
    pid: i64,
    /// The fencing token of the suspended hold.
    #[pyo3(get)]
    fence: u64,
}

#[pymethods]
impl SuspendedHolder {
    fn __repr__(&self) -> String {
        format!("<tenure.SuspendedHolder pid {}, fence {}>", self.pid, self.fence)
    }
}

/// Returns the state of a path's lock. Does not acquire or change anything.
///
/// ::
///
///     status = tenure.status("sessions/main.jsonl")
///     if status.state == "held":
///         print("held by", status.holder)
///
/// Args:
///     path: The protected path, or the target on a server, as for tenure.Lock.
///
/// Raises:
///     tenure.Unreachable: If the server does not answer, within a few seconds.
#[pyfunction]
pub(crate) fn status(py: Python<'_>, path: Target) -> PyResult<Status> {
    Ok(Status::from(py.detach(|| tenure::status(path.0)).or_raise(py)?))
}

/// Returns "etcd" or "postgres" for a target on such a server, None for any other path.
#[pyfunction]
pub(crate) fn _server_of(path: Target) -> Option<&'static str> {
    tenure::server::scheme(path.0).ok().flatten().map(tenure::server::Scheme::as_str)
}

/// Returns the locks in a folder that are held or stale, sorted by path. A missing folder has none.
///
/// ::
///
///     for lock in tenure.list("sessions"):
///         print(lock.target, lock.state, lock.holder)
///
/// Args:
///     folder: A folder, or a name on a server, which lists all locks below it.
///     recursive: Also list the locks in the folders below. Links are not followed.
///
/// Raises:
///     tenure.Unreachable: If the server does not answer, within a few seconds.
#[pyfunction]
#[pyo3(signature = (folder, *, recursive = false))]
pub(crate) fn list(py: Python<'_>, folder: Target, recursive: bool) -> PyResult<Vec<Status>> {
    let options = tenure::ListOptions::default().recursive(recursive);
    let found = py.detach(|| tenure::list(folder.0, &options)).or_raise(py)?;
    Ok(found.into_iter().map(Status::from).collect())
}

/// Returns the slots of a path (``slots=`` of tenure.Lock) that are held or stale, in the order of their numbers.
///
/// ::
///
///     for slot in tenure.slots("gpu"):
///         print(slot.target, slot.state, slot.holder)
///
/// A slot is a lock of its own: its ``target`` is ``gpu.slot-0`` and so on, which status() and break_lock() take.
///
/// Args:
///     path: The protected path, or the target on a server, as for tenure.Lock.
///
/// Raises:
///     tenure.Unreachable: If the server does not answer, within a few seconds.
#[pyfunction]
pub(crate) fn slots(py: Python<'_>, path: Target) -> PyResult<Vec<Status>> {
    let found = py.detach(|| tenure::slots(path.0)).or_raise(py)?;
    Ok(found.into_iter().map(Status::from).collect())
}

/// Returns the deadlocks in which a lock in a folder has a part: lists of programs, each of which holds a lock and waits for
/// the next one's.
///
/// A wait that would close such a circle raises WouldDeadlock, so these are of programs with ``deadlock_check=False``. Only what
/// is proven is reported: no tasks, and no programs that only know flock(2).
///
/// ::
///
///     for circle in tenure.deadlocks("sessions", recursive=True):
///         print(*circle, sep="\n")
///
/// Args:
///     folder: A folder.
///     recursive: Also look at the locks in the folders below. Links are not followed.
#[pyfunction]
#[pyo3(signature = (folder, *, recursive = false))]
pub(crate) fn deadlocks(py: Python<'_>, folder: Target, recursive: bool) -> PyResult<Vec<Vec<CircleWait>>> {
    let options = tenure::ListOptions::default().recursive(recursive);
    let found = py.detach(|| tenure::deadlocks(folder.0, &options)).or_raise(py)?;
    Ok(found.iter().map(circle::waits).collect())
}

/// Breaks the lock of a path, as an operator does when its holder hangs.
///
/// A dead holder's lock is removed. A live holder's lock is broken only with ``force``: the holder may still be
/// working, its ``check()`` raises Lost from then on, and the next waiter acquires the lock.
///
/// ::
///
///     if tenure.break_lock("sessions/main.jsonl", force=True):
///         print("the lock is free")
///
/// Args:
///     path: The protected path, or the target on a server, as for tenure.Lock.
///     force: Break the lock of a live holder too.
///
/// Returns:
///     True if there was a lock to remove or break.
///
/// Raises:
///     tenure.Busy: Without ``force``, for a holder that lives or may live.
///     tenure.Unsupported: For a holder that only uses flock(2), which no other process can break.
#[pyfunction]
#[pyo3(signature = (path, *, force = false))]
pub(crate) fn break_lock(py: Python<'_>, path: Target, force: bool) -> PyResult<bool> {
    match py.detach(|| tenure::break_lock(path.0, &tenure::BreakOptions::default().force(force))) {
        Ok(broken) => Ok(broken.broken),
        Err(error) if error.is_busy() => {
            let hint = match force {
                true => "the holder changed meanwhile: check again with tenure.status()",
                false => {
                    "force=True breaks the lock of a live holder, which may then work at the same time as the next"
                }
            };
            Err(error::exception_with_hint(py, &error, hint))
        }
        Err(error) => Err(error::exception(py, &error)),
    }
}
