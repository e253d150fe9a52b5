//! Guards: what an acquire returns, and its release.

use std::ffi::c_char;

use tenure::{Guard, Previous};

use crate::call;
use crate::error::{Failure, TenureCode, TenureError};
use crate::raw;

/// A held lock. Release it with `tenure_release`, or free it with `tenure_guard_free`. One thread uses it at a time. In a forked
/// child it holds nothing.
pub struct TenureGuard(Guard);

impl TenureGuard {
    pub(crate) fn of(guard: Guard) -> TenureGuard {
        TenureGuard(guard)
    }
}

/// Releases the lock and frees the guard, also where it fails.
///
/// Fails with `TENURE_LOST` if the lock was held no longer. `NULL` is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_release(guard: *mut TenureGuard, error: *mut *mut TenureError) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive and is used no more.
        let guard = unsafe { raw::take(guard) }.ok_or_else(|| Failure::argument("guard is NULL"))?;
        Ok(guard.0.release()?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Frees a guard, and releases the lock. A failed release is not reported.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_guard_free(guard: *mut TenureGuard) {
    // SAFETY: the caller guarantees a guard that is alive and is used no more.
    drop(unsafe { raw::take(guard) });
}

/// Checks that the lock is held at this moment. Fails with `TENURE_LOST` if it was broken, revoked or removed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_check(guard: *const TenureGuard, error: *mut *mut TenureError) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive.
        let guard = unsafe { call::object(guard, "guard") }?;
        Ok(guard.0.check()?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Returns the fencing token of this tenure, which is larger than that of every earlier one; 0 for a tenure without one (a
/// shared lock, or a lock without a record). It is below 2^53.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_fence(guard: *const TenureGuard) -> u64 {
    // SAFETY: the caller guarantees a guard that is alive.
    unsafe { guard.as_ref() }.and_then(|guard| guard.0.fence()).unwrap_or(0)
}

/// Returns the number of the slot that is held, from 0: the lowest that was free (`tenure_options_set_slots`). -1 for a lock
/// without slots.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_slot(guard: *const TenureGuard) -> i32 {
    // SAFETY: the caller guarantees a guard that is alive.
    let slot = unsafe { guard.as_ref() }.and_then(|guard| guard.0.slot());
    slot.and_then(|slot| i32::try_from(slot).ok()).unwrap_or(-1)
}

/// Records that the work succeeded, for later acquires with `tenure_options_set_not_more_often_than`. Call it before the release.
///
/// Fails with `TENURE_UNSUPPORTED` if the lock was opened without that option, and with `TENURE_LOST` if it is held no longer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_mark_successful(guard: *const TenureGuard, error: *mut *mut TenureError) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive.
        let guard = unsafe { call::object(guard, "guard") }?;
        Ok(guard.0.mark_successful()?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Notes the exit code of the work under the lock, for the history. Call it before the release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_set_exit_code(guard: *const TenureGuard, code: i32) {
    // SAFETY: the caller guarantees a guard that is alive.
    if let Some(guard) = unsafe { guard.as_ref() } {
        guard.0.set_exit_code(code);
    }
}

/// Returns whether the previous holder died while it held the lock, so that the protected data may be half-written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_previous_crashed(guard: *const TenureGuard) -> bool {
    // SAFETY: the caller guarantees a guard that is alive.
    unsafe { guard.as_ref() }.is_some_and(|guard| guard.0.previous().is_crashed())
}

/// Returns the previous holder, if it died while it held the lock, as JSON (the `holder` of `tenure status --json`); `NULL` if
/// it released the lock. Free the text with `tenure_text_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_previous_json(guard: *const TenureGuard) -> *mut c_char {
    // SAFETY: the caller guarantees a guard that is alive.
    let Some(guard) = (unsafe { guard.as_ref() }) else { return std::ptr::null_mut() };
    let Previous::Crashed(holder) = guard.0.previous() else { return std::ptr::null_mut() };
    serde_json::to_string(holder).map_or(std::ptr::null_mut(), |text| raw::give_text(&text))
}

/// Changes the holder's label, in the record too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_set_label(
    guard: *const TenureGuard,
    label: *const c_char,
    error: *mut *mut TenureError,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive.
        let guard = unsafe { call::object(guard, "guard") }?;
        // SAFETY: the caller guarantees a text that ends with a zero byte.
        let label = unsafe { call::text(label, "label") }?;
        Ok(guard.0.set_label(label)?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}
