//! A place in the queue of a target, as its owner polls it.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Instant;

use crate::model::error::{Error, Result};
use crate::model::options::Wait;
use crate::model::request::Request;
use crate::model::requester::RequesterId;
use crate::model::tenure::{Begun, Pending, Tenure};
use crate::util::thread_pool;
use crate::util::wait_queue::Waits as _;
use crate::wait::deadlock::AnnouncedWait;
use crate::wait::queue::{Entry, Start, TargetQueue, Waiter};
use crate::wait::tenure::FileTenure;

/// Starts an acquire without waiting for the lock. The requesters `around` cannot go on while it waits.
pub(crate) fn begin(
    queue: Arc<TargetQueue>,
    request: Arc<Request>,
    wait: Wait,
    requester: Option<RequesterId>,
    around: &[RequesterId],
) -> Result<Begun> {
    let start = Instant::now();
    let deadline = wait.deadline(start);
    let entry = match deadline.is_some_and(|deadline| deadline <= start) {
        true => Entry::Try,
        false => Entry::TryThenWait,
    };
    Ok(match queue.start(request, requester, entry)? {
        Start::Granted(tenure) => Begun::Granted(tenure),
        Start::Queued(waiter) | Start::Serving(waiter, _) => {
            let mut announced = match AnnouncedWait::begin(&queue, waiter.request(), requester, around) {
                Ok(announced) => announced,
                Err(error) => match queue.give_up(&waiter) {
                    Some(Ok(tenure)) => return Ok(Begun::Granted(tenure)),
                    Some(Err(error)) => return Err(error),
                    None => return Err(error),
                },
            };
            if let Some(look) = announced.as_mut().and_then(AnnouncedWait::take_undecided) {
                let (queue, waiter) = (Arc::clone(&queue), Arc::clone(&waiter));
                // Without a thread, the later waiter decides alone.
                let _ = thread_pool::run(move || {
                    if let Err(error) = look.decide(|| waiter.waits()) {
                        queue.refuse(&waiter, error);
                    }
                });
            }
            let queued = QueuedAcquire { queue, waiter, deadline };
            Begun::Pending(match announced {
                None => Box::new(queued),
                Some(announced) => Box::new(AnnouncedAcquire { queued, announced: Mutex::new(Some(announced)) }),
            })
        }
    })
}

/// A place in the queue of a target.
struct QueuedAcquire {
    queue: Arc<TargetQueue>,
    waiter: Arc<Waiter>,
    deadline: Option<Instant>,
}

/// A place in the queue of a target, of a thread that holds other locks.
struct AnnouncedAcquire {
    queued: QueuedAcquire,
    announced: Mutex<Option<AnnouncedWait>>,
}

impl AnnouncedAcquire {
    /// Withdraws what was announced of a wait that is over.
    fn over<T>(&self, outcome: T) -> T {
        drop(self.announced.lock().unwrap_or_else(PoisonError::into_inner).take());
        outcome
    }
}

impl Pending for AnnouncedAcquire {
    fn deadline(&self) -> Option<Instant> {
        self.queued.deadline()
    }

    fn poll(&self, waker: &Waker) -> Option<Result<Arc<dyn Tenure>>> {
        self.queued.poll(waker).map(|outcome| self.over(outcome))
    }

    fn give_up(&self) -> Option<Result<Arc<dyn Tenure>>> {
        self.over(self.queued.give_up())
    }

    fn busy(&self) -> Error {
        self.queued.busy()
    }
}

fn as_tenure(outcome: Result<Arc<FileTenure>>) -> Result<Arc<dyn Tenure>> {
    outcome.map(|tenure| tenure as Arc<dyn Tenure>)
}

impl Pending for QueuedAcquire {
    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn poll(&self, waker: &Waker) -> Option<Result<Arc<dyn Tenure>>> {
        TargetQueue::poll(&self.waiter, waker).map(as_tenure)
    }

    fn give_up(&self) -> Option<Result<Arc<dyn Tenure>>> {
        self.queue.give_up(&self.waiter).map(as_tenure)
    }

    fn busy(&self) -> Error {
        self.queue.busy()
    }
}
