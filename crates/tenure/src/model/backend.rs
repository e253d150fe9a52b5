//! The traits by which a [`Lock`](crate::Lock) uses a lock, whatever keeps it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::thread::ThreadId;
use std::time::Instant;

use crate::model::error::{Error, Result};
use crate::model::options::Wait;
use crate::model::rank::Rank;
use crate::model::status::Status;
use crate::model::tenure::Tenure;
use crate::sys::LockKind;

/// The lock of one target, opened with its options.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// The path that the lock protects, or the name on a server.
    fn target(&self) -> &Path;

    /// Returns the lock's place in the order in which several are acquired.
    #[allow(dead_code, reason = "the simulation acquires one lock at a time")]
    fn rank(&self) -> Result<Rank>;

    /// Acquires the lock, blocking this thread for as long as `wait` allows.
    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>>;

    /// Starts an acquire without blocking. `thread` is the thread that would wait for itself if it holds the lock already.
    fn begin(&self, kind: LockKind, wait: Wait, thread: Option<ThreadId>) -> Result<Begun>;

    /// Returns the lock's status.
    fn status(&self) -> Result<Status>;

    /// Enters an acquire that failed into the lock's history, if it keeps one.
    fn note_failure(&self, error: &Error, kind: LockKind);
}

/// The first answer to an acquire.
pub(crate) enum Begun {
    Granted(Arc<dyn Tenure>),
    Pending(Box<dyn Pending>),
}

/// A place in a queue. Its owner polls it to its outcome, or gives it up.
pub(crate) trait Pending: Send + Sync {
    /// Returns when the owner gives up; `None` where the wait ends by itself, or never.
    fn deadline(&self) -> Option<Instant>;

    /// Returns the outcome; if there is none yet, `waker` is woken when there is.
    fn poll(&self, waker: &Waker) -> Option<Result<Arc<dyn Tenure>>>;

    /// Leaves the queue, and returns an outcome that had come by then. Not after [`poll`](Pending::poll) returned one.
    fn give_up(&self) -> Option<Result<Arc<dyn Tenure>>>;

    /// Returns the error of a wait that ended at its deadline, with the holder where that is known.
    fn busy(&self) -> Error;
}
