//! An acquire of this folder as a value that its caller polls. A helper thread waits for it.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::patience::{Patience, Returns};
use crate::model::error::{Error, Result};
use crate::model::tenure::{Pending, Tenure};
use crate::util::thread_pool;
use crate::util::ticket::{Ticket, WaitState};

/// An acquire that a helper thread makes.
pub(crate) struct ThreadedAcquire {
    ticket: Arc<Ticket<Arc<dyn Tenure>, Error>>,
    patience: Arc<Patience>,
    deadline: Option<Instant>,
    busy: Box<dyn Fn() -> Error + Send + Sync>,
}

impl ThreadedAcquire {
    /// Starts `acquire` on a helper thread. It returns `None` once it was given up. `deadline` is the caller's.
    pub(crate) fn start(
        patience: Arc<Patience>,
        deadline: Option<Instant>,
        acquire: impl FnOnce(&Patience) -> Result<Option<Arc<dyn Tenure>>> + Send + 'static,
        busy: impl Fn() -> Error + Send + Sync + 'static,
    ) -> Result<ThreadedAcquire> {
        let ticket = Arc::new(Ticket::new());
        let (settled, shared) = (Arc::clone(&ticket), Arc::clone(&patience));
        let run = move || {
            let _returns = Returns(&shared);
            let outcome = match acquire(&shared) {
                Ok(None) => return,
                Ok(Some(tenure)) => WaitState::Granted(tenure),
                Err(error) => WaitState::Failed(error),
            };
            settle(&settled, outcome);
        };
        thread_pool::run(run).map_err(|error| Error::io("thread", "a thread that waits cannot be started", error))?;
        Ok(ThreadedAcquire { ticket, patience, deadline, busy: Box::new(busy) })
    }
}

/// Hands the outcome to the waiter. A grant that the waiter gave up is abandoned.
fn settle(ticket: &Ticket<Arc<dyn Tenure>, Error>, outcome: WaitState<Arc<dyn Tenure>, Error>) {
    let abandoned = match &outcome {
        WaitState::Granted(tenure) => Some(Arc::clone(tenure)),
        _ => None,
    };
    let mut woken = Vec::new();
    if ticket.resolve(outcome, &mut woken) {
        woken.into_iter().for_each(Waker::wake);
    } else if let Some(tenure) = abandoned {
        tenure.abandon();
    }
}

impl Pending for ThreadedAcquire {
    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn poll(&self, waker: &Waker) -> Option<Result<Arc<dyn Tenure>>> {
        self.ticket.poll(waker)
    }

    fn give_up(&self) -> Option<Result<Arc<dyn Tenure>>> {
        let outcome = self.ticket.give_up();
        self.patience.give_up();
        outcome
    }

    /// The thread may have locks with which it counts or waits. It gives them back first.
    fn await_left(&self, end: Instant) {
        self.patience.await_returned(end);
    }

    fn busy(&self) -> Error {
        (self.busy)()
    }
}
