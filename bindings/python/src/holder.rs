//! The holder of a lock, as a Python object.

use std::time::SystemTime;

use pyo3::prelude::*;
use tenure::HolderKind;

/// The process that holds a lock, or held it last. Attributes that are not recorded are None.
///
/// The texts (command, label, host) are unescaped, as their writer recorded them. ``str(holder)`` escapes them for a
/// terminal.
#[pyclass(frozen, module = "tenure")]
#[derive(Clone)]
pub(crate) struct Holder {
    /// The process id.
    #[pyo3(get)]
    pid: Option<i64>,
    /// The process id of the command that the holder runs under the lock, as ``tenure run`` does.
    #[pyo3(get)]
    command_pid: Option<i64>,
    /// Whether the process lives: "alive", "dead" or "unknown".
    #[pyo3(get)]
    liveness: &'static str,
    /// The evidence for liveness.
    #[pyo3(get)]
    why: String,
    /// The command line.
    #[pyo3(get)]
    command: Option<String>,
    /// The label that the holder chose for itself.
    #[pyo3(get)]
    label: Option<String>,
    /// The name of the machine.
    #[pyo3(get)]
    host: Option<String>,
    /// The time at which the lock was acquired: an aware datetime, UTC.
    #[pyo3(get)]
    since: Option<SystemTime>,
    /// The time for which the lock had been held when this object was made, in seconds.
    #[pyo3(get)]
    held_for: Option<f64>,
    /// The recorded maximum hold time, in seconds.
    #[pyo3(get)]
    max_hold: Option<f64>,
    /// The fencing token.
    #[pyo3(get)]
    fence: Option<u64>,
    /// True for a holder that uses Tenure, False for a program that only knows lock files or flock(2).
    #[pyo3(get)]
    native: bool,
    text: String,
}

impl From<&tenure::Holder> for Holder {
    fn from(holder: &tenure::Holder) -> Holder {
        Holder {
            pid: holder.pid(),
            command_pid: holder.command_pid(),
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
