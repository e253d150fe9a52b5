//! Acquires that do not block: for an event loop, and for a wait that its program may end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tenure::{AcquireFuture, Lock, Requester};

use crate::bell::Bell;
use crate::call;
use crate::error::{Failure, TenureCode, TenureError};
use crate::guard::TenureGuard;
use crate::lock::TenureLock;
use crate::raw;
use crate::wait::wait;

/// An acquire that is under way: `tenure_begin`. Free it with `tenure_acquiring_free`, which ends the wait. One thread uses it at a
/// time. In a forked child it acquires nothing.
pub struct TenureAcquiring {
    /// `None` after its end.
    future: Option<Pin<Box<AcquireFuture>>>,
    bell: Bell,
}

impl TenureAcquiring {
    /// Looks whether the acquire has ended. Ends it at its deadline.
    fn poll(&mut self) -> Result<Option<TenureGuard>, Failure> {
        let Some(future) = &mut self.future else { return Err(Failure::argument("the acquire has ended")) };
        self.bell.reset();
        let outcome = match future.as_mut().poll(&mut Context::from_waker(self.bell.waker())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending if future.deadline().is_none_or(|deadline| Instant::now() < deadline) => return Ok(None),
            Poll::Pending => None,
        };
        let ended = self.future.take();
        let outcome = outcome.or_else(|| ended.map(|future| Pin::into_inner(future).give_up()));
        Ok(outcome.transpose()?.map(TenureGuard::of))
    }
}

/// Starts to acquire a lock, without waiting for its holder, for an event loop and for a wait that the program may end: wait until
/// `tenure_acquiring_fd` is readable or `tenure_acquiring_left` is over, then call `tenure_acquiring_poll`. `timeout` is that of
/// `tenure_acquire`. It has a place in the queue until `tenure_acquiring_free`.
///
/// It belongs to no thread: two acquires of one thread exclude each other, none is a `TENURE_WOULD_DEADLOCK`, and any thread may
/// release the guard.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_begin(
    lock: *const TenureLock,
    timeout: i64,
    acquiring: *mut *mut TenureAcquiring,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { begin(lock, acquiring, error, |lock| lock.begin_with(wait(timeout), Requester::Task)) }
}

/// Starts to acquire a shared lock: as `tenure_begin`, for what `tenure_acquire_shared` acquires.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_begin_shared(
    lock: *const TenureLock,
    timeout: i64,
    acquiring: *mut *mut TenureAcquiring,
    error: *mut *mut TenureError,
) -> TenureCode {
    // SAFETY: the contract of the crate.
    unsafe { begin(lock, acquiring, error, |lock| lock.begin_shared(wait(timeout), Requester::Task)) }
}

/// Begins by `how`.
///
/// # Safety
///
/// As `tenure_begin`.
unsafe fn begin(
    lock: *const TenureLock,
    acquiring: *mut *mut TenureAcquiring,
    error: *mut *mut TenureError,
    how: impl FnOnce(&Lock) -> tenure::Result<AcquireFuture>,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees that the place is NULL or valid for a write.
        unsafe { call::put(acquiring, std::ptr::null_mut(), "acquiring") }?;
        // SAFETY: the caller guarantees a lock that is alive.
        let lock = unsafe { call::object(lock, "lock") }?;
        let bell = Bell::new().map_err(|error| Failure::System("a descriptor cannot be created", error))?;
        let future = Some(Box::pin(how(&lock.0)?));
        let begun = TenureAcquiring { future, bell };
        // The first poll is the caller's: it may have its outcome already.
        begun.bell.waker().wake_by_ref();
        // SAFETY: as above.
        unsafe { call::put(acquiring, raw::give(begun), "acquiring") }
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Returns the descriptor that is readable when `tenure_acquiring_poll` should be called. It stays the library's: do not read from
/// it, and do not close it. It is closed by `tenure_acquiring_free`. -1 for `NULL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_acquiring_fd(acquiring: *const TenureAcquiring) -> i32 {
    // SAFETY: the caller guarantees an acquire that is alive.
    unsafe { acquiring.as_ref() }.map_or(-1, |acquiring| acquiring.bell.descriptor())
}

/// Returns the milliseconds, rounded up, after which `tenure_acquiring_poll` should be called even if the descriptor is not
/// readable: 0 once the timeout is over, -1 if the wait has no limit, or has one that it ends by itself, as for a server.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_acquiring_left(acquiring: *const TenureAcquiring) -> i64 {
    // SAFETY: the caller guarantees an acquire that is alive.
    let future = unsafe { acquiring.as_ref() }.and_then(|acquiring| acquiring.future.as_ref());
    let Some(deadline) = future.and_then(|future| future.deadline()) else { return -1 };
    let left = deadline.saturating_duration_since(Instant::now());
    i64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// Writes the guard to `guard`, or `NULL` while the lock is busy: both are `TENURE_OK`. Does not block.
///
/// Fails as `tenure_acquire`; with `TENURE_BUSY` once the timeout is over. After a guard and after an error the acquire has ended,
/// and only `tenure_acquiring_free` is left; a further call fails with `TENURE_INVALID_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_acquiring_poll(
    acquiring: *mut TenureAcquiring,
    guard: *mut *mut TenureGuard,
    error: *mut *mut TenureError,
) -> TenureCode {
    let body = || {
        // SAFETY: the caller guarantees that the place is NULL or valid for a write.
        unsafe { call::put(guard, std::ptr::null_mut(), "guard") }?;
        // SAFETY: the caller guarantees an acquire that is alive, and that no other thread uses it.
        let acquiring = unsafe { acquiring.as_mut() }.ok_or_else(|| Failure::argument("acquiring is NULL"))?;
        let acquired = acquiring.poll()?.map_or(std::ptr::null_mut(), raw::give);
        // SAFETY: as above.
        unsafe { call::put(guard, acquired, "guard") }
    };
    // SAFETY: the caller guarantees that `error` is NULL or valid for a write.
    unsafe { call::run(error, body) }
}

/// Ends the wait, if it lasts, and frees the acquire. A lock that was granted and not polled is released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_acquiring_free(acquiring: *mut TenureAcquiring) {
    // SAFETY: the caller guarantees an acquire that is alive and is used no more.
    drop(unsafe { raw::take(acquiring) });
}
