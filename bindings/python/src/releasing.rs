//! A release that waits for a server.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pyo3::prelude::*;

use crate::doorbell::Doorbell;
use crate::error::OrRaise;

type Release = Pin<Box<dyn Future<Output = tenure::Result<()>> + Send>>;

/// A release that waits for a server's answer, for an event loop. It goes on when this is dropped.
#[pyclass(frozen, module = "tenure")]
pub(crate) struct Releasing(Mutex<Option<(Release, Waker)>>);

impl Releasing {
    /// Releases. Returns `None` if nothing has to be waited for.
    pub(crate) fn start(guard: tenure::Guard) -> tenure::Result<Option<Releasing>> {
        let mut release: Release = Box::pin(guard.release_async());
        match release.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome.map(|()| None),
            Poll::Pending => Ok(Some(Releasing(Mutex::new(Some((release, Waker::noop().clone())))))),
        }
    }

    fn release(&self) -> MutexGuard<'_, Option<(Release, Waker)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Releasing {
    /// Rings the doorbell with this number, from the next poll() on, when it is time to poll again.
    fn listen(&self, doorbell: &Doorbell, number: u64) {
        if let Some((_, waker)) = self.release().as_mut() {
            *waker = doorbell.waker(number);
        }
    }

    /// Returns True once the lock is released, and None before. Raises if the release failed.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<bool>> {
        let Some((mut release, waker)) = self.release().take() else { return Ok(Some(true)) };
        match py.detach(|| release.as_mut().poll(&mut Context::from_waker(&waker))) {
            Poll::Ready(outcome) => outcome.or_raise(py).map(|()| Some(true)),
            Poll::Pending => {
                *self.release() = Some((release, waker));
                Ok(None)
            }
        }
    }
}
