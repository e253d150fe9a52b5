//! The helper: one thread that waits in the kernel for the queue's head.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::direct_wait::{DirectWaiter, TimedOut, detach_helper};
use super::grant::unbegun;
use super::state::{
    HelperWait, KernelWait, Phase, State, StateGuard, TargetQueue, WaitEnd, WaitState, WaitedFile, Waiter,
    unlock_and_wake,
};
use crate::file::acquire;
use crate::file::break_lock;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::Grant;
use crate::file::release;
use crate::model::error::Error;
use crate::model::options::StalePolicy;
use crate::sys::{FileId, LockKind, Wakeup};
use crate::util::thread_pool;
use crate::util::trace::event;
use crate::wait::fd_cache;
use crate::wait::kernel_wait::{KernelWaiter, Waited};
use crate::wait::tenure::FileTenure;
use crate::wait::watchdog::{self, WatchedQueue};

impl TargetQueue {
    /// Replaces a helper that waits in the kernel's queue for something that the queue's head does not need: such a
    /// helper can wait for one file and one kind of lock only. Where no waiter is left, the helper stays in the
    /// kernel's queue for the next one.
    pub(super) fn rematch_helper_to_head(self: &Arc<TargetQueue>, state: &mut State) {
        let Phase::Waiting(waiting) = &mut state.phase else { return };
        let (Some(KernelWait { file, kind, .. }), Some(head)) = (waiting.kernel_wait, state.queue.first()) else {
            return;
        };
        let other_kind = kind == LockKind::Exclusive && head.request.shared && file != WaitedFile::LockFile;
        if !other_kind && (file != WaitedFile::Target || head.request.flock()) {
            return;
        }
        // The detached helper keeps its descriptors, and unlocks what it is granted.
        state.cached = CachedFiles::default();
        detach_helper(state);
        state.phase = Phase::Waiting(Box::default());
        self.start_helper(state);
    }

    /// Starts a helper if a waiter is queued and no thread works for the queue.
    #[inline]
    pub(super) fn ensure_helper(self: &Arc<TargetQueue>, state: &mut State) {
        if state.queue.is_empty() || !matches!(state.phase, Phase::Idle) {
            return;
        }
        state.phase = Phase::Waiting(Box::default());
        self.start_helper(state);
    }

    #[cold]
    pub(super) fn start_helper(self: &Arc<TargetQueue>, state: &mut State) {
        let (queue, epoch) = (Arc::clone(self), state.epoch);
        let job = move || {
            let _ = queue.help(epoch, None);
        };
        if let Err(error) = thread_pool::run(job) {
            state.phase = Phase::Idle;
            if let Some(anchor) = &state.cached.anchor {
                anchor.file.unmark();
            }
            let error = Error::io(&*self.target_path, "no thread could be started to wait for the lock", error);
            for waiter in state.queue.take() {
                waiter.resolve(WaitState::Failed(error.again()), &mut state.wakers);
            }
        }
    }

    /// Serves the queue as the helper of `epoch`, until a tenure begins, no waiter is left, or the helper is detached.
    /// A thread that serves on its own (`direct`) behalf stops where it is interrupted.
    pub(super) fn help(
        self: &Arc<TargetQueue>,
        epoch: u32,
        direct: Option<&DirectWaiter<'_>>,
    ) -> ControlFlow<TimedOut> {
        let mut end = ControlFlow::Continue(());
        // Whether a time slice begins with the grant.
        let mut begins_slice = false;
        // The tenure that the grant begins.
        let mut next_tenure = None;
        loop {
            if let Some(direct) = direct.filter(|direct| direct.interrupt.is_interrupted()) {
                end = self.interrupted(direct);
            }
            let mut state = self.state();
            if state.epoch != epoch {
                return end;
            }
            let Some(head) = state.queue.first().cloned() else {
                let mut cached = std::mem::take(&mut state.cached);
                drop(state);
                acquire::unlock_all(&mut cached);
                let mut state = self.state();
                if state.epoch != epoch {
                    return end;
                }
                state.cached = cached;
                state.phase = Phase::Idle;
                state.spare =
                    next_tenure.filter(|tenure: &Arc<FileTenure>| tenure.may_be_kept()).or(state.spare.take());
                fd_cache::mark_used(self);
                self.ensure_helper(&mut state);
                unlock_and_wake(state);
                return end;
            };
            if direct.is_some_and(DirectWaiter::is_done) {
                reset_wait(&mut state).interrupt = None;
                self.start_helper(&mut state);
                unlock_and_wake(state);
                return end;
            }
            let (mut cached, mut time_slice) = (state.cached.clone(), state.time_slice.clone());
            let mut giving_way = state.giving_way.clone();
            let mut tenure = next_tenure.take().unwrap_or_else(|| {
                let paths = state.cached.paths.clone().unwrap_or_else(|| self.paths());
                self.unused_tenure(state.spare.take(), &paths, &head.request)
            });
            drop(state);
            let waiter = KernelWaiter { queue: self, epoch, interrupt: direct.map(|direct| direct.interrupt) };
            let waited =
                waiter.wait_once(&mut cached, &mut time_slice, &mut giving_way, &head, &mut unbegun(&mut tenure).grant);
            let mut guard = self.state();
            let state = &mut *guard;
            if state.epoch != epoch {
                return end;
            }
            (state.cached, state.time_slice, state.giving_way) = (cached, time_slice, giving_way);
            match waited {
                Ok(Waited::Granted { waited_for }) => {
                    let Some(tenure) = self.deliver_begun(state, &head, tenure) else {
                        // Once the waiter has its grant, which it may take already.
                        if begins_slice || waited_for {
                            state.time_slice.begin();
                        }
                        self.grant_compatible_waiters(state);
                        unlock_and_wake(guard);
                        return end;
                    };
                    begins_slice |= waited_for;
                    next_tenure = Some(self.undo_delivery(guard, epoch, tenure));
                }
                Ok(Waited::Locked) => {
                    begins_slice = true;
                    next_tenure = Some(tenure);
                }
                Ok(Waited::Changed) => next_tenure = Some(tenure),
                Err(error) => {
                    next_tenure = Some(tenure);
                    if head.resolve(WaitState::Failed(error), &mut state.wakers) {
                        state.queue.left();
                    }
                    unlock_and_wake(guard);
                }
            }
        }
    }

    /// Undoes the grant of a tenure that has not begun, whose waiter has given up. Returns the tenure, for the next waiter.
    #[cold]
    fn undo_delivery(
        self: &Arc<TargetQueue>,
        mut state: StateGuard<'_>,
        epoch: u32,
        mut tenure: Arc<FileTenure>,
    ) -> Arc<FileTenure> {
        let mut cached = std::mem::take(&mut state.cached);
        drop(state);
        let grant = std::mem::replace(&mut unbegun(&mut tenure).grant, Grant::empty());
        release::undo_grant(&self.paths(), &mut cached, grant);
        let mut state = self.state();
        if state.epoch == epoch {
            state.cached = cached;
        }
        tenure
    }

    /// Records what the helper of `epoch` is about to wait for. Returns `false` if the helper was detached, or if no
    /// waiter is left.
    pub(crate) fn begin_kernel_wait(
        self: &Arc<TargetQueue>,
        epoch: u32,
        cached: &CachedFiles,
        id: FileId,
        file: WaitedFile,
        kind: LockKind,
    ) -> bool {
        let mut state = self.state();
        if state.epoch != epoch || state.queue.is_empty() {
            return false;
        }
        state.cached = cached.clone();
        reset_wait(&mut state).kernel_wait = Some(KernelWait { id, file, kind });
        drop(state);
        watchdog::queue_waits(self);
        true
    }

    /// Records that the helper of `epoch` has left the kernel's queue, where it waited for `waiter`. Where `locked` says that
    /// it has the kernel lock, the thread of the queue's head is woken: it wakes up while the helper makes the grant.
    pub(crate) fn end_kernel_wait(&self, epoch: u32, locked: &io::Result<bool>, waiter: &Arc<Waiter>) -> WaitEnd {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.epoch != epoch {
            return WaitEnd::Detached;
        }
        reset_wait(state);
        if state.queue.is_first(waiter) {
            drop(guard);
            if matches!(locked, Ok(true)) && waiter.sleeps() {
                waiter.ticket.alert();
            }
            return WaitEnd::SameHead;
        }
        if matches!(locked, Ok(true))
            && let Some(head) = state.queue.first().filter(|head| head.sleeps()).cloned()
        {
            drop(guard);
            head.ticket.alert();
        }
        WaitEnd::OtherHead
    }

    /// Records that the helper of `epoch` waits for events, with the way to wake it once no waiter is left. Returns
    /// `false` if the helper was detached, or if no waiter is left already.
    pub(crate) fn begin_watch(&self, epoch: u32, cached: &CachedFiles, wakeup: &Arc<Wakeup>) -> bool {
        let mut state = self.state();
        if state.epoch != epoch || state.queue.is_empty() {
            return false;
        }
        state.cached = cached.clone();
        reset_wait(&mut state).wakeup = Some(Arc::clone(wakeup));
        true
    }

    /// Returns whether the helper of `epoch` is the current one.
    pub(crate) fn is_current(&self, epoch: u32) -> bool {
        self.state().epoch == epoch
    }

    /// Compares the file that a helper waits for with the file's path, and replaces the helper where they differ.
    /// Returns `false` once no helper is in a kernel queue.
    pub(crate) fn recheck(self: &Arc<TargetQueue>) -> bool {
        let (KernelWait { id, file, .. }, policy) = {
            let Some(mut state) = self.known_state() else { return false };
            let Phase::Waiting(waiting) = &state.phase else { return false };
            let Some(wait) = waiting.kernel_wait else { return false };
            let policy = state.queue.first().map_or(StalePolicy::Proof, |head| head.request.options.stale_policy);
            (wait, policy)
        };
        let paths = self.paths();
        if policy != StalePolicy::Proof && file == WaitedFile::Anchor {
            break_lock::steal(&paths, policy);
        }
        let path = match file {
            WaitedFile::Anchor => &paths.anchor,
            WaitedFile::LockFile => &paths.lock,
            WaitedFile::Target => &paths.target,
        };
        // An error is no proof that the path has changed.
        let Ok(found) = paths.dir.ident_at(path) else { return true };
        if found.map(|stat| stat.id) == Some(id) {
            return true;
        }
        let mut state = self.state();
        let still_waits =
            matches!(&state.phase, Phase::Waiting(waiting) if waiting.kernel_wait.is_some_and(|wait| wait.id == id));
        if still_waits {
            event!(INFO, target = ?self.target_path, "the lock's file was replaced; waiting for the new one");
            detach_helper(&mut state);
            if file == WaitedFile::Anchor {
                state.cached.anchor = None;
                state.cached.locked = None;
            }
            if file == WaitedFile::Target {
                state.cached.target = None;
            }
            state.phase = Phase::Waiting(Box::default());
            self.start_helper(&mut state);
            unlock_and_wake(state);
        }
        true
    }
}

impl WatchedQueue for TargetQueue {
    fn is_listed(&self) -> &AtomicBool {
        &self.in_watchdog
    }

    fn tenures(&self) -> Vec<Arc<FileTenure>> {
        let Some(state) = self.known_state() else { return Vec::new() };
        match &state.phase {
            Phase::Held(tenure) => vec![Arc::clone(tenure)],
            Phase::Shared(sharers) => sharers.clone(),
            _ => Vec::new(),
        }
    }

    fn recheck(self: Arc<TargetQueue>) -> bool {
        TargetQueue::recheck(&self)
    }
}

/// Returns the current helper's wait, reset: until its caller says so, the helper waits for nothing.
fn reset_wait(state: &mut State) -> &mut HelperWait {
    if !matches!(state.phase, Phase::Waiting(_)) {
        state.phase = Phase::Waiting(Box::default());
    }
    let Phase::Waiting(waiting) = &mut state.phase else { unreachable!("it was just set") };
    waiting.kernel_wait = None;
    if waiting.wakeup.is_some() {
        waiting.wakeup = None;
    }
    waiting
}
