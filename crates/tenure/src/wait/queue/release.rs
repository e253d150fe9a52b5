//! The end of a tenure: it passes to the next of this process, or the kernel lock is let go.

use std::sync::{Arc, MutexGuard};

use super::{BURST, MAX_BARGES, MAX_PASSES, Phase, State, TargetQueue, Waiter, wake};
use crate::file::acquire;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::Grant;
use crate::file::release::{self, Passed};
use crate::model::error::{Error, ErrorKind, Result};
use crate::record::RecordState;
use crate::sys;
use crate::wait::tenure::FileTenure;
use crate::wait::{fd_cache, watchdog};

impl TargetQueue {
    /// One guard of the tenure is gone.
    pub(crate) fn release(self: &Arc<TargetQueue>, tenure: &Arc<FileTenure>) -> Result<()> {
        self.finish(tenure, false)
    }

    /// The watchdog ends it.
    pub(crate) fn revoke(self: &Arc<TargetQueue>, tenure: &Arc<FileTenure>) -> Result<()> {
        self.finish(tenure, true)
    }

    fn finish(self: &Arc<TargetQueue>, tenure: &Arc<FileTenure>, revoked: bool) -> Result<()> {
        if tenure.generation != sys::fork_generation() {
            // A forked child: the lock is the parent's. Its descriptors are closed here already.
            return Err(Error::new(
                ErrorKind::Lost,
                &*self.target_path,
                "the lock is the parent's: this is a forked child",
            ));
        }
        let mut state = self.state();
        if !revoked && !tenure.leave() {
            return Ok(());
        }
        match &mut state.phase {
            Phase::Held(held) if Arc::ptr_eq(held, tenure) => {}
            Phase::Shared(sharers) if sharers.iter().any(|sharer| Arc::ptr_eq(sharer, tenure)) => {
                sharers.retain(|sharer| !Arc::ptr_eq(sharer, tenure));
                let last = sharers.is_empty();
                let mut kept = CachedFiles::default();
                if last {
                    state.phase = Phase::Working;
                    kept = std::mem::take(&mut state.kept);
                }
                drop(state);
                watchdog::ended(tenure);
                tenure.end(revoked);
                if !last {
                    return Ok(());
                }
                let unlocked = release::unlock(tenure.paths(), &tenure.grant, None);
                acquire::release_all(&mut kept);
                if unlocked.is_err() {
                    kept = CachedFiles::default();
                }
                self.idle(kept);
                return unlocked;
            }
            // Revoked before, or taken over by a new epoch: nothing of it is left to release.
            _ => return tenure.check(),
        }
        state.phase = Phase::Working;
        let may_pass = !revoked && may_pass(&mut state, tenure);
        let next = state.queue.first().cloned().filter(|next| may_pass && next.request.same_way(&tenure.request));
        let opens = state.run < MAX_BARGES && tenure.thread.is_some() && !tenure.request.bare();
        drop(state);
        watchdog::ended(tenure);
        let mut record = tenure.end(revoked);
        if revoked && let Some(native) = record.as_mut().and_then(|(record, _)| record.native.as_mut()) {
            // Its holder may still be writing: the next one hears of that as of a crash.
            native.state = RecordState::Aborted;
        }
        if let Some(next) = next {
            if opens && next.sleeps() && !tenure.is_unreported() && release::has_names(&tenure.grant) {
                self.open(tenure, record);
                return Ok(());
            }
            if let Some(released) = self.pass(tenure, &next) {
                return released;
            }
        }
        let released = release::unlock(tenure.paths(), &tenure.grant, record);
        self.freed(released)
    }

    fn idle(self: &Arc<TargetQueue>, kept: CachedFiles) {
        let mut state = self.state();
        state.kept = kept;
        self.is_idle(state);
    }

    /// Passes the tenure's kernel lock, and its place in the folder, on to a waiter of this process. `None`: they are to
    /// be released in the ordinary way.
    pub(super) fn pass(self: &Arc<TargetQueue>, tenure: &Arc<FileTenure>, next: &Arc<Waiter>) -> Option<Result<()>> {
        match tenure.pass_on(&next.request).ok()? {
            Passed::No => None,
            Passed::Lost(grant) => Some(self.let_go(&grant)),
            Passed::On(grant) => {
                let mut state = self.state();
                state.passes += 1;
                state.run = 0;
                match self.deliver(&mut state, next, grant) {
                    None => {
                        self.grant_compatible_waiters(&mut state);
                        wake(state);
                    }
                    Some(grant) => {
                        drop(state);
                        // It gave up meanwhile. The tenure that ends here was whole.
                        let _ = self.let_go(&grant);
                    }
                }
                Some(Ok(()))
            }
        }
    }

    /// Releases a grant that nobody has.
    pub(super) fn let_go(self: &Arc<TargetQueue>, grant: &Grant) -> Result<()> {
        let ended = grant.record.clone().map(|record| (record, grant.state_offset));
        let released = release::unlock(&self.paths(), grant, ended);
        self.freed(released)
    }

    /// After a release's system calls: nobody has the lock here.
    pub(super) fn freed(self: &Arc<TargetQueue>, released: Result<()>) -> Result<()> {
        let mut state = self.state();
        if released.is_err() {
            // The guard's own descriptors are closed with it: that frees what could not be unlocked.
            state.kept = CachedFiles::default();
        }
        self.is_idle(state);
        released
    }

    /// The kernel's lock is free again.
    fn is_idle(self: &Arc<TargetQueue>, mut state: MutexGuard<'_, State>) {
        (state.passes, state.run, state.since) = (0, 0, None);
        state.phase = Phase::Idle;
        fd_cache::used(self);
        self.ensure_helper(&mut state);
        wake(state);
    }
}

/// May this process keep the kernel lock for another of its waiters?
fn may_pass(state: &mut State, tenure: &FileTenure) -> bool {
    let since = *state.since.get_or_insert(tenure.began);
    state.passes < MAX_PASSES || since.elapsed() < BURST
}
