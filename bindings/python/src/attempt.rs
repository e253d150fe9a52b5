//! The first attempt of an acquire, which does not wait.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pyo3::prelude::*;
use tenure::{AcquireFuture, Guard, Lock, Requester, Suspended, Wait};

use crate::cleanup;

/// The outcome of a first attempt.
pub(crate) enum Attempt {
    Granted(Guard),
    Queued(AcquireFuture),
}

/// What is acquired.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Lock {
        lock: &'a Lock,
        shared: bool,
    },
    /// A suspended lock, which is resumed.
    Suspended(&'a Suspended),
}

impl Source<'_> {
    pub(crate) fn target(&self) -> &Path {
        match self {
            Source::Lock { lock, .. } => lock.target(),
            Source::Suspended(suspended) => suspended.target(),
        }
    }

    fn begin(self, wait: Wait, requester: Requester) -> tenure::Result<AcquireFuture> {
        match self {
            Source::Lock { lock, shared: true } => lock.begin_shared(wait, requester),
            Source::Lock { lock, shared: false } => lock.begin_with(wait, requester),
            Source::Suspended(suspended) => suspended.begin_acquire(wait, requester),
        }
    }
}

/// Tries to acquire, and joins the queue if the lock is busy. With [`Wait::Never`] a busy lock in files is an error at once;
/// a server has to answer first.
pub(crate) fn try_or_enqueue(
    py: Python<'_>,
    source: Source<'_>,
    wait: Wait,
    requester: Requester,
) -> tenure::Result<Attempt> {
    cleanup::install_once(py);
    py.detach(|| {
        let mut acquiring = source.begin(wait, requester)?;
        match Pin::new(&mut acquiring).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => outcome.map(Attempt::Granted),
            Poll::Pending => Ok(Attempt::Queued(acquiring)),
        }
    })
}
