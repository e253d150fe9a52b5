//! Guards: what an acquire returns, and its release.

use std::ffi::c_char;
use std::path::PathBuf;

use tenure::{Guard, Meanwhile, Previous, Suspended};

use crate::call;
use crate::error::{Failure, TenureCode, TenureError};
use crate::loss::Loss;
use crate::raw;
use crate::wait::wait;

/// A held lock. Release it with `tenure_release`, or free it with `tenure_guard_free`. One thread uses it at a time. In a forked
/// child it holds nothing.
pub struct TenureGuard {
    state: State,
    target: PathBuf,
    /// Made by the first `tenure_lost_fd`.
    loss: Option<Loss>,
}

/// The state of the lock.
enum State {
    Held(Guard),
    Suspended(Suspended),
    /// Given up, because it could not be suspended or resumed.
    Over,
}

/// What is known of the time in which a lock was suspended. Only `TENURE_MEANWHILE_NOBODY` is false in C.
#[allow(non_camel_case_types, reason = "the names are those of C")]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenureMeanwhile {
    /// It is proven that no other process held the lock.
    TENURE_MEANWHILE_NOBODY = 0,
    /// Another process held the lock.
    TENURE_MEANWHILE_OTHERS = 1,
    /// No process with Tenure held the lock, and nothing proves that no other one did.
    TENURE_MEANWHILE_UNKNOWN = 2,
}

impl TenureGuard {
    pub(crate) fn of(guard: Guard) -> TenureGuard {
        TenureGuard { target: guard.target().to_owned(), state: State::Held(guard), loss: None }
    }

    pub(crate) fn held(&self) -> Result<&Guard, Failure> {
        match &self.state {
            State::Held(guard) => Ok(guard),
            State::Suspended(_) => Err(self.lost("the lock is suspended")),
            State::Over => Err(self.lost("the lock was given up")),
        }
    }

    fn lost(&self, why: &str) -> Failure {
        Failure::lost(format!("{}: {why}", tenure::escape::path(&self.target)))
    }
}

/// Releases the lock and frees the guard, also where it fails.
///
/// Fails with `TENURE_LOST` if the lock was held no longer, also by a resume that failed. A suspended lock is given up. `NULL` is an
/// error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_release(guard: *mut TenureGuard, error: *mut *mut TenureError) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive and is used no more.
        let guard = unsafe { raw::take(guard) }.ok_or_else(|| Failure::argument("guard is NULL"))?;
        match guard.state {
            State::Held(guard) => Ok(guard.release()?),
            State::Suspended(_) => Ok(()),
            State::Over => Err(guard.lost("the lock was given up")),
        }
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
        Ok(guard.held()?.check()?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Returns the fencing token of this tenure, which is larger than that of every earlier one; 0 for a tenure without one (a
/// shared lock, or a lock without a record), while the lock is suspended, and after a resume that failed: nothing may be written
/// then. It is below 2^53.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_fence(guard: *const TenureGuard) -> u64 {
    // SAFETY: the caller guarantees a guard that is alive.
    unsafe { guard.as_ref() }.and_then(|guard| guard.held().ok()?.fence()).unwrap_or(0)
}

/// Returns the number of the slot that is held, from 0: the lowest that was free (`tenure_options_set_slots`). -1 for a lock
/// without slots.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_slot(guard: *const TenureGuard) -> i32 {
    // SAFETY: the caller guarantees a guard that is alive.
    let slot = unsafe { guard.as_ref() }.and_then(|guard| guard.held().ok()?.slot());
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
        Ok(guard.held()?.mark_successful()?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Notes the exit code of the work under the lock, for the history. Call it before the release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_set_exit_code(guard: *const TenureGuard, code: i32) {
    // SAFETY: the caller guarantees a guard that is alive.
    if let Some(Ok(guard)) = unsafe { guard.as_ref() }.map(TenureGuard::held) {
        guard.set_exit_code(code);
    }
}

/// Returns whether the previous holder died while it held the lock, so that the protected data may be half-written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_previous_crashed(guard: *const TenureGuard) -> bool {
    // SAFETY: the caller guarantees a guard that is alive.
    unsafe { guard.as_ref() }.is_some_and(|guard| guard.held().is_ok_and(|guard| guard.previous().is_crashed()))
}

/// Returns the previous holder, if it died while it held the lock, as JSON (the `holder` of `tenure status --json`); `NULL` if
/// it released the lock. Free the text with `tenure_text_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_previous_json(guard: *const TenureGuard) -> *mut c_char {
    // SAFETY: the caller guarantees a guard that is alive.
    let Some(Ok(guard)) = (unsafe { guard.as_ref() }).map(TenureGuard::held) else { return std::ptr::null_mut() };
    let Previous::Crashed(holder) = guard.previous() else { return std::ptr::null_mut() };
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
        Ok(guard.held()?.set_label(label)?)
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Lets others hold the lock for a while, as for a long network call, until `tenure_resume`. The guard stays the caller's:
/// `tenure_release` and `tenure_guard_free` give a suspended lock up.
///
/// Fails with `TENURE_UNSUPPORTED` for a shared lock, one with slots, without a record or on a server, and while another guard of
/// this process holds it too. The lock stays held then. After any other error it is given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_suspend(guard: *mut TenureGuard, error: *mut *mut TenureError) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive, and that no other thread uses it.
        let guard = unsafe { guard.as_mut() }.ok_or_else(|| Failure::argument("guard is NULL"))?;
        match guard.held()?.can_suspend() {
            Err(error) if error.is_unsupported() => return Err(error.into()),
            _ => {}
        }
        let State::Held(held) = std::mem::replace(&mut guard.state, State::Over) else { return guard.held().map(drop) };
        if let Some(loss) = &mut guard.loss {
            loss.pause();
        }
        guard.state = State::Suspended(held.suspend()?);
        Ok(())
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Acquires a suspended lock again, before processes that wait already, waiting for `timeout` milliseconds at most, as
/// `tenure_acquire` does. The guard holds it then, with a new fencing token. Writes to `meanwhile`, unless that is `NULL`, what is
/// known of the time in which it was suspended: what was read before must be read again unless that is
/// `TENURE_MEANWHILE_NOBODY`.
///
/// Fails with `TENURE_INVALID_ARGUMENT` if the lock is not suspended. After any other error it is given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_resume(
    guard: *mut TenureGuard,
    timeout: i64,
    meanwhile: *mut TenureMeanwhile,
    error: *mut *mut TenureError,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees a guard that is alive, and that no other thread uses it.
        let guard = unsafe { guard.as_mut() }.ok_or_else(|| Failure::argument("guard is NULL"))?;
        if !matches!(guard.state, State::Suspended(_)) {
            return Err(Failure::argument("the lock is not suspended"));
        }
        let State::Suspended(suspended) = std::mem::replace(&mut guard.state, State::Over) else {
            return guard.held().map(drop);
        };
        let resumed = suspended.resume(wait(timeout))?;
        let known = match resumed.meanwhile {
            Meanwhile::Nobody => TenureMeanwhile::TENURE_MEANWHILE_NOBODY,
            Meanwhile::Others => TenureMeanwhile::TENURE_MEANWHILE_OTHERS,
            _ => TenureMeanwhile::TENURE_MEANWHILE_UNKNOWN,
        };
        if let Some(loss) = &mut guard.loss {
            loss.watch(&resumed.guard);
        }
        guard.state = State::Held(resumed.guard);
        if !meanwhile.is_null() {
            // SAFETY: the caller guarantees that the place is NULL or valid for a write.
            unsafe { meanwhile.write(known) };
        }
        Ok(())
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Writes a descriptor to `fd` that becomes readable when the lock is lost: within about a second of the loss, or as soon as the
/// longest hold ends it (`TENURE_OVERRUN_REVOKE`). Then `tenure_check` fails. For `poll(2)` and event loops, so that the work
/// under the lock can be stopped.
///
/// It stays the library's: do not read from it, and do not close it. It is closed when the guard is freed or released, and each
/// call for one guard writes the same. It stays silent while the lock is suspended. Fails with `TENURE_LOST` if the lock is
/// suspended or was given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_lost_fd(
    guard: *mut TenureGuard,
    fd: *mut i32,
    error: *mut *mut TenureError,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees that the place is NULL or valid for a write.
        unsafe { call::put(fd, -1, "fd") }?;
        // SAFETY: the caller guarantees a guard that is alive, and that no other thread uses it.
        let guard = unsafe { guard.as_mut() }.ok_or_else(|| Failure::argument("guard is NULL"))?;
        let held = guard.held()?;
        if guard.loss.is_none() {
            guard.loss = Some(Loss::of(held)?);
        }
        let descriptor = guard.loss.as_ref().map_or(-1, Loss::descriptor);
        // SAFETY: as above.
        unsafe { call::put(fd, descriptor, "fd") }
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}
