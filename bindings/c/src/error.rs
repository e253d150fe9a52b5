//! Errors: a code to decide by, and an object with the sentence for people.

use std::ffi::{CStr, CString, c_char, c_int};

use tenure::ErrorKind;

use crate::raw;

/// The result of a function. Decide by it, never by an error's text. Later versions may add codes.
#[allow(non_camel_case_types, reason = "the names are those of C")]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenureCode {
    /// No error.
    TENURE_OK = 0,
    /// Another holder had the lock until the timeout.
    TENURE_BUSY = 1,
    /// The acquire would wait for its own end.
    TENURE_WOULD_DEADLOCK = 2,
    /// The lock was held and is held no longer.
    TENURE_LOST = 3,
    /// The kernel, the file system, the server or this build lacks what the lock needs.
    TENURE_UNSUPPORTED = 4,
    /// A file or folder that is no lock has the name of the lock file or of its anchor.
    TENURE_OBSTRUCTED = 5,
    /// The path cannot be a target.
    TENURE_INVALID_TARGET = 6,
    /// The system denies the access to this user.
    TENURE_PERMISSION_DENIED = 7,
    /// The lock's files cannot be created.
    TENURE_CANNOT_CREATE = 8,
    /// No server answers that can keep the lock.
    TENURE_UNREACHABLE = 9,
    /// A server answers and accepts no writes.
    TENURE_READ_ONLY = 10,
    /// An error of the system that is none of these: `tenure_error_errno`.
    TENURE_IO = 11,
    /// An argument is `NULL`, out of range, or not UTF-8.
    TENURE_INVALID_ARGUMENT = 12,
    /// A fault of the library itself. Please report it.
    TENURE_INTERNAL = 13,
    /// The run is not needed: another acquire waits already, or a success is recent (`tenure_options_set_if_busy`,
    /// `tenure_options_set_not_more_often_than`).
    TENURE_SKIPPED = 14,
}

/// An error: its code, and a sentence that names the path, the holder, the likely cause and a remedy. Free it with
/// `tenure_error_free`.
pub struct TenureError {
    code: TenureCode,
    message: CString,
    holder: Option<CString>,
    holder_pid: i64,
    circle: Option<CString>,
    circle_json: Option<CString>,
    errno: c_int,
}

/// The reason for which a function fails.
pub(crate) enum Failure {
    Library(tenure::Error),
    Argument(String),
    /// The lock is not held by the guard any more.
    Lost(String),
    /// A failed call of the system, with what it was for.
    System(&'static str, std::io::Error),
    Internal(String),
}

impl Failure {
    pub(crate) fn argument(text: impl Into<String>) -> Failure {
        Failure::Argument(text.into())
    }

    pub(crate) fn lost(text: impl Into<String>) -> Failure {
        Failure::Lost(text.into())
    }

    pub(crate) fn internal(text: impl Into<String>) -> Failure {
        Failure::Internal(text.into())
    }

    pub(crate) fn code(&self) -> TenureCode {
        match self {
            Failure::Argument(_) => TenureCode::TENURE_INVALID_ARGUMENT,
            Failure::Lost(_) => TenureCode::TENURE_LOST,
            Failure::System(..) => TenureCode::TENURE_IO,
            Failure::Internal(_) => TenureCode::TENURE_INTERNAL,
            Failure::Library(error) => match error.kind() {
                ErrorKind::Busy => TenureCode::TENURE_BUSY,
                ErrorKind::WouldDeadlock => TenureCode::TENURE_WOULD_DEADLOCK,
                ErrorKind::Lost => TenureCode::TENURE_LOST,
                ErrorKind::Unsupported => TenureCode::TENURE_UNSUPPORTED,
                ErrorKind::Obstructed => TenureCode::TENURE_OBSTRUCTED,
                ErrorKind::InvalidTarget => TenureCode::TENURE_INVALID_TARGET,
                ErrorKind::PermissionDenied => TenureCode::TENURE_PERMISSION_DENIED,
                ErrorKind::CannotCreate => TenureCode::TENURE_CANNOT_CREATE,
                ErrorKind::Unreachable => TenureCode::TENURE_UNREACHABLE,
                ErrorKind::ReadOnly => TenureCode::TENURE_READ_ONLY,
                ErrorKind::Skipped => TenureCode::TENURE_SKIPPED,
                _ => TenureCode::TENURE_IO,
            },
        }
    }
}

impl From<tenure::Error> for Failure {
    fn from(error: tenure::Error) -> Failure {
        Failure::Library(error)
    }
}

impl TenureError {
    pub(crate) fn of(failure: Failure) -> TenureError {
        let code = failure.code();
        let text = |text: String| raw::c_text(&text);
        let plain = |message, errno| TenureError {
            code,
            message: text(message),
            holder: None,
            holder_pid: 0,
            circle: None,
            circle_json: None,
            errno,
        };
        match failure {
            Failure::Argument(message) | Failure::Lost(message) => plain(message, 0),
            Failure::Internal(message) => plain(format!("tenure failed by a fault of its own: {message}"), 0),
            Failure::System(what, error) => plain(format!("{what}: {error}"), error.raw_os_error().unwrap_or(0)),
            Failure::Library(error) => TenureError {
                holder: error.holder().and_then(|holder| serde_json::to_string(holder).ok()).map(text),
                holder_pid: error.holder().and_then(tenure::Holder::pid).unwrap_or(0),
                circle: error.circle().map(ToString::to_string).map(text),
                circle_json: error.circle().and_then(|circle| serde_json::to_string(circle).ok()).map(text),
                ..plain(error.to_string(), error.io_error().and_then(std::io::Error::raw_os_error).unwrap_or(0))
            },
        }
    }
}

/// Returns the code of an error; `TENURE_OK` for `NULL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_code(error: *const TenureError) -> TenureCode {
    // SAFETY: the caller guarantees an error that is alive.
    unsafe { error.as_ref() }.map_or(TenureCode::TENURE_OK, |error| error.code)
}

/// Returns the sentence of an error, valid until the error is freed; an empty text for `NULL`. It names the path, the holder
/// if that is known, the likely cause and a remedy. Control characters of other programs' texts are escaped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_message(error: *const TenureError) -> *const c_char {
    // SAFETY: the caller guarantees an error that is alive.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.message.as_ptr())
}

/// Returns the pid of the holder that an error names; 0 if it names none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_holder_pid(error: *const TenureError) -> i64 {
    // SAFETY: the caller guarantees an error that is alive.
    unsafe { error.as_ref() }.map_or(0, |error| error.holder_pid)
}

/// Returns the holder that an error names, as JSON (the `holder` of `tenure status --json`), valid until the error is freed;
/// `NULL` if it names none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_holder_json(error: *const TenureError) -> *const c_char {
    // SAFETY: the caller guarantees an error that is alive.
    let holder = unsafe { error.as_ref() }.and_then(|error| error.holder.as_deref());
    holder.map_or(std::ptr::null(), CStr::as_ptr)
}

/// Returns the circle of waits that a `TENURE_WOULD_DEADLOCK` found, as a sentence that names each program, the lock that it holds
/// and the one that it waits for; `NULL` if the error has none. Valid until the error is freed. Control characters of other
/// programs' texts are escaped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_circle(error: *const TenureError) -> *const c_char {
    // SAFETY: the caller guarantees an error that is alive.
    let circle = unsafe { error.as_ref() }.and_then(|error| error.circle.as_deref());
    circle.map_or(std::ptr::null(), CStr::as_ptr)
}

/// Returns the circle of waits that a `TENURE_WOULD_DEADLOCK` found, as JSON (one of the `deadlocks` of
/// `tenure status --deadlocks --json`), valid until the error is freed; `NULL` if the error has none. The last wait of the circle
/// is the one that failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_circle_json(error: *const TenureError) -> *const c_char {
    // SAFETY: the caller guarantees an error that is alive.
    let circle = unsafe { error.as_ref() }.and_then(|error| error.circle_json.as_deref());
    circle.map_or(std::ptr::null(), CStr::as_ptr)
}

/// Returns the system's error number (`errno`); 0 if the system reported no error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_errno(error: *const TenureError) -> c_int {
    // SAFETY: the caller guarantees an error that is alive.
    unsafe { error.as_ref() }.map_or(0, |error| error.errno)
}

/// Frees an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_free(error: *mut TenureError) {
    // SAFETY: the caller guarantees an error that is alive and is used no more.
    drop(unsafe { raw::take(error) });
}
