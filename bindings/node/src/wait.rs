//! A wait for a lock, polled by Node's own thread.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use napi::bindgen_prelude::{Either, Either3, Function, Null, Result};
use napi_derive::napi;
use tenure::{AcquireFuture, Guard};

use crate::convert::milliseconds;
use crate::failure::Failure;
use crate::guard::{NativeGuard, guard_of};
use crate::wake::waker;

/// A queued acquire. It keeps the process alive while a listener waits for it. Dropping it leaves the queue.
#[napi]
pub struct NativeWait {
    acquiring: Option<Pin<Box<AcquireFuture>>>,
    waker: Waker,
}

impl NativeWait {
    /// Polls a new acquire once, and returns its outcome or the wait for it.
    pub(crate) fn start(acquiring: tenure::Result<AcquireFuture>) -> Either3<NativeGuard, NativeWait, Failure> {
        let mut acquiring = match acquiring {
            Ok(acquiring) => Box::pin(acquiring),
            Err(error) => return Either3::C(error.into()),
        };
        match acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Either3::B(NativeWait { acquiring: Some(acquiring), waker: Waker::noop().clone() }),
            Poll::Ready(outcome) => match guard_of(outcome) {
                Either::A(guard) => Either3::A(guard),
                Either::B(failure) => Either3::C(failure),
            },
        }
    }

    /// Ends the wait with an outcome.
    fn settle(&mut self, outcome: tenure::Result<Guard>) -> Either3<NativeGuard, Failure, Null> {
        self.cancel();
        match guard_of(outcome) {
            Either::A(guard) => Either3::A(guard),
            Either::B(failure) => Either3::B(failure),
        }
    }
}

#[napi]
impl NativeWait {
    /// Calls `wake` in the event loop whenever `poll` may have an outcome. The caller polls once after this call.
    #[napi]
    pub fn listen(&mut self, wake: Function<'_, (), ()>) -> Result<()> {
        // After the end of the wait, nothing would remove the listener, which keeps the process alive.
        if self.acquiring.is_none() {
            return Ok(());
        }
        self.waker = waker::<false>(&wake)?;
        Ok(())
    }

    /// Returns the milliseconds until `giveUp` is due. `null` where the wait has no limit, and for a server, whose wait ends by
    /// itself.
    #[napi(ts_return_type = "number | null")]
    pub fn left(&self) -> Either<f64, Null> {
        let deadline = self.acquiring.as_ref().and_then(|acquiring| acquiring.deadline());
        match deadline {
            Some(deadline) => Either::A(milliseconds(deadline.saturating_duration_since(Instant::now()))),
            None => Either::B(Null),
        }
    }

    /// Returns the outcome, or `null` before there is one and after the end of the wait.
    #[napi]
    pub fn poll(&mut self) -> Either3<NativeGuard, Failure, Null> {
        let Some(acquiring) = &mut self.acquiring else { return Either3::C(Null) };
        match acquiring.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Either3::C(Null),
            Poll::Ready(outcome) => self.settle(outcome),
        }
    }

    /// Ends the wait as a deadline does. Returns the outcome, or `null` if the wait has ended already.
    #[napi]
    pub fn give_up(&mut self) -> Either3<NativeGuard, Failure, Null> {
        let Some(acquiring) = self.acquiring.take() else { return Either3::C(Null) };
        self.settle(Pin::into_inner(acquiring).give_up())
    }

    /// Leaves the queue.
    #[napi]
    pub fn cancel(&mut self) {
        self.acquiring = None;
        // The listener keeps the process alive.
        self.waker = Waker::noop().clone();
    }
}
