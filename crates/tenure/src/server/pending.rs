//! One acquire that waits for a server, between the thread that pendings and the [keeper](super::keeper) that serves it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use super::{Interrupter, ServerTenure};
use crate::model::error::{Error, Result};

/// An acquire under way.
#[derive(Default)]
pub(crate) struct PendingAcquire {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    turn: Turn,
    /// The keeper has given its place back, or tenures by it.
    without_place: bool,
    interrupt: Option<Interrupter>,
    waker: Option<Waker>,
}

#[derive(Default)]
enum Turn {
    #[default]
    Waiting,
    Granted(Arc<ServerTenure>),
    Failed(Error),
    /// Taken, or given up.
    Over,
}

impl State {
    /// The outcome, if there is one.
    fn take(&mut self) -> Option<Result<Arc<ServerTenure>>> {
        match std::mem::replace(&mut self.turn, Turn::Over) {
            Turn::Granted(tenure) => Some(Ok(tenure)),
            Turn::Failed(error) => Some(Err(error)),
            waiting => {
                self.turn = waiting;
                None
            }
        }
    }
}

impl PendingAcquire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has whoever asked gone away?
    pub(super) fn is_over(&self) -> bool {
        !matches!(self.state().turn, Turn::Waiting)
    }

    /// Records that the keeper has no place at the server any more that would make others wait.
    pub(super) fn be_without_place(&self) {
        self.state().without_place = true;
        self.changed.notify_all();
    }

    /// Sleeps until the keeper has given its place back.
    pub(super) fn await_without_place(&self, end: Instant) {
        let mut state = self.state();
        while !state.without_place {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the wait from outside: the caller gets this error. Returns a grant that the caller has not taken yet.
    pub(super) fn withdraw(&self, error: Error) -> Option<Arc<ServerTenure>> {
        let mut state = self.state();
        match std::mem::replace(&mut state.turn, Turn::Over) {
            Turn::Waiting => {
                state.turn = Turn::Failed(error);
                let (interrupt, waker) = (state.interrupt.take(), state.waker.take());
                drop(state);
                self.changed.notify_all();
                if let Some(interrupt) = interrupt {
                    interrupt();
                }
                if let Some(waker) = waker {
                    waker.wake();
                }
                None
            }
            Turn::Granted(tenure) => {
                state.turn = Turn::Failed(error);
                Some(tenure)
            }
            other => {
                state.turn = other;
                None
            }
        }
    }

    /// How to wake the keeper.
    pub(super) fn interrupt_by(&self, interrupt: Option<Interrupter>) {
        self.state().interrupt = interrupt;
    }

    /// Sleeps until `end`, or until whoever asked has gone away.
    pub(super) fn pause(&self, end: Instant) {
        let mut state = self.state();
        while matches!(state.turn, Turn::Waiting) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands over the outcome; it comes back if nobody waits for it any more.
    pub(super) fn settle(
        &self,
        outcome: Result<Arc<ServerTenure>>,
    ) -> std::result::Result<(), Result<Arc<ServerTenure>>> {
        let mut state = self.state();
        if !matches!(state.turn, Turn::Waiting) {
            return Err(outcome);
        }
        state.turn = match outcome {
            Ok(tenure) => Turn::Granted(tenure),
            Err(error) => Turn::Failed(error),
        };
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Waits for the outcome. The keeper has one when the time is over, too: whether the lock is busy or the server
    /// silent, only it can tell.
    pub(super) fn wait(&self) -> Result<Arc<ServerTenure>> {
        let mut state = self.state();
        loop {
            if let Some(outcome) = state.take() {
                return outcome;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The outcome, or `waker` is woken when there is one.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Result<Arc<ServerTenure>>> {
        let mut state = self.state();
        let outcome = state.take();
        if outcome.is_none() {
            state.waker = Some(waker.clone());
        }
        outcome
    }

    /// Gives up: nothing is held for this ask from here on. What had been granted by then comes back.
    pub(crate) fn give_up(&self) -> Option<Result<Arc<ServerTenure>>> {
        let mut state = self.state();
        let outcome = state.take();
        state.turn = Turn::Over;
        let interrupt = state.interrupt.take();
        drop(state);
        self.changed.notify_all();
        if let Some(interrupt) = interrupt {
            interrupt();
        }
        outcome
    }
}
