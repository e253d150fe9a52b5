//! A waiter's turn: it comes once, or is given up, never both.
//!
//! Who serves the queue settles it; a thread sleeps for it, or a future is polled for it.

use std::task::Waker;
use std::time::Instant;

use crate::sys::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How a turn stands, for a grant `T` or a failure `E`.
#[derive(Debug)]
pub(crate) enum WaitState<T, E> {
    Queued(Option<Waker>),
    /// Queued still, but what it waits for may be there for the taking: its thread is to look.
    Notified,
    /// Queued still, and its thread is awake.
    Looking,
    Granted(T),
    Failed(E),
    /// Taken, or given up.
    Over,
}

impl<T, E> WaitState<T, E> {
    fn waits(&self) -> bool {
        matches!(self, WaitState::Queued(_) | WaitState::Notified | WaitState::Looking)
    }
}

/// What a sleep ended with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken<T, E> {
    Settled(Result<T, E>),
    Notified,
    /// The deadline is over.
    Late,
}

/// One waiter's place in the queue.
#[derive(Debug)]
pub(crate) struct Ticket<T, E> {
    state: Mutex<WaitState<T, E>>,
    settled: Condvar,
}

impl<T, E> Ticket<T, E> {
    pub(crate) fn new() -> Ticket<T, E> {
        Ticket { state: Mutex::new(WaitState::Queued(None)), settled: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, WaitState<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it wait still?
    pub(crate) fn is_queued(&self) -> bool {
        self.state().waits()
    }

    /// Hands over an outcome; `false` if nobody waits for it any more. A future's waker is the caller's to wake, once it
    /// has let go of its own mutex: a waker may run any code.
    pub(crate) fn resolve(&self, outcome: WaitState<T, E>, woken: &mut Vec<Waker>) -> bool {
        let mut state = self.state();
        if !state.waits() {
            return false;
        }
        let before = std::mem::replace(&mut *state, outcome);
        drop(state);
        match before {
            WaitState::Queued(Some(waker)) => woken.push(waker),
            WaitState::Queued(None) => self.settled.notify_one(),
            // It is awake, or was woken to look.
            _ => {}
        }
        true
    }

    /// Wakes the thread that sleeps for it, to look for itself.
    pub(crate) fn notify(&self) {
        let mut state = self.state();
        if !matches!(*state, WaitState::Queued(None) | WaitState::Looking) {
            return;
        }
        if let WaitState::Queued(None) = std::mem::replace(&mut *state, WaitState::Notified) {
            drop(state);
            self.settled.notify_one();
        }
    }

    /// What [`wait`](Ticket::wait) would end with at once; the thread stays awake.
    pub(crate) fn look(&self) -> Option<Woken<T, E>> {
        let mut state = self.state();
        if !state.waits() {
            return Some(taken(&mut state).map_or(Woken::Late, Woken::Settled));
        }
        let told = matches!(*state, WaitState::Notified);
        *state = WaitState::Looking;
        told.then_some(Woken::Notified)
    }

    /// The outcome, or `waker` is woken when there is one.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Result<T, E>> {
        let mut state = self.state();
        if let WaitState::Queued(kept) = &mut *state {
            match kept {
                Some(known) if known.will_wake(waker) => {}
                other => *other = Some(waker.clone()),
            }
            return None;
        }
        taken(&mut state)
    }

    /// Sleeps until there is an outcome, or it is told to look.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Woken<T, E> {
        let mut state = self.state();
        loop {
            match *state {
                WaitState::Queued(_) => {}
                WaitState::Looking => *state = WaitState::Queued(None),
                WaitState::Notified => {
                    *state = WaitState::Looking;
                    return Woken::Notified;
                }
                _ => return taken(&mut state).map_or(Woken::Late, Woken::Settled),
            }
            state = match deadline {
                None => self.settled.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Woken::Late;
                    }
                    self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Ends the wait with `error`. A grant that its waiter has not taken yet comes back, and the waiter gets `error` in its
    /// place. A future's waker goes to `woken`.
    pub(crate) fn withdraw(&self, error: E, woken: &mut Vec<Waker>) -> Option<T> {
        let mut state = self.state();
        if !state.waits() && !matches!(*state, WaitState::Granted(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, WaitState::Failed(error)) {
            WaitState::Granted(granted) => return Some(granted),
            WaitState::Queued(Some(waker)) => woken.push(waker),
            WaitState::Queued(None) => self.settled.notify_one(),
            _ => {}
        }
        None
    }

    /// It waits no more. The outcome, if one came before that.
    pub(crate) fn give_up(&self) -> Option<Result<T, E>> {
        let mut state = self.state();
        let outcome = taken(&mut state);
        *state = WaitState::Over;
        outcome
    }
}

fn taken<T, E>(state: &mut WaitState<T, E>) -> Option<Result<T, E>> {
    match std::mem::replace(state, WaitState::Over) {
        WaitState::Granted(granted) => Some(Ok(granted)),
        WaitState::Failed(error) => Some(Err(error)),
        waiting => {
            *state = waiting;
            None
        }
    }
}
