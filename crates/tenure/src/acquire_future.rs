//! An acquire as a value that its caller polls: for a thread that waits for something else besides (a signal, a
//! descriptor), and for event loops that have no runtime of Rust's.
//!
//! Dropped at any point it leaves neither a lock nor a waiter.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::ThreadId;
use std::time::Instant;

use crate::guard::Guard;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::Wait;
use crate::model::request::Request;
use crate::server::{Begun, PendingAcquire, ServerLock};
use crate::sys;
use crate::wait::queue::{Start, TargetQueue, Waiter};
use crate::wait::tenure::Tenure;

/// On whose behalf an acquire [begins](crate::Lock::begin).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// Of the thread that asks: if that holds already, it would wait for itself, and is told so.
    Thread,
    /// Of a task. Two tasks exclude each other even on one thread.
    Task,
}

impl Requester {
    fn thread(self) -> Option<ThreadId> {
        match self {
            Requester::Thread => Some(std::thread::current().id()),
            Requester::Task => None,
        }
    }
}

/// A place in the queue of a file's lock, given up when this is dropped.
pub(crate) struct QueuedAcquire {
    pub(crate) queue: Arc<TargetQueue>,
    pub(crate) waiter: Arc<Waiter>,
    pub(crate) over: bool,
}

impl QueuedAcquire {
    pub(crate) fn new(queue: Arc<TargetQueue>, waiter: Arc<Waiter>) -> QueuedAcquire {
        QueuedAcquire { queue, waiter, over: false }
    }

    /// The outcome if there is one by now, and the end of the wait in any case.
    pub(crate) fn give_up(&mut self) -> Option<Result<Arc<Tenure>>> {
        self.over = true;
        self.queue.give_up(&self.waiter)
    }
}

impl Drop for QueuedAcquire {
    fn drop(&mut self) {
        if !self.over
            && let Some(Ok(tenure)) = self.queue.give_up(&self.waiter)
        {
            // The grant came while this was being dropped: it goes at once.
            tenure.discard_undelivered();
            drop(Guard::new(tenure));
        }
    }
}

/// An ask of a server, given up when this is dropped.
pub(crate) struct Asked(pub(crate) Arc<PendingAcquire>);

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(Ok(hold)) = self.0.give_up() {
            // It came while this was being dropped. The release waits for the server: not in the thread of a runtime.
            hold.discard_undelivered();
            let guard = Guard::of_server(hold);
            let _ = crate::util::thread_pool::run(move || drop(guard));
        }
    }
}

enum Stage {
    Ready(Guard),
    Queued(QueuedAcquire),
    Asked(Asked),
    Over,
}

/// An acquire under way, from [`Lock::begin`](crate::Lock::begin): a future for any executor, or for none.
///
/// In a forked child it is nobody's: it waits for nothing there and gives nothing up.
#[must_use = "the wait ends when this is dropped"]
pub struct AcquireFuture {
    stage: Stage,
    target: PathBuf,
    began: Instant,
    generation: u64,
}

impl AcquireFuture {
    pub(crate) fn of_file(
        queue: Arc<TargetQueue>,
        request: Arc<Request>,
        requester: Requester,
    ) -> Result<AcquireFuture> {
        let began = Instant::now();
        let target = queue.target_path.to_path_buf();
        let stage = match queue.start(request, false, requester.thread(), false)? {
            Start::Granted(tenure) => Stage::Ready(Guard::new(tenure)),
            Start::Queued(waiter) | Start::Serves(waiter, _) => Stage::Queued(QueuedAcquire::new(queue, waiter)),
        };
        Ok(AcquireFuture { stage, target, began, generation: sys::fork_generation() })
    }

    pub(crate) fn of_server(lock: &ServerLock, requester: Requester) -> Result<AcquireFuture> {
        let began = Instant::now();
        let stage = match lock.begin(Wait::Forever, requester.thread())? {
            Begun::Joined(hold) => Stage::Ready(Guard::of_server(hold)),
            Begun::Pending(ask) => Stage::Asked(Asked(ask)),
        };
        Ok(AcquireFuture { stage, target: lock.target().to_owned(), began, generation: sys::fork_generation() })
    }

    /// The path that is waited for, or the name on a server.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Ends the wait, as a deadline does. A grant that had come by then is not lost: it is the answer.
    ///
    /// # Errors
    ///
    /// [`is_busy`](Error::is_busy) with the holder and the time since it began; what made the acquire fail, if that came
    /// first; [`is_lost`](Error::is_lost) in a forked child.
    pub fn give_up(mut self) -> Result<Guard> {
        self.must_be_ours()?;
        let waited = self.began.elapsed();
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Ready(guard) => Ok(guard),
            Stage::Queued(mut queued) => match queued.give_up() {
                Some(outcome) => outcome.map(Guard::new),
                None => Err(queued.queue.busy().with_waited(waited)),
            },
            Stage::Asked(asked) => match asked.0.give_up() {
                Some(outcome) => outcome.map(Guard::of_server),
                None => Err(Error::busy(&self.target).with_waited(waited)),
            },
            Stage::Over => Err(Error::busy(&self.target).with_waited(waited)),
        }
    }

    fn must_be_ours(&self) -> Result<()> {
        if self.generation == sys::fork_generation() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Lost, &self.target, "the wait is the parent's: this is a forked child"))
    }
}

impl Future for AcquireFuture {
    type Output = Result<Guard>;

    /// # Panics
    ///
    /// Where it was polled to its end before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Guard>> {
        self.must_be_ours()?;
        let outcome = match &mut self.stage {
            Stage::Queued(queued) => {
                let outcome = TargetQueue::poll(&queued.waiter, context.waker()).map(|outcome| outcome.map(Guard::new));
                queued.over = outcome.is_some();
                outcome
            }
            Stage::Asked(asked) => asked.0.poll(context.waker()).map(|outcome| outcome.map(Guard::of_server)),
            Stage::Ready(_) => match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Ready(guard) => Some(Ok(guard)),
                _ => None,
            },
            Stage::Over => panic!("an acquire was polled after its end"),
        };
        match outcome {
            None => Poll::Pending,
            Some(outcome) => {
                self.stage = Stage::Over;
                Poll::Ready(outcome)
            }
        }
    }
}

impl Drop for AcquireFuture {
    fn drop(&mut self) {
        if self.must_be_ours().is_err() {
            // The parent's mutexes may be locked in this copy of its memory, for good.
            std::mem::forget(std::mem::replace(&mut self.stage, Stage::Over));
        } else if let Stage::Ready(guard) = &self.stage {
            guard.discard_undelivered();
        }
    }
}

impl fmt::Debug for AcquireFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Ready(_) => "granted",
            Stage::Queued(_) | Stage::Asked(_) => "waiting",
            Stage::Over => "over",
        };
        f.debug_struct("AcquireFuture").field("target", &self.target).field("stage", &stage).finish_non_exhaustive()
    }
}
