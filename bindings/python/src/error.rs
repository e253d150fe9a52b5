//! The library's errors as Python exceptions: the classes of `tenure/_errors.py`.

use std::path::Path;

use pyo3::prelude::*;
use tenure::Advice;

use crate::circle::{self, CircleWait};
use crate::holder::Holder;
use crate::sys;

/// The arguments of an exception of `tenure/_errors.py`.
#[derive(Default)]
struct Parts {
    message: String,
    hint: Option<String>,
    holder: Option<Holder>,
    errno: Option<i32>,
    waited: Option<f64>,
    circle: Option<Vec<CircleWait>>,
}

/// Builds an exception. The hint is appended to its message. An error of Python's while it is built takes its place.
fn build(py: Python<'_>, class: &str, path: &Path, parts: Parts) -> PyErr {
    let Parts { mut message, hint, holder, errno, waited, circle } = parts;
    if let Some(hint) = &hint {
        message = format!("{message}; {hint}");
    }
    let built = py
        .import("tenure._errors")
        .and_then(|errors| errors.getattr(class))
        .and_then(|class| class.call1((message, path.as_os_str(), holder, hint, errno, waited, circle)));
    built.map_or_else(|failed| failed, PyErr::from_value)
}

/// Returns the name of the class that an error belongs to.
fn class_name(error: &tenure::Error) -> &'static str {
    match error {
        _ if error.is_busy() => "Busy",
        _ if error.is_skipped() => "Skipped",
        _ if error.is_lost() => "Lost",
        _ if error.is_would_deadlock() => "WouldDeadlock",
        _ if error.is_unsupported() => "Unsupported",
        _ if error.is_obstructed() => "Obstructed",
        _ if error.is_invalid_target() => "InvalidTarget",
        _ if error.is_permission_denied() => "PermissionDenied",
        _ if error.is_cannot_create() => "CannotCreate",
        _ if error.is_unreachable() => "Unreachable",
        _ => "Error",
    }
}

/// Converts an error of the library to an exception.
pub(crate) fn exception(py: Python<'_>, error: &tenure::Error) -> PyErr {
    match hint(py, error) {
        Ok(hint) => library_exception(py, error, hint),
        Err(failed) => failed,
    }
}

/// Converts an error of the library to an exception with another hint.
pub(crate) fn exception_with_hint(py: Python<'_>, error: &tenure::Error, hint: &str) -> PyErr {
    library_exception(py, error, Some(hint.to_owned()))
}

fn library_exception(py: Python<'_>, error: &tenure::Error, hint: Option<String>) -> PyErr {
    let parts = Parts {
        message: error.without_hint().to_string(),
        hint,
        holder: error.holder().map(Holder::from),
        errno: error.io_error().and_then(std::io::Error::raw_os_error),
        waited: error.waited().map(|waited| waited.as_secs_f64()),
        circle: error.circle().map(circle::waits),
    };
    build(py, class_name(error), error.path(), parts)
}

/// Returns an error's hint, in terms of this package.
fn hint(py: Python<'_>, error: &tenure::Error) -> PyResult<Option<String>> {
    let Some(advice) = error.advice() else { return Ok(error.hint().map(str::to_owned)) };
    let path = || PyResult::Ok(error.path().as_os_str().into_pyobject(py)?.repr()?.to_string());
    let text = match advice {
        Advice::LookAtHolder => {
            let path = path()?;
            format!(
                "tenure.status({path}) shows details; tenure.break_lock({path}, force=True) takes the lock by force"
            )
        }
        Advice::Reenter => "use the Guard that this thread holds, or open both with reentrant=True".to_owned(),
        Advice::CreateParents => "create it, or pass create_parents=True".to_owned(),
        Advice::UseFlockStyle => "use style=\"flock\", which supports it".to_owned(),
        Advice::MoveOrUseFlockStyle => "move it, lock another path, or use style=\"flock\"".to_owned(),
        Advice::WithoutRecord => {
            "in a read-only folder, record=False takes only the kernel lock on the path".to_owned()
        }
        Advice::ShareByMode => {
            "in a sticky folder such as /tmp, users share a lock only if all of them pass mode=0o666".to_owned()
        }
        Advice::ShareByModeOrWithoutRecord => {
            "its owner shares it with mode=0o666; in a read-only folder, record=False takes only the kernel lock on \
             the path"
                .to_owned()
        }
        Advice::BuildWithServer => {
            "this package was built without locks on such servers; the command `tenure` and the Rust library have them"
                .to_owned()
        }
        _ => return Ok(error.hint().map(str::to_owned)),
    };
    Ok(Some(text))
}

/// Returns the exception for a wait that the system refused to support, with the system's number.
pub(crate) fn cannot_wait(py: Python<'_>, path: &Path, refused: std::io::Error) -> PyErr {
    let parts = Parts {
        message: format!("{}: cannot wait: {refused}", tenure::escape::path(path)),
        hint: sys::is_out_of_descriptors(&refused)
            .then(|| "too many files are open: close some, or raise the limit (ulimit -n)".to_owned()),
        errno: refused.raw_os_error(),
        ..Parts::default()
    };
    let class = if refused.kind() == std::io::ErrorKind::Unsupported { "Unsupported" } else { "Error" };
    build(py, class, path, parts)
}

/// Returns the exception for a signal handler that would wait for the acquire that it interrupts.
pub(crate) fn waits_for_itself(py: Python<'_>, path: &Path) -> PyErr {
    let path_text = tenure::escape::path(path);
    let parts = Parts {
        message: format!("{path_text}: this signal handler interrupts a wait for the same lock, and would wait for it"),
        hint: Some("set a flag in the handler, or give its acquire a timeout".to_owned()),
        ..Parts::default()
    };
    build(py, "WouldDeadlock", path, parts)
}

/// Returns the exception for an option that a lock on a server does not have.
pub(crate) fn for_files_only(py: Python<'_>, target: &Path, option: &str) -> PyErr {
    let parts = Parts {
        message: format!("{}: {option} is for files", tenure::escape::path(target)),
        hint: Some(format!("leave {option} out for a lock that a server keeps")),
        ..Parts::default()
    };
    build(py, "Unsupported", target, parts)
}

/// Returns a `tenure.Lost` for a loss that this package knows of without the library.
pub(crate) fn lost(py: Python<'_>, path: &Path, why: &str) -> PyErr {
    let message = format!("{}: {why}", tenure::escape::path(path));
    build(py, "Lost", path, Parts { message, ..Parts::default() })
}

/// Adds a failed release at the end of a with block to the block's own exception, which propagates.
pub(crate) fn add_to_body(py: Python<'_>, body: &Bound<'_, PyAny>, failed: PyErr) -> PyResult<()> {
    py.import("tenure._errors")?.getattr("add_to_body")?.call1((body, failed.into_value(py))).map(drop)
}

/// Converts a result of the library, its error to an exception.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for tenure::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
