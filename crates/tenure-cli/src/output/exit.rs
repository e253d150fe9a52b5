//! Exit codes, and the failure that carries one to `main`.
//!
//! The codes follow `sysexits.h` and the shell, so that a script can distinguish a busy lock from a crash.

use std::io;

use tenure::Advice;

use super::describe;

/// Success.
pub(crate) const OK: u8 = 0;
/// `doctor`: not fit for use.
pub(crate) const UNFIT: u8 = 1;
/// Usage error.
pub(crate) const USAGE: u8 = 64;
/// The system lacks something that the call needs, or no server answers.
pub(crate) const UNAVAILABLE: u8 = 69;
/// The lock's files cannot be created, or the lock file's path is taken by a file that is no lock.
pub(crate) const CANNOT_CREATE: u8 = 73;
/// Input or output failed.
pub(crate) const IO: u8 = 74;
/// The lock is held by another process, and the timeout is over.
pub(crate) const BUSY: u8 = 75;
/// The lock was broken or revoked, or its file removed, while it was held.
pub(crate) const LOST: u8 = 76;
/// Permission denied.
pub(crate) const PERMISSION: u8 = 77;
/// The run is not needed: another one waits already, or the last successful one is recent.
pub(crate) const SKIPPED: u8 = 79;
/// The command exists but cannot be run.
pub(crate) const CANNOT_RUN: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// Returns the code by which a shell reports a death by `signal`.
pub(crate) fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Returns the code of a library's error.
pub(crate) fn of_error(error: &tenure::Error) -> u8 {
    if error.is_busy() || error.is_would_deadlock() {
        BUSY
    } else if error.is_skipped() {
        SKIPPED
    } else if error.is_lost() {
        LOST
    } else if error.is_obstructed() || error.is_cannot_create() {
        CANNOT_CREATE
    } else if error.is_permission_denied() {
        PERMISSION
    } else if error.is_invalid_target() {
        USAGE
    } else if error.is_unsupported() || error.is_unreachable() {
        UNAVAILABLE
    } else {
        IO
    }
}

/// The reason why the command ends without having done its work, with its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// Empty where the caller asked for no message.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// Creates the failure for a system's error about `what`.
    pub(crate) fn io(what: &str, error: &io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::PermissionDenied => PERMISSION,
            io::ErrorKind::Unsupported => UNAVAILABLE,
            _ => IO,
        };
        Failure::new(code, format!("{what}: {error}"))
    }
}

impl From<tenure::Error> for Failure {
    fn from(error: tenure::Error) -> Failure {
        let message = match error.advice() {
            Some(Advice::BuildWithServer) => {
                describe::without_hint(&error)
                    + "; build the crate `tenure-cli` with that feature, which is on by default"
            }
            _ => error.to_string(),
        };
        Failure::new(of_error(&error), message)
    }
}
