//! The state of a target's queue.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;

use crate::file::cached_files::CachedFiles;
use crate::file::paths::{LockPaths, ParentDir};
use crate::model::error::{Error, Result};
use crate::model::request::Request;
use crate::model::requester::RequesterId;
use crate::record::Record;
use crate::sys::{self, FileId, InterruptHandle, LockKind, Moment, Wakeup};
use crate::util::ticket::{self, Ticket};
use crate::util::wait_queue::{WaitQueue, Waits};
use crate::wait::fairness::TimeSlice;
use crate::wait::fd_cache::{CachesFiles, Recency};
use crate::wait::tenure::FileTenure;
use crate::wait::yielding::GivingWay;

/// The queue of one target in this process.
///
/// A process may have very many of them, most of them unused for long. What a queue needs only while it is used is
/// created on demand ([`TargetQueue::paths`], [`TargetQueue::state`]) and dropped by the
/// [descriptor cache](crate::wait::fd_cache).
#[derive(Debug)]
pub(crate) struct TargetQueue {
    pub(crate) folder: Arc<ParentDir>,
    /// The target's path as the first caller named it.
    pub(crate) target_path: Box<Path>,
    /// Whether this is a bare kernel lock, without a record.
    pub(crate) bare: bool,
    /// The low half of the fork generation.
    generation: u32,
    paths: Mutex<Weak<LockPaths>>,
    /// `None` until the first use, and again after a long time without one: an idle queue of the first epoch.
    state: Mutex<Option<Box<State>>>,
    /// Whether the queue is in the watchdog's list.
    pub(super) in_watchdog: AtomicBool,
    recency: Recency,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) queue: WaitQueue<Waiter>,
    /// The number of the current helper. It grows when a helper is detached.
    pub(super) epoch: u32,
    /// How many times in a row the grant was handed off within the process.
    pub(super) handoffs: u32,
    /// How many of the hand-offs went past the queue's head, since the last one to the head.
    pub(super) barges: u32,
    pub(super) cached: CachedFiles,
    pub(super) time_slice: TimeSlice,
    pub(super) giving_way: GivingWay,
    /// A tenure that is over, whose allocation serves the next one. It has the files of `cached` only while the phase is
    /// `Idle`, until the next attempt.
    pub(super) spare: Option<Arc<FileTenure>>,
    /// The queue itself, while a tenure of it lasts: its guard may be all that is left of the lock.
    pub(super) in_use: Option<Arc<TargetQueue>>,
    /// The wakers of resolved waiters. They are woken once the mutex is free, because a waker may poll at once.
    pub(super) wakers: Vec<Waker>,
}

impl State {
    /// Returns the state of an idle queue.
    fn idle() -> State {
        State {
            phase: Phase::Idle,
            queue: WaitQueue::new(),
            epoch: 0,
            handoffs: 0,
            barges: 0,
            cached: CachedFiles::default(),
            time_slice: TimeSlice::default(),
            giving_way: GivingWay::default(),
            spare: None,
            in_use: None,
            wakers: Vec::new(),
        }
    }

    /// Returns whether no thread holds the lock, works for it or waits for it.
    pub(super) fn is_idle(&mut self) -> bool {
        matches!(self.phase, Phase::Idle) && self.queue.is_empty()
    }

    /// Sets the phase. Most phases before it own nothing, and need no destructor.
    #[inline]
    pub(super) fn set_phase(&mut self, phase: Phase) {
        match std::mem::replace(&mut self.phase, phase) {
            owner @ (Phase::Waiting(_) | Phase::Held(_) | Phase::Shared(_) | Phase::Open(_)) => drop(owner),
            nothing @ (Phase::Idle | Phase::Working) => std::mem::forget(nothing),
        }
    }
}

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    Working,
    Waiting(Box<HelperWait>),
    Held(Arc<FileTenure>),
    Shared(Vec<Arc<FileTenure>>),
    Open(Box<OpenLock>),
}

/// How the current helper waits.
#[derive(Debug, Default)]
pub(super) struct HelperWait {
    /// The way to interrupt a helper that is a waiting thread itself.
    pub(super) interrupt: Option<Arc<InterruptHandle>>,
    /// The way to wake a helper that waits for events.
    pub(super) wakeup: Option<Arc<Wakeup>>,
    pub(super) kernel_wait: Option<KernelWait>,
}

/// A wait in the kernel's queue of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelWait {
    pub(super) id: FileId,
    pub(super) file: WaitedFile,
    pub(super) kind: LockKind,
}

/// The name by which a helper opened the file that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitedFile {
    Anchor,
    LockFile,
    Target,
}

/// The state of a queue at the end of its helper's wait in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// The helper was detached.
    Detached,
    /// The waiter that the helper waited for is still the queue's head.
    SameHead,
    /// Another waiter is the queue's head, or none.
    OtherHead,
}

/// A lock that was released but not unlocked. The next tenure of this process may take over all that the last one had;
/// the queue's head was notified.
#[derive(Debug)]
pub(super) struct OpenLock {
    pub(super) last: Arc<FileTenure>,
    /// The record and its state's offset, for the release if no thread takes the lock.
    pub(super) ended: Option<(Arc<Record>, u64)>,
}

/// One acquire in the queue.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(super) request: Arc<Request>,
    pub(crate) requester: Option<RequesterId>,
    /// When the wait began, where a history is kept.
    pub(super) since: Moment,
    pub(super) ticket: Ticket<Arc<FileTenure>, Error>,
    /// Whether a thread sleeps for this waiter and can be notified. Otherwise a future is polled for it.
    sleeps: AtomicBool,
}

pub(super) type WaitState = ticket::WaitState<Arc<FileTenure>, Error>;

impl Waits for Waiter {
    fn waits(&self) -> bool {
        self.ticket.is_queued()
    }
}

impl Waiter {
    pub(super) fn new(request: Arc<Request>, requester: Option<RequesterId>) -> Arc<Waiter> {
        let since = if request.options.history > 0 { sys::moment() } else { Moment::default() };
        Arc::new(Waiter { request, requester, since, ticket: Ticket::new(), sleeps: AtomicBool::new(false) })
    }

    /// Returns whether this acquire resumes a suspended tenure, and so goes before others.
    pub(super) fn resumes(&self) -> bool {
        self.request.resumes.is_some()
    }

    /// Returns whether this acquire goes before `other`, which came earlier or later.
    pub(super) fn goes_before(&self, other: &Waiter) -> bool {
        let fence = |waiter: &Waiter| waiter.request.resumes.as_ref().map(|resumes| resumes.fence);
        fence(self).is_some_and(|own| fence(other).is_none_or(|other| own < other))
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    pub(super) fn set_sleeps(&self) {
        self.sleeps.store(true, Ordering::Relaxed);
    }

    pub(super) fn sleeps(&self) -> bool {
        self.sleeps.load(Ordering::Relaxed)
    }

    /// Delivers an outcome, and puts the waker to wake into `wakers`. Returns `false` if the waiter has given up.
    #[inline]
    pub(super) fn resolve(&self, outcome: WaitState, wakers: &mut Vec<Waker>) -> bool {
        self.ticket.resolve(outcome, wakers)
    }
}

#[inline]
fn generation() -> u32 {
    sys::fork_generation() as u32
}

impl TargetQueue {
    pub(crate) fn new(folder: Arc<ParentDir>, target_path: &Path, bare: bool) -> Arc<TargetQueue> {
        Arc::new(TargetQueue {
            target_path: target_path.into(),
            folder,
            bare,
            generation: generation(),
            paths: Mutex::new(Weak::new()),
            state: Mutex::new(None),
            in_watchdog: AtomicBool::new(false),
            recency: Recency::default(),
        })
    }

    /// Returns whether the queue is this process's, and not its parent's.
    #[inline]
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.generation == generation()
    }

    /// Returns the paths, created again where they are not in use. It takes a mutex of its own, so it may be called
    /// with the state locked.
    pub(crate) fn paths(&self) -> Arc<LockPaths> {
        let mut known = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(paths) = known.upgrade() {
            return paths;
        }
        let name = self.target_path.file_name().unwrap_or_default();
        let paths = LockPaths::within(&self.folder, self.target_path.to_path_buf(), name);
        let paths = Arc::new(paths.expect("a name that was a target's is one"));
        *known = Arc::downgrade(&paths);
        paths
    }

    /// Locks the state, made where there is none.
    #[inline]
    pub(super) fn state(&self) -> StateGuard<'_> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            make(&mut guard);
        }
        StateGuard(guard)
    }

    /// Locks the state, for a look at it. `None`: the queue is idle, and has been unused for long.
    pub(super) fn known_state(&self) -> Option<StateGuard<'_>> {
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        guard.is_some().then(|| StateGuard(guard))
    }

    /// Takes the cached files out of the state, with the paths.
    pub(super) fn take_cached(&self, state: &mut State) -> (CachedFiles, Arc<LockPaths>) {
        let mut cached = std::mem::take(&mut state.cached);
        let paths = Arc::clone(cached.paths.get_or_insert_with(|| self.paths()));
        (cached, paths)
    }

    /// Returns the outcome of a queued acquire, if there is one. Otherwise `waker` is woken when there is one.
    pub(crate) fn poll(waiter: &Waiter, waker: &Waker) -> Option<Result<Arc<FileTenure>>> {
        waiter.ticket.poll(waker)
    }

    /// Returns the error of an acquire that found the lock held, with the holder.
    pub(crate) fn busy(&self) -> Error {
        let own = self.known_state().and_then(|state| match &state.phase {
            Phase::Held(tenure) => Some(Arc::clone(tenure)),
            Phase::Shared(sharers) => sharers.first().map(Arc::clone),
            _ => None,
        });
        let paths = self.paths();
        match own {
            Some(tenure) => Error::busy_with(&self.target_path, &paths.lock_path, Some(tenure.holder())),
            None => crate::file::status::busy(&paths),
        }
    }
}

impl CachesFiles for TargetQueue {
    fn recency(&self) -> &Recency {
        &self.recency
    }

    fn shrink_cached(&self) {
        self.drop_if_idle(|known| {
            let state = known.as_mut()?;
            let anchor = state.cached.anchor.take().inspect(|anchor| anchor.drop_kept());
            let (epoch, time_slice) = (state.epoch, state.time_slice.clone());
            let shrunk =
                State { epoch, time_slice, cached: CachedFiles { anchor, ..CachedFiles::default() }, ..State::idle() };
            // In the same allocation.
            Some(Dropped::Parts(std::mem::replace(&mut **state, shrunk)))
        });
    }

    fn drop_cached(&self) {
        self.drop_if_idle(|known| match known {
            // A helper of an earlier epoch may still wait in the kernel, so the epoch is not forgotten.
            Some(state) if state.epoch != 0 => {
                let epoch = state.epoch;
                Some(Dropped::Parts(std::mem::replace(&mut **state, State { epoch, ..State::idle() })))
            }
            known => known.take().map(Dropped::Whole),
        });
    }
}

/// What an idle queue drops, once its mutex is free.
#[allow(dead_code, reason = "it is only dropped")]
enum Dropped {
    Parts(State),
    Whole(Box<State>),
}

impl TargetQueue {
    /// Drops the part of the state that `take` takes, and all else that only a queue in use needs, if this one is not in
    /// use.
    fn drop_if_idle(&self, take: impl FnOnce(&mut Option<Box<State>>) -> Option<Dropped>) {
        let Ok(mut known) = self.state.try_lock() else { return };
        if known.as_mut().is_none_or(|state| state.is_idle()) {
            let dropped = take(&mut known);
            drop(known);
            drop(dropped);
            *self.paths.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
        }
    }
}

/// The locked state of a queue.
pub(super) struct StateGuard<'a>(MutexGuard<'a, Option<Box<State>>>);

impl Deref for StateGuard<'_> {
    type Target = State;

    #[inline]
    fn deref(&self) -> &State {
        self.0.as_deref().unwrap_or_else(|| unmade())
    }
}

impl DerefMut for StateGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State {
        self.0.as_deref_mut().unwrap_or_else(|| unmade())
    }
}

#[cold]
#[inline(never)]
fn make(state: &mut Option<Box<State>>) {
    *state = Some(Box::new(State::idle()));
}

#[cold]
#[inline(never)]
fn unmade() -> ! {
    unreachable!("a state is made before it is locked for use")
}

/// Unlocks the state, and wakes the waiters that were resolved while it was locked.
#[inline]
pub(super) fn unlock_and_wake(state: StateGuard<'_>) {
    if !state.wakers.is_empty() {
        wake(state);
    }
}

#[cold]
fn wake(mut state: StateGuard<'_>) {
    let wakers = std::mem::take(&mut state.wakers);
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::{Options, Style, Wait};
    use crate::wait::registry;

    /// A process may have a hundred thousand of them.
    #[test]
    fn an_idle_queue_is_small() {
        assert!(size_of::<TargetQueue>() <= 64, "{}", size_of::<TargetQueue>());
    }

    /// In flock style, where no watchdog has the queue for a moment.
    fn queue() -> (tempfile::TempDir, Arc<TargetQueue>, Arc<Request>) {
        let dir = tempfile::tempdir().unwrap();
        let queue = registry::queue(&LockPaths::open(&dir.path().join("t"), false).unwrap(), false);
        (dir, queue, Arc::new(Request::new(Options::default().style(Style::Flock), false)))
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_tenure_serves_the_next_one_once_no_guard_has_it() {
        let (_dir, queue, request) = queue();
        let acquire = || queue.acquire(Arc::clone(&request), Wait::Never).unwrap();
        let first = acquire();
        let kept = Arc::as_ptr(&first);
        first.release().unwrap();
        let second = acquire();
        assert_ne!(Arc::as_ptr(&second), kept, "its guard still has the first one");
        assert!(first.check().unwrap_err().is_lost() && second.is_held());
        drop(first);
        let kept = Arc::as_ptr(&second);
        second.release().unwrap();
        drop(second);
        let third = acquire();
        assert!(Arc::as_ptr(&third) == kept && third.is_held());
        third.check().unwrap();
        third.release().unwrap();
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_tenure_keeps_its_queue_and_the_queue_does_not_keep_itself() {
        let (_dir, queue, request) = queue();
        let known = Arc::downgrade(&queue);
        queue.acquire(Arc::clone(&request), Wait::Never).unwrap().release().unwrap();
        let tenure = queue.acquire(request, Wait::Never).unwrap();
        drop(queue);
        assert!(known.strong_count() > 0);
        tenure.release().unwrap();
        assert_eq!(known.strong_count(), 0, "neither the guard nor the kept tenure has the queue");
        assert!(tenure.check().unwrap_err().is_lost());
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_shrunk_queue_keeps_its_anchor_and_nothing_else() {
        let (_dir, queue, request) = queue();
        let use_once = || {
            let tenure = queue.acquire(Arc::clone(&request), Wait::Never).unwrap();
            tenure.release().unwrap();
            (tenure.fence, Arc::as_ptr(tenure.grant.anchor.as_ref().unwrap()))
        };
        let (fence, anchor) = use_once();
        queue.shrink_cached();
        {
            let state = queue.state();
            let CachedFiles { paths, anchor, target, locked } = &state.cached;
            assert!(paths.is_none() && anchor.is_some() && target.is_none() && locked.is_none());
            assert!(state.spare.is_none() && queue.paths.lock().unwrap().strong_count() == 0);
        }
        let (next, same) = use_once();
        assert!(next > fence && same == anchor);
        queue.drop_cached();
        assert!(queue.known_state().is_none() && !queue.is_held(), "a look makes no state");
        assert!(use_once().0 > next);
    }

    /// A detached helper may still be in the kernel's queue, and must not pass for the current one.
    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_queue_that_had_several_helpers_keeps_their_number() {
        let (_dir, queue, request) = queue();
        queue.acquire(Arc::clone(&request), Wait::Never).unwrap().release().unwrap();
        queue.state().epoch = 2;
        queue.shrink_cached();
        assert_eq!(queue.state().epoch, 2);
        queue.drop_cached();
        let state = queue.known_state().unwrap();
        assert!(state.epoch == 2 && state.cached.anchor.is_none());
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_queue_in_use_drops_nothing() {
        let (_dir, queue, request) = queue();
        let tenure = queue.acquire(request, Wait::Never).unwrap();
        queue.shrink_cached();
        queue.drop_cached();
        assert!(queue.is_held() && tenure.is_held());
        tenure.release().unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_kept_tenure_keeps_no_file_that_lost_its_name() {
        let (_dir, queue, request) = queue();
        let acquire = || queue.acquire(Arc::clone(&request), Wait::Never);
        let first = acquire().unwrap();
        let anchor = Arc::downgrade(first.grant.anchor.as_ref().unwrap());
        first.release().unwrap();
        drop(first);
        assert!(anchor.strong_count() > 0, "it is open for the next acquire");
        let paths = queue.paths();
        paths.dir.unlink(&paths.anchor).unwrap();
        // The target is another program's, so this attempt grants nothing that would take the first one's place.
        let other = paths.dir.open_at(&paths.target, sys::Access::Read).unwrap();
        assert!(other.try_lock(LockKind::Exclusive).unwrap());
        assert!(acquire().unwrap_err().is_busy());
        assert_eq!(anchor.strong_count(), 0, "the removed anchor was closed");
    }
}
