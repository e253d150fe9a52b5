//! The library's errors as Python's exceptions: the classes of `tenure/_errors.py`.

use pyo3::prelude::*;
use pyo3::types::PyType;
use tenure::Advice;

use crate::look::Holder;

/// Which class an error belongs to.
fn class_name(error: &tenure::Error) -> &'static str {
    match error {
        _ if error.is_busy() => "Busy",
        _ if error.is_lost() => "Lost",
        _ if error.is_would_deadlock() => "WouldDeadlock",
        _ if error.is_unsupported() => "Unsupported",
        _ if error.is_obstructed() => "InTheWay",
        _ if error.is_invalid_target() => "InvalidTarget",
        _ if error.is_permission_denied() => "PermissionDenied",
        _ if error.is_cannot_create() => "CannotCreate",
        _ => "Error",
    }
}

/// The exception for an error.
pub(crate) fn exception(py: Python<'_>, error: &tenure::Error) -> PyErr {
    let built = hint(py, error).and_then(|hint| built(py, error, hint));
    built.map_or_else(|failed| failed, PyErr::from_value)
}

/// As [`exception`], with another hint.
pub(crate) fn exception_with_hint(py: Python<'_>, error: &tenure::Error, hint: &str) -> PyErr {
    built(py, error, Some(hint.to_owned())).map_or_else(|failed| failed, PyErr::from_value)
}

fn built<'py>(py: Python<'py>, error: &tenure::Error, hint: Option<String>) -> PyResult<Bound<'py, PyAny>> {
    let holder = error.holder().map(|holder| Bound::new(py, Holder::from(holder))).transpose()?;
    let errno = error.io_error().and_then(std::io::Error::raw_os_error);
    let waited = error.waited().map(|waited| waited.as_secs_f64());
    let mut message = error.without_hint().to_string();
    if let Some(hint) = &hint {
        message = format!("{message}; {hint}");
    }
    class(py, class_name(error))?.call1((message, error.path().as_os_str(), holder, hint, errno, waited))
}

/// What to do, in the words of Python.
fn hint(py: Python<'_>, error: &tenure::Error) -> PyResult<Option<String>> {
    let Some(advice) = error.advice() else { return Ok(error.hint().map(str::to_owned)) };
    let path = || PyResult::Ok(error.path().as_os_str().into_pyobject(py)?.repr()?.to_string());
    let words = match advice {
        Advice::LookAtHolder => {
            let path = path()?;
            format!("tenure.status({path}) says more; tenure.break_lock({path}, force=True) is an operator's way out")
        }
        Advice::Reenter => "use what its first acquire answered, or open both with reentrant=True".to_owned(),
        Advice::CreateParents => "make it, or let create_parents=True do so".to_owned(),
        Advice::UseFlockStyle => "style=\"flock\" can do it".to_owned(),
        Advice::MoveOrUseFlockStyle => "move it, lock another path, or use style=\"flock\"".to_owned(),
        Advice::WithoutRecord => {
            "where the folder may only be read, record=False takes the bare kernel lock on the path".to_owned()
        }
        Advice::ShareByMode => {
            "in a sticky folder such as /tmp a lock is shared between users only if all of them ask for it: mode=0o666"
                .to_owned()
        }
        Advice::ShareByModeOrWithoutRecord => {
            "its owner shares it with mode=0o666; where the folder may only be read, record=False takes the bare \
             kernel lock on the path"
                .to_owned()
        }
        Advice::BuildWithEngine => {
            "locks on servers are not in this package; the command `tenure` and the Rust library have them".to_owned()
        }
        _ => return Ok(error.hint().map(str::to_owned)),
    };
    Ok(Some(words))
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

/// A signal's handler asks for what the wait waits for that it interrupts.
pub(crate) fn waits_for_itself(py: Python<'_>, path: &std::path::Path) -> PyErr {
    let hint = "have the handler set a flag, or give its acquire a timeout";
    let path_word = tenure::escape::path(path);
    let message =
        format!("{path_word}: this handler interrupts a wait for the same lock, and would wait for it; {hint}");
    let built = class(py, "WouldDeadlock")
        .and_then(|class| class.call1((message, path.as_os_str(), None::<Holder>, hint, None::<i32>, None::<f64>)));
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
