//! Released, and open to the threads of this process: whoever of them runs takes it, without a wake-up in between.

use std::sync::{Arc, MutexGuard};
use std::thread::ThreadId;

use super::{Phase, State, TargetQueue, Waiter, wake};
use crate::file::release::{self, Passed};
use crate::model::request::Request;
use crate::record::Record;
use crate::wait::tenure::FileTenure;

/// Nobody holds it, but all that the last tenure had is ours still, and may be passed on. The queue's first was told.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) last: Arc<FileTenure>,
    /// What its release works with, if nobody takes it.
    ended: Option<(Record, u64)>,
}

impl TargetQueue {
    /// Opens what a tenure had, which has ended. The phase is `Working`.
    pub(super) fn open(self: &Arc<TargetQueue>, tenure: &Arc<FileTenure>, ended: Option<(Record, u64)>) {
        let mut state = self.state();
        state.phase = Phase::Open(Box::new(Open { last: Arc::clone(tenure), ended }));
        self.offer(state);
    }

    /// Tells the queue's first that it is open, or lets go where there is none that can take it.
    pub(super) fn offer(self: &Arc<TargetQueue>, mut state: MutexGuard<'_, State>) {
        let Phase::Open(open) = &state.phase else { return };
        let last = Arc::clone(&open.last);
        let first = state.queue.first().cloned().filter(|first| first.request.same_way(&last.request));
        match first {
            Some(first) if first.sleeps() => {
                drop(state);
                first.ticket.notify();
            }
            first => {
                let Some(open) = working(&mut state) else { return };
                drop(state);
                if first.is_none_or(|first| self.pass(&open.last, &first).is_none()) {
                    self.close(*open);
                }
            }
        }
    }

    /// The queue's first was told, and takes what is open, if it is still. What it gets, or whatever else comes of it,
    /// its turn tells.
    pub(super) fn take_first(self: &Arc<TargetQueue>, waiter: &Arc<Waiter>) {
        let mut state = self.state();
        if !state.queue.first().is_some_and(|first| Arc::ptr_eq(first, waiter)) {
            return;
        }
        let Some(open) = working(&mut state) else { return };
        drop(state);
        if self.pass(&open.last, waiter).is_none() {
            self.close(*open);
        }
    }

    /// A thread that has just come takes what is open. `None` where it is no longer whole; then it has been let go.
    pub(super) fn take(
        self: &Arc<TargetQueue>,
        mut state: MutexGuard<'_, State>,
        request: &Arc<Request>,
        thread: Option<ThreadId>,
    ) -> Option<Arc<FileTenure>> {
        let open = working(&mut state)?;
        state.run += 1;
        drop(state);
        match open.last.pass_on(request) {
            Ok(Passed::On(grant)) => {
                let mut state = self.state();
                state.passes += 1;
                let paths = Arc::clone(&open.last.paths);
                let tenure = self.begin(&mut state, Arc::clone(request), grant, paths, thread);
                self.grant_compatible_waiters(&mut state);
                wake(state);
                Some(tenure)
            }
            Ok(Passed::Lost(grant)) => {
                let _ = self.let_go(&grant);
                None
            }
            Ok(Passed::No) | Err(_) => {
                self.close(*open);
                None
            }
        }
    }

    /// Lets go of what was open, in the ordinary way. Its release has said already how it ended.
    fn close(self: &Arc<TargetQueue>, open: Open) {
        let released = release::unlock(open.last.paths(), &open.last.grant, open.ended);
        let _ = self.freed(released);
    }
}

/// Where it is open, the caller works with it from here on.
fn working(state: &mut State) -> Option<Box<Open>> {
    match std::mem::replace(&mut state.phase, Phase::Working) {
        Phase::Open(open) => Some(open),
        other => {
            state.phase = other;
            None
        }
    }
}
