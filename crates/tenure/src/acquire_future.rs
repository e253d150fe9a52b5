//! An acquire as a value that its caller polls: for a thread that waits for other events too (a signal, a descriptor), and
//! for event loops that have no runtime of Rust's.
//!
//! Dropped at any point it leaves neither a lock nor a waiter.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::guard::Guard;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::Wait;
use crate::model::requester::{self, RequesterId};
use crate::model::tenure::{Begun, Pending, Tenure};
use crate::schedule::opened::Opened;
use crate::sys::{self, LockKind};

/// The requester of an acquire that [begins](crate::Lock::begin): it decides whether the acquire would wait for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requester {
    /// The calling thread. If it holds the lock already it would wait for itself, which is an error at once.
    Thread,
    /// A task. Two tasks exclude each other even on one thread. In the scope of a [`Task`](crate::Task) it is that task.
    /// Otherwise it is not known which one it is, and it may wait for itself.
    Task,
}

impl Requester {
    fn id(self) -> Option<RequesterId> {
        match self {
            Requester::Thread => Some(requester::this_thread()),
            Requester::Task => requester::current_task(),
        }
    }
}

enum Stage {
    Granted(Guard),
    Waiting(Box<dyn Pending>),
    Over,
}

/// An acquire under way, from [`Lock::begin`](crate::Lock::begin): a future for any executor, or for none.
///
/// In a forked child it waits for nothing and gives nothing up: the acquire is the parent's.
#[must_use = "the wait ends when this is dropped"]
pub struct AcquireFuture {
    stage: Stage,
    kind: LockKind,
    lock: Opened,
    began: Instant,
    generation: u64,
}

impl AcquireFuture {
    pub(crate) fn begin(lock: &Opened, kind: LockKind, wait: Wait, requester: Requester) -> Result<AcquireFuture> {
        let began = Instant::now();
        let stage = match lock.backend().begin(kind, wait, requester.id()) {
            Ok(Begun::Granted(tenure)) => Stage::Granted(Guard::new(tenure)),
            Ok(Begun::Pending(pending)) => Stage::Waiting(pending),
            Err(error) => {
                lock.backend().note_failure(&error, kind);
                return Err(error);
            }
        };
        Ok(AcquireFuture { stage, kind, lock: lock.clone(), began, generation: sys::fork_generation() })
    }

    /// Returns the moment to [give up](AcquireFuture::give_up); `None` where the wait ends by itself, as for a server, or
    /// never.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting(pending) => pending.deadline(),
            _ => None,
        }
    }

    /// Returns the path whose lock is acquired, or the name on a server.
    pub fn target(&self) -> &Path {
        self.lock.backend().target()
    }

    /// Ends the wait, as a deadline does. Returns the guard if the lock was granted by then.
    ///
    /// ```
    /// use tenure::{Lock, Requester};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = Lock::open(&path)?;
    /// let held = lock.acquire()?;
    /// assert!(lock.begin(Requester::Task)?.give_up().unwrap_err().is_busy());
    /// held.release()?;
    /// let guard = lock.begin(Requester::Task)?.give_up()?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_busy`](Error::is_busy) with the holder and the time since the acquire began; the error of the acquire, if it
    /// failed before; [`is_lost`](Error::is_lost) in a forked child.
    pub fn give_up(mut self) -> Result<Guard> {
        self.check_process()?;
        let waited = self.began.elapsed();
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Granted(guard) => Ok(guard),
            Stage::Waiting(pending) => match pending.give_up() {
                Some(outcome) => self.settled(outcome),
                None => self.settled(Err(pending.busy().with_waited(waited))),
            },
            Stage::Over => Err(Error::busy(self.target()).with_waited(waited)),
        }
    }

    /// Returns the result of an acquire that waited. A failure is an entry of the history.
    fn settled(&self, outcome: Result<Arc<dyn Tenure>>) -> Result<Guard> {
        outcome.map(Guard::new).inspect_err(|error| self.lock.backend().note_failure(error, self.kind))
    }

    /// Fails in a forked child.
    fn check_process(&self) -> Result<()> {
        if self.generation == sys::fork_generation() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Lost, self.target(), "the wait is the parent's: this is a forked child"))
    }
}

impl Future for AcquireFuture {
    type Output = Result<Guard>;

    /// # Panics
    ///
    /// If it returned its output before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Guard>> {
        self.check_process()?;
        let outcome = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Granted(guard) => Ok(guard),
            Stage::Waiting(pending) => match pending.poll(context.waker()) {
                Some(outcome) => self.settled(outcome),
                None => {
                    self.stage = Stage::Waiting(pending);
                    return Poll::Pending;
                }
            },
            Stage::Over => panic!("an acquire was polled after its end"),
        };
        Poll::Ready(outcome)
    }
}

impl Drop for AcquireFuture {
    fn drop(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if self.generation != sys::fork_generation() {
            // The parent's mutexes may be locked in this copy of its memory, for good.
            std::mem::forget(stage);
            return;
        }
        match stage {
            Stage::Granted(guard) => guard.abandon(),
            Stage::Waiting(pending) => {
                // The grant may have come while this was being dropped.
                if let Some(Ok(tenure)) = pending.give_up() {
                    tenure.abandon();
                }
            }
            Stage::Over => {}
        }
    }
}

impl fmt::Debug for AcquireFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Granted(_) => "granted",
            Stage::Waiting(_) => "waiting",
            Stage::Over => "over",
        };
        f.debug_struct("AcquireFuture").field("target", &self.target()).field("stage", &stage).finish_non_exhaustive()
    }
}
