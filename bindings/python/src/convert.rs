//! Conversions between Python's values and the library's.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tenure::{IfBusy, Overrun, Style};

/// A path as Python gives it: a `str`, `bytes`, or an object that `os.fspath()` accepts.
pub(crate) struct Target(pub(crate) PathBuf);

impl<'a, 'py> FromPyObject<'a, 'py> for Target {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Target> {
        let os = value.py().import("os")?;
        let mut path = os.call_method1("fspath", (value,))?;
        if path.is_instance_of::<PyBytes>() {
            path = os.call_method1("fsdecode", (path,))?;
        }
        path.extract().map(Target)
    }
}

/// Converts a number of seconds. Infinity is [`Duration::MAX`].
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    if value == f64::INFINITY {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name} must be a number of seconds >= 0, not {value}")))
}

/// Returns a style's name in Python.
pub(crate) fn style_name(style: Style) -> &'static str {
    match style {
        Style::LockFile => "lock-file",
        Style::Flock => "flock",
    }
}

/// Parses a style's name.
pub(crate) fn style_of(name: &str) -> PyResult<Style> {
    [Style::LockFile, Style::Flock]
        .into_iter()
        .find(|style| style_name(*style) == name)
        .ok_or_else(|| PyValueError::new_err(format!("style must be \"lock-file\" or \"flock\", not {name:?}")))
}

/// Parses what an acquire does when the lock is busy.
pub(crate) fn if_busy_of(name: &str) -> PyResult<IfBusy> {
    match name {
        "wait" => Ok(IfBusy::Wait),
        "skip" => Ok(IfBusy::Skip),
        "queue-one" => Ok(IfBusy::QueueOne),
        "replace" => Ok(IfBusy::Replace),
        _ => Err(PyValueError::new_err(format!(
            "if_busy must be \"wait\", \"skip\", \"queue-one\" or \"replace\", not {name:?}"
        ))),
    }
}

/// Parses what happens after `max_hold`.
pub(crate) fn overrun_of(name: &str) -> PyResult<Overrun> {
    match name {
        "report" => Ok(Overrun::Report),
        "revoke" => Ok(Overrun::Revoke),
        _ => Err(PyValueError::new_err(format!("overrun must be \"report\" or \"revoke\", not {name:?}"))),
    }
}
