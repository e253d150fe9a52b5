//! Slots on a server: the same rule and the same locks as beside a file (see [`slots`](super::slots)), of numbered names.
//!
//! A lock on a server may be lost while an acquire counts, and then another one may count too. So what was counted holds
//! good only if the release of the right to count succeeded: the server then says that no other had it since.
//!
//! The first waiter queues for the held slots themselves, whose grants are its events. It keeps such a grant only if its
//! count says so. Until then the grant is a holder that is counted, and that does not work.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::next::Taken;
use super::patience::{Patience, Queued, Waited};
use super::pending::ThreadedAcquire;
use super::survey::Survey;
use super::tenure::SlotTenure;
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::options::{Options, Wait};
use crate::model::rank::Rank;
use crate::model::slots::{MOST, Part, SlotServer, has_room};
use crate::model::status::Status;
use crate::model::tenure::{Backend, Begun, Tenure};
use crate::sys::LockKind;

/// How long an acquire that does not wait has for its turn to count: each takes some requests.
const TO_COUNT: Duration = Duration::from_secs(5);
/// The largest number of slots for which the first waiter queues.
const MOST_QUEUES: usize = 32;
/// How long it waits without a look where it cannot queue for all that are held.
const LOOK: Duration = Duration::from_secs(1);
/// How long a waiter keeps trying to reach a server that has gone, and the pause between two attempts.
const RETURN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// The time that a waiter takes to leave the queues in which it waited no longer.
const TO_LEAVE: Duration = Duration::from_secs(1);
/// The time for the survey of an error that names the holders.
const TO_EXPLAIN: Duration = Duration::from_secs(1);

/// A lock with slots on a server.
#[derive(Debug)]
pub(crate) struct SlotsOnServer(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    server: Arc<dyn SlotServer>,
    limit: u32,
    /// Whether an acquire that would wait for its own end fails.
    deadlock_check: bool,
}

/// A slot that a waiter was granted and that it has not counted yet. Dropped without that, it is given back.
struct Unproven(Option<(u32, Arc<dyn Tenure>)>);

impl Unproven {
    fn number(&self) -> Option<u32> {
        self.0.as_ref().map(|(number, _)| *number)
    }

    fn prove(mut self) -> Option<(u32, Arc<dyn Tenure>)> {
        self.0.take()
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        if let Some((_, tenure)) = self.0.take() {
            tenure.abandon();
        }
    }
}

/// Whether an attempt leaves room to those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Yields {
    Yes,
    No,
}

/// When the server of a waiter answered last.
#[derive(Default)]
struct Silence(Cell<Option<Instant>>);

impl Silence {
    /// Returns the outcome of a step, or `None` where the server was silent and is asked again. A waiter that has had an answer
    /// does not fail at the first silence.
    fn bears<T>(&self, outcome: Result<T>, patience: &Patience) -> Result<Option<T>> {
        match outcome {
            Err(error) if error.is_unreachable() && !error.takes_no_writes() && !patience.is_over() => {
                if self.0.get().is_none_or(|answered| answered.elapsed() > RETURN) {
                    return Err(error);
                }
                patience.pause(Some(Instant::now() + PAUSE))?;
                Ok(None)
            }
            outcome => {
                self.answered();
                outcome.map(Some)
            }
        }
    }

    fn answered(&self) {
        self.0.set(Some(Instant::now()));
    }
}

/// The outcome of one attempt.
enum Attempt {
    Granted(Arc<dyn Tenure>),
    /// There is no room.
    Full(Survey),
    /// The right to count was lost meanwhile.
    Miscounted,
    /// The time to count did not come.
    Over,
}

impl SlotsOnServer {
    pub(crate) fn open(server: Arc<dyn SlotServer>, options: &Options) -> Result<SlotsOnServer> {
        let limit = options.slots.unwrap_or(1);
        if !(1..=MOST).contains(&limit) {
            let detail = "a lock has from 1 to 1000 slots";
            return Err(Error::new(ErrorKind::Unsupported, server.target(), detail));
        }
        Ok(SlotsOnServer(Arc::new(Parts { server, limit, deadlock_check: options.deadlock_check })))
    }
}

impl Backend for SlotsOnServer {
    fn target(&self) -> &Path {
        self.0.server.target()
    }

    fn rank(&self) -> Result<Rank> {
        Ok(self.0.server.rank())
    }

    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        let thread = Some(std::thread::current().id());
        let began = Instant::now();
        let (may_wait, deadline) = self.0.may_wait(kind, wait, began)?;
        let granted = match may_wait {
            true => self.0.wait(thread, &Patience::new(deadline)?)?,
            false => self.0.try_now(thread)?,
        };
        granted.ok_or_else(|| self.0.busy().with_waited(began.elapsed()))
    }

    fn begin(&self, kind: LockKind, wait: Wait, thread: Option<ThreadId>) -> Result<Begun> {
        let (may_wait, deadline) = self.0.may_wait(kind, wait, Instant::now())?;
        // A thread waits for the server's answers, also where the acquire does not wait for a slot.
        let patience = Arc::new(Patience::new(None)?);
        let (parts, again) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let acquire = move |patience: &Patience| match may_wait {
            true => parts.wait(thread, patience),
            false => parts.try_now(thread)?.map(Some).ok_or_else(|| parts.busy()),
        };
        let deadline = deadline.filter(|_| may_wait);
        let pending = ThreadedAcquire::start(patience, deadline, acquire, move || again.busy())?;
        Ok(Begun::Pending(Box::new(pending)))
    }

    fn status(&self) -> Result<Status> {
        self.0.server.status()
    }

    /// A server keeps no history.
    fn note_failure(&self, _: &Error, _: LockKind) {}
}

impl Parts {
    /// Returns whether the acquire waits, and until when.
    fn may_wait(&self, kind: LockKind, wait: Wait, now: Instant) -> Result<(bool, Option<Instant>)> {
        if kind == LockKind::Shared {
            let detail = "a slot cannot be shared";
            return Err(Error::new(ErrorKind::Unsupported, self.server.target(), detail));
        }
        let deadline = wait.deadline(now);
        Ok((deadline.is_none_or(|deadline| deadline > now), deadline))
    }

    /// Takes one of the locks. `None` at the end of the patience, or, for an acquire that never waits, if it is busy.
    fn take(
        &self,
        part: Part,
        wait: Wait,
        thread: Option<ThreadId>,
        patience: &Patience,
    ) -> Result<Option<Arc<dyn Tenure>>> {
        let mut queued = match Queued::new(self.server.open(part)?.begin(LockKind::Exclusive, wait, thread)?) {
            Err(tenure) => return Ok(Some(tenure)),
            Ok(queued) => queued,
        };
        match patience.wait(&mut queued, None)? {
            Waited::Outcome(Err(error)) if error.is_busy() && wait == Wait::Never => Ok(None),
            Waited::Outcome(outcome) => outcome.map(Some),
            Waited::Tick | Waited::Over => Ok(None),
        }
    }

    fn try_now(&self, thread: Option<ThreadId>) -> Result<Option<Arc<dyn Tenure>>> {
        let patience = Patience::new(Instant::now().checked_add(TO_COUNT))?;
        loop {
            match self.attempt(thread, &patience, Unproven(None), Yields::No, &Silence::default())? {
                Attempt::Granted(tenure) => return Ok(Some(tenure)),
                Attempt::Full(_) | Attempt::Over => return Ok(None),
                Attempt::Miscounted => {}
            }
        }
    }

    /// Counts the holders, and takes a slot if there is room for one more: the one that was granted already, or the first that
    /// is free.
    fn attempt(
        &self,
        thread: Option<ThreadId>,
        patience: &Patience,
        granted: Unproven,
        yields: Yields,
        silence: &Silence,
    ) -> Result<Attempt> {
        let Some(counting) = self.take(Part::Count, Wait::Forever, None, patience)? else { return Ok(Attempt::Over) };
        let counting = Taken::new(counting);
        silence.answered();
        let found = self.server.survey(self.limit, None)?;
        let has_turn = yields == Yields::No || !found.is_awaited;
        let mut survey = Survey::at_server(found.slots);
        survey.0.retain(|found| Some(found.number) != granted.number());
        if !has_turn || !survey.has_room(self.limit) {
            return Ok(Attempt::Full(survey));
        }
        let taken = match granted.0.is_some() {
            true => granted,
            false => self.take_free(&survey, thread, patience)?,
        };
        if taken.0.is_none() {
            return Ok(Attempt::Full(survey));
        }
        if let Err(error) = counting.release() {
            return if error.is_lost() { Ok(Attempt::Miscounted) } else { Err(error) };
        }
        let Some((number, file)) = taken.prove() else { return Ok(Attempt::Miscounted) };
        let target = self.server.target().to_owned();
        Ok(Attempt::Granted(Arc::new(SlotTenure { file, target, number, paths: None })))
    }

    fn take_free(&self, survey: &Survey, thread: Option<ThreadId>, patience: &Patience) -> Result<Unproven> {
        for number in survey.free(self.limit) {
            // A foreign program, or a waiter in the slot's own queue, may have it since.
            if let Some(tenure) = self.take(Part::Slot(number), Wait::Never, thread, patience)? {
                return Ok(Unproven(Some((number, tenure))));
            }
        }
        Ok(Unproven(None))
    }

    /// Waits for a slot. `None` at the end of the patience.
    fn wait(&self, thread: Option<ThreadId>, patience: &Patience) -> Result<Option<Arc<dyn Tenure>>> {
        // While none waits, this one need not either.
        let silence = Silence::default();
        let attempt = self.attempt(thread, patience, Unproven(None), Yields::Yes, &silence);
        match silence.bears(attempt, patience)? {
            Some(Attempt::Granted(tenure)) => return Ok(Some(tenure)),
            Some(Attempt::Over) => return Ok(None),
            Some(Attempt::Full(survey)) => self.refuse_deadlock(&survey, thread)?,
            Some(Attempt::Miscounted) | None => {}
        }
        let Some(first) = self.take(Part::Next, Wait::Forever, None, patience)? else { return Ok(None) };
        let _first = Taken::new(first);
        self.wait_as_first(thread, patience, &silence)
    }

    /// Waits for room, as the first of those that wait.
    fn wait_as_first(
        &self,
        thread: Option<ThreadId>,
        patience: &Patience,
        silence: &Silence,
    ) -> Result<Option<Arc<dyn Tenure>>> {
        let mut queues = BTreeMap::new();
        let mut granted = Unproven(None);
        loop {
            let kept = std::mem::replace(&mut granted, Unproven(None));
            let attempt = self.attempt(thread, patience, kept, Yields::No, silence);
            let survey = match silence.bears(attempt, patience)? {
                Some(Attempt::Granted(tenure)) => {
                    // A place that is left later may be granted meanwhile, and would look like a holder.
                    Queued::leave_all(&mut queues, Instant::now() + TO_LEAVE);
                    return Ok(Some(tenure));
                }
                Some(Attempt::Over) => return Ok(None),
                Some(Attempt::Full(survey)) => survey,
                Some(Attempt::Miscounted) | None => continue,
            };
            // Later a slot may be granted to this acquire that it has not seen yet.
            if queues.is_empty() {
                self.refuse_deadlock(&survey, thread)?;
            }
            let is_complete = self.queue_for(&survey, &mut queues, thread)?;
            let look = Instant::now() + LOOK;
            match patience.wait_any(&mut queues, (!is_complete).then_some(look))? {
                (_, Waited::Over) => return Ok(None),
                (_, Waited::Tick) => {}
                (number, Waited::Outcome(outcome)) => {
                    let Some(tenure) = silence.bears(outcome, patience)? else { continue };
                    // Of several that were granted it keeps one, and a slot beyond its own number is another's.
                    queues.retain(|_, queued: &mut Queued| !queued.abandon_grant());
                    granted = Unproven(Some((number, tenure)));
                    if number >= self.limit {
                        granted = Unproven(None);
                    }
                }
            }
        }
    }

    /// Queues for the slots that are held. Returns whether the end of each ends the wait.
    fn queue_for(&self, survey: &Survey, queues: &mut BTreeMap<u32, Queued>, thread: Option<ThreadId>) -> Result<bool> {
        for found in survey.held() {
            if queues.contains_key(&found.number) {
                continue;
            }
            if queues.len() >= MOST_QUEUES {
                return Ok(false);
            }
            let slot = self.server.open(Part::Slot(found.number))?;
            // A server's lock is never granted at once.
            if let Ok(queued) = Queued::new(slot.begin(LockKind::Exclusive, Wait::Forever, thread)?) {
                queues.insert(found.number, queued);
            }
        }
        Ok(!queues.is_empty())
    }

    /// Fails if this acquire would wait for its own end: too many slots are held by its own thread.
    fn refuse_deadlock(&self, survey: &Survey, thread: Option<ThreadId>) -> Result<()> {
        let Some(thread) = thread.filter(|_| self.deadlock_check) else { return Ok(()) };
        let own: Vec<_> = survey.held().filter(|found| self.server.is_held_by(found.number, thread)).collect();
        let limits = own.iter().map(|found| found.limit());
        if survey.has_room(self.limit) || own.is_empty() || has_room(limits, self.limit) {
            return Ok(());
        }
        let holder = own.first().and_then(|found| found.status.holder.clone());
        let detail = "the slots are held by this thread, which would wait for itself";
        let error = Error::new(ErrorKind::WouldDeadlock, self.server.target(), detail).with_holder(holder);
        Err(error.with_hint("release a slot first").with_advice(Advice::Reenter))
    }

    fn busy(&self) -> Error {
        let found = self.server.survey(self.limit, Instant::now().checked_add(TO_EXPLAIN)).unwrap_or_default();
        let survey = Survey::at_server(found.slots);
        let (limit, held, target) = (self.limit, survey.held().count(), self.server.target());
        let detail = format!("no slot of {limit} is free: {held} held, as by another process");
        Error::new(ErrorKind::Busy, target, detail)
            .with_hint(format!("`tenure status {}` says more", crate::util::text::word(target)))
            .with_holder(survey.first_holder())
    }
}
