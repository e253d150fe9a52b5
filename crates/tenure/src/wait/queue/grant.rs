//! A grant becomes a tenure of this process.

use std::sync::Arc;

use super::state::{Phase, State, TargetQueue, WaitState, Waiter};
use crate::file::grant::Grant;
use crate::file::lock_file::LockFile;
use crate::file::paths::LockPaths;
use crate::model::request::Request;
use crate::model::requester::RequesterId;
use crate::sys;
use crate::util::trace::event;
use crate::wait::tenure::FileTenure;
use crate::wait::watchdog;

impl TargetQueue {
    /// Begins a tenure with `grant`.
    pub(super) fn begin_tenure(
        self: &Arc<TargetQueue>,
        state: &mut State,
        request: Arc<Request>,
        grant: Grant,
        paths: Arc<LockPaths>,
        requester: Option<RequesterId>,
    ) -> Arc<FileTenure> {
        let mut tenure = self.unused_tenure(state.spare.take(), &paths, &request);
        let unused = unbegun(&mut tenure);
        unused.grant = grant;
        unused.begin(paths, request, requester);
        self.enter_tenure(state, &tenure);
        tenure
    }

    /// Returns a tenure that has not begun, and that no other part of the process has: the spare one where that is so, or
    /// else a new one.
    #[inline]
    pub(super) fn unused_tenure(
        self: &Arc<TargetQueue>,
        spare: Option<Arc<FileTenure>>,
        paths: &Arc<LockPaths>,
        request: &Arc<Request>,
    ) -> Arc<FileTenure> {
        if let Some(mut spare) = spare
            && spare.reuse().is_some()
        {
            return spare;
        }
        FileTenure::unused(self, paths, request)
    }

    /// Enters a tenure that has begun into the state.
    #[inline(always)]
    pub(super) fn enter_tenure(self: &Arc<TargetQueue>, state: &mut State, tenure: &Arc<FileTenure>) {
        let shared = tenure.request.shared;
        match &mut state.phase {
            Phase::Shared(sharers) if shared => sharers.push(Arc::clone(tenure)),
            phase if shared => *phase = Phase::Shared(vec![Arc::clone(tenure)]),
            _ => state.set_phase(Phase::Held(Arc::clone(tenure))),
        }
        state.in_use.get_or_insert_with(|| Arc::clone(self));
        event!(DEBUG, target = ?self.target_path, fence = tenure.fence, "granted");
        watchdog::tenure_began(self, tenure);
    }

    /// Delivers a grant to the waiter it was made for. Returns the grant if that waiter has given up.
    pub(super) fn deliver(
        self: &Arc<TargetQueue>,
        state: &mut State,
        waiter: &Arc<Waiter>,
        grant: Grant,
    ) -> Option<Grant> {
        let paths = Arc::clone(state.cached.paths.get_or_insert_with(|| self.paths()));
        let mut tenure = self.unused_tenure(state.spare.take(), &paths, &waiter.request);
        unbegun(&mut tenure).grant = grant;
        let mut returned = self.deliver_begun(state, waiter, tenure)?;
        let grant = std::mem::replace(&mut unbegun(&mut returned).grant, Grant::empty());
        state.spare = Some(returned).filter(|tenure| tenure.may_be_kept());
        Some(grant)
    }

    /// As [`deliver`](TargetQueue::deliver), of a tenure that has not begun, and whose grant was filled in.
    #[inline(always)]
    pub(super) fn deliver_begun(
        self: &Arc<TargetQueue>,
        state: &mut State,
        waiter: &Arc<Waiter>,
        mut tenure: Arc<FileTenure>,
    ) -> Option<Arc<FileTenure>> {
        // A waiter takes the queue's mutex to give up, which this thread holds: a queued waiter stays queued until it
        // is resolved below.
        if !waiter.ticket.is_queued() {
            return Some(tenure);
        }
        state.cached.locked = None;
        let paths = Arc::clone(state.cached.paths.get_or_insert_with(|| self.paths()));
        unbegun(&mut tenure).begin(paths, Arc::clone(&waiter.request), waiter.requester);
        if waiter.request.options.history > 0 {
            tenure.note_wait(waiter.since);
        }
        self.enter_tenure(state, &tenure);
        let resolved = waiter.resolve(WaitState::Granted(tenure), &mut state.wakers);
        debug_assert!(resolved, "a waiter left the queue without its mutex");
        state.queue.left();
        None
    }

    /// Grants the waiters that queued before the present grant and would be granted at once if they came now: those at
    /// the queue's front that want a share of a shared lock, and, anywhere in the queue, those that may reenter a
    /// reentrant tenure.
    #[inline]
    pub(super) fn grant_compatible_waiters(self: &Arc<TargetQueue>, state: &mut State) {
        if !state.queue.is_empty() {
            self.grant_each_compatible_waiter(state);
        }
    }

    #[cold]
    fn grant_each_compatible_waiter(self: &Arc<TargetQueue>, state: &mut State) {
        if let Phase::Held(tenure) = &state.phase
            && tenure.request.options.reentrant
        {
            let tenure = Arc::clone(tenure);
            for waiter in state.queue.all() {
                if !can_reenter(&tenure, &waiter.request) {
                    continue;
                }
                tenure.add_guard();
                let resolved = waiter.resolve(WaitState::Granted(Arc::clone(&tenure)), &mut state.wakers);
                debug_assert!(resolved, "a waiter left the queue without its mutex");
                state.queue.left();
            }
        }
        while let Phase::Shared(sharers) = &state.phase
            && let Some(first) = sharers.first()
            && let Some(head) = state.queue.first().cloned()
            && head.request.shared
        {
            let grant = share_grant(&first.grant);
            let returned = self.deliver(state, &head, grant);
            debug_assert!(returned.is_none(), "the queue's head waits");
        }
    }
}

/// Returns a tenure that has not begun, to be filled in.
#[inline]
pub(super) fn unbegun(tenure: &mut Arc<FileTenure>) -> &mut FileTenure {
    Arc::get_mut(tenure).expect("no other part of the process has a tenure that has not begun")
}

/// Returns the grant of a further share of a lock that this process shares already.
pub(super) fn share_grant(first: &Grant) -> Grant {
    Grant {
        anchor: first.anchor.clone(),
        target: first.target.clone(),
        lock_file: LockFile::Hidden,
        previous: first.previous.clone(),
        record: None,
        state_offset: 0,
        live_file_at_swap: false,
        checked_at: first.checked_at,
        began: sys::moment(),
        locked_since: first.locked_since,
    }
}

/// Returns whether `request` may reenter `tenure`.
pub(super) fn can_reenter(tenure: &FileTenure, request: &Request) -> bool {
    !request.shared && request.options.reentrant && tenure.request.options.reentrant && tenure.is_held()
}
