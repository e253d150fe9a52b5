//! What others see of a holder, and what changes it.

use std::ffi::c_char;
use std::time::Duration;

use crate::call;
use crate::error::{Failure, TenureCode, TenureError};
use crate::guard::TenureGuard;
use crate::raw;

/// Returns this holder as other programs see it, as JSON (the `holder` of `tenure status --json`); `NULL` if the guard holds
/// nothing. Free the text with `tenure_text_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_holder_json(guard: *const TenureGuard) -> *mut c_char {
    // SAFETY: the caller guarantees a guard that is alive.
    let Some(Ok(guard)) = (unsafe { guard.as_ref() }).map(TenureGuard::held) else { return std::ptr::null_mut() };
    serde_json::to_string(&guard.holder()).map_or(std::ptr::null_mut(), |text| raw::give_text(&text))
}

/// Returns the record of the lock as other programs can read it in the lock file, as JSON: `{}` for a lock without one, `NULL` if
/// the guard holds nothing. Free the text with `tenure_text_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_record_json(guard: *const TenureGuard) -> *mut c_char {
    // SAFETY: the caller guarantees a guard that is alive.
    let Some(Ok(guard)) = (unsafe { guard.as_ref() }).map(TenureGuard::held) else { return std::ptr::null_mut() };
    raw::give_text(&guard.record_json())
}

/// Returns whether the lock is one on a server, whose lease may end. Writes to `lost_in`, unless that is `NULL`, the milliseconds
/// until `tenure_check` fails if the lease is not renewed, and to `free_in`, unless that is `NULL`, those until the server may
/// grant the lock to another holder: the work under the lock must have stopped by then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_lease(guard: *const TenureGuard, lost_in: *mut i64, free_in: *mut i64) -> bool {
    // SAFETY: the caller guarantees a guard that is alive.
    let lease = unsafe { guard.as_ref() }.and_then(|guard| guard.held().ok()?.lease());
    let Some(left) = lease else { return false };
    for (place, left) in [(lost_in, left.lost_in), (free_in, left.free_in)] {
        if !place.is_null() {
            // SAFETY: the caller guarantees that the place is valid for a write.
            unsafe { place.write(milliseconds(left)) };
        }
    }
    true
}

/// Updates the date by which programs that know only lock files detect a stale one. The library does so by itself, unless
/// `tenure_options_set_refresh_interval` says otherwise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_refresh(guard: *const TenureGuard, error: *mut *mut TenureError) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive.
        let guard = unsafe { call::object(guard, "guard") }?;
        Ok(guard.held()?.refresh()?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Records the command that this holder runs under the lock and whose end it waits for, by its pid. `line`, its command line, may
/// be `NULL`. Others see both processes, and an acquire by that command, or by a process that it starts, fails at once with
/// `TENURE_WOULD_DEADLOCK` instead of waiting for itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_set_command(
    guard: *const TenureGuard,
    pid: i64,
    line: *const c_char,
    error: *mut *mut TenureError,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive.
        let guard = unsafe { call::object(guard, "guard") }?;
        if pid <= 0 {
            return Err(Failure::argument(format!("pid is {pid}, and that of a process is greater than 0")));
        }
        // SAFETY: the caller guarantees a text that ends with a zero byte, or NULL.
        let line = (!line.is_null()).then(|| unsafe { call::text(line, "line") }).transpose()?;
        Ok(guard.held()?.set_command(pid, line)?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
