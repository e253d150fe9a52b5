//! The first attempt of an acquire, which does not wait.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pyo3::prelude::*;
use tenure::{AcquireFuture, Guard, Lock, Requester};

use crate::cleanup;

/// The outcome of a first attempt.
pub(crate) enum Attempt {
    Granted(Guard),
    Queued(AcquireFuture),
}

/// Tries to acquire, and joins the queue if the lock is busy.
pub(crate) fn try_or_enqueue(
    py: Python<'_>,
    lock: &Lock,
    shared: bool,
    requester: Requester,
) -> tenure::Result<Attempt> {
    cleanup::install_once(py);
    py.detach(|| {
        let mut acquiring =
            if shared { lock.begin_shared(tenure::Wait::Forever, requester) } else { lock.begin(requester) }?;
        match Pin::new(&mut acquiring).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome.map(Attempt::Granted),
            Poll::Pending => Ok(Attempt::Queued(acquiring)),
        }
    })
}

/// Tries to acquire, and fails as busy if the lock is.
pub(crate) fn try_once(py: Python<'_>, lock: &Lock, shared: bool) -> tenure::Result<Attempt> {
    cleanup::install_once(py);
    py.detach(|| match shared {
        true => lock.acquire_shared(tenure::Wait::Never),
        false => lock.acquire_with(tenure::Wait::Never),
    })
    .map(Attempt::Granted)
}
