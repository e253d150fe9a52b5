//! How long an acquire waits.

use std::time::Duration;

use pyo3::prelude::*;
use tenure::Wait;

use crate::convert::seconds;

/// The `timeout` of an acquire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Timeout {
    /// The timeout that the lock was opened with.
    OfLock,
    For(Duration),
    Forever,
}

impl Timeout {
    /// Returns this timeout, or `of_lock` for [`Timeout::OfLock`].
    pub(crate) fn or(self, of_lock: Timeout) -> Timeout {
        if self == Timeout::OfLock { of_lock } else { self }
    }

    /// Returns the length of the wait, `None` for one without a limit.
    pub(crate) fn duration(self) -> Option<Duration> {
        match self {
            Timeout::For(duration) => Some(duration),
            Timeout::Forever | Timeout::OfLock => None,
        }
    }

    /// Returns how the library waits.
    pub(crate) fn wait(self) -> Wait {
        match self.duration() {
            None => Wait::Forever,
            Some(Duration::ZERO) => Wait::Never,
            Some(duration) => Wait::For(duration),
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Timeout {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Timeout> {
        if value.is_none() {
            return Ok(Timeout::Forever);
        }
        if value.is(pyo3::types::PyEllipsis::get(value.py())) {
            return Ok(Timeout::OfLock);
        }
        Ok(match seconds("timeout", value.extract()?)? {
            Duration::MAX => Timeout::Forever,
            duration => Timeout::For(duration),
        })
    }
}
