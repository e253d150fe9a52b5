//! `history()`: who held a lock when.

use std::time::SystemTime;

use pyo3::prelude::*;

use crate::convert::Target;
use crate::error::OrRaise;

/// A past tenure of a lock, or a wait that failed. Attributes that are not known are None.
///
/// The texts (command, label, host, why, blocked_by) are unescaped, as their writer recorded them, and cut if they are long.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct PastTenure {
    /// How it ended. "busy", "deadlock" or "skipped": the lock was never held.
    #[pyo3(get)]
    ended: &'static str,
    /// The process id of the holder, or of the process that waited.
    #[pyo3(get)]
    pid: Option<i64>,
    /// The command line.
    #[pyo3(get)]
    command: Option<String>,
    /// The label that the holder chose for itself.
    #[pyo3(get)]
    label: Option<String>,
    /// The name of the machine.
    #[pyo3(get)]
    host: Option<String>,
    /// When the tenure, or the failed wait, began: an aware datetime, UTC.
    #[pyo3(get)]
    since: SystemTime,
    /// When it ended. After a crash: when the next holder found out.
    #[pyo3(get)]
    until: SystemTime,
    /// After a crash: when the holder updated its record last.
    #[pyo3(get)]
    last_sign: Option<SystemTime>,
    /// How long the holder had waited for the lock, in seconds.
    #[pyo3(get)]
    waited: Option<f64>,
    /// The exit code of the work under the lock.
    #[pyo3(get)]
    exit_code: Option<i32>,
    /// The fencing token.
    #[pyo3(get)]
    fence: Option<u64>,
    /// True for a shared lock.
    #[pyo3(get)]
    shared: bool,
    /// The evidence of a crash.
    #[pyo3(get)]
    why: Option<String>,
    /// The process id of the holder that a failed wait waited for.
    #[pyo3(get)]
    blocked_by_pid: Option<i64>,
    /// That holder's label, or its command line.
    #[pyo3(get)]
    blocked_by: Option<String>,
}

impl From<tenure::PastTenure> for PastTenure {
    fn from(past: tenure::PastTenure) -> PastTenure {
        PastTenure {
            ended: past.ended.as_str(),
            pid: past.pid,
            command: past.command,
            label: past.label,
            host: past.host,
            since: past.from,
            until: past.until,
            last_sign: past.last_sign,
            waited: past.waited.map(|waited| waited.as_secs_f64()),
            exit_code: past.exit_code,
            fence: past.fence,
            shared: past.shared,
            why: past.why,
            blocked_by_pid: past.blocked_by_pid,
            blocked_by: past.blocked_by,
        }
    }
}

#[pymethods]
impl PastTenure {
    fn __repr__(&self) -> String {
        let name = self.label.as_ref().or(self.command.as_ref()).map(|name| tenure::escape::text(name));
        let pid = self.pid.map(|pid| format!("pid {pid}"));
        let who = [pid, name].into_iter().flatten().collect::<Vec<_>>().join(", ");
        format!("<tenure.PastTenure {}: {who}>", self.ended)
    }
}

/// Returns the last tenures of a path's lock and its last failed waits, oldest first, if its holders keep a history.
///
/// ::
///
///     for past in tenure.history("backup"):
///         print(past.since, past.label, past.ended, past.exit_code)
///
/// Args:
///     path: The protected path, as for tenure.Lock.
#[pyfunction]
pub(crate) fn history(py: Python<'_>, path: Target) -> PyResult<Vec<PastTenure>> {
    Ok(py.detach(|| tenure::history(path.0)).or_raise(py)?.into_iter().map(PastTenure::from).collect())
}
