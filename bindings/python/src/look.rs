//! Who holds, and how a lock stands: values that only tell.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

use pyo3::prelude::*;
use tenure::{HolderKind, Style};

use crate::error::OrRaise;

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
    /// Does it use Tenure? False: it knows only the lock file, or flock(2).
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

    /// Who holds, or held and died. None when free, and for shared locks: see open_by.
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

/// How the lock of a path stands, without touching it.
#[pyfunction]
pub(crate) fn status(py: Python<'_>, path: PathBuf) -> PyResult<Status> {
    Ok(Status::from(py.detach(|| tenure::inspect(path)).or_raise(py)?))
}
