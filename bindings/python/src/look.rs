//! Who holds, and how a lock stands: values that only tell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::SystemTime;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tenure::{HolderKind, Style};

use crate::error::{self, OrRaise};

/// The process that holds a lock, or held it last. What is not recorded is None.
///
/// The texts (command, label, host) are as their writer put them: escape them before you print them. ``str(holder)``
/// does.
#[pyclass(frozen, module = "tenure")]
#[derive(Clone)]
pub(crate) struct Holder {
    /// Its process id.
    #[pyo3(get)]
    pid: Option<i64>,
    /// "alive", "dead" or "unknown".
    #[pyo3(get)]
    liveness: &'static str,
    /// How that is known.
    #[pyo3(get)]
    why: String,
    /// Its command line.
    #[pyo3(get)]
    command: Option<String>,
    /// What it calls itself.
    #[pyo3(get)]
    label: Option<String>,
    /// Its machine.
    #[pyo3(get)]
    host: Option<String>,
    /// When its tenure began (an aware datetime, UTC).
    #[pyo3(get)]
    since: Option<SystemTime>,
    /// How long it had held when this was looked at, in seconds.
    #[pyo3(get)]
    held_for: Option<f64>,
    /// How long it means to hold, in seconds.
    #[pyo3(get)]
    max_hold: Option<f64>,
    /// The fence of its tenure.
    #[pyo3(get)]
    fence: Option<u64>,
    /// True where it uses Tenure. False: it knows only the lock file, or flock(2).
    #[pyo3(get)]
    native: bool,
    text: String,
}

impl From<&tenure::Holder> for Holder {
    fn from(holder: &tenure::Holder) -> Holder {
        Holder {
            pid: holder.pid(),
            liveness: holder.liveness.name(),
            why: holder.liveness.why().to_owned(),
            command: holder.command.clone(),
            label: holder.label.clone(),
            host: holder.host.clone(),
            since: holder.acquired_at.or(holder.created_at),
            held_for: holder.age().map(|age| age.as_secs_f64()),
            max_hold: holder.max_hold.map(|max_hold| max_hold.as_secs_f64()),
            fence: holder.fence,
            native: holder.kind == HolderKind::Native,
            text: holder.to_string(),
        }
    }
}

#[pymethods]
impl Holder {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("<tenure.Holder {}>", self.text)
    }
}

/// How a lock stands: what :func:`status` answers.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct Status {
    found: tenure::Inspection,
}

impl From<tenure::Inspection> for Status {
    fn from(found: tenure::Inspection) -> Status {
        Status { found }
    }
}

#[pymethods]
impl Status {
    /// The path that the lock protects.
    #[getter]
    fn target(&self) -> OsString {
        self.found.target.clone().into()
    }

    /// ``<target>.lock``.
    #[getter]
    fn lock_file(&self) -> OsString {
        self.found.lock_file.clone().into()
    }

    /// "free", "held", "stale" (its holder is dead: the next acquire takes over) or "unknown".
    #[getter]
    fn state(&self) -> &'static str {
        self.found.state.as_str()
    }

    /// "lock-file" or "flock".
    #[getter]
    fn style(&self) -> &'static str {
        style_name(self.found.style)
    }

    /// The process that holds, or held and died. None when free, and for shared locks: see open_by.
    #[getter]
    fn holder(&self) -> Option<Holder> {
        self.found.holder.as_ref().map(Holder::from)
    }

    /// How many processes wait in the kernel's queue; None where that cannot be read.
    #[getter]
    fn waiters(&self) -> Option<usize> {
        self.found.waiters
    }

    /// The process ids of those that wait, first come first.
    #[getter]
    fn queue(&self) -> Vec<i64> {
        self.found.queue.clone()
    }

    /// Processes that have the lock open where the holder does not say it all: sharers, heirs of a descriptor.
    #[getter]
    fn open_by(&self) -> Vec<i64> {
        self.found.open_by.clone()
    }

    fn __repr__(&self) -> String {
        let target = tenure::escape::path(&self.found.target);
        match &self.found.holder {
            Some(holder) => format!("<tenure.Status {target}: {}, {holder}>", self.state()),
            None => format!("<tenure.Status {target}: {}>", self.state()),
        }
    }
}

pub(crate) fn style_name(style: Style) -> &'static str {
    match style {
        Style::LockFile => "lock-file",
        Style::Flock => "flock",
    }
}

/// A path as Python gives it: a str, bytes, or what os.fspath() makes one of.
pub(crate) struct Target(pub(crate) PathBuf);

impl<'a, 'py> FromPyObject<'a, 'py> for Target {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Target> {
        let path = value.py().import("os")?.call_method1("fspath", (value,))?;
        match path.cast::<PyBytes>() {
            Ok(bytes) => Ok(Target(PathBuf::from(OsStr::from_bytes(bytes.as_bytes())))),
            Err(_) => path.extract().map(Target),
        }
    }
}

/// How the lock of a path stands, without touching it.
///
/// Args:
///     path: what tenure.Lock takes.
#[pyfunction]
pub(crate) fn status(py: Python<'_>, path: Target) -> PyResult<Status> {
    Ok(Status::from(py.detach(|| tenure::status(path.0)).or_raise(py)?))
}

/// An operator's takeover: frees the lock of a path, whoever holds it.
///
/// A dead holder's lock is cleared away. A live holder's is broken with force alone: it may be at work still, its
/// check() raises Lost from then on, and the next one gets in.
///
/// Returns:
///     Was there anything to break?
///
/// Raises:
///     tenure.Busy: where the holder lives, or that cannot be told, and force is not given.
///     tenure.Unsupported: where the holder knows only flock(2): nobody but the kernel can take that away.
#[pyfunction]
#[pyo3(signature = (path, *, force = false))]
pub(crate) fn break_lock(py: Python<'_>, path: Target, force: bool) -> PyResult<bool> {
    match py.detach(|| tenure::break_lock(path.0, &tenure::BreakOptions::default().force(force))) {
        Ok(broken) => Ok(broken.broken),
        Err(error) if error.is_busy() => {
            let hint = match force {
                true => "it changed hands meanwhile: look again with tenure.status()",
                false => "breaking the lock of a live holder takes force=True: two may then be at work",
            };
            Err(error::exception_with_hint(py, &error, hint))
        }
        Err(error) => Err(error::exception(py, &error)),
    }
}
