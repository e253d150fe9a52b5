//! Acquiring without blocking a thread, on tokio's clock.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::engine::{Ask, Begun, EngineLock};
use crate::error::Result;
use crate::guard::Guard;
use crate::options::Wait;
use crate::queue::{Slot, Waiter};
use crate::tenure::Request;

/// A place in the queue that is given up when this is dropped.
struct Place {
    slot: Arc<Slot>,
    waiter: Arc<Waiter>,
    over: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.over
            && let Some(Ok(tenure)) = self.slot.give_up(&self.waiter)
        {
            // The grant came while the future was being dropped: it goes at once.
            tenure.abandon();
            drop(Guard::new(tenure));
        }
    }
}

pub(crate) async fn acquire(slot: Arc<Slot>, request: Arc<Request>, wait: Wait) -> Result<Guard> {
    let start = Instant::now();
    let deadline = wait.deadline(start);
    if deadline.is_some_and(|deadline| deadline <= start) {
        // One try makes a few system calls and never blocks. A time that is over already is one too: in the queue it
        // would end before a helper has looked.
        return slot.acquire(request, Wait::Never).map(Guard::new);
    }
    let waiter = match slot.enqueue(request) {
        Ok(waiter) => waiter,
        Err(outcome) => return outcome.map(Guard::new),
    };
    let mut place = Place { slot, waiter, over: false };
    let granted = poll_fn(|context| match Slot::poll(&place.waiter, context.waker()) {
        Some(outcome) => Poll::Ready(outcome),
        None => Poll::Pending,
    });
    let outcome = match deadline {
        None => Some(granted.await),
        Some(deadline) => tokio::time::timeout_at(deadline.into(), granted).await.ok(),
    };
    let outcome = match outcome {
        Some(outcome) => Some(outcome),
        None => place.slot.give_up(&place.waiter),
    };
    place.over = true;
    match outcome {
        Some(outcome) => outcome.map(Guard::new),
        None => Err(place.slot.busy().with_waited(start.elapsed())),
    }
}

/// An ask of a server that is given up when this is dropped.
struct Asked(Arc<Ask>);

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(Ok(hold)) = self.0.give_up() {
            // It came while the future was being dropped. The release waits for the server: not in a runtime's thread.
            hold.abandon();
            let guard = Guard::of_engine(hold);
            let _ = crate::helpers::run(move || drop(guard));
        }
    }
}

/// The same for a lock that a server keeps. The time is the keeper's to watch.
pub(crate) async fn acquire_of_engine(lock: &EngineLock, wait: Wait) -> Result<Guard> {
    let asked = match lock.begin(wait, None)? {
        Begun::Joined(hold) => return Ok(Guard::of_engine(hold)),
        Begun::Asked(ask) => Asked(ask),
    };
    poll_fn(|context| match asked.0.poll(context.waker()) {
        Some(outcome) => Poll::Ready(outcome),
        None => Poll::Pending,
    })
    .await
    .map(Guard::of_engine)
}
