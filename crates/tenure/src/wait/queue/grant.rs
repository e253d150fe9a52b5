//! A grant becomes a tenure of this process.

use std::sync::Arc;
use std::thread::ThreadId;

use super::state::{Phase, State, TargetQueue, WaitState, Waiter};
use crate::file::grant::Grant;
use crate::file::lock_file::LockFile;
use crate::file::paths::LockPaths;
use crate::model::request::Request;
use crate::util::trace::event;
use crate::wait::tenure::{FileTenure, TenureOwner};
use crate::wait::watchdog;

impl TargetQueue {
    /// Begins a tenure with `grant`.
    pub(super) fn begin_tenure(
        self: &Arc<TargetQueue>,
        state: &mut State,
        request: Arc<Request>,
        grant: Grant,
        paths: Arc<LockPaths>,
        thread: Option<ThreadId>,
    ) -> Arc<FileTenure> {
        let shared = request.shared;
        let owner: Arc<dyn TenureOwner> = Arc::<TargetQueue>::clone(self);
        let tenure = FileTenure::new(owner, paths, request, grant, thread);
        match &mut state.phase {
            Phase::Shared(sharers) if shared => sharers.push(Arc::clone(&tenure)),
            phase if shared => *phase = Phase::Shared(vec![Arc::clone(&tenure)]),
            phase => *phase = Phase::Held(Arc::clone(&tenure)),
        }
        event!(DEBUG, target = ?self.target_path, fence = tenure.fence, "granted");
        watchdog::tenure_began(self, &tenure);
        tenure
    }

    /// Delivers a grant to the waiter it was made for. Returns the grant if that waiter has given up.
    pub(super) fn deliver(
        self: &Arc<TargetQueue>,
        state: &mut State,
        waiter: &Arc<Waiter>,
        grant: Grant,
    ) -> Option<Grant> {
        // A waiter takes the queue's mutex to give up, which this thread holds: a queued waiter stays queued until it
        // is resolved below.
        if !waiter.ticket.is_queued() {
            return Some(grant);
        }
        state.cached.locked = None;
        let paths = Arc::clone(state.cached.paths.get_or_insert_with(|| self.paths()));
        let tenure = self.begin_tenure(state, Arc::clone(&waiter.request), grant, paths, waiter.thread);
        let resolved = waiter.resolve(WaitState::Granted(tenure), &mut state.wakers);
        debug_assert!(resolved, "a waiter left the queue without its mutex");
        state.queue.left();
        None
    }

    /// Grants the waiters that queued before the present grant and would be granted at once if they came now: those at
    /// the queue's front that want a share of a shared lock, and, anywhere in the queue, those that may reenter a
    /// reentrant tenure.
    pub(super) fn grant_compatible_waiters(self: &Arc<TargetQueue>, state: &mut State) {
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
    }
}

/// Returns whether `request` may reenter `tenure`.
pub(super) fn can_reenter(tenure: &FileTenure, request: &Request) -> bool {
    !request.shared && request.options.reentrant && tenure.request.options.reentrant && tenure.is_held()
}
