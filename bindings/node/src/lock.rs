//! A lock that is opened once and acquired many times.

use std::cell::RefCell;
use std::collections::VecDeque;

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

/// The number of locks that stay open after [`open_and_start`](NativeLock::open_and_start). The next acquire of such a lock
/// finds its files open.
const MOST_RECENT: usize = 16;

thread_local! {
    static RECENT: RefCell<VecDeque<tenure::Lock>> = const { RefCell::new(VecDeque::new()) };
}

impl NativeLock {
    fn opened(
        target: Target,
        options: Option<NativeOptions>,
        listener: Option<&NativeOverdueListener>,
    ) -> Result<tenure::Result<NativeLock>> {
        let options = options.unwrap_or_default();
        let mut opening = options.library()?;
        if let Some(listener) = listener {
            opening = listener.listen(opening);
        }
        let opened = opening.open(os_string(target)?);
        Ok(opened.map(|lock| NativeLock { lock, shared: options.shared == Some(true) }))
    }
}

#[napi]
impl NativeLock {
    /// Opens a lock, and acquires nothing. Without options it has the defaults. `listener` is called when a holder exceeds
    /// `maxHold`.
    #[napi]
    pub fn open(
        #[napi(ts_arg_type = "string | Uint8Array")] target: Target,
        options: Option<NativeOptions>,
        listener: Option<&NativeOverdueListener>,
    ) -> Result<Either<NativeLock, Failure>> {
        Ok(match NativeLock::opened(target, options, listener)? {
            Ok(lock) => Either::A(lock),
            Err(error) => Either::B(error.into()),
        })
    }

    /// Opens a lock, and acquires it as `start` does. JavaScript has no object for the lock itself.
    #[napi]
    pub fn open_and_start(
        #[napi(ts_arg_type = "string | Uint8Array")] target: Target,
        options: Option<NativeOptions>,
        listener: Option<&NativeOverdueListener>,
    ) -> Result<Either3<NativeGuard, NativeWait, Failure>> {
        let lock = match NativeLock::opened(target, options, listener)? {
            Ok(lock) => lock,
            Err(error) => return Ok(Either3::C(error.into())),
        };
        let started = lock.start();
        RECENT.with_borrow_mut(|recent| {
            if recent.len() == MOST_RECENT {
                recent.pop_front();
            }
            recent.push_back(lock.lock);
        });
        Ok(started)
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
            true => self.lock.begin_shared(Wait::Forever, Requester::Task),
            false => self.lock.begin(Requester::Task),
        })
    }

    /// Returns the state of the lock.
    #[napi]
    pub fn status(&self) -> Either<Status, Failure> {
        status_of(self.lock.status())
    }
}
