//! A lock that is opened once and acquired many times.

use napi::bindgen_prelude::{Either, Either3, Result};
use napi_derive::napi;
use tenure::{Requester, Wait};

use crate::convert::{Target, os_string};
use crate::failure::Failure;
use crate::guard::{NativeGuard, guard_of};
use crate::options::NativeOptions;
use crate::overdue::NativeOverdueListener;
use crate::status::{Status, status_of};
use crate::wait::NativeWait;

/// The lock of one target.
#[napi]
pub struct NativeLock {
    lock: tenure::Lock,
    shared: bool,
}

#[napi]
impl NativeLock {
    /// Opens a lock, and acquires nothing. `listener` is called when a holder exceeds `maxHold`.
    #[napi]
    pub fn open(
        #[napi(ts_arg_type = "string | Uint8Array")] target: Target,
        options: NativeOptions,
        listener: Option<&NativeOverdueListener>,
    ) -> Result<Either<NativeLock, Failure>> {
        let mut opening = options.library()?;
        if let Some(listener) = listener {
            opening = listener.listen(opening);
        }
        Ok(match opening.open(os_string(target)?) {
            Ok(lock) => Either::A(NativeLock { lock, shared: options.shared == Some(true) }),
            Err(error) => Either::B(error.into()),
        })
    }

    /// Makes one attempt to acquire, without waiting.
    #[napi]
    pub fn try_acquire(&self) -> Either<NativeGuard, Failure> {
        guard_of(match self.shared {
            true => self.lock.acquire_shared(Wait::Never),
            false => self.lock.acquire_with(Wait::Never),
        })
    }

    /// Acquires a free lock immediately. Joins the queue of a busy one.
    #[napi]
    pub fn start(&self) -> Either3<NativeGuard, NativeWait, Failure> {
        NativeWait::start(match self.shared {
            true => self.lock.begin_shared(Requester::Task),
            false => self.lock.begin(Requester::Task),
        })
    }

    /// Returns the state of the lock.
    #[napi]
    pub fn status(&self) -> Either<Status, Failure> {
        status_of(self.lock.status())
    }
}
