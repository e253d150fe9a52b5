//! The exit codes, and the failure that carries one to `main`.
//!
//! They follow `sysexits.h` and the shell, so that a script can tell "busy" from "crashed".

/// Done.
pub(crate) const OK: u8 = 0;
/// `doctor`: not fit for use.
pub(crate) const UNFIT: u8 = 1;
/// The call's words are off.
pub(crate) const USAGE: u8 = 64;
/// This system cannot do what is needed, or no server of an engine answers.
pub(crate) const UNAVAILABLE: u8 = 69;
/// The lock's files cannot be made, or something that is no lock stands in their place.
pub(crate) const CANNOT_CREATE: u8 = 73;
/// Input or output failed.
pub(crate) const IO: u8 = 74;
/// Held by another, within the time given.
pub(crate) const BUSY: u8 = 75;
/// The lock was broken or revoked, or its file removed, while the command ran.
pub(crate) const LOST: u8 = 76;
/// Permission denied.
pub(crate) const PERMISSION: u8 = 77;
/// The command is there and cannot be run.
pub(crate) const CANNOT_RUN: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// What the shell makes of a death by `signal`.
pub(crate) fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// The code of a library's error.
pub(crate) fn of(error: &tenure::Error) -> u8 {
    if error.is_busy() || error.is_would_deadlock() {
        BUSY
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

/// Why the command ends without doing what it was asked, in words (none, where the caller wants none), and with which code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// The system's own error while doing `what`.
    pub(crate) fn io(what: &str, error: &std::io::Error) -> Failure {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => PERMISSION,
            std::io::ErrorKind::Unsupported => UNAVAILABLE,
            _ => IO,
        };
        Failure::new(code, format!("{what}: {error}"))
    }
}

impl From<tenure::Error> for Failure {
    fn from(error: tenure::Error) -> Failure {
        Failure::new(of(&error), error.to_string())
    }
}
