//! The first attempt of an acquire, which does not wait.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pyo3::prelude::*;
use tenure::{AcquireFuture, Guard, Lock, Requester, Wait};

use crate::cleanup;

/// The outcome of a first attempt.
pub(crate) enum Attempt {
    Granted(Guard),
    Queued(AcquireFuture),
}

/// Tries to acquire, and joins the queue if the lock is busy. With [`Wait::Never`] a busy lock in files is an error at once;
/// a server has to answer first.
pub(crate) fn try_or_enqueue(
    py: Python<'_>,
    lock: &Lock,
    shared: bool,
    wait: Wait,
    requester: Requester,
) -> tenure::Result<Attempt> {
    cleanup::install_once(py);
    py.detach(|| {
        let mut acquiring = if shared { lock.begin_shared(wait, requester) } else { lock.begin_with(wait, requester) }?;
        match Pin::new(&mut acquiring).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome.map(Attempt::Granted),
            Poll::Pending => Ok(Attempt::Queued(acquiring)),
        }
    })
}
