//! A waiter's ticket: it is settled once or given up, never both.
//!
//! The code that serves the queue settles the ticket. A thread sleeps until then, or a future is polled.

use std::task::Waker;
use std::time::Instant;

use crate::sys::sync::{AtomicU32, Condvar, Mutex, MutexGuard, Ordering, PoisonError};

/// The state of a ticket, with a grant `T` or a failure `E`.
#[derive(Debug)]
pub(crate) enum WaitState<T, E> {
    Queued(Option<Waker>),
    /// Still queued, but the lock may be free: the waiter's thread has to check.
    Notified,
    /// Still queued, and the outcome is under way: the waiter's thread wakes up meanwhile.
    Alerted,
    /// Still queued, and the waiter's thread is awake.
    Looking,
    Granted(T),
    Failed(E),
    /// The outcome was taken, or the ticket was given up.
    Over,
}

impl<T, E> WaitState<T, E> {
    fn waits(&self) -> bool {
        self.summary() != OVER
    }

    fn summary(&self) -> u32 {
        match self {
            WaitState::Looking => LOOKING,
            WaitState::Queued(_) | WaitState::Notified | WaitState::Alerted => WAITS,
            WaitState::Granted(_) | WaitState::Failed(_) | WaitState::Over => OVER,
        }
    }
}

/// The summaries of a state, which are read without the mutex.
const WAITS: u32 = 0;
const LOOKING: u32 = 1;
const OVER: u32 = 2;

/// The reason for the end of a sleep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken<T, E> {
    Settled(Result<T, E>),
    Notified,
    /// The outcome is under way.
    Alerted,
    /// The deadline has passed.
    Late,
}

/// One waiter's ticket in the queue.
#[derive(Debug)]
pub(crate) struct Ticket<T, E> {
    state: Mutex<WaitState<T, E>>,
    /// The state's summary, set with the state. A thread that looks again and again would keep others from the mutex.
    summary: AtomicU32,
    settled: Condvar,
}

impl<T, E> Ticket<T, E> {
    pub(crate) fn new() -> Ticket<T, E> {
        Ticket { state: Mutex::new(WaitState::Queued(None)), summary: AtomicU32::new(WAITS), settled: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, WaitState<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state. Returns the one before.
    fn set(&self, state: &mut WaitState<T, E>, next: WaitState<T, E>) -> WaitState<T, E> {
        self.summary.store(next.summary(), Ordering::Release);
        std::mem::replace(state, next)
    }

    /// Returns whether the waiter still waits.
    pub(crate) fn is_queued(&self) -> bool {
        self.summary.load(Ordering::Acquire) != OVER
    }

    /// Settles the ticket with an outcome. Returns `false` if the waiter waits no longer. A future's waker is pushed to
    /// `woken`: the caller wakes it after unlocking its own mutex, because a waker may run any code.
    #[inline]
    pub(crate) fn resolve(&self, outcome: WaitState<T, E>, woken: &mut Vec<Waker>) -> bool {
        let mut state = self.state();
        if !state.waits() {
            return false;
        }
        let before = self.set(&mut state, outcome);
        drop(state);
        match before {
            WaitState::Queued(Some(waker)) => woken.push(waker),
            WaitState::Queued(None) => self.settled.notify_one(),
            // The thread is awake, or was notified.
            _ => {}
        }
        true
    }

    /// Wakes the waiter's thread before its outcome is settled, so that it wakes up while the caller still works for it.
    /// The waiter must be a thread: a future that was not polled yet looks like one that sleeps.
    #[inline]
    pub(crate) fn alert(&self) {
        let mut state = self.state();
        if matches!(*state, WaitState::Queued(None)) {
            self.set(&mut state, WaitState::Alerted);
            drop(state);
            self.settled.notify_one();
        }
    }

    /// Wakes the waiter's thread, so that it checks the lock.
    pub(crate) fn notify(&self) {
        let mut state = self.state();
        if !matches!(*state, WaitState::Queued(None) | WaitState::Alerted | WaitState::Looking) {
            return;
        }
        if let WaitState::Queued(None) = self.set(&mut state, WaitState::Notified) {
            drop(state);
            self.settled.notify_one();
        }
    }

    /// Returns the outcome with which [`wait`](Ticket::wait) would return at once, if any. The thread stays awake.
    pub(crate) fn look(&self) -> Option<Woken<T, E>> {
        if self.summary.load(Ordering::Acquire) == LOOKING {
            return None;
        }
        let mut state = self.state();
        if !state.waits() {
            return Some(taken(&mut state).map_or(Woken::Late, Woken::Settled));
        }
        let before = self.set(&mut state, WaitState::Looking);
        let notified = matches!(before, WaitState::Notified);
        notified.then_some(Woken::Notified)
    }

    /// Returns the outcome if there is one. Otherwise `waker` is woken once there is.
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

    /// Sleeps until there is an outcome, a notification, or the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Woken<T, E> {
        let mut state = self.state();
        loop {
            match *state {
                WaitState::Queued(_) => {}
                WaitState::Looking => drop(self.set(&mut state, WaitState::Queued(None))),
                WaitState::Notified => {
                    self.set(&mut state, WaitState::Looking);
                    return Woken::Notified;
                }
                WaitState::Alerted => {
                    self.set(&mut state, WaitState::Looking);
                    return Woken::Alerted;
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
        match self.set(&mut state, WaitState::Failed(error)) {
            WaitState::Granted(granted) => return Some(granted),
            WaitState::Queued(Some(waker)) => woken.push(waker),
            WaitState::Queued(None) => self.settled.notify_one(),
            _ => {}
        }
        None
    }

    /// Gives the ticket up. Returns the outcome if it was settled before.
    pub(crate) fn give_up(&self) -> Option<Result<T, E>> {
        let mut state = self.state();
        let outcome = taken(&mut state);
        self.set(&mut state, WaitState::Over);
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
