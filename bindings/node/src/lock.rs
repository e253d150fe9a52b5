//! A lock that is opened once and acquired many times.

use std::cell::RefCell;
use std::collections::VecDeque;

use napi::bindgen_prelude::{ClassInstance, Either, Either3, Result};
use napi_derive::napi;
use tenure::{Requester, Wait, server};

use crate::convert::{Target, os_string, wait_of};
use crate::failure::Failure;
use crate::guard::{NativeGuard, guard_of};
use crate::options::NativeOptions;
use crate::overrun::NativeOverrunListener;
use crate::status::{Status, status_of};
use crate::task::{NativeTask, in_scope};
use crate::wait::NativeWait;
use crate::work::{Promised, Work};

/// The lock of one target.
#[napi]
pub struct NativeLock {
    lock: tenure::Lock,
    shared: bool,
}

/// Returns the indexes of locks in the order in which `acquireAll` acquires them. Where two of them have one name on several
/// servers, these are asked, and have the time that an acquire with this timeout gives them.
#[napi(ts_return_type = "Promise<Array<number> | Failure>")]
pub fn order_of(locks: Vec<ClassInstance<'_, NativeLock>>, timeout: f64) -> Promised<Vec<u32>> {
    let locks: Vec<tenure::Lock> = locks.iter().map(|lock| lock.lock.clone()).collect();
    let wait = wait_of(timeout);
    Work::task(move || ordered(&locks.iter().collect::<Vec<_>>(), wait))
}

/// Returns the order of locks like `orderOf`. Blocks until servers that have to be asked have answered.
#[napi]
pub fn order_of_sync(locks: Vec<ClassInstance<'_, NativeLock>>, timeout: f64) -> Either<Vec<u32>, Failure> {
    ordered(&locks.iter().map(|lock| &lock.lock).collect::<Vec<_>>(), wait_of(timeout))
}

fn ordered(locks: &[&tenure::Lock], wait: Wait) -> Either<Vec<u32>, Failure> {
    match tenure::command::distinct_order_of(locks, wait) {
        Ok(order) => Either::A(order.into_iter().filter_map(|at| u32::try_from(at).ok()).collect()),
        Err(error) => Either::B(error.into()),
    }
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
        listener: Option<&NativeOverrunListener>,
    ) -> Result<std::result::Result<NativeLock, Failure>> {
        let options = options.unwrap_or_default();
        let mut opening = options.library()?;
        if let Some(listener) = listener {
            opening = listener.listen(opening);
        }
        let target = os_string(target)?;
        let on_server = server::scheme(&target).is_ok_and(|scheme| scheme.is_some());
        let opened = opening.open(target);
        if let (true, Ok(lock), Some(option)) = (on_server, &opened, options.for_files_only()) {
            return Ok(Err(Failure::for_files_only(lock.target(), option)));
        }
        Ok(opened.map_err(Failure::from).map(|lock| NativeLock { lock, shared: options.shared == Some(true) }))
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
        listener: Option<&NativeOverrunListener>,
    ) -> Result<Either<NativeLock, Failure>> {
        Ok(match NativeLock::opened(target, options, listener)? {
            Ok(lock) => Either::A(lock),
            Err(failure) => Either::B(failure),
        })
    }

    /// Opens a lock, and acquires it as `start` does, for the task of this scope. JavaScript has no object for the lock itself.
    #[napi]
    pub fn open_and_start(
        #[napi(ts_arg_type = "string | Uint8Array")] target: Target,
        options: Option<NativeOptions>,
        listener: Option<&NativeOverrunListener>,
        timeout: f64,
        task: Option<&NativeTask>,
    ) -> Result<Either3<NativeGuard, NativeWait, Failure>> {
        let lock = match NativeLock::opened(target, options, listener)? {
            Ok(lock) => lock,
            Err(failure) => return Ok(Either3::C(failure)),
        };
        let started = lock.start(timeout, task);
        RECENT.with_borrow_mut(|recent| {
            if recent.len() == MOST_RECENT {
                recent.pop_front();
            }
            recent.push_back(lock.lock);
        });
        Ok(started)
    }

    /// Makes one attempt to acquire, for the task of this scope, without waiting for a holder. Blocks until a server has
    /// answered.
    #[napi]
    pub fn try_acquire(&self, task: Option<&NativeTask>) -> Either<NativeGuard, Failure> {
        guard_of(in_scope(task, || match self.shared {
            true => self.lock.acquire_shared(Wait::Never),
            false => self.lock.acquire_with(Wait::Never),
        }))
    }

    /// Acquires a free lock in files immediately. Joins the queue of a busy one, or asks the server, for `timeout`
    /// milliseconds. The acquire is that of the task of this scope.
    #[napi]
    pub fn start(&self, timeout: f64, task: Option<&NativeTask>) -> Either3<NativeGuard, NativeWait, Failure> {
        let wait = wait_of(timeout);
        NativeWait::start(in_scope(task, || match self.shared {
            true => self.lock.begin_shared(wait, Requester::Task),
            false => self.lock.begin_with(wait, Requester::Task),
        }))
    }

    /// Returns the state of the lock.
    #[napi(ts_return_type = "Promise<Status | Failure>")]
    pub fn status(&self) -> Promised<Status> {
        let lock = self.lock.clone();
        Work::task(move || status_of(lock.status()))
    }

    /// Returns the state of the lock. Blocks until a server has answered.
    #[napi]
    pub fn status_sync(&self) -> Either<Status, Failure> {
        status_of(self.lock.status())
    }
}
