//! Waiting: one queue a target in each process, and one of its threads in the kernel's.
//!
//! # States
//!
//! | phase | who may change it |
//! | --- | --- |
//! | `Idle` | anyone, under the mutex |
//! | `Working` | the thread that set it: it makes the system calls of an acquire or a release |
//! | `Waiting` | the helper of the present epoch, which waits in the kernel for the queue's head |
//! | `Held`, `Shared` | the release of the tenure, or of the last share |
//! | `Open` | a thread that asks for the lock; the queue's first, which was told; whoever leaves the queue |
//!
//! The mutex is never held over a system call that may block. A waiter is served in the order of its coming; one that
//! gives up leaves the queue, and a helper that was waiting for it serves the next, or lets go at once: who has given
//! up never holds. Lock order: the queue's state, then a waiter's.
//!
//! A grant may pass between waiters of one process without the kernel, [`MAX_PASSES`] times in a row or for a [`BURST`]; then
//! the kernel lock is let go, so that other processes get their turn. To wake a thread takes longer than most tenures
//! last, so between threads the lock is left *open* for a few tenures ([`MAX_BARGES`]): a thread that runs may take it while the
//! first in the queue wakes up. Then it is handed to the first.
//!
//! Once a second the watchdog compares what a helper waits for with its path ([`TargetQueue::recheck`]): if an operator broke
//! the lock, the helper is left to its orphaned file, and a new one (a new *epoch*) waits for the new anchor.

mod barging;
mod direct_wait;
mod helper;
mod release;

use barging::Open;
pub(crate) use helper::watch;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::file::acquire::{self, Attempt};
use crate::file::anchor::Anchor;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::Grant;
use crate::file::lock_file;
use crate::file::nested;
use crate::file::paths::{LockPaths, ParentDir};
use crate::file::release::unlock;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::Wait;
use crate::model::request::Request;
use crate::sys::{self, FileId, InterruptHandle, LockKind, Wakeup};
use crate::util::ticket::{self, Ticket, Woken};
use crate::util::trace::event;
use crate::util::wait_queue::{WaitQueue, Waits};
use crate::wait::fairness::TimeSlice;
use crate::wait::fd_cache;
use crate::wait::tenure::FileTenure;
use crate::wait::watchdog;

/// How many times in a row a grant passes within the process.
const MAX_PASSES: u32 = 32;
/// But while others have not had to wait for longer than this, it goes on.
const BURST: Duration = Duration::from_micros(500);
/// How many of these tenures may go to those that come later than the queue's first.
const MAX_BARGES: u32 = 8;
/// How often the queue's first, once it is awake, looks before it sleeps again: for some ten microseconds in all.
const SPINS: u32 = 50;
const PAUSES: u32 = 10;

/// The queue of one target in this process. There may be very many, most of them unused for long: what a queue needs only
/// while it is used is made again when it is ([`TargetQueue::paths`]), and dropped by [`warm`](crate::wait::fd_cache).
#[derive(Debug)]
pub(crate) struct TargetQueue {
    pub(crate) folder: Arc<ParentDir>,
    /// As the first caller named it.
    pub(crate) target_path: Box<Path>,
    /// A bare kernel lock's.
    pub(crate) bare: bool,
    pub(crate) generation: u64,
    paths: Mutex<Weak<LockPaths>>,
    state: Mutex<State>,
    /// Is it in the watchdog's list?
    pub(crate) watched: AtomicBool,
    pub(crate) recency: fd_cache::Recency,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    queue: WaitQueue<Waiter>,
    /// Grows when a helper is left behind.
    epoch: u32,
    passes: u32,
    /// Since when this process has had the kernel lock, once it was passed on.
    since: Option<Instant>,
    /// How many of the passes went to others than the queue's first, since one went to it.
    run: u32,
    kept: CachedFiles,
    time_slice: TimeSlice,
    /// Those of whom something was granted: woken once the mutex is free, because a waker may poll at once.
    woken: Vec<Waker>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Working,
    Waiting(Box<Waiting>),
    Held(Arc<FileTenure>),
    Shared(Vec<Arc<FileTenure>>),
    Open(Box<Open>),
}

/// For a process that is, or descends from, the command that the holder runs under its lock.
const RELEASED_AFTER_US: &str = "the lock is held for this command already: do not lock it again within; a process that \
                                 should come after it must be started outside of it";

/// What a helper waits for.
#[derive(Debug, Default)]
struct Waiting {
    /// The helper is a thread that asked, and serves itself.
    interrupt: Option<Arc<InterruptHandle>>,
    wakeup: Option<Arc<Wakeup>>,
    /// The file whose kernel queue it is in, by which name it came to it, and for which kind of lock.
    queued_on: Option<(FileId, Name, LockKind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Anchor,
    LockFile,
    Target,
}

/// One acquire in the queue.
#[derive(Debug)]
pub(crate) struct Waiter {
    request: Arc<Request>,
    thread: Option<ThreadId>,
    ticket: Ticket<Arc<FileTenure>, Error>,
    /// A thread sleeps for it, which may be told to look for itself. It may be polled instead.
    sleeps: AtomicBool,
}

type WaitState = ticket::WaitState<Arc<FileTenure>, Error>;

impl Waits for Waiter {
    fn waits(&self) -> bool {
        self.ticket.is_queued()
    }
}

impl Waiter {
    fn sleeps(&self) -> bool {
        self.sleeps.load(Ordering::Relaxed)
    }

    /// Hands over an outcome; `false` if nobody waits for it any more. A waker goes to `woken`.
    fn resolve(&self, outcome: WaitState, woken: &mut Vec<Waker>) -> bool {
        self.ticket.resolve(outcome, woken)
    }
}

/// An acquire's first answer.
pub(crate) enum Start {
    Granted(Arc<FileTenure>),
    Queued(Arc<Waiter>),
    /// Queued first, and the caller is the helper of this epoch.
    Serves(Arc<Waiter>, u32),
}

impl TargetQueue {
    pub(crate) fn new(folder: Arc<ParentDir>, target_path: &Path, bare: bool) -> Arc<TargetQueue> {
        Arc::new(TargetQueue {
            target_path: target_path.into(),
            folder,
            bare,
            generation: sys::fork_generation(),
            paths: Mutex::new(Weak::new()),
            state: Mutex::new(State {
                phase: Phase::Idle,
                queue: WaitQueue::new(),
                epoch: 0,
                passes: 0,
                since: None,
                run: 0,
                kept: CachedFiles::default(),
                time_slice: TimeSlice::default(),
                woken: Vec::new(),
            }),
            watched: AtomicBool::new(false),
            recency: fd_cache::Recency::default(),
        })
    }

    /// The names, made anew where they are not in use. Takes a mutex of its own, so it may be called with the state's.
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

    /// Drops what costs memory and descriptors, if nobody uses it just now. The caller may have another queue's state.
    pub(crate) fn release_cached(&self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        if matches!(state.phase, Phase::Idle) && state.queue.is_empty() {
            let kept = std::mem::take(&mut state.kept);
            state.queue = WaitQueue::new();
            drop(state);
            drop(kept);
            *self.paths.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
        }
    }

    /// What was kept while nobody used it, with the names.
    fn take_kept(&self, state: &mut State) -> (CachedFiles, Arc<LockPaths>) {
        let mut kept = std::mem::take(&mut state.kept);
        let paths = Arc::clone(kept.paths.get_or_insert_with(|| self.paths()));
        (kept, paths)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquires, blocking this thread for as long as `wait` allows.
    pub(crate) fn acquire(self: &Arc<TargetQueue>, request: Arc<Request>, wait: Wait) -> Result<Arc<FileTenure>> {
        let start = Instant::now();
        let deadline = wait.deadline(start);
        let never = deadline.is_some_and(|deadline| deadline <= start);
        let serves = !never && sys::interrupts_enabled();
        let waiter = match self.start(request, never, Some(std::thread::current().id()), serves)? {
            Start::Granted(tenure) => return Ok(tenure),
            Start::Queued(waiter) => waiter,
            Start::Serves(waiter, epoch) => match self.serve(epoch, &waiter, deadline) {
                ControlFlow::Break(Some(outcome)) => return outcome,
                ControlFlow::Break(None) => return Err(self.busy().with_waited(start.elapsed())),
                ControlFlow::Continue(()) => waiter,
            },
        };
        waiter.sleeps.store(true, Ordering::Relaxed);
        let mut looks = 0;
        loop {
            let woken = match looks {
                0 => waiter.ticket.wait(deadline),
                _ => match waiter.ticket.look() {
                    Some(woken) => woken,
                    None => {
                        looks -= 1;
                        (0..PAUSES).for_each(|_| std::hint::spin_loop());
                        continue;
                    }
                },
            };
            match woken {
                Woken::Settled(outcome) => return outcome,
                Woken::Notified => {
                    self.take_first(&waiter);
                    looks = SPINS;
                }
                Woken::Late => break,
            }
        }
        if let Some(outcome) = self.give_up(&waiter) {
            return outcome;
        }
        Err(self.busy().with_waited(start.elapsed()))
    }

    /// The outcome of an enqueued acquire, or `waker` is woken when there is one.
    pub(crate) fn poll(waiter: &Waiter, waker: &Waker) -> Option<Result<Arc<FileTenure>>> {
        waiter.ticket.poll(waker)
    }

    /// Leaves the queue: from here on the waiter never holds. What had been granted by then comes back.
    pub(crate) fn give_up(self: &Arc<TargetQueue>, waiter: &Arc<Waiter>) -> Option<Result<Arc<FileTenure>>> {
        let mut state = self.state();
        if let Some(outcome) = waiter.ticket.give_up() {
            return Some(outcome);
        }
        state.queue.left();
        if matches!(state.phase, Phase::Open(_)) {
            self.offer(state);
            return None;
        }
        // A helper that waits for a foreign holder's events ends when nobody is left.
        if let Phase::Waiting(waiting) = &state.phase
            && let Some(wakeup) = &waiting.wakeup
        {
            wakeup.wake();
        }
        self.rematch_helper_to_head(&mut state);
        wake(state);
        None
    }

    /// Does the request want a share, and do those who share here have one of a file that the target's name no longer
    /// means?
    fn shares_of_another(&self, request: &Request) -> bool {
        if !request.shared {
            return false;
        }
        let target = match &self.state().phase {
            Phase::Shared(sharers) => sharers.first().and_then(|first| first.grant.target.clone()),
            _ => None,
        };
        target.is_some_and(|target| !acquire::is_current(&self.paths(), &target))
    }

    /// Tries, and queues where that was not enough. It makes a few system calls and never blocks. `serves`: the caller
    /// may be the helper, if it comes to be the first.
    pub(crate) fn start(
        self: &Arc<TargetQueue>,
        request: Arc<Request>,
        never: bool,
        thread: Option<ThreadId>,
        serves: bool,
    ) -> Result<Start> {
        let replaced = self.shares_of_another(&request);
        let mut state = self.state();
        if let Some(tenure) = join(&mut state, &request, thread, replaced) {
            return Ok(Start::Granted(tenure));
        }
        if request.options.deadlock_check
            && !never
            && let Some(first) = held_by(&state, thread)
        {
            let holder = Some(first.holder());
            return Err(Error::would_deadlock(&self.target_path, first.request.shared).with_holder(holder));
        }
        if let Phase::Open(open) = &state.phase
            && request.same_way(&open.last.request)
        {
            return match self.take(state, &request, thread) {
                Some(tenure) => Ok(Start::Granted(tenure)),
                // It was no longer whole, and has been let go.
                None => self.start(request, never, thread, serves),
            };
        }
        if !matches!(state.phase, Phase::Idle) || !state.queue.is_empty() {
            if never {
                let left_behind = matches!(state.phase, Phase::Waiting(_)) && state.queue.is_empty();
                drop(state);
                if left_behind && let Some(tenure) = self.try_beside_helper(&request, thread)? {
                    return Ok(Start::Granted(tenure));
                }
                return Err(self.busy());
            }
            let waiter = self.push(&mut state, request, thread);
            self.ensure_helper(&mut state);
            wake(state);
            return Ok(Start::Queued(waiter));
        }
        state.phase = Phase::Working;
        let (mut kept, paths) = self.take_kept(&mut state);
        let mut time_slice = state.time_slice.clone();
        drop(state);
        let mut yields = |anchor: &Anchor| !never && time_slice.should_yield(&paths, anchor);
        let outcome = acquire::attempt(&paths, &mut kept, &request, &mut yields);
        // It ends when this process has ended: a wait for it would have no end.
        let above = match &outcome {
            Ok(Attempt::Busy(_)) if request.options.deadlock_check => nested::holder_above(&paths),
            _ => None,
        };
        let mut state = self.state();
        (state.kept, state.time_slice) = (kept, time_slice);
        state.phase = Phase::Idle;
        if !matches!(outcome, Ok(Attempt::Granted(_))) {
            fd_cache::used(self);
        }
        match outcome {
            Ok(Attempt::Granted(grant)) => {
                let tenure = self.begin(&mut state, request, grant, paths, thread);
                self.grant_compatible_waiters(&mut state);
                wake(state);
                Ok(Start::Granted(tenure))
            }
            Ok(Attempt::Busy(blocker)) if never => {
                self.ensure_helper(&mut state);
                wake(state);
                Err(match blocker {
                    _ if above.is_some() => {
                        Error::busy(&self.target_path).with_holder(above).with_hint(RELEASED_AFTER_US)
                    }
                    Some(blocker) => Error::busy_with(&self.target_path, &self.paths().lock_path, Some(blocker.holder)),
                    None => self.busy(),
                })
            }
            Ok(Attempt::Busy(_)) if above.is_some() => {
                self.ensure_helper(&mut state);
                wake(state);
                let detail = "its holder waits for this process to end, and this process would wait for the holder";
                Err(Error::new(ErrorKind::WouldDeadlock, &*self.target_path, detail)
                    .with_holder(above)
                    .with_hint(RELEASED_AFTER_US))
            }
            Ok(Attempt::Busy(_)) => {
                // It came before whoever has queued meanwhile.
                let waiter = new_waiter(request, thread);
                state.queue.join_first(Arc::clone(&waiter));
                if serves {
                    state.phase = Phase::Waiting(Box::default());
                    return Ok(Start::Serves(waiter, state.epoch));
                }
                self.ensure_helper(&mut state);
                wake(state);
                Ok(Start::Queued(waiter))
            }
            Err(error) => {
                self.ensure_helper(&mut state);
                wake(state);
                Err(error)
            }
        }
    }

    /// One try beside a helper that waits in the kernel's queue for nobody: by descriptors of its own, because the
    /// helper's are in that queue.
    fn try_beside_helper(
        self: &Arc<TargetQueue>,
        request: &Arc<Request>,
        thread: Option<ThreadId>,
    ) -> Result<Option<Arc<FileTenure>>> {
        let paths = self.paths();
        let mut kept = CachedFiles { paths: Some(Arc::clone(&paths)), ..CachedFiles::default() };
        let attempt = acquire::attempt(&paths, &mut kept, request, &mut |_| false)?;
        let Attempt::Granted(grant) = attempt else { return Ok(None) };
        let mut state = self.state();
        if !matches!(state.phase, Phase::Idle | Phase::Waiting(_)) {
            drop(state);
            let ended = grant.record.clone().map(|record| (record, grant.state_offset));
            unlock(&paths, &grant, ended)?;
            return Ok(None);
        }
        // The helper will find itself granted some day, and go.
        direct_wait::detach_helper(&mut state);
        state.kept = kept;
        let tenure = self.begin(&mut state, Arc::clone(request), grant, paths, thread);
        self.grant_compatible_waiters(&mut state);
        wake(state);
        Ok(Some(tenure))
    }

    fn push(
        self: &Arc<TargetQueue>,
        state: &mut State,
        request: Arc<Request>,
        thread: Option<ThreadId>,
    ) -> Arc<Waiter> {
        let waiter = new_waiter(request, thread);
        state.queue.join(Arc::clone(&waiter));
        self.rematch_helper_to_head(state);
        waiter
    }

    /// A grant becomes a tenure.
    fn begin(
        self: &Arc<TargetQueue>,
        state: &mut State,
        request: Arc<Request>,
        grant: Grant,
        paths: Arc<LockPaths>,
        thread: Option<ThreadId>,
    ) -> Arc<FileTenure> {
        let shared = request.shared;
        let tenure = FileTenure::new(Arc::clone(self), paths, request, grant, thread);
        match &mut state.phase {
            Phase::Shared(sharers) if shared => sharers.push(Arc::clone(&tenure)),
            phase if shared => *phase = Phase::Shared(vec![Arc::clone(&tenure)]),
            phase => *phase = Phase::Held(Arc::clone(&tenure)),
        }
        event!(DEBUG, target = ?self.target_path, fence = tenure.fence, "granted");
        watchdog::held(&tenure);
        tenure
    }

    /// Gives a grant to the waiter it was made for; it comes back if that one has given up.
    fn deliver(self: &Arc<TargetQueue>, state: &mut State, waiter: &Arc<Waiter>, grant: Grant) -> Option<Grant> {
        // Whoever gives up takes the queue's mutex first, which we have: what is queued now stays so until we settle.
        if !waiter.ticket.is_queued() {
            return Some(grant);
        }
        state.kept.locked = None;
        let paths = Arc::clone(state.kept.paths.get_or_insert_with(|| self.paths()));
        let tenure = self.begin(state, Arc::clone(&waiter.request), grant, paths, waiter.thread);
        let settled = waiter.resolve(WaitState::Granted(tenure), &mut state.woken);
        debug_assert!(settled, "a waiter left the queue without its mutex");
        state.queue.left();
        None
    }

    /// Lets those in who came before the grant and would be let in if they came after it: at the queue's front who want
    /// a share of what is shared, and wherever they stand who may enter again what is reentrant.
    fn grant_compatible_waiters(self: &Arc<TargetQueue>, state: &mut State) {
        if let Phase::Held(tenure) = &state.phase
            && tenure.request.options.reentrant
        {
            let tenure = Arc::clone(tenure);
            for waiter in state.queue.all() {
                if !may_join(&tenure, &waiter.request) {
                    continue;
                }
                tenure.join();
                let settled = waiter.resolve(WaitState::Granted(Arc::clone(&tenure)), &mut state.woken);
                debug_assert!(settled, "a waiter left the queue without its mutex");
                state.queue.left();
            }
        }
        while let Phase::Shared(sharers) = &state.phase
            && let Some(first) = sharers.first()
            && let Some(next) = state.queue.first().cloned()
            && next.request.shared
        {
            let grant = share(&first.grant);
            let returned = self.deliver(state, &next, grant);
            debug_assert!(returned.is_none(), "the first of the line waits");
        }
    }

    /// That somebody holds it, and who.
    pub(crate) fn busy(&self) -> Error {
        let here = match &self.state().phase {
            Phase::Held(tenure) => Some(Arc::clone(tenure)),
            Phase::Shared(sharers) => sharers.first().map(Arc::clone),
            _ => None,
        };
        let holder = match here {
            Some(tenure) => Some(tenure.holder()),
            None => crate::file::status::holder_now(&self.paths()),
        };
        Error::busy_with(&self.target_path, &self.paths().lock_path, holder)
    }
}

/// A share of a lock that this process shares already.
fn share(first: &Grant) -> Grant {
    Grant {
        anchor: first.anchor.clone(),
        target: first.target.clone(),
        lock_file: lock_file::LockFile::Hidden,
        previous: first.previous.clone(),
        record: None,
        state_offset: 0,
        live_file_at_swap: false,
        seen: first.seen,
    }
}

/// A reentrant acquire of what this process holds, or a further share of what it shares.
///
/// `replaced`: the target's name means another file than the one that is shared.
fn join(
    state: &mut State,
    request: &Arc<Request>,
    thread: Option<ThreadId>,
    replaced: bool,
) -> Option<Arc<FileTenure>> {
    match &mut state.phase {
        Phase::Held(tenure) if may_join(tenure, request) => {
            tenure.join();
            Some(Arc::clone(tenure))
        }
        Phase::Shared(sharers) if request.shared && !replaced && state.queue.is_empty() => {
            let first = sharers.first()?;
            let grant = share(&first.grant);
            let paths = Arc::clone(&first.paths);
            let tenure = FileTenure::new(Arc::clone(&first.queue), paths, Arc::clone(request), grant, thread);
            sharers.push(Arc::clone(&tenure));
            watchdog::held(&tenure);
            Some(tenure)
        }
        _ => None,
    }
}

fn may_join(tenure: &FileTenure, request: &Request) -> bool {
    !request.shared && request.options.reentrant && tenure.request.options.reentrant && tenure.is_held()
}

/// The tenure that this thread acquired, where a further acquire by it would wait for its own end.
fn held_by(state: &State, thread: Option<ThreadId>) -> Option<&Arc<FileTenure>> {
    let direct = |tenure: &&Arc<FileTenure>| thread.is_some() && tenure.thread == thread;
    match &state.phase {
        Phase::Held(tenure) => Some(tenure).filter(direct),
        Phase::Shared(sharers) => sharers.iter().find(direct),
        Phase::Idle | Phase::Working | Phase::Waiting(_) | Phase::Open(_) => None,
    }
}

/// Frees the mutex, and wakes those of whom something was granted or refused under it.
fn wake(mut state: MutexGuard<'_, State>) {
    let woken = std::mem::take(&mut state.woken);
    drop(state);
    woken.into_iter().for_each(Waker::wake);
}

fn new_waiter(request: Arc<Request>, thread: Option<ThreadId>) -> Arc<Waiter> {
    Arc::new(Waiter { request, thread, ticket: Ticket::new(), sleeps: AtomicBool::new(false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process may have a hundred thousand of them.
    #[test]
    fn an_idle_slot_is_small() {
        assert!(size_of::<TargetQueue>() <= 184, "{}", size_of::<TargetQueue>());
    }
}
