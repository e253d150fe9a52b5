//! A waiter's turn: it comes once, or is given up, never both.
//!
//! Who serves the queue settles it; a thread sleeps for it, or a future is polled for it.

use std::task::Waker;
use std::time::Instant;

use crate::sys::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How a turn stands, for a grant `T` or a failure `E`.
#[derive(Debug)]
pub(crate) enum Turn<T, E> {
    Queued(Option<Waker>),
    /// Queued still, but what it waits for may be there for the taking: its thread is to look.
    Told,
    /// Queued still, and its thread is awake.
    Looking,
    Granted(T),
    Failed(E),
    /// Taken, or given up.
    Over,
}

impl<T, E> Turn<T, E> {
    fn waits(&self) -> bool {
        matches!(self, Turn::Queued(_) | Turn::Told | Turn::Looking)
    }
}

/// What a sleep ended with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken<T, E> {
    Settled(Result<T, E>),
    Told,
    /// The deadline is over.
    Late,
}

/// One waiter's place in the queue.
#[derive(Debug)]
pub(crate) struct Ticket<T, E> {
    turn: Mutex<Turn<T, E>>,
    settled: Condvar,
}

impl<T, E> Ticket<T, E> {
    pub(crate) fn new() -> Ticket<T, E> {
        Ticket { turn: Mutex::new(Turn::Queued(None)), settled: Condvar::new() }
    }

    fn turn(&self) -> MutexGuard<'_, Turn<T, E>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it wait still?
    pub(crate) fn is_queued(&self) -> bool {
        self.turn().waits()
    }

    /// Hands over an outcome; `false` if nobody waits for it any more. A future's waker is the caller's to wake, once it
    /// has let go of its own mutex: a waker may run any code.
    pub(crate) fn settle(&self, outcome: Turn<T, E>, woken: &mut Vec<Waker>) -> bool {
        let mut turn = self.turn();
        if !turn.waits() {
            return false;
        }
        let before = std::mem::replace(&mut *turn, outcome);
        drop(turn);
        match before {
            Turn::Queued(Some(waker)) => woken.push(waker),
            Turn::Queued(None) => self.settled.notify_one(),
            // It is awake, or was woken to look.
            _ => {}
        }
        true
    }

    /// Wakes the thread that sleeps for it, to look for itself.
    pub(crate) fn tell(&self) {
        let mut turn = self.turn();
        if !matches!(*turn, Turn::Queued(None) | Turn::Looking) {
            return;
        }
        if let Turn::Queued(None) = std::mem::replace(&mut *turn, Turn::Told) {
            drop(turn);
            self.settled.notify_one();
        }
    }

    /// What [`wait`](Ticket::wait) would end with at once; the thread stays awake.
    pub(crate) fn look(&self) -> Option<Woken<T, E>> {
        let mut turn = self.turn();
        if !turn.waits() {
            return Some(taken(&mut turn).map_or(Woken::Late, Woken::Settled));
        }
        let told = matches!(*turn, Turn::Told);
        *turn = Turn::Looking;
        told.then_some(Woken::Told)
    }

    /// The outcome, or `waker` is woken when there is one.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Result<T, E>> {
        let mut turn = self.turn();
        if let Turn::Queued(kept) = &mut *turn {
            match kept {
                Some(known) if known.will_wake(waker) => {}
                other => *other = Some(waker.clone()),
            }
            return None;
        }
        taken(&mut turn)
    }

    /// Sleeps until there is an outcome, or it is told to look.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Woken<T, E> {
        let mut turn = self.turn();
        loop {
            match *turn {
                Turn::Queued(_) => {}
                Turn::Looking => *turn = Turn::Queued(None),
                Turn::Told => {
                    *turn = Turn::Looking;
                    return Woken::Told;
                }
                _ => return taken(&mut turn).map_or(Woken::Late, Woken::Settled),
            }
            turn = match deadline {
                None => self.settled.wait(turn).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Woken::Late;
                    }
                    self.settled.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// It waits no more. The outcome, if one came before that.
    pub(crate) fn give_up(&self) -> Option<Result<T, E>> {
        let mut turn = self.turn();
        let outcome = taken(&mut turn);
        *turn = Turn::Over;
        outcome
    }
}

fn taken<T, E>(turn: &mut Turn<T, E>) -> Option<Result<T, E>> {
    match std::mem::replace(turn, Turn::Over) {
        Turn::Granted(granted) => Some(Ok(granted)),
        Turn::Failed(error) => Some(Err(error)),
        waiting => {
            *turn = waiting;
            None
        }
    }
}
