//! An acquire's way into the queue and out of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::direct_wait::detach_helper;
use super::grant::{can_reenter, share_grant, unbegun};
use super::state::{Phase, State, StateGuard, TargetQueue, WaitState, Waiter, unlock_and_wake};
use crate::file::acquire::{self, Attempt};
use crate::file::anchor::Anchor;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::Grant;
use crate::file::nested;
use crate::file::release::unlock;
use crate::file::suspended::Yielding;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::options::Wait;
use crate::model::request::Request;
use crate::model::requester::{self, RequesterId};
use crate::sys;
use crate::util::ticket::Woken;
use crate::util::wait_queue::Waits as _;
use crate::wait::deadlock::AnnouncedWait;
use crate::wait::fairness::announce_waiter;
use crate::wait::fd_cache;
use crate::wait::tenure::FileTenure;

/// How often the queue's head checks its ticket, once it is awake, before it sleeps again: about ten microseconds in
/// all.
const SPINS: u32 = 50;
/// The same for a head whose grant is under way: it takes the helper some twenty microseconds.
const SPINS_WHEN_ALERTED: u32 = 150;
const PAUSES_PER_SPIN: u32 = 10;

/// The hint for a process that is, or descends from, the command that the holder runs under its lock.
const HELD_FOR_THIS_COMMAND: &str = "the lock is held for this command already: do not acquire it again inside the command; \
                                     start a process that must wait for the command's end outside of it";

/// How an acquire enters the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// One attempt. It fails as busy instead of waiting.
    Try,
    /// One attempt, then a wait in the queue.
    TryThenWait,
    /// As `TryThenWait`, and the calling thread may itself be the helper, where it becomes the queue's head.
    TryThenServe,
}

/// The first answer to an acquire.
pub(crate) enum Start {
    Granted(Arc<FileTenure>),
    Queued(Arc<Waiter>),
    /// Queued as the head, and the caller is the helper of this epoch.
    Serving(Arc<Waiter>, u32),
}

impl TargetQueue {
    /// Acquires, blocking this thread for as long as `wait` allows.
    pub(crate) fn acquire(self: &Arc<TargetQueue>, request: Arc<Request>, wait: Wait) -> Result<Arc<FileTenure>> {
        // A clock that nothing depends on is not read.
        let start = matches!(wait, Wait::For(_) | Wait::Until(_)).then(Instant::now);
        let deadline = start.and_then(|start| wait.deadline(start));
        let entry = match wait == Wait::Never || deadline.is_some() && deadline <= start {
            true => Entry::Try,
            false if sys::interrupts_enabled() => Entry::TryThenServe,
            false => Entry::TryThenWait,
        };
        let busy = || self.busy().with_waited(start.map_or(Duration::ZERO, |start| start.elapsed()));
        let (waiter, mut epoch) = match self.start(request, Some(requester::current()), entry)? {
            Start::Granted(tenure) => return Ok(tenure),
            Start::Queued(waiter) => (waiter, None),
            Start::Serving(waiter, epoch) => (waiter, Some(epoch)),
        };
        let mut announced = match AnnouncedWait::begin(self, waiter.request(), waiter.requester, &requester::around()) {
            Ok(announced) => announced,
            Err(error) => {
                if let Some(epoch) = epoch {
                    self.hand_over_to_helper(epoch);
                }
                return self.give_up(&waiter).unwrap_or(Err(error));
            }
        };
        if let Some(look) = announced.as_mut().and_then(AnnouncedWait::take_undecided) {
            // The queue is served meanwhile.
            if let Some(epoch) = epoch.take() {
                self.hand_over_to_helper(epoch);
            }
            let waits = || waiter.waits() && deadline.is_none_or(|deadline| Instant::now() < deadline);
            if let Err(error) = look.decide(waits) {
                return self.give_up(&waiter).unwrap_or(Err(error));
            }
        }
        if let Some(epoch) = epoch {
            match self.serve(epoch, &waiter, deadline) {
                ControlFlow::Break(Some(outcome)) => return outcome,
                ControlFlow::Break(None) => return Err(busy()),
                ControlFlow::Continue(()) => {}
            }
        }
        waiter.set_sleeps();
        let mut spins = 0;
        loop {
            let woken = spin(&waiter, spins).unwrap_or_else(|| waiter.ticket.wait(deadline));
            spins = match woken {
                Woken::Settled(outcome) => return outcome,
                Woken::Notified => {
                    self.take_open_as_head(&waiter);
                    SPINS
                }
                Woken::Alerted => SPINS_WHEN_ALERTED,
                Woken::Late => break,
            };
        }
        if let Some(outcome) = self.give_up(&waiter) {
            return outcome;
        }
        Err(busy())
    }

    /// Starts an acquire: joins what this process holds, tries, and queues, as `entry` says. It makes a few system
    /// calls at most and never blocks.
    pub(crate) fn start(
        self: &Arc<TargetQueue>,
        request: Arc<Request>,
        requester: Option<RequesterId>,
        entry: Entry,
    ) -> Result<Start> {
        let replaced = self.shares_replaced_target(&request);
        let mut guard = self.state();
        let state = &mut *guard;
        if state.is_idle() {
            return self.attempt(guard, request, requester, entry);
        }
        if let Some(tenure) = self.join_held(state, &request, requester, replaced) {
            return Ok(Start::Granted(tenure));
        }
        if request.options.deadlock_check
            && entry != Entry::Try
            && let Some(own) = tenure_held_by(state, requester)
        {
            let holder = Some(own.holder());
            return Err(Error::would_deadlock(&self.target_path, own.request.shared, requester).with_holder(holder));
        }
        if let Phase::Open(open) = &state.phase
            && request.same_way(&open.last.request)
        {
            return match self.barge(guard, &request, requester) {
                Some(tenure) => Ok(Start::Granted(tenure)),
                // The open lock had lost a name, and was released.
                None => self.start(request, requester, entry),
            };
        }
        if entry != Entry::Try {
            return Ok(Start::Queued(self.enqueue(guard, request, requester)));
        }
        let serves_nobody = matches!(state.phase, Phase::Waiting(_)) && state.queue.is_empty();
        drop(guard);
        if serves_nobody && let Some(tenure) = self.try_beside_helper(&request, requester)? {
            return Ok(Start::Granted(tenure));
        }
        Err(self.busy())
    }

    /// Returns whether `requester` acquired what this process holds.
    #[allow(dead_code, reason = "the simulation has no slots")]
    pub(crate) fn is_held_by(&self, requester: RequesterId) -> bool {
        self.known_state().is_some_and(|state| tenure_held_by(&state, Some(requester)).is_some())
    }

    /// Returns the tenure that `requester` acquired.
    pub(crate) fn tenure_of(&self, requester: RequesterId) -> Option<Arc<FileTenure>> {
        let state = self.known_state()?;
        tenure_held_by(&state, Some(requester)).cloned()
    }

    /// Returns whether a guard of this process holds the lock exclusively.
    #[allow(dead_code, reason = "the simulation replaces no holder")]
    pub(crate) fn is_held(&self) -> bool {
        self.known_state().is_some_and(|state| matches!(state.phase, Phase::Held(_)))
    }

    /// Makes one attempt on an idle queue, and queues where that was not enough.
    fn attempt(
        self: &Arc<TargetQueue>,
        mut guard: StateGuard<'_>,
        request: Arc<Request>,
        requester: Option<RequesterId>,
        entry: Entry,
    ) -> Result<Start> {
        let state = &mut *guard;
        state.set_phase(Phase::Working);
        let (mut cached, paths) = self.take_cached(state);
        let mut time_slice = state.time_slice.clone();
        let spare = state.spare.take();
        drop(guard);
        // As `unused_tenure` and `unbegun`, with one look at the reference counts.
        let mut tenure = spare.unwrap_or_else(|| FileTenure::unused(self, &paths, &request));
        let unused = match tenure.reuse() {
            Some(unused) => unused,
            None => {
                tenure = FileTenure::unused(self, &paths, &request);
                unbegun(&mut tenure)
            }
        };
        let mut yielded = false;
        let mut yields = |anchor: &Anchor| {
            yielded = entry != Entry::Try && request.resumes.is_none() && time_slice.should_yield(&paths, anchor);
            yielded
        };
        // An acquire that does not wait does not queue either.
        let yielding = if entry == Entry::Try { Yielding::Proceed } else { Yielding::Yield };
        let outcome = acquire::attempt(&paths, &mut cached, &request, &mut yields, yielding, &mut unused.grant);
        // A holder that waits for this process to end: a wait for that holder would never end.
        let ancestor = match &outcome {
            Ok(Attempt::Busy(_)) if request.options.deadlock_check => nested::ancestor_holder(&paths),
            _ => None,
        };
        if matches!(outcome, Ok(Attempt::Busy(None)))
            && entry != Entry::Try
            && ancestor.is_none()
            && !yielded
            && let Some(anchor) = &cached.anchor
        {
            // The helper thread may have to wait for a processor, and the process that reacquires may have it.
            announce_waiter(&paths, anchor);
        }
        let mut guard = self.state();
        let state = &mut *guard;
        (state.cached, state.time_slice) = (cached, time_slice);
        if let Ok(Attempt::Granted) = outcome {
            unused.begin(paths, request, requester);
            self.enter_tenure(state, &tenure);
            self.grant_compatible_waiters(state);
            unlock_and_wake(guard);
            return Ok(Start::Granted(tenure));
        }
        state.spare = Some(tenure).filter(|tenure| tenure.may_be_kept());
        self.not_granted(guard, request, requester, entry, outcome, ancestor)
    }

    /// Queues an acquire whose attempt found the lock busy, or returns its error.
    #[cold]
    fn not_granted(
        self: &Arc<TargetQueue>,
        mut state: StateGuard<'_>,
        request: Arc<Request>,
        requester: Option<RequesterId>,
        entry: Entry,
        outcome: Result<Attempt>,
        ancestor: Option<Holder>,
    ) -> Result<Start> {
        state.set_phase(Phase::Idle);
        fd_cache::mark_used(self);
        let started = match outcome {
            Ok(Attempt::Granted) => unreachable!("it was not granted"),
            Ok(Attempt::Busy(_)) if ancestor.is_none() && entry != Entry::Try => {
                // This acquire came before those that have queued during the attempt.
                let waiter = Waiter::new(request, requester);
                state.queue.join_behind(Arc::clone(&waiter), |other| other.goes_before(&waiter));
                if entry == Entry::TryThenServe {
                    state.phase = Phase::Waiting(Box::default());
                    return Ok(Start::Serving(waiter, state.epoch));
                }
                Ok(Start::Queued(waiter))
            }
            Ok(Attempt::Busy(blocker)) => Err((blocker, ancestor)),
            Err(error) => {
                self.ensure_helper(&mut state);
                unlock_and_wake(state);
                return Err(error);
            }
        };
        self.ensure_helper(&mut state);
        unlock_and_wake(state);
        started.map_err(|(blocker, ancestor)| match (ancestor, blocker) {
            (Some(ancestor), _) if entry == Entry::Try => {
                Error::busy(&self.target_path).with_holder(Some(ancestor)).with_hint(HELD_FOR_THIS_COMMAND)
            }
            (Some(ancestor), _) => {
                let detail = "its holder waits for this process to end, and this process would wait for the holder";
                Error::new(ErrorKind::WouldDeadlock, &*self.target_path, detail)
                    .with_holder(Some(ancestor))
                    .with_hint(HELD_FOR_THIS_COMMAND)
            }
            (None, Some(blocker)) => Error::busy_with(&self.target_path, &self.paths().lock_path, Some(blocker.holder)),
            (None, None) => self.busy(),
        })
    }

    /// Makes one attempt beside a helper that waits in the kernel's queue although no waiter is left. It uses
    /// descriptors of its own, because the helper's are in that queue.
    fn try_beside_helper(
        self: &Arc<TargetQueue>,
        request: &Arc<Request>,
        requester: Option<RequesterId>,
    ) -> Result<Option<Arc<FileTenure>>> {
        let paths = self.paths();
        let mut cached = CachedFiles { paths: Some(Arc::clone(&paths)), ..CachedFiles::default() };
        let mut grant = Grant::empty();
        let attempt = acquire::attempt(&paths, &mut cached, request, &mut |_| false, Yielding::Proceed, &mut grant)?;
        let Attempt::Granted = attempt else { return Ok(None) };
        let mut state = self.state();
        if !matches!(state.phase, Phase::Idle | Phase::Waiting(_)) {
            drop(state);
            let ended = grant.record.clone().map(|record| (grant.unreported_crash_record(record), grant.state_offset));
            unlock(&paths, &grant, ended)?;
            return Ok(None);
        }
        // The helper will be granted the kernel lock some time, and end.
        detach_helper(&mut state);
        state.cached = cached;
        let tenure = self.begin_tenure(&mut state, Arc::clone(request), grant, paths, requester);
        self.grant_compatible_waiters(&mut state);
        unlock_and_wake(state);
        Ok(Some(tenure))
    }

    /// Appends a waiter to the queue.
    fn enqueue(
        self: &Arc<TargetQueue>,
        mut state: StateGuard<'_>,
        request: Arc<Request>,
        requester: Option<RequesterId>,
    ) -> Arc<Waiter> {
        let waiter = Waiter::new(request, requester);
        match waiter.resumes() {
            true => state.queue.join_behind(Arc::clone(&waiter), |other| other.goes_before(&waiter)),
            false => state.queue.join(Arc::clone(&waiter)),
        }
        self.rematch_helper_to_head(&mut state);
        self.ensure_helper(&mut state);
        unlock_and_wake(state);
        waiter
    }

    /// Removes a waiter from the queue: from here on it is never granted the lock. Returns the outcome that it had by then.
    pub(crate) fn give_up(self: &Arc<TargetQueue>, waiter: &Arc<Waiter>) -> Option<Result<Arc<FileTenure>>> {
        let state = self.state();
        if let Some(outcome) = waiter.ticket.give_up() {
            return Some(outcome);
        }
        self.serve_those_left(state);
        None
    }

    /// Ends the wait of a waiter with an error, unless it has its outcome.
    pub(crate) fn refuse(self: &Arc<TargetQueue>, waiter: &Waiter, error: Error) {
        let (state, mut wakers) = (self.state(), Vec::new());
        if waiter.resolve(WaitState::Failed(error), &mut wakers) {
            self.serve_those_left(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Goes on with the queue after a waiter has left it.
    fn serve_those_left(self: &Arc<TargetQueue>, mut state: StateGuard<'_>) {
        state.queue.left();
        if matches!(state.phase, Phase::Open(_)) {
            self.offer_to_head(state);
            return;
        }
        // A helper that waits for a foreign holder's events ends when no waiter is left.
        if let Phase::Waiting(waiting) = &state.phase
            && let Some(wakeup) = &waiting.wakeup
        {
            wakeup.wake();
        }
        self.rematch_helper_to_head(&mut state);
        unlock_and_wake(state);
    }

    /// Returns whether `request` wants a share, and this process shares a file that the target's name no longer means.
    fn shares_replaced_target(&self, request: &Request) -> bool {
        if !request.shared {
            return false;
        }
        let target = self.known_state().and_then(|state| match &state.phase {
            Phase::Shared(sharers) => sharers.first().and_then(|first| first.grant.target.clone()),
            _ => None,
        });
        target.is_some_and(|target| !acquire::is_target_current(&self.paths(), &target))
    }

    /// Grants a reentrant acquire of what this process holds, or a further share of what it shares. `replaced`: the
    /// target's name means another file than the shared one.
    fn join_held(
        self: &Arc<TargetQueue>,
        state: &mut State,
        request: &Arc<Request>,
        requester: Option<RequesterId>,
        replaced: bool,
    ) -> Option<Arc<FileTenure>> {
        match &mut state.phase {
            Phase::Held(tenure) if can_reenter(tenure, request) => {
                tenure.add_guard();
                Some(Arc::clone(tenure))
            }
            Phase::Shared(sharers) if request.shared && !replaced && state.queue.is_empty() => {
                let first = sharers.first()?;
                let (grant, paths) = (share_grant(&first.grant), Arc::clone(&first.paths));
                Some(self.begin_tenure(state, Arc::clone(request), grant, paths, requester))
            }
            _ => None,
        }
    }
}

/// Checks the ticket of an awake head `spins` times, with pauses. `None` if there was nothing. `bench/count` does not count
/// these instructions, whose number depends on when other threads run.
#[inline(never)]
fn spin(waiter: &Waiter, spins: u32) -> Option<Woken<Arc<FileTenure>, Error>> {
    for _ in 0..spins {
        if let Some(woken) = waiter.ticket.look() {
            return Some(woken);
        }
        (0..PAUSES_PER_SPIN).for_each(|_| std::hint::spin_loop());
    }
    None
}

/// Returns the tenure that `requester` acquired, if a further acquire by it would wait for that tenure's end.
fn tenure_held_by(state: &State, requester: Option<RequesterId>) -> Option<&Arc<FileTenure>> {
    let own = |tenure: &&Arc<FileTenure>| requester.is_some() && tenure.requester == requester;
    match &state.phase {
        Phase::Held(tenure) => Some(tenure).filter(own),
        Phase::Shared(sharers) => sharers.iter().find(own),
        Phase::Idle | Phase::Working | Phase::Waiting(_) | Phase::Open(_) => None,
    }
}
