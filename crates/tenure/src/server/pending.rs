//! One acquire that waits for a server, between its caller and the task on the [I/O thread](super::io_thread) that serves it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use super::lock_server::Interrupter;
use super::tenure::ServerTenure;
use crate::model::error::{Error, Result};
use crate::model::tenure::{Pending, Tenure};
use crate::util::ticket::{Ticket, WaitState, Woken};

/// An acquire under way.
pub(crate) struct PendingAcquire {
    target: PathBuf,
    ticket: Ticket<Arc<ServerTenure>, Error>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The task has given its place at the server back, or holds by it.
    place_returned: bool,
    /// Wakes the task.
    interrupt: Option<Interrupter>,
}

impl PendingAcquire {
    pub(super) fn new(target: &Path) -> PendingAcquire {
        let (state, changed) = (Mutex::default(), Condvar::new());
        PendingAcquire { target: target.to_owned(), ticket: Ticket::new(), state, changed }
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the acquire has its outcome, or its caller has given up.
    pub(super) fn is_over(&self) -> bool {
        !self.ticket.is_queued()
    }

    /// Records that the task has no place at the server any more for which others would wait.
    pub(super) fn mark_place_returned(&self) {
        self.state().place_returned = true;
        self.changed.notify_all();
    }

    /// Sleeps until the task has given its place back, or until `end`.
    pub(super) fn await_place_returned(&self, end: Instant) {
        self.sleep_until(end, |state| state.place_returned);
    }

    fn sleep_until(&self, end: Instant, done: impl Fn(&State) -> bool) {
        let mut state = self.state();
        while !done(&state) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sets how to wake the task.
    pub(super) fn set_interrupter(&self, interrupt: Option<Interrupter>) {
        self.state().interrupt = interrupt;
    }

    /// Wakes the task, wherever it waits.
    fn interrupt(&self) {
        let interrupt = self.state().interrupt.take();
        self.changed.notify_all();
        if let Some(interrupt) = interrupt {
            interrupt();
        }
    }

    /// Ends the wait from outside: the caller gets `error`. Returns a grant that the caller has not taken yet.
    pub(super) fn withdraw(&self, error: Error) -> Option<Arc<ServerTenure>> {
        let mut woken = Vec::new();
        let granted = self.ticket.withdraw(error, &mut woken);
        self.interrupt();
        woken.into_iter().for_each(Waker::wake);
        granted
    }

    /// Hands the outcome to the caller; `false` if the caller no longer waits for it.
    pub(super) fn resolve(&self, outcome: Result<Arc<ServerTenure>>) -> bool {
        let outcome = match outcome {
            Ok(tenure) => WaitState::Granted(tenure),
            Err(error) => WaitState::Failed(error),
        };
        let mut woken = Vec::new();
        let taken = self.ticket.resolve(outcome, &mut woken);
        woken.into_iter().for_each(Waker::wake);
        taken
    }

    /// Waits for the outcome. There is one at the deadline too: only the task can say whether the lock is busy
    /// or the server silent.
    pub(super) fn wait(&self) -> Result<Arc<ServerTenure>> {
        loop {
            match self.ticket.wait(None) {
                Woken::Settled(outcome) => return outcome,
                Woken::Notified | Woken::Alerted => {}
                Woken::Late => return Err(Error::busy(&self.target)),
            }
        }
    }
}

fn as_tenure(outcome: Result<Arc<ServerTenure>>) -> Result<Arc<dyn Tenure>> {
    outcome.map(|tenure| tenure as Arc<dyn Tenure>)
}

impl Pending for Arc<PendingAcquire> {
    /// The task watches the deadline.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn poll(&self, waker: &Waker) -> Option<Result<Arc<dyn Tenure>>> {
        self.ticket.poll(waker).map(as_tenure)
    }

    fn give_up(&self) -> Option<Result<Arc<dyn Tenure>>> {
        let outcome = self.ticket.give_up();
        self.interrupt();
        outcome.map(as_tenure)
    }

    fn await_left(&self, end: Instant) {
        self.await_place_returned(end);
    }

    fn busy(&self) -> Error {
        Error::busy(&self.target)
    }
}
