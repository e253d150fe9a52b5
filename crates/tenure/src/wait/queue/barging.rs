//! An open lock: released, but not unlocked, so that a running thread of this process may take it without a wake-up.

use std::sync::Arc;

use super::state::{OpenLock, Phase, State, StateGuard, TargetQueue, Waiter, unlock_and_wake};
use crate::file::release::{self, HandOff};
use crate::model::request::Request;
use crate::model::requester::RequesterId;
use crate::record::Record;
use crate::wait::tenure::FileTenure;

impl TargetQueue {
    /// Leaves the lock of an ended tenure open. The phase is `Working`.
    pub(super) fn leave_open(self: &Arc<TargetQueue>, tenure: &Arc<FileTenure>, ended: Option<(Arc<Record>, u64)>) {
        let mut state = self.state();
        state.phase = Phase::Open(Box::new(OpenLock { last: Arc::clone(tenure), ended }));
        self.offer_to_head(state);
    }

    /// Notifies the queue's head that the lock is open, or releases the lock where no head can take it.
    pub(super) fn offer_to_head(self: &Arc<TargetQueue>, mut state: StateGuard<'_>) {
        let Phase::Open(open) = &state.phase else { return };
        let last = Arc::clone(&open.last);
        let head = state.queue.first().cloned().filter(|head| head.request.same_way(&last.request));
        match head {
            Some(head) if head.sleeps() => {
                drop(state);
                head.ticket.notify();
            }
            head => {
                let Some(open) = take_open(&mut state) else { return };
                drop(state);
                if head.is_none_or(|head| self.hand_off(&open.last, &head).is_none()) {
                    self.release_open(*open);
                }
            }
        }
    }

    /// Takes an open lock for the queue's head, which was notified. The head's ticket has the outcome.
    pub(super) fn take_open_as_head(self: &Arc<TargetQueue>, waiter: &Arc<Waiter>) {
        let mut state = self.state();
        if !state.queue.is_first(waiter) {
            // Another one came before it, and was not told.
            return self.offer_to_head(state);
        }
        let Some(open) = take_open(&mut state) else { return };
        drop(state);
        if self.hand_off(&open.last, waiter).is_none() {
            self.release_open(*open);
        }
    }

    /// Takes an open lock for a thread that has just come, past the queue's head. Returns `None` where the lock had
    /// lost a name; then it was released.
    pub(super) fn barge(
        self: &Arc<TargetQueue>,
        mut state: StateGuard<'_>,
        request: &Arc<Request>,
        requester: Option<RequesterId>,
    ) -> Option<Arc<FileTenure>> {
        let open = take_open(&mut state)?;
        state.barges += 1;
        drop(state);
        match open.last.hand_off(request) {
            Ok(HandOff::Done(grant)) => {
                let mut state = self.state();
                state.handoffs += 1;
                let paths = Arc::clone(&open.last.paths);
                let tenure = self.begin_tenure(&mut state, Arc::clone(request), grant, paths, requester);
                self.grant_compatible_waiters(&mut state);
                unlock_and_wake(state);
                Some(tenure)
            }
            Ok(HandOff::Lost(grant)) => {
                let _ = self.release_grant(&grant);
                None
            }
            Ok(HandOff::Refused) | Err(_) => {
                self.release_open(*open);
                None
            }
        }
    }

    /// Unlocks an open lock, as an ordinary release does. The tenure's own release has returned already, so an error is
    /// lost.
    fn release_open(self: &Arc<TargetQueue>, open: OpenLock) {
        let released = release::unlock(open.last.paths(), &open.last.grant, open.ended);
        let _ = self.finish_release(released, Phase::Idle);
    }
}

/// Takes an open lock out of the state, and sets the phase to `Working`: from here on it is the caller's to hand off.
fn take_open(state: &mut State) -> Option<Box<OpenLock>> {
    match std::mem::replace(&mut state.phase, Phase::Working) {
        Phase::Open(open) => Some(open),
        other => {
            state.phase = other;
            None
        }
    }
}
