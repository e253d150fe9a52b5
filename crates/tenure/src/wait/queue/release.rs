//! The end of a tenure: the lock is handed off to the next waiter of this process, or the kernel lock is released.

use std::sync::Arc;
use std::time::Duration;

use super::state::{Phase, State, StateGuard, TargetQueue, Waiter, unlock_and_wake};
use crate::file::acquire;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::Grant;
use crate::file::release::{self, HandOff};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::requester::RequesterId;
use crate::record::{Record, RecordState};
use crate::sys;
use crate::wait::tenure::{FileTenure, TenureOwner};
use crate::wait::{fd_cache, watchdog};

/// The number of times in a row that the lock is handed off within the process.
const MAX_HANDOFFS: u32 = 32;
/// The time for which the lock is handed off beyond that number.
const BURST: Duration = Duration::from_micros(500);
/// The number of those hand-offs that may go past the queue's head.
const MAX_BARGES: u32 = 8;

impl TenureOwner for TargetQueue {
    fn release(self: Arc<TargetQueue>, tenure: &Arc<FileTenure>) -> Result<()> {
        TargetQueue::release(&self, tenure)
    }

    fn revoke(self: Arc<TargetQueue>, tenure: &Arc<FileTenure>) -> Result<()> {
        let revoked = self.end_tenure(tenure, true);
        if tenure.request.options.history > 0 {
            tenure.shorten_history();
        }
        revoked
    }

    fn watch(self: Arc<TargetQueue>) {
        watchdog::queue_waits(&self);
    }
}

impl TargetQueue {
    /// Drops one guard of the tenure. The last one ends it.
    pub(crate) fn release(self: &Arc<TargetQueue>, tenure: &Arc<FileTenure>) -> Result<()> {
        let released = self.end_tenure(tenure, false);
        if tenure.request.options.history > 0 {
            tenure.shorten_history();
        }
        released
    }

    fn end_tenure(self: &Arc<TargetQueue>, tenure: &Arc<FileTenure>, revoked: bool) -> Result<()> {
        if tenure.generation != sys::fork_generation() {
            // A forked child: the lock is the parent's. Its descriptors are closed here already.
            return Err(Error::new(
                ErrorKind::Lost,
                &*self.target_path,
                "the lock is the parent's: this is a forked child",
            ));
        }
        let mut guard = self.state();
        let state = &mut *guard;
        if !revoked && !tenure.drop_guard() {
            return Ok(());
        }
        match &mut state.phase {
            Phase::Held(held) if Arc::ptr_eq(held, tenure) => {}
            Phase::Shared(sharers) if sharers.iter().any(|sharer| Arc::ptr_eq(sharer, tenure)) => {
                return self.end_share(guard, tenure, revoked);
            }
            // Revoked before, or detached by a new epoch: nothing of it is left to release.
            _ => return tenure.check(),
        }
        let last = std::mem::replace(&mut state.phase, Phase::Working);
        let may_hand_off = !revoked && may_hand_off(state, tenure);
        let next = state.queue.first().cloned().filter(|next| may_hand_off && next.request.same_way(&tenure.request));
        let may_open =
            state.barges < MAX_BARGES && tenure.requester.is_some_and(RequesterId::is_thread) && !tenure.request.bare();
        drop(guard);
        if tenure.request.options.history > 0 {
            tenure.enter_history(revoked);
        }
        let mut record = tenure.end(revoked);
        if revoked && let Some(native) = record.as_mut().and_then(|(record, _)| Arc::make_mut(record).native.as_mut()) {
            // The revoked holder may still be writing, so the next holder gets a crash report.
            native.state = RecordState::Aborted;
        }
        // Where tenures are suspended, the kernel and the record decide who is next.
        if let Some(next) = next.filter(|_| !names_suspended(&record)) {
            if may_open
                && next.sleeps()
                && !next.resumes()
                && !tenure.is_crash_unreported()
                && release::has_names(&tenure.grant)
            {
                self.leave_open(tenure, record);
                return Ok(());
            }
            if let Some(released) = self.hand_off(tenure, &next) {
                return released;
            }
        }
        let released = release::unlock(tenure.paths(), &tenure.grant, record);
        self.finish_release(released, last)
    }

    fn end_share(
        self: &Arc<TargetQueue>,
        mut state: StateGuard<'_>,
        tenure: &Arc<FileTenure>,
        revoked: bool,
    ) -> Result<()> {
        let Phase::Shared(sharers) = &mut state.phase else { return Ok(()) };
        sharers.retain(|sharer| !Arc::ptr_eq(sharer, tenure));
        let last = sharers.is_empty();
        let mut cached = CachedFiles::default();
        if last {
            state.phase = Phase::Working;
            cached = std::mem::take(&mut state.cached);
        }
        drop(state);
        if tenure.request.options.history > 0 {
            tenure.enter_history(revoked);
        }
        tenure.end(revoked);
        if !last {
            return Ok(());
        }
        let unlocked = release::unlock(tenure.paths(), &tenure.grant, None);
        acquire::unlock_all(&mut cached);
        if unlocked.is_err() {
            cached = CachedFiles::default();
        }
        let mut state = self.state();
        state.cached = cached;
        self.become_idle(state);
        unlocked
    }

    /// Hands the tenure's kernel lock and lock file to a waiter of this process. Returns `None` where they must be released in
    /// the ordinary way.
    pub(super) fn hand_off(
        self: &Arc<TargetQueue>,
        tenure: &Arc<FileTenure>,
        next: &Arc<Waiter>,
    ) -> Option<Result<()>> {
        match tenure.hand_off(&next.request).ok()? {
            HandOff::Refused => None,
            HandOff::Lost(grant) => Some(self.release_grant(&grant)),
            HandOff::Done(grant) => {
                let mut state = self.state();
                state.handoffs += 1;
                state.barges = 0;
                match self.deliver(&mut state, next, grant) {
                    None => {
                        self.grant_compatible_waiters(&mut state);
                        unlock_and_wake(state);
                    }
                    Some(grant) => {
                        drop(state);
                        // The waiter gave up meanwhile. The ending tenure was whole, so its release succeeds all the
                        // same.
                        let _ = self.release_grant(&grant);
                    }
                }
                Some(Ok(()))
            }
        }
    }

    /// Releases a grant that was never delivered.
    pub(super) fn release_grant(self: &Arc<TargetQueue>, grant: &Grant) -> Result<()> {
        let ended = grant.record.clone().map(|record| (record, grant.state_offset));
        let released = release::unlock(&self.paths(), grant, ended);
        self.finish_release(released, Phase::Idle)
    }

    /// Finishes a release whose system calls are done: no tenure of this process holds the lock. `last` is the phase
    /// before the release.
    pub(super) fn finish_release(self: &Arc<TargetQueue>, released: Result<()>, last: Phase) -> Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        if released.is_err() {
            // The guard's own descriptors are closed with it, which frees what could not be unlocked.
            state.cached = CachedFiles::default();
        } else if let Phase::Held(last) = last
            && state.queue.is_empty()
            && last.may_be_kept()
        {
            state.spare = Some(last);
        }
        self.become_idle(guard);
        released
    }

    #[inline(always)]
    fn become_idle(self: &Arc<TargetQueue>, mut guard: StateGuard<'_>) {
        let state = &mut *guard;
        (state.handoffs, state.barges) = (0, 0);
        state.set_phase(Phase::Idle);
        // The caller has the queue, so this is not its end.
        state.in_use = None;
        fd_cache::mark_used(self);
        self.ensure_helper(state);
        unlock_and_wake(guard);
    }
}

fn names_suspended(ended: &Option<(Arc<Record>, u64)>) -> bool {
    let native = ended.as_ref().and_then(|(record, _)| record.native.as_ref());
    native.is_some_and(|native| native.suspended.is_some())
}

/// Returns whether this process may keep the kernel lock for another of its waiters.
fn may_hand_off(state: &State, tenure: &FileTenure) -> bool {
    state.handoffs < MAX_HANDOFFS || sys::moment().since(tenure.grant.locked_since) < BURST
}
