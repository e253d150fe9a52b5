//! A release that waits for a server.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{Either, Either3, Function, Null, Result};
use napi_derive::napi;
use tenure::Guard;

use crate::failure::Failure;
use crate::wake::waker;

type Release = Pin<Box<dyn Future<Output = tenure::Result<()>> + Send>>;

/// A release that waits for a server's answer. It keeps the process alive while a listener waits for it, and goes on when
/// this is dropped.
#[napi]
pub struct NativeRelease {
    release: Option<Release>,
    waker: Waker,
}

impl NativeRelease {
    /// Releases. Returns the failure, or `null`, if nothing has to be waited for.
    pub(crate) fn start(guard: Guard) -> Either3<NativeRelease, Failure, Null> {
        let mut release: Release = Box::pin(guard.release_async());
        match release.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Either3::A(NativeRelease { release: Some(release), waker: Waker::noop().clone() }),
            Poll::Ready(Ok(())) => Either3::C(Null),
            Poll::Ready(Err(error)) => Either3::B(error.into()),
        }
    }
}

#[napi]
impl NativeRelease {
    /// Calls `wake` in the event loop when `poll` may have an outcome. The caller polls once after this call.
    #[napi]
    pub fn listen(&mut self, wake: Function<'_, (), ()>) -> Result<()> {
        if self.release.is_some() {
            self.waker = waker::<false>(&wake)?;
        }
        Ok(())
    }

    /// Returns whether the lock is released, or the failure of the release.
    #[napi]
    pub fn poll(&mut self) -> Either<bool, Failure> {
        let Some(release) = &mut self.release else { return Either::A(true) };
        let Poll::Ready(outcome) = release.as_mut().poll(&mut Context::from_waker(&self.waker)) else {
            return Either::A(false);
        };
        self.release = None;
        // The listener keeps the process alive.
        self.waker = Waker::noop().clone();
        match outcome {
            Ok(()) => Either::A(true),
            Err(error) => Either::B(error.into()),
        }
    }
}

/// How long the end of a thread of Node waits for servers to release the locks that the thread still held.
const LAST_WAIT: Duration = Duration::from_secs(1);

thread_local! {
    static LAST_WAIT_ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Releases a lock that is still held at the end of its thread of Node. All such locks of a thread share one second, so that
/// a server that does not answer cannot delay the end of the process for each of them.
pub(crate) fn release_at_end(guard: Guard) {
    let mut release: Release = Box::pin(guard.release_async());
    let first = Instant::now() + LAST_WAIT;
    let end = LAST_WAIT_ENDS.try_with(|ends| {
        ends.get().unwrap_or_else(|| {
            ends.set(Some(first));
            first
        })
    });
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    while release.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        let left = end.unwrap_or(first).saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}
