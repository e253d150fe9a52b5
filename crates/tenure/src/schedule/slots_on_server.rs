//! Slots on a server: the same rule and the same locks as beside a file (see [`slots`](super::slots)), of numbered names.
//!
//! A lock on a server may be lost while an acquire counts, and then another one may count too. So what was counted holds
//! good only if the release of the right to count succeeded: the server then says that no other had it since.
//!
//! The first waiter queues for the held slots themselves, whose grants are its events. It keeps such a grant only if its
//! count says so. Until then the grant is a holder that is counted, and that does not work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::patience::{Patience, Queued, Returns, Waited};
use super::pending::ThreadedAcquire;
use super::survey::Survey;
use super::tenure::SlotTenure;
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::options::{Options, Wait};
use crate::model::rank::Rank;
use crate::model::requester::{self, RequesterId};
use crate::model::slots::{MOST, Part, SlotAcquire, SlotServer, has_room};
use crate::model::status::Status;
use crate::model::tenure::{Backend, Begun, Tenure};
use crate::sys::LockKind;

/// How long an acquire that does not wait has for its turn to count: each takes some requests.
const TO_COUNT: Duration = Duration::from_secs(5);
/// How long it waits without a look where it cannot queue for all that are held.
const LOOK: Duration = Duration::from_secs(1);
/// How long a waiter keeps trying to reach a server that has gone, and the pause between two attempts.
const RETURN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// The time that a waiter takes to leave the queues in which it waited no longer.
const TO_LEAVE: Duration = Duration::from_secs(1);
/// The time that a server has to answer, however soon the caller's deadline is, and the time of a first request.
const ANSWER: Duration = Duration::from_secs(1);
const ASK: Duration = Duration::from_millis(10);
/// The maximum time of a release.
const TO_RELEASE: Duration = Duration::from_secs(6);

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

/// One acquire.
struct Acquiring {
    /// Ends only when the acquire is given up. Each step keeps the deadline, because only the step knows whether the lock is
    /// busy or the server silent.
    patience: Arc<Patience>,
    deadline: Option<Instant>,
    /// The moment since which the server must have answered if the slots are to be called busy.
    needs_word_since: Option<Instant>,
    /// The thread or task that would wait for itself.
    requester: Option<RequesterId>,
    /// The requesters around it, which cannot go on while it waits.
    around: Vec<RequesterId>,
    known: Arc<Mutex<Known>>,
}

/// What an acquire knows of its server.
#[derive(Default)]
struct Known {
    /// When the server answered last.
    answered: Option<Instant>,
    /// The number of slots that were held when they were counted last, and the first holder.
    held: Option<(usize, Option<Holder>)>,
}

fn known(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acquiring {
    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn is_over(&self) -> bool {
        self.patience.is_given_up() || self.is_late()
    }

    /// Returns how long a step waits for a lock. Also an acquire whose time is short asks once.
    fn wait(&self) -> Wait {
        self.deadline.map_or(Wait::Forever, |deadline| Wait::Until(deadline.max(Instant::now() + ASK)))
    }

    /// Returns when the server must have answered a request that is sent now.
    fn answer_by(&self) -> Option<Instant> {
        self.deadline.map(|deadline| deadline.max(Instant::now() + ANSWER))
    }

    /// Returns `at`, or the deadline if that comes before.
    fn until(&self, at: Instant) -> Instant {
        self.deadline.map_or(at, |deadline| deadline.min(at))
    }

    fn answered(&self) {
        known(&self.known).answered = Some(Instant::now());
    }

    /// Returns the outcome of a step, or `None` where the server was silent and is asked again. A waiter that has had an answer
    /// does not fail at the first silence.
    fn bears<T>(&self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(error) if error.is_unreachable() && !error.takes_no_writes() && !self.is_over() => {
                if known(&self.known).answered.is_none_or(|answered| answered.elapsed() > RETURN) {
                    return Err(error);
                }
                self.patience.pause(Some(self.until(Instant::now() + PAUSE)))?;
                Ok(None)
            }
            outcome => {
                self.answered();
                outcome.map(Some)
            }
        }
    }
}

/// A lock that an acquire has while it counts or waits.
struct Kept<'a> {
    tenure: Option<Arc<dyn Tenure>>,
    acquiring: &'a Acquiring,
}

impl Kept<'_> {
    /// Releases the lock, and returns whether it was held to the end.
    fn release(mut self) -> Result<()> {
        self.end()
    }

    /// An acquire that is over waits for the server's answer for a moment only.
    fn end(&mut self) -> Result<()> {
        let Some(tenure) = self.tenure.take() else { return Ok(()) };
        let acquiring = self.acquiring;
        let usual = Instant::now() + TO_RELEASE;
        let mut end = acquiring.answer_by().map_or(usual, |by| by.min(usual));
        let mut is_given_up = false;
        acquiring.patience.release(&tenure, || {
            if !is_given_up && acquiring.patience.is_given_up() {
                is_given_up = true;
                end = end.min(Instant::now() + ANSWER);
            }
            end
        })
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        // Its lease ends in any case.
        let _ = self.end();
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

    fn cluster(&self, answer_by: Option<Instant>) -> Result<String> {
        self.0.server.cluster(answer_by)
    }

    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        let began = Instant::now();
        let (may_wait, acquiring) = self.0.start(kind, wait, Some(requester::current()), requester::around())?;
        let _returns = Returns(&acquiring.patience);
        self.0.run(may_wait, &acquiring).map_err(|error| match error.is_busy() {
            true => error.with_waited(began.elapsed()),
            false => error,
        })
    }

    fn begin(&self, kind: LockKind, wait: Wait, requester: Option<RequesterId>) -> Result<Begun> {
        let began = Instant::now();
        let (may_wait, acquiring) = self.0.start(kind, wait, requester, Vec::new())?;
        let (patience, known) = (Arc::clone(&acquiring.patience), Arc::clone(&acquiring.known));
        // A thread waits for the server's answers, also where the acquire does not wait for a slot. It keeps the deadline.
        let (parts, again) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let acquire = move |_: &Patience| match parts.run(may_wait, &acquiring) {
            Err(error) if error.is_busy() => Err(error.with_waited(began.elapsed())),
            outcome => outcome.map(Some),
        };
        let pending = ThreadedAcquire::start(patience, None, acquire, move || again.busy(&known))?;
        Ok(Begun::Pending(Box::new(pending)))
    }

    fn status(&self) -> Result<Status> {
        self.0.server.status()
    }

    /// A server keeps no history.
    fn note_failure(&self, _: &Error, _: LockKind) {}
}

impl Parts {
    /// Begins an acquire. Returns whether it waits.
    fn start(
        &self,
        kind: LockKind,
        wait: Wait,
        requester: Option<RequesterId>,
        around: Vec<RequesterId>,
    ) -> Result<(bool, Acquiring)> {
        if kind == LockKind::Shared {
            let detail = "a slot cannot be shared";
            return Err(Error::new(ErrorKind::Unsupported, self.server.target(), detail));
        }
        let now = Instant::now();
        let deadline = wait.deadline(now);
        let may_wait = deadline.is_none_or(|deadline| deadline > now);
        let (deadline, needs_word_since) = match may_wait {
            true => (deadline, deadline),
            false => (now.checked_add(TO_COUNT), Some(now)),
        };
        let patience = Arc::new(Patience::new(None)?);
        let waiting: Arc<dyn SlotAcquire> = Arc::<Patience>::clone(&patience);
        self.server.add_waiting(Arc::downgrade(&waiting));
        Ok((may_wait, Acquiring { patience, deadline, needs_word_since, requester, around, known: Arc::default() }))
    }

    /// Acquires to the outcome.
    fn run(&self, may_wait: bool, acquiring: &Acquiring) -> Result<Arc<dyn Tenure>> {
        let granted = match may_wait {
            true => self.wait(acquiring)?,
            false => self.try_now(acquiring)?,
        };
        if granted.is_none() && acquiring.patience.is_given_up() {
            let detail = "the wait was given up: the program is about to end";
            return Err(Error::new(ErrorKind::Busy, self.server.target(), detail));
        }
        granted.ok_or_else(|| self.late(acquiring))
    }

    /// Takes one of the locks. `None` at the end of the wait, or, for an acquire that never waits, if it is busy.
    fn take(&self, part: Part, wait: Wait, acquiring: &Acquiring) -> Result<Option<Arc<dyn Tenure>>> {
        if acquiring.patience.is_given_up() {
            return Ok(None);
        }
        let requester = acquiring.requester.filter(|_| matches!(part, Part::Slot(_)));
        let answer_by = acquiring.answer_by().filter(|_| wait == Wait::Never);
        let mut queued = match Queued::new(self.server.open(part)?.begin(LockKind::Exclusive, wait, requester)?) {
            Err(tenure) => return Ok(Some(tenure)),
            Ok(queued) => queued,
        };
        match acquiring.patience.wait(&mut queued, answer_by)? {
            Waited::Outcome(Err(error)) if error.is_busy() => {
                // By the server's word.
                acquiring.answered();
                Ok(None)
            }
            Waited::Outcome(outcome) => outcome.map(Some),
            Waited::Tick => {
                let detail = "the server did not answer in time";
                Err(Error::new(ErrorKind::Unreachable, self.server.target(), detail))
            }
            Waited::Over => Ok(None),
        }
    }

    fn keep<'a>(&self, part: Part, acquiring: &'a Acquiring) -> Result<Option<Kept<'a>>> {
        let tenure = self.take(part, acquiring.wait(), acquiring)?;
        Ok(tenure.map(|tenure| Kept { tenure: Some(tenure), acquiring }))
    }

    fn try_now(&self, acquiring: &Acquiring) -> Result<Option<Arc<dyn Tenure>>> {
        loop {
            match self.attempt(acquiring, Unproven(None), Yields::No)? {
                Attempt::Granted(tenure) => return Ok(Some(tenure)),
                Attempt::Full(_) | Attempt::Over => return Ok(None),
                Attempt::Miscounted if acquiring.is_over() => return Ok(None),
                Attempt::Miscounted => {}
            }
        }
    }

    /// Counts the holders, and takes a slot if there is room for one more: the one that was granted already, or the first that
    /// is free.
    fn attempt(&self, acquiring: &Acquiring, granted: Unproven, yields: Yields) -> Result<Attempt> {
        let Some(counting) = self.keep(Part::Count, acquiring)? else { return Ok(Attempt::Over) };
        acquiring.answered();
        let found = self.server.survey(self.limit, acquiring.answer_by())?;
        let has_turn = yields == Yields::No || !found.is_awaited;
        let mut survey = Survey::at_server(found.slots);
        survey.0.retain(|found| Some(found.number) != granted.number());
        known(&acquiring.known).held = Some((survey.held().count(), survey.first_holder()));
        if !has_turn || !survey.has_room(self.limit) {
            return Ok(Attempt::Full(survey));
        }
        let taken = match granted.0.is_some() {
            true => granted,
            false => self.take_free(&survey, acquiring)?,
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

    fn take_free(&self, survey: &Survey, acquiring: &Acquiring) -> Result<Unproven> {
        for number in survey.free(self.limit) {
            // A foreign program, or a waiter in the slot's own queue, may have it since.
            if let Some(tenure) = self.take(Part::Slot(number), Wait::Never, acquiring)? {
                return Ok(Unproven(Some((number, tenure))));
            }
        }
        Ok(Unproven(None))
    }

    /// Waits for a slot. `None` at the end of the wait.
    fn wait(&self, acquiring: &Acquiring) -> Result<Option<Arc<dyn Tenure>>> {
        // While none waits, this one need not either.
        let attempt = self.attempt(acquiring, Unproven(None), Yields::Yes);
        match acquiring.bears(attempt)? {
            Some(Attempt::Granted(tenure)) => return Ok(Some(tenure)),
            Some(Attempt::Over) => return Ok(None),
            Some(Attempt::Full(survey)) => self.refuse_deadlock(&survey, acquiring)?,
            Some(Attempt::Miscounted) | None => {}
        }
        if acquiring.is_over() {
            return Ok(None);
        }
        let Some(_first) = self.keep(Part::Next, acquiring)? else { return Ok(None) };
        self.wait_as_first(acquiring)
    }

    /// Waits for room, as the first of those that wait.
    fn wait_as_first(&self, acquiring: &Acquiring) -> Result<Option<Arc<dyn Tenure>>> {
        let mut queues = BTreeMap::new();
        let mut granted = Unproven(None);
        while !acquiring.is_over() {
            let kept = std::mem::replace(&mut granted, Unproven(None));
            let attempt = self.attempt(acquiring, kept, Yields::No);
            let survey = match acquiring.bears(attempt)? {
                Some(Attempt::Granted(tenure)) => {
                    // A place that is left later may be granted meanwhile, and would look like a holder.
                    Queued::leave_all(&mut queues, Instant::now() + TO_LEAVE);
                    return Ok(Some(tenure));
                }
                Some(Attempt::Over) => break,
                Some(Attempt::Full(survey)) => survey,
                Some(Attempt::Miscounted) | None => continue,
            };
            // Later a slot may be granted to this acquire that it has not seen yet.
            if queues.is_empty() {
                self.refuse_deadlock(&survey, acquiring)?;
            }
            let is_complete = self.queue_for(&survey, &mut queues, acquiring)?;
            let look = acquiring.until(Instant::now() + LOOK);
            match acquiring.patience.wait_any(&mut queues, (!is_complete).then_some(look))? {
                (_, Waited::Over) => break,
                (_, Waited::Tick) => {}
                (_, Waited::Outcome(Err(error))) if error.is_busy() => {
                    acquiring.answered();
                    break;
                }
                (number, Waited::Outcome(outcome)) => {
                    let Some(tenure) = acquiring.bears(outcome)? else { continue };
                    // Of several that were granted it keeps one, and a slot beyond its own number is another's.
                    queues.retain(|_, queued: &mut Queued| !queued.abandon_grant());
                    granted = Unproven(Some((number, tenure)));
                    if number >= self.limit {
                        granted = Unproven(None);
                    }
                }
            }
        }
        // Before it leaves the place of the first.
        Queued::leave_all(&mut queues, Instant::now() + TO_LEAVE);
        Ok(None)
    }

    /// Queues for the slots that are held. Returns whether the end of each ends the wait.
    fn queue_for(&self, survey: &Survey, queues: &mut BTreeMap<u32, Queued>, acquiring: &Acquiring) -> Result<bool> {
        for found in survey.held() {
            if queues.contains_key(&found.number) {
                continue;
            }
            if queues.len() >= self.server.most_queues() {
                return Ok(false);
            }
            let slot = self.server.open(Part::Slot(found.number))?;
            // A server's lock is never granted at once.
            if let Ok(queued) = Queued::new(slot.begin(LockKind::Exclusive, acquiring.wait(), acquiring.requester)?) {
                queues.insert(found.number, queued);
            }
        }
        Ok(!queues.is_empty())
    }

    /// Fails if this acquire would wait for its own end: too many slots are held by its own thread or task.
    fn refuse_deadlock(&self, survey: &Survey, acquiring: &Acquiring) -> Result<()> {
        if !self.deadlock_check {
            return Ok(());
        }
        let waits_for_us = |number| {
            acquiring.requester.iter().chain(&acquiring.around).any(|one| self.server.is_held_by(number, *one))
        };
        let own: Vec<_> = survey.held().filter(|found| waits_for_us(found.number)).collect();
        let limits = own.iter().map(|found| found.limit());
        if survey.has_room(self.limit) || own.is_empty() || has_room(limits, self.limit) {
            return Ok(());
        }
        let holder = own.first().and_then(|found| found.status.holder.clone());
        let detail = "the slots are held by this thread or task, which would wait for itself";
        let error = Error::new(ErrorKind::WouldDeadlock, self.server.target(), detail).with_holder(holder);
        Err(error.with_hint("release a slot first").with_advice(Advice::Reenter))
    }

    /// Returns the error of an acquire that got no slot in its time. A server that was silent at the deadline is asked, because
    /// "busy" is its word.
    fn late(&self, acquiring: &Acquiring) -> Error {
        let answered = known(&acquiring.known).answered;
        if acquiring.needs_word_since.is_some_and(|since| answered.is_none_or(|answered| answered < since))
            && let Err(error) = self.server.survey(self.limit, Some(Instant::now() + ANSWER))
            && error.is_unreachable()
        {
            return error;
        }
        self.busy(&acquiring.known)
    }

    /// Returns the error of an acquire that got no slot in its time. It asks the server nothing.
    fn busy(&self, known_by_acquire: &Mutex<Known>) -> Error {
        let (held, holder) = match &known(known_by_acquire).held {
            Some((held, holder)) => (Some(*held), holder.clone()),
            None => (None, None),
        };
        let (limit, target) = (self.limit, self.server.target());
        let detail = match held {
            Some(held) => format!("no slot of {limit} is free: {held} held, one of them by another process"),
            None => "its slots could not be counted in time: others count them".to_owned(),
        };
        Error::new(ErrorKind::Busy, target, detail)
            .with_hint(format!("`tenure status {}` says more", crate::util::text::word(target)))
            .with_holder(holder)
    }
}
