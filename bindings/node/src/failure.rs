//! The library's errors, as plain objects. The TypeScript half makes `TenureError`s of them.

use std::path::Path;

use napi_derive::napi;
use tenure::{Advice, Error};

use crate::circle::{CircleWait, waits};
use crate::convert::{milliseconds, path_text};
use crate::holder::Holder;

/// The parts of an error.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// One of the `TENURE_` codes.
    pub code: &'static str,
    /// The whole text, with the hint.
    pub message: String,
    /// The path of the failed operation.
    pub path: String,
    /// The holder of the lock, if known.
    pub holder: Option<Holder>,
    /// A remedy, in one sentence.
    pub hint: Option<String>,
    /// The time for which the acquire waited, in milliseconds.
    pub waited: Option<f64>,
    /// The system's error number, if the system reported an error.
    pub errno: Option<i32>,
    /// The programs of a circle of waits.
    pub circle: Option<Vec<CircleWait>>,
}

impl Failure {
    /// Returns the failure of an option that a lock on a server does not have.
    pub(crate) fn for_files_only(target: &Path, option: &str) -> Failure {
        let hint = format!("leave {option} out for a lock that a server keeps");
        Failure {
            code: "TENURE_UNSUPPORTED",
            message: format!("{}: {option} is for files; {hint}", tenure::escape::path(target)),
            path: path_text(target),
            holder: None,
            hint: Some(hint),
            waited: None,
            errno: None,
            circle: None,
        }
    }

    /// Converts an error, with another hint.
    pub(crate) fn with_hint(error: &Error, hint: &str) -> Failure {
        let message = format!("{}; {hint}", error.without_hint());
        Failure { message, hint: Some(hint.to_owned()), ..Failure::from(error) }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        let hint = hint(error);
        let message = match &hint {
            Some(hint) => format!("{}; {hint}", error.without_hint()),
            None => error.without_hint().to_string(),
        };
        Failure {
            code: code(error),
            message,
            path: path_text(error.path()),
            holder: error.holder().map(Holder::from),
            hint,
            waited: error.waited().map(milliseconds),
            errno: error.io_error().and_then(std::io::Error::raw_os_error),
            circle: error.circle().map(waits),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::from(&error)
    }
}

/// Returns an error's hint, in terms of this package.
fn hint(error: &Error) -> Option<String> {
    Some(match error.advice() {
        Some(Advice::LookAtHolder) => {
            "status(path) shows details; breakLock(path, { force: true }) takes the lock by force".into()
        }
        Some(Advice::Reenter) => "use the Guard that is held, or open both with { reentrant: true }".into(),
        Some(Advice::CreateParents) => "create it, or pass { createParents: true }".into(),
        Some(Advice::UseFlockStyle) => "use flock style, which needs no lock file: { style: \"flock\" }".into(),
        Some(Advice::MoveOrUseFlockStyle) => {
            "move it, lock another path, or use flock style: { style: \"flock\" }".into()
        }
        Some(Advice::WithoutRecord) => "the lock's files need a folder that this user may write".into(),
        Some(Advice::ShareByMode | Advice::ShareByModeOrWithoutRecord) => {
            "users share a lock if all of them may write its files: their owner can permit that, or remove them".into()
        }
        Some(Advice::BuildWithServer) => {
            "this package was built without locks on such servers; the command tenure and the Rust library have them"
                .into()
        }
        _ => return error.hint().map(str::to_owned),
    })
}

type Is = fn(&Error) -> bool;

fn code(error: &Error) -> &'static str {
    let is: [(Is, &'static str); 10] = [
        (Error::is_busy, "TENURE_BUSY"),
        (Error::is_skipped, "TENURE_SKIPPED"),
        (Error::is_would_deadlock, "TENURE_WOULD_DEADLOCK"),
        (Error::is_lost, "TENURE_LOST"),
        (Error::is_unsupported, "TENURE_UNSUPPORTED"),
        (Error::is_obstructed, "TENURE_OBSTRUCTED"),
        (Error::is_invalid_target, "TENURE_INVALID_TARGET"),
        (Error::is_permission_denied, "TENURE_PERMISSION_DENIED"),
        (Error::is_cannot_create, "TENURE_CANNOT_CREATE"),
        (Error::is_unreachable, "TENURE_UNREACHABLE"),
    ];
    is.iter().find(|(is, _)| is(error)).map_or("TENURE_IO", |(_, code)| code)
}
