//! Locks: opening and acquiring.

use std::ffi::c_char;

use tenure::Lock;

use crate::call;
use crate::error::{TenureCode, TenureError};
use crate::guard::TenureGuard;
use crate::options::TenureOptions;
use crate::raw;
use crate::wait::wait;

/// A lock, opened once and acquired many times, by several threads at once. Free it with `tenure_lock_free`.
pub struct TenureLock(pub(crate) Lock);

/// The timeout of an acquire that waits for as long as it takes.
pub const TENURE_WAIT_FOREVER: i64 = -1;
/// The timeout of an acquire that fails at once if the lock is busy.
pub const TENURE_NO_WAIT: i64 = 0;

/// Opens the lock of `target`, any path, which need not exist. Nothing is locked yet. `options` may be `NULL` for the default
/// ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_open(
    target: *const c_char,
    options: *const TenureOptions,
    lock: *mut *mut TenureLock,
    error: *mut *mut TenureError,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees that the place is NULL or valid for a write.
        unsafe { call::put(lock, std::ptr::null_mut(), "lock") }?;
        // SAFETY: the caller guarantees a path that ends with a zero byte.
        let target = unsafe { call::path(target, "target") }?;
        // SAFETY: the caller guarantees options that are alive, or NULL.
        let options = unsafe { options.as_ref() }.map_or_else(Lock::options, |options| options.0.clone());
        let opened = raw::give(TenureLock(options.open(target)?));
        // SAFETY: as above.
        unsafe { call::put(lock, opened, "lock") }
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Frees a lock. Guards of it stay valid, and hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_lock_free(lock: *mut TenureLock) {
    // SAFETY: the caller guarantees a lock that is alive and is used no more.
    drop(unsafe { raw::take(lock) });
}

/// Acquires a lock, waiting for `timeout` milliseconds at most, for ever with `TENURE_WAIT_FOREVER`, and not at all with
/// `TENURE_NO_WAIT`. A signal does not end the wait.
///
/// Fails with `TENURE_BUSY` at the timeout; the error names the holder. If the previous holder died while it held the lock, the
/// acquire succeeds, and `tenure_previous_json` names the dead holder.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_acquire(
    lock: *const TenureLock,
    timeout: i64,
    guard: *mut *mut TenureGuard,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { acquire(lock, guard, error, |lock| lock.acquire_with(wait(timeout))) }
}

/// Acquires a shared lock, which excludes exclusive ones alone. It needs `TENURE_STYLE_FLOCK`, or a server's target.
/// Otherwise as `tenure_acquire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_acquire_shared(
    lock: *const TenureLock,
    timeout: i64,
    guard: *mut *mut TenureGuard,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { acquire(lock, guard, error, |lock| lock.acquire_shared(wait(timeout))) }
}

/// Acquires several locks, all or none: of files, of servers, or both. Writes their guards to `guards`, a place for `count`
/// pointers, in the order of `locks`. `timeout`, as in `tenure_acquire`, is that of all of them together.
///
/// All programs acquire in the same order, as `tenure run` with several targets does, whatever the order of `locks`. So they never
/// wait for each other in a circle. With a `count` of 0 nothing is acquired.
///
/// Fails as the first acquire that fails; those before it are released by then, and all `guards` are `NULL`. Fails with
/// `TENURE_INVALID_TARGET` if a lock is named twice.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_acquire_all(
    locks: *const *const TenureLock,
    count: usize,
    timeout: i64,
    guards: *mut *mut TenureGuard,
    error: *mut *mut TenureError,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees that `guards` is NULL or valid for that many writes.
        let guards = unsafe { call::places(guards, count, "guards") }?;
        guards.iter_mut().for_each(|guard| {
            guard.write(std::ptr::null_mut());
        });
        // SAFETY: the caller guarantees that `locks` is NULL or has that many pointers.
        let locks = unsafe { call::objects(locks, count, "locks") }?;
        let acquired = tenure::acquire_all(locks.into_iter().map(|lock: &TenureLock| &lock.0), wait(timeout))?;
        for (place, guard) in guards.iter_mut().zip(acquired) {
            place.write(raw::give(TenureGuard::of(guard)));
        }
        Ok(())
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Acquires by `how`.
///
/// # Safety
///
/// As `tenure_acquire`.
unsafe fn acquire(
    lock: *const TenureLock,
    guard: *mut *mut TenureGuard,
    error: *mut *mut TenureError,
    how: impl FnOnce(&Lock) -> tenure::Result<tenure::Guard>,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees that the place is NULL or valid for a write.
        unsafe { call::put(guard, std::ptr::null_mut(), "guard") }?;
        // SAFETY: the caller guarantees a lock that is alive.
        let lock = unsafe { call::object(lock, "lock") }?;
        let acquired = raw::give(TenureGuard::of(how(&lock.0)?));
        // SAFETY: as above.
        unsafe { call::put(guard, acquired, "guard") }
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}
