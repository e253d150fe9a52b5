//! The library's errors as Python's exceptions: the classes of `tenure/_errors.py`.

use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::look::Holder;

/// Which class an error belongs to.
fn class_name(error: &tenure::Error) -> &'static str {
    match error {
        _ if error.is_busy() => "Busy",
        _ if error.is_lost() => "Lost",
        _ if error.is_would_deadlock() => "WouldDeadlock",
        _ if error.is_unsupported() => "Unsupported",
        _ if error.is_in_the_way() => "InTheWay",
        _ if error.is_invalid_target() => "InvalidTarget",
        _ if error.is_permission_denied() => "PermissionDenied",
        _ if error.is_cannot_create() => "CannotCreate",
        _ => "Error",
    }
}

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &tenure::Error) -> PyErr {
    let built = class(py, class_name(error)).and_then(|class| {
        let holder = error.holder().map(|holder| Bound::new(py, Holder::from(holder))).transpose()?;
        let errno = error.io_error().and_then(std::io::Error::raw_os_error);
        let waited = error.waited().map(|waited| waited.as_secs_f64());
        class.call1((error.to_string(), error.path().as_os_str(), holder, error.hint(), errno, waited))
    });
    built.map_or_else(|failed| failed, PyErr::from_value)
}

/// What the system refused that a wait needs, with its number.
pub(crate) fn cannot_wait(py: Python<'_>, path: &std::path::Path, refused: std::io::Error) -> PyErr {
    let message = format!("{}: cannot wait: {refused}", tenure::escape::path(path));
    let hint = refused
        .raw_os_error()
        .filter(|code| {
            [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].iter().any(|full| full.raw_os_error() == *code)
        })
        .map(|_| "too many files are open: close some, or raise the limit (ulimit -n)");
    let message = hint.map_or(message.clone(), |hint| format!("{message}; {hint}"));
    let built = class(py, "Error").and_then(|class| {
        class.call1((message, path.as_os_str(), None::<Holder>, hint, refused.raw_os_error(), None::<f64>))
    });
    built.map_or_else(|failed| failed, PyErr::from_value)
}

/// `tenure.Lost` with words of this package, for what it knows without asking the library.
pub(crate) fn lost(py: Python<'_>, path: &std::path::Path, why: &str) -> PyErr {
    let message = format!("{}: {why}", tenure::escape::path(path));
    let built = class(py, "Lost").and_then(|class| class.call1((message, path.as_os_str())));
    built.map_or_else(|failed| failed, PyErr::from_value)
}

/// Tells of what failed at the end of a with block beside the block's own exception, which goes on.
pub(crate) fn tell_beside(py: Python<'_>, body: &Bound<'_, PyAny>, failed: PyErr) -> PyResult<()> {
    py.import("tenure._errors")?.getattr("tell_beside")?.call1((body, failed.into_value(py))).map(drop)
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py.import("tenure._errors")?.getattr(name)?.cast_into()?)
}

/// What the library answered, with its error as an exception.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for tenure::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
