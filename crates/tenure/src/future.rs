//! Acquires without blocking a thread, on tokio's clock.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::acquire_future::{Asked, QueuedAcquire};
use crate::guard::Guard;
use crate::model::error::Result;
use crate::model::options::Wait;
use crate::model::request::Request;
use crate::server::{Begun, ServerLock};
use crate::wait::queue::TargetQueue;

pub(crate) async fn acquire(queue: Arc<TargetQueue>, request: Arc<Request>, wait: Wait) -> Result<Guard> {
    let start = Instant::now();
    let deadline = wait.deadline(start);
    if deadline.is_some_and(|deadline| deadline <= start) {
        // One try makes a few system calls and never blocks. A time that is over already is one too: in the queue it
        // would end before a helper has looked.
        return queue.acquire(request, Wait::Never).map(Guard::new);
    }
    let waiter = match queue.enqueue(request) {
        Ok(waiter) => waiter,
        Err(outcome) => return outcome.map(Guard::new),
    };
    let mut queued = QueuedAcquire::new(queue, waiter);
    let granted = poll_fn(|context| match TargetQueue::poll(&queued.waiter, context.waker()) {
        Some(outcome) => Poll::Ready(outcome),
        None => Poll::Pending,
    });
    let outcome = match deadline {
        None => Some(granted.await),
        Some(deadline) => tokio::time::timeout_at(deadline.into(), granted).await.ok(),
    };
    let outcome = match outcome {
        Some(outcome) => Some(outcome),
        None => queued.give_up(),
    };
    queued.over = true;
    match outcome {
        Some(outcome) => outcome.map(Guard::new),
        None => Err(queued.queue.busy().with_waited(start.elapsed())),
    }
}

/// The same for a lock that a server keeps. The time is the keeper's to watch.
pub(crate) async fn acquire_of_server(lock: &ServerLock, wait: Wait) -> Result<Guard> {
    let asked = match lock.begin(wait, None)? {
        Begun::Joined(hold) => return Ok(Guard::of_server(hold)),
        Begun::Pending(ask) => Asked(ask),
    };
    poll_fn(|context| match asked.0.poll(context.waker()) {
        Some(outcome) => Poll::Ready(outcome),
        None => Poll::Pending,
    })
    .await
    .map(Guard::of_server)
}
