//! A wait for a lock, polled by Node's own thread.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use napi::bindgen_prelude::{Either, Either3, Function, Null, Result};
use napi_derive::napi;
use tenure::{AcquireFuture, Guard};

use crate::guard::NativeGuard;
use crate::report::Failure;
use crate::wake::waker;

/// A place in a lock's queue. While it is listened to, the process stays alive; whoever lets it go never holds.
#[napi]
pub struct NativeWait {
    acquiring: Option<Pin<Box<AcquireFuture>>>,
    waker: Waker,
}

impl NativeWait {
    /// What an acquire has come to by now.
    pub(crate) fn begun(acquiring: tenure::Result<AcquireFuture>) -> Either3<NativeGuard, NativeWait, Failure> {
        let mut acquiring = match acquiring {
            Ok(acquiring) => Box::pin(acquiring),
            Err(error) => return Either3::C(error.into()),
        };
        match acquiring.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Either3::B(NativeWait { acquiring: Some(acquiring), waker: Waker::noop().clone() }),
            Poll::Ready(Ok(guard)) => Either3::A(NativeGuard::new(guard)),
            Poll::Ready(Err(error)) => Either3::C(error.into()),
        }
    }

    fn over(&mut self, outcome: tenure::Result<Guard>) -> Either<NativeGuard, Failure> {
        self.cancel();
        match outcome {
            Ok(guard) => Either::A(NativeGuard::new(guard)),
            Err(error) => Either::B(error.into()),
        }
    }
}

#[napi]
impl NativeWait {
    /// From now on calls `wake` in the event loop whenever `poll` is worth it; the first time is the caller's to do.
    #[napi]
    pub fn listen(&mut self, wake: Function<'_, (), ()>) -> Result<()> {
        // Nothing would end what keeps the process alive.
        if self.acquiring.is_none() {
            return Ok(());
        }
        self.waker = waker::<false>(&wake)?;
        Ok(())
    }

    /// What came of it; `null` as long as nothing has, or once it is over.
    #[napi]
    pub fn poll(&mut self) -> Either3<NativeGuard, Failure, Null> {
        let Some(acquiring) = &mut self.acquiring else { return Either3::C(Null) };
        match acquiring.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Either3::C(Null),
            Poll::Ready(outcome) => match self.over(outcome) {
                Either::A(guard) => Either3::A(guard),
                Either::B(failure) => Either3::B(failure),
            },
        }
    }

    /// Ends it, as a deadline does. `null` if it is over already.
    #[napi]
    pub fn give_up(&mut self) -> Either3<NativeGuard, Failure, Null> {
        let Some(acquiring) = self.acquiring.take() else { return Either3::C(Null) };
        match self.over(Pin::into_inner(acquiring).give_up()) {
            Either::A(guard) => Either3::A(guard),
            Either::B(failure) => Either3::B(failure),
        }
    }

    /// Leaves the queue.
    #[napi]
    pub fn cancel(&mut self) {
        self.acquiring = None;
        // The process no longer stays alive for it.
        self.waker = Waker::noop().clone();
    }
}
