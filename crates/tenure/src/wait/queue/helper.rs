//! The helper: one thread that waits in the kernel for the queue's head.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::direct_wait::{DirectWaiter, TimedOut, detach_helper};
use super::{Name, Phase, State, TargetQueue, WaitState, Waiting, wake};
use crate::file::acquire;
use crate::file::break_lock;
use crate::file::cached_files::CachedFiles;
use crate::file::lock_file::{self, Blocker};
use crate::file::release;
use crate::model::error::{Error, Result};
use crate::model::options::{Options, StalePolicy};
use crate::sys::{self, File, FileId, LockKind, Wakeup};
use crate::util::thread_pool;
use crate::util::trace::event;
use crate::wait::kernel_wait;
use crate::wait::{fd_cache, watchdog};

impl TargetQueue {
    /// A helper in a kernel queue can wait for one thing only. Where the queue's head has come to be another waiter
    /// that could be served without that, the helper is left behind. Where nobody is left, it stays in the kernel's queue
    /// for the next.
    pub(super) fn rematch_helper_to_head(self: &Arc<TargetQueue>, state: &mut State) {
        let Phase::Waiting(waiting) = &mut state.phase else { return };
        let (Some((_, name, kind)), Some(head)) = (waiting.queued_on, state.queue.first()) else { return };
        let other_kind = kind == LockKind::Exclusive && head.request.shared && name != Name::LockFile;
        if !other_kind && (name != Name::Target || head.request.flock()) {
            return;
        }
        // Its descriptors stay its own: a kernel lock that it gets on them goes when it closes them.
        state.kept = CachedFiles::default();
        detach_helper(state);
        state.phase = Phase::Waiting(Box::default());
        self.start_helper(state);
    }

    /// Starts a helper if somebody waits and nobody works for them.
    pub(super) fn ensure_helper(self: &Arc<TargetQueue>, state: &mut State) {
        if !matches!(state.phase, Phase::Idle) || state.queue.is_empty() {
            return;
        }
        state.phase = Phase::Waiting(Box::default());
        self.start_helper(state);
    }

    pub(super) fn start_helper(self: &Arc<TargetQueue>, state: &mut State) {
        let (queue, epoch) = (Arc::clone(self), state.epoch);
        let job = move || {
            let _ = queue.help(epoch, None);
        };
        if let Err(error) = thread_pool::run(job) {
            state.phase = Phase::Idle;
            let error = Error::io(&*self.target_path, "no thread could be started to wait for the lock", error);
            for waiter in state.queue.take() {
                waiter.resolve(WaitState::Failed(error.again()), &mut state.woken);
            }
        }
    }

    /// A helper's work: serves the queue until a tenure begins, nobody is left, or it is left behind itself. A thread
    /// that does so on its `direct` behalf stops where it is called back.
    pub(super) fn help(
        self: &Arc<TargetQueue>,
        epoch: u32,
        direct: Option<&DirectWaiter<'_>>,
    ) -> ControlFlow<TimedOut> {
        let mut end = ControlFlow::Continue(());
        loop {
            if let Some(direct) = direct.filter(|direct| direct.interrupt.is_interrupted()) {
                end = self.interrupted(direct);
            }
            let mut state = self.state();
            if state.epoch != epoch {
                return end;
            }
            let Some(head) = state.queue.first().cloned() else {
                let mut kept = std::mem::take(&mut state.kept);
                drop(state);
                acquire::release_all(&mut kept);
                let mut state = self.state();
                if state.epoch != epoch {
                    return end;
                }
                state.kept = kept;
                state.phase = Phase::Idle;
                fd_cache::used(self);
                self.ensure_helper(&mut state);
                wake(state);
                return end;
            };
            if direct.is_some_and(DirectWaiter::is_done) {
                waiting(&mut state).interrupt = None;
                self.start_helper(&mut state);
                wake(state);
                return end;
            }
            let (mut kept, mut time_slice) = (state.kept.clone(), state.time_slice.clone());
            drop(state);
            let helper =
                kernel_wait::KernelWaiter { queue: self, epoch, interrupt: direct.map(|direct| direct.interrupt) };
            let step = helper.step(&mut kept, &mut time_slice, &head.request);
            let mut state = self.state();
            if state.epoch != epoch {
                return end;
            }
            (state.kept, state.time_slice) = (kept, time_slice);
            match step {
                Ok(Some(grant)) => {
                    if let Some(grant) = self.deliver(&mut state, &head, grant) {
                        let mut kept = std::mem::take(&mut state.kept);
                        drop(state);
                        release::take_back(&self.paths(), &mut kept, grant);
                        let mut state = self.state();
                        if state.epoch == epoch {
                            state.kept = kept;
                        }
                    } else {
                        self.grant_compatible_waiters(&mut state);
                        wake(state);
                        return end;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    if head.resolve(WaitState::Failed(error), &mut state.woken) {
                        state.queue.left();
                    }
                    wake(state);
                }
            }
        }
    }

    /// Says what the helper of `epoch` is about to wait for; `false` if it was left behind.
    /// Or if nobody is left to wait for.
    pub(crate) fn begin_kernel_wait(
        self: &Arc<TargetQueue>,
        epoch: u32,
        kept: &CachedFiles,
        id: FileId,
        name: Name,
        kind: LockKind,
    ) -> bool {
        let mut state = self.state();
        if state.epoch != epoch || state.queue.is_empty() {
            return false;
        }
        state.kept = kept.clone();
        waiting(&mut state).queued_on = Some((id, name, kind));
        drop(state);
        watchdog::waiting(self);
        true
    }

    /// The helper of `epoch` is out of the kernel's queue. It looks again for whom it works: the head may have given up.
    /// `false` if it was left behind.
    pub(crate) fn end_kernel_wait(&self, epoch: u32) -> bool {
        let mut state = self.state();
        let present = state.epoch == epoch;
        if present {
            waiting(&mut state);
        }
        present
    }

    /// Is the helper of `epoch` not left behind?
    pub(crate) fn is_current(&self, epoch: u32) -> bool {
        self.state().epoch == epoch
    }

    /// Says that the helper of `epoch` waits for events, with a wake-up for when nobody is left in the queue. `false`
    /// if that is so already.
    pub(crate) fn begin_watch(&self, epoch: u32, kept: &CachedFiles, wakeup: &Arc<Wakeup>) -> bool {
        let mut state = self.state();
        if state.epoch != epoch || state.queue.is_empty() {
            return false;
        }
        state.kept = kept.clone();
        waiting(&mut state).wakeup = Some(Arc::clone(wakeup));
        true
    }

    /// The watchdog's look at a helper that is in a kernel queue: `false` once it no longer is.
    pub(crate) fn recheck(self: &Arc<TargetQueue>) -> bool {
        let (id, name, policy) = {
            let mut state = self.state();
            let Phase::Waiting(waiting) = &state.phase else { return false };
            let Some((id, name, _)) = waiting.queued_on else { return false };
            let policy = state.queue.first().map_or(StalePolicy::Proof, |head| head.request.options.stale_policy);
            (id, name, policy)
        };
        let paths = self.paths();
        if policy != StalePolicy::Proof && name == Name::Anchor {
            break_lock::steal(&paths, policy);
        }
        let path = match name {
            Name::Anchor => &paths.anchor,
            Name::LockFile => &paths.lock,
            Name::Target => &paths.target,
        };
        // An error is no proof that the path has changed.
        let Ok(found) = paths.dir.ident_at(path) else { return true };
        if found.map(|stat| stat.id) == Some(id) {
            return true;
        }
        let mut state = self.state();
        let same =
            matches!(&state.phase, Phase::Waiting(waiting) if waiting.queued_on.is_some_and(|(now, ..)| now == id));
        if same {
            event!(INFO, target = ?self.target_path, "the lock's file was replaced; waiting for the new one");
            detach_helper(&mut state);
            if name == Name::Anchor {
                state.kept.anchor = None;
                state.kept.locked = None;
            }
            if name == Name::Target {
                state.kept.target = None;
            }
            state.phase = Phase::Waiting(Box::default());
            self.start_helper(&mut state);
            wake(state);
        }
        true
    }
}

/// What the present helper waits for: nothing, until its caller says so.
fn waiting(state: &mut State) -> &mut Waiting {
    if !matches!(state.phase, Phase::Waiting(_)) {
        state.phase = Phase::Waiting(Box::default());
    }
    let Phase::Waiting(waiting) = &mut state.phase else { unreachable!("it was just set") };
    let interrupt = waiting.interrupt.take();
    **waiting = Waiting { interrupt, ..Waiting::default() };
    waiting
}

/// How long a foreign holder is waited for without a look, whatever its events say.
const SLOW_CHECK: Duration = Duration::from_secs(1);

/// Waits for a foreign holder's events. `file` is the lock file that was judged, if it is open. It is closed before the
/// wait: a process that has it open looks like its holder to others.
pub(crate) fn watch(
    queue: &TargetQueue,
    epoch: u32,
    kept: &CachedFiles,
    file: Option<File>,
    blocker: &Blocker,
    options: &Options,
) -> Result<()> {
    let paths = queue.paths();
    let failed = |error| Error::io(&paths.lock_path, "the lock file's holder cannot be waited for", error);
    let wakeup = Arc::new(Wakeup::new().map_err(failed)?);
    // Either may be missing (no inotify left, an unreadable file, a pid of another namespace): the slow check stays.
    let watch = file.as_ref().and_then(|file| sys::FileWatch::new(file).ok());
    drop(file);
    let process = blocker.holder.pid().and_then(|pid| sys::PidFd::open(pid).ok());
    if !queue.begin_watch(epoch, kept, &wakeup) {
        return Ok(());
    }
    // What happened before the watch began has no event: its end, or its process's.
    if !lock_file::still_blocks(&paths, blocker, options)? {
        return Ok(());
    }
    // One that has ended although its lock is alive (another has the file open) would wake us for ever.
    let process = process.filter(|process| !process.exited().unwrap_or(true));
    let timeout = blocker.again_after.map_or(SLOW_CHECK, |again| again.min(SLOW_CHECK));
    sys::wait_any(watch.as_ref(), process.as_ref(), &wakeup, timeout).map_err(failed)
}
