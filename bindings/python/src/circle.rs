//! Circles of waits, as Python objects.

use std::ffi::OsString;
use std::time::SystemTime;

use pyo3::prelude::*;

/// A program that holds a lock and waits for another: one step of a deadlock. Attributes that are not known are None.
///
/// The texts (command, label) are unescaped, as their writer recorded them. ``str()`` escapes them for a terminal.
#[pyclass(frozen, module = "tenure")]
#[derive(Clone)]
pub(crate) struct CircleWait {
    /// The process id of the waiting program.
    #[pyo3(get)]
    pid: i64,
    /// The command line.
    #[pyo3(get)]
    command: Option<String>,
    /// The label that the program chose for itself.
    #[pyo3(get)]
    label: Option<String>,
    /// The number of the waiting task in its process. None: a thread waits.
    #[pyo3(get)]
    task: Option<u64>,
    /// The task's name.
    #[pyo3(get)]
    task_name: Option<String>,
    /// The path whose lock it holds. Of a slot, the slot's own path.
    #[pyo3(get)]
    holds: OsString,
    /// The process id of the holder, where the program is a command that runs under its lock, as with ``tenure run``.
    #[pyo3(get)]
    holder_pid: Option<i64>,
    /// The path whose lock it waits for.
    #[pyo3(get)]
    waits_for: OsString,
    /// The number of slots of which it waits for one. None: it waits for the lock.
    #[pyo3(get)]
    slots: Option<u32>,
    /// When the wait began: an aware datetime, UTC.
    #[pyo3(get)]
    since: Option<SystemTime>,
    text: String,
}

impl From<&tenure::Waiting> for CircleWait {
    fn from(waiting: &tenure::Waiting) -> CircleWait {
        CircleWait {
            pid: waiting.pid,
            command: waiting.command.clone(),
            label: waiting.label.clone(),
            task: waiting.task,
            task_name: waiting.task_name.clone(),
            holds: waiting.holds.clone().into(),
            holder_pid: waiting.holder_pid,
            waits_for: waiting.waits_for.clone().into(),
            slots: waiting.slots,
            since: waiting.since,
            text: waiting.to_string(),
        }
    }
}

#[pymethods]
impl CircleWait {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("<tenure.CircleWait {}>", self.text)
    }
}

/// Converts a circle to a list.
pub(crate) fn waits(circle: &tenure::Circle) -> Vec<CircleWait> {
    circle.waits.iter().map(CircleWait::from).collect()
}
