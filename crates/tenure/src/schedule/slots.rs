//! Slots: a lock that several hold at once, each with a numbered lock of its own.
//!
//! | lock | held |
//! | --- | --- |
//! | `<target>.slot-N` | by a holder of a slot, for its whole tenure. Its record has the number of slots |
//! | `<target>.slots` | while an acquire counts the holders and takes a slot. Never over a wait |
//! | `<target>.next` | by the first of those that wait. The others queue for it |
//!
//! Each is an ordinary lock of a path, so a crash frees it at once. A slot is only taken under the second lock, so the
//! number of holders can only fall between the count and the grant.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::next::{self, WaiterPlace};
use super::patience::{Patience, Queued, Waited};
use super::pending::ThreadedAcquire;
use super::survey::Survey;
use super::tenure::SlotTenure;
use crate::file::nested::ancestor_holder;
use crate::file::paths::LockPaths;
use crate::file::slots::{existing, slot_paths};
use crate::file::status::current_holder;
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::options::{IfBusy, Options, StalePolicy, Style, Wait};
use crate::model::rank::Rank;
use crate::model::requester::{self, RequesterId};
use crate::model::slots::{MOST, Part, has_room};
use crate::model::status::{State, Status};
use crate::model::tenure::{Backend, Begun, Tenure};
use crate::sys::{Access, FileWatch, LockKind};
use crate::wait::deadlock::AnnouncedWait;
use crate::wait::file_lock::FileLock;

/// How long an acquire that does not wait has for its turn to count: each takes some system calls.
const TO_COUNT: Duration = Duration::from_secs(5);
/// The pauses before the looks that follow an event: a process's end is reported before its kernel lock is free.
const SOON: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(16),
    Duration::from_millis(64),
    Duration::from_millis(256),
];
/// How long the first waiter waits without a look, whatever the events say.
const SLOW_CHECK: Duration = Duration::from_secs(1);
/// The same where some slots cannot be watched.
const FAST_CHECK: Duration = Duration::from_millis(50);
/// The shortest and the longest interval at which the others check that the first waiter takes what is free.
const CHECK_FIRST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// A lock with slots.
#[derive(Debug)]
pub(crate) struct SlotsLock(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    paths: Arc<LockPaths>,
    options: Options,
    limit: u32,
    /// The right to count the holders and to take a slot.
    count: FileLock,
    /// The place of the first waiter.
    first: FileLock,
    first_paths: LockPaths,
}

/// The paths of the slots, by their numbers. They are made for each attempt, without a system call: a mutex over ones that are
/// kept could be locked for ever in a forked child.
type Slots = BTreeMap<u32, Arc<LockPaths>>;

/// One acquire.
struct Acquiring {
    requester: Option<RequesterId>,
    /// The requesters around it, which cannot go on while it waits.
    around: Vec<RequesterId>,
    /// What the process says of its wait; `None` until it waits.
    announced: Option<Option<AnnouncedWait>>,
}

impl Acquiring {
    fn new(requester: Option<RequesterId>, around: Vec<RequesterId>) -> Acquiring {
        Acquiring { requester, around, announced: None }
    }

    /// Announces once that it waits. Fails if the wait closes a circle.
    fn announce(&mut self, parts: &Parts, patience: &Patience) -> Result<()> {
        if self.announced.is_some() {
            return Ok(());
        }
        let Parts { paths, options, limit, .. } = parts;
        let announced = AnnouncedWait::begin_for_slot(paths, options, *limit, self.requester, &self.around)?;
        match self.announced.insert(announced).as_mut().and_then(AnnouncedWait::take_undecided) {
            Some(look) => look.decide(|| !patience.is_over()),
            None => Ok(()),
        }
    }
}

/// The outcome of one attempt.
enum Attempt {
    Granted(Arc<dyn Tenure>),
    /// There is no room.
    Full(Survey),
    /// The time to count did not come.
    Over,
}

impl SlotsLock {
    pub(crate) fn open(target: &Path, options: Options) -> Result<SlotsLock> {
        let limit = options.slots.unwrap_or(1);
        let unsupported = |what: &'static str| Err(Error::new(ErrorKind::Unsupported, target, what));
        if !(1..=MOST).contains(&limit) {
            return unsupported("a lock has from 1 to 1000 slots");
        }
        if options.style != Style::LockFile || !options.record {
            return unsupported(
                "slots are locks with lock files: neither flock style nor a lock without a record has them",
            );
        }
        if options.history > 0 {
            return unsupported("a lock with slots keeps no history");
        }
        if options.reentrant {
            return unsupported("a slot cannot be acquired again: each acquire takes a slot of its own");
        }
        if options.stale_policy != StalePolicy::Proof {
            return unsupported("a live holder's slot cannot be stolen for its age: break that slot's lock");
        }
        if options.if_busy == IfBusy::Replace || options.not_more_often_than.is_some() {
            return unsupported(
                "several hold at once: neither is one of them replaced, nor is a run skipped for another's success",
            );
        }
        let paths = Arc::new(LockPaths::open(target, options.create_parents)?);
        let mut own = Options::default().refresh_interval(Duration::MAX);
        own.mode = options.mode;
        let mut count = target.as_os_str().to_owned();
        count.push(Part::Count.suffix());
        let (count, first_paths) =
            (FileLock::at(&paths.beside(count.into())?, own), paths.beside(next::place_of(target))?);
        let first = next::at(&first_paths, &options);
        // The longest name of a slot is checked now, not at an acquire.
        slot_paths(&paths, MOST - 1)?;
        Ok(SlotsLock(Arc::new(Parts { paths, options, limit, count, first, first_paths })))
    }
}

impl Backend for SlotsLock {
    fn target(&self) -> &Path {
        &self.0.paths.target_path
    }

    fn rank(&self) -> Result<Rank> {
        // The lock without slots is another.
        self.0.count.rank()
    }

    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        let mut acquiring = Acquiring::new(Some(requester::current()), requester::around());
        let began = Instant::now();
        let parts = &self.0;
        let (may_wait, deadline) = parts.may_wait(kind, wait, began)?;
        let patience = Patience::new(deadline)?;
        let granted = match may_wait {
            true => parts.wait(&mut acquiring, &patience)?,
            false => parts.try_now(acquiring.requester)?,
        };
        granted.ok_or_else(|| parts.busy().with_waited(began.elapsed()))
    }

    fn begin(&self, kind: LockKind, wait: Wait, requester: Option<RequesterId>) -> Result<Begun> {
        let began = Instant::now();
        let (may_wait, deadline) = self.0.may_wait(kind, wait, began)?;
        if !may_wait {
            return self.0.try_now(requester)?.map(Begun::Granted).ok_or_else(|| self.0.busy());
        }
        // A thread counts, because another process may be counting.
        let patience = Arc::new(Patience::new(None)?);
        let (parts, again) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let acquire = move |patience: &Patience| parts.wait(&mut Acquiring::new(requester, Vec::new()), patience);
        let pending = ThreadedAcquire::start(patience, deadline, acquire, move || again.busy())?;
        Ok(Begun::Pending(Box::new(pending)))
    }

    fn status(&self) -> Result<Status> {
        crate::file::status::examine(&self.0.paths, &Options::default())
    }

    /// A lock with slots keeps no history.
    fn note_failure(&self, _: &Error, _: LockKind) {}
}

impl Parts {
    /// Returns whether the acquire waits, and until when.
    fn may_wait(&self, kind: LockKind, wait: Wait, now: Instant) -> Result<(bool, Option<Instant>)> {
        if kind == LockKind::Shared {
            let detail = "a slot cannot be shared";
            return Err(Error::new(ErrorKind::Unsupported, &self.paths.target_path, detail));
        }
        let deadline = wait.deadline(now);
        let never = deadline.is_some_and(|deadline| deadline <= now) || self.options.if_busy == IfBusy::Skip;
        Ok((!never, deadline))
    }

    /// Returns every slot below the number of slots, and each other one that has an anchor.
    fn all(&self) -> Result<Slots> {
        let mut numbers = existing(&self.paths)?;
        numbers.extend(0..self.limit);
        numbers.into_iter().map(|number| Ok((number, Arc::new(slot_paths(&self.paths, number)?)))).collect()
    }

    fn lock_of(&self, paths: &LockPaths) -> FileLock {
        FileLock::at(paths, self.options.clone())
    }

    fn survey(slots: &Slots) -> Result<Survey> {
        Survey::of(slots.iter().map(|(number, paths)| (*number, paths)))
    }

    fn try_now(&self, requester: Option<RequesterId>) -> Result<Option<Arc<dyn Tenure>>> {
        let patience = Patience::new(Instant::now().checked_add(TO_COUNT))?;
        Ok(match self.attempt(requester, &patience)? {
            Attempt::Granted(tenure) => Some(tenure),
            Attempt::Full(_) | Attempt::Over => None,
        })
    }

    /// Counts the holders, and takes a slot if there is room for one more.
    fn attempt(&self, requester: Option<RequesterId>, patience: &Patience) -> Result<Attempt> {
        let _counting = match Queued::new(self.count.begin(LockKind::Exclusive, Wait::Forever, None)?) {
            Err(tenure) => next::Taken::new(tenure),
            Ok(mut queued) => match patience.wait(&mut queued, None)? {
                Waited::Outcome(outcome) => next::Taken::new(outcome?),
                Waited::Tick | Waited::Over => return Ok(Attempt::Over),
            },
        };
        let slots = self.all()?;
        let survey = Parts::survey(&slots)?;
        if !survey.has_room(self.limit) {
            return Ok(Attempt::Full(survey));
        }
        for number in survey.free(self.limit) {
            let Some(paths) = slots.get(&number) else { continue };
            match self.lock_of(paths).begin(LockKind::Exclusive, Wait::Never, requester) {
                // An acquire that never waits is not queued.
                Ok(begun) => {
                    if let Err(file) = Queued::new(begun) {
                        let (target, paths) = (self.paths.target_path.clone(), Some(Arc::clone(paths)));
                        return Ok(Attempt::Granted(Arc::new(SlotTenure { file, target, number, paths })));
                    }
                }
                // A foreign program, or a lock on the slot's own name.
                Err(error) if error.is_busy() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Attempt::Full(survey))
    }

    /// Waits for a slot. `None` at the end of the patience.
    fn wait(&self, acquiring: &mut Acquiring, patience: &Patience) -> Result<Option<Arc<dyn Tenure>>> {
        let first = if self.options.if_busy == IfBusy::QueueOne {
            match next::take_unless_another_waits(&self.first, &self.first_paths, patience)? {
                WaiterPlace::Taken(first) => first,
                WaiterPlace::AnotherWaits => return Err(next::another_waits(&self.paths.target_path, &self.first)),
                WaiterPlace::Over => return Ok(None),
            }
        } else {
            match next::try_take(&self.first)? {
                Some(first) => first,
                None => match self.wait_to_be_first(acquiring, patience)? {
                    First::Now(first) => first,
                    First::Granted(tenure) => return Ok(Some(tenure)),
                    First::Over => return Ok(None),
                },
            }
        };
        let tenure = self.wait_as_first(acquiring, patience);
        drop(first);
        tenure
    }

    /// Waits in the queue of those that wait.
    ///
    /// The first one may be stopped. If it has not taken what was free for it between two looks, this one takes a slot.
    fn wait_to_be_first(&self, acquiring: &mut Acquiring, patience: &Patience) -> Result<First> {
        let mut queued = match Queued::new(self.first.begin(LockKind::Exclusive, Wait::Forever, None)?) {
            Err(tenure) => return Ok(First::Now(next::Taken::new(tenure))),
            Ok(queued) => queued,
        };
        acquiring.announce(self, patience)?;
        let (mut interval, longest) = CHECK_FIRST;
        let mut unused = None;
        loop {
            match patience.wait(&mut queued, Some(Instant::now() + interval))? {
                Waited::Outcome(outcome) => return Ok(First::Now(next::Taken::new(outcome?))),
                Waited::Over => return Ok(First::Over),
                Waited::Tick => {}
            }
            let slots = self.all()?;
            let survey = Parts::survey(&slots)?;
            self.refuse_deadlock(&slots, &survey, acquiring)?;
            let head = current_holder(&self.first_paths);
            let for_head = head.as_ref().is_some_and(|head| survey.has_room(head.slots.unwrap_or(self.limit)));
            let seen = for_head.then(|| (head.and_then(|head| head.fence), survey.tenures()));
            if seen.is_some() && seen == unused {
                match self.attempt(acquiring.requester, patience)? {
                    Attempt::Granted(tenure) => return Ok(First::Granted(tenure)),
                    Attempt::Full(_) => {}
                    Attempt::Over => return Ok(First::Over),
                }
            }
            interval = if seen.is_some() { CHECK_FIRST.0 } else { (interval * 2).min(longest) };
            unused = seen;
        }
    }

    /// Waits for room, as the first of those that wait.
    fn wait_as_first(&self, acquiring: &mut Acquiring, patience: &Patience) -> Result<Option<Arc<dyn Tenure>>> {
        let mut looks = SOON.len();
        loop {
            // What changes after the watches began ends the wait.
            let slots = self.all()?;
            let (watches, complete) = watch(&slots);
            match self.attempt(acquiring.requester, patience)? {
                Attempt::Granted(tenure) => return Ok(Some(tenure)),
                Attempt::Over => return Ok(None),
                Attempt::Full(survey) => {
                    self.refuse_deadlock(&slots, &survey, acquiring)?;
                    acquiring.announce(self, patience)?;
                }
            }
            if patience.is_over() {
                return Ok(None);
            }
            let pause = SOON.get(looks).copied().unwrap_or(if complete { SLOW_CHECK } else { FAST_CHECK });
            looks = if patience.watch(&watches, pause)? { 0 } else { looks + 1 };
        }
    }

    /// Fails if this acquire would wait for its own end: too many slots are held by its own thread or task, or for this process as
    /// their command.
    fn refuse_deadlock(&self, slots: &Slots, survey: &Survey, acquiring: &Acquiring) -> Result<()> {
        if !self.options.deadlock_check || survey.has_room(self.limit) {
            return Ok(());
        }
        let waits_for_us = |paths: &Arc<LockPaths>| {
            let lock = self.lock_of(paths);
            acquiring.requester.iter().chain(&acquiring.around).any(|one| lock.is_held_by(*one))
                || ancestor_holder(paths).is_some()
        };
        let own: Vec<_> = survey.held().filter(|found| slots.get(&found.number).is_some_and(waits_for_us)).collect();
        let limits = own.iter().map(|found| found.limit());
        if own.is_empty() || has_room(limits, self.limit) {
            return Ok(());
        }
        let holder = own.first().and_then(|found| found.status.holder.clone());
        let detail = "the slots are held by this thread or task, or for this process as their command, which would wait for itself";
        let error = Error::new(ErrorKind::WouldDeadlock, &self.paths.target_path, detail).with_holder(holder);
        Err(error.with_hint("release a slot first").with_advice(Advice::Reenter))
    }

    fn busy(&self) -> Error {
        let survey = self.all().and_then(|slots| Parts::survey(&slots)).unwrap_or_default();
        let (limit, held) = (self.limit, survey.held().count());
        let word = crate::util::text::word(&self.paths.target_path);
        let detail = format!("no slot of {limit} is free: {held} held, one of them by another process");
        Error::new(ErrorKind::Busy, &self.paths.target_path, detail)
            .with_hint(format!("`tenure status {word}` says more"))
            .with_holder(survey.first_holder())
    }
}

/// Returns the status of each slot of `target` that is held or stale.
pub(crate) fn list(target: &Path) -> Result<Vec<Status>> {
    let Some(paths) = LockPaths::look(target)? else { return Ok(Vec::new()) };
    let slots = existing(&paths)?.into_iter().map(|number| Ok((number, Arc::new(slot_paths(&paths, number)?))));
    let slots = slots.collect::<Result<Vec<_>>>()?;
    let survey = Survey::of(slots.iter().map(|(number, paths)| (*number, paths)))?;
    Ok(survey.0.into_iter().map(|found| found.status).filter(|status| status.state != State::Free).collect())
}

/// The end of the wait to be the first.
enum First {
    Now(next::Taken),
    Granted(Arc<dyn Tenure>),
    Over,
}

/// Watches the anchors of the slots. Also returns whether an event of each ends a wait.
fn watch(slots: &Slots) -> (Vec<FileWatch>, bool) {
    let mut complete = true;
    let mut watches = Vec::new();
    for paths in slots.values() {
        // A slot without an anchor was never held.
        let Ok(file) = paths.dir.open_at(&paths.anchor, Access::Read) else { continue };
        match FileWatch::new(&file) {
            Ok(watch) => watches.push(watch),
            Err(_) => complete = false,
        }
    }
    (watches, complete && FileWatch::SHARES_EVENTS)
}
