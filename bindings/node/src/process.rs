//! Facts about processes.

use napi_derive::napi;

use crate::convert::number;

/// Returns true if a process with this pid exists and has not ended.
#[napi]
pub fn is_alive(pid: i64) -> bool {
    tenure::process::is_alive(pid)
}

/// Returns the start time of a process, in clock ticks since boot.
#[napi]
pub fn start_time(pid: i64) -> Option<i64> {
    tenure::process::start_time(pid).map(number)
}
