//! The listeners for the loss of a tenure: futures, by their wakers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The wakers of the futures that wait for one tenure's loss.
#[derive(Debug, Default)]
pub(crate) struct LossListeners {
    /// It was polled. Every release reads this, without the mutex.
    wanted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wakers: Vec<Waker>,
    lost: bool,
}

impl LossListeners {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything, for another tenure.
    pub(crate) fn forget(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Without a poll there are no wakers.
        if std::mem::take(self.wanted.get_mut()) {
            state.wakers = Vec::new();
        }
        state.lost = false;
    }

    /// Wakes all of them, and answers later polls at once.
    pub(crate) fn notify(&self) {
        let wakers = {
            let mut state = self.state();
            state.lost = true;
            std::mem::take(&mut state.wakers)
        };
        // Without the mutex: a waker may poll at once, on this thread.
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns whether the loss was [notified](LossListeners::notify); if not, `waker` is woken when it is.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        // Before the caller looks whether the watchdog has the tenure in its list, which the watchdog clears before it reads this.
        self.wanted.store(true, Ordering::SeqCst);
        let mut state = self.state();
        if !state.lost && !state.wakers.iter().any(|known| known.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        state.lost
    }

    /// Returns whether the loss was notified already.
    pub(crate) fn is_notified(&self) -> bool {
        self.state().lost
    }

    /// Returns whether a future waits, or waited, for the loss.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }
}
