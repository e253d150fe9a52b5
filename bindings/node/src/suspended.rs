//! A suspended lock.

use napi::bindgen_prelude::{Either, Either3, Result};
use napi_derive::napi;
use tenure::Requester;

use crate::convert::wait_of;
use crate::failure::Failure;
use crate::guard::NativeGuard;
use crate::task::{NativeTask, in_scope};
use crate::wait::NativeWait;

/// A suspended lock. Dropping it gives the lock up.
#[napi]
pub struct NativeSuspended(Option<tenure::Suspended>);

fn released() -> napi::Error {
    napi::Error::from_reason("the lock was released")
}

#[napi]
impl NativeSuspended {
    /// Suspends a lock. After a failure that comes before its release, it is held.
    #[napi]
    pub fn of(guard: &mut NativeGuard) -> Result<Either<NativeSuspended, Failure>> {
        if let Err(error) = guard.held()?.can_suspend() {
            return Ok(Either::B(error.into()));
        }
        Ok(match guard.take().ok_or_else(released)?.suspend() {
            Ok(suspended) => Either::A(NativeSuspended(Some(suspended))),
            Err(error) => Either::B(error.into()),
        })
    }

    /// Acquires the lock again, as `NativeLock.start` does. `end` gets the guard.
    #[napi]
    pub fn start(&self, timeout: f64, task: Option<&NativeTask>) -> Result<Either3<NativeGuard, NativeWait, Failure>> {
        let suspended = self.0.as_ref().ok_or_else(released)?;
        let begin = || suspended.begin_acquire(wait_of(timeout), Requester::Task);
        Ok(NativeWait::start(in_scope(task, begin)))
    }

    /// Ends the resumption with the guard that was granted. Returns what is known of the time in between.
    #[napi(ts_return_type = "'nobody' | 'others' | 'unknown'")]
    pub fn end(&mut self, granted: &mut NativeGuard) -> Result<&'static str> {
        let (Some(suspended), Some(guard)) = (self.0.take(), granted.take()) else { return Err(released()) };
        let resumed = suspended.resumed(guard);
        granted.put(resumed.guard);
        Ok(resumed.meanwhile.as_str())
    }

    /// Gives the lock up.
    #[napi]
    pub fn give_up(&mut self) {
        self.0 = None;
    }
}
