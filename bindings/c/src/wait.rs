//! Timeouts of C.

use std::time::Duration;

use tenure::Wait;

/// Returns the wait for a timeout in milliseconds. Any negative one is for ever.
pub(crate) fn wait(timeout: i64) -> Wait {
    match u64::try_from(timeout) {
        Ok(0) => Wait::Never,
        Ok(milliseconds) => Wait::For(Duration::from_millis(milliseconds)),
        Err(_) => Wait::Forever,
    }
}
