//! The patience of an acquire: how long it waits, and whether its caller has given it up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::slots::SlotAcquire;
use crate::model::tenure::{Begun, Pending, Tenure};
use crate::sys::{self, FileWatch, Wakeup};

/// The longest single wait, so that no duration exceeds what the system takes.
const LONGEST: Duration = Duration::from_secs(3600);

/// The deadline of an acquire, and the way to end it before.
#[derive(Debug)]
pub(crate) struct Patience {
    deadline: Option<Instant>,
    wakeup: Arc<Bell>,
    given_up: AtomicBool,
    /// Whether the acquire has returned, and has no lock but the one that it was granted.
    returned: Mutex<bool>,
    changed: Condvar,
}

/// Records the return of an acquire when it is dropped, also after a panic.
pub(crate) struct Returns<'a>(pub(crate) &'a Patience);

impl Drop for Returns<'_> {
    fn drop(&mut self) {
        *self.0.returned() = true;
        self.0.changed.notify_all();
    }
}

/// Wakes the thread that waits, as a [`Waker`].
#[derive(Debug)]
struct Bell(Wakeup);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

/// The end of one wait.
pub(crate) enum Waited {
    Outcome(Result<Arc<dyn Tenure>>),
    /// The time that the caller named has come.
    Tick,
    /// The deadline has passed, or the acquire was given up.
    Over,
}

impl Patience {
    pub(crate) fn new(deadline: Option<Instant>) -> Result<Patience> {
        let wakeup = Wakeup::new().map_err(|error| Error::io("eventfd", "a wake-up cannot be created", error))?;
        let (wakeup, given_up) = (Arc::new(Bell(wakeup)), AtomicBool::new(false));
        Ok(Patience { deadline, wakeup, given_up, returned: Mutex::new(false), changed: Condvar::new() })
    }

    /// Ends the acquire from another thread.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.wakeup.0.wake();
    }

    fn returned(&self) -> MutexGuard<'_, bool> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the acquire has [returned](Returns), or until `end`.
    pub(crate) fn await_returned(&self, end: Instant) {
        let left = end.saturating_duration_since(Instant::now());
        let _ = self.changed.wait_timeout_while(self.returned(), left, |returned| !*returned);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Releases a lock on a server, until `end` at most, which is asked again whenever this is woken.
    pub(crate) fn release(&self, tenure: &Arc<dyn Tenure>, mut end: impl FnMut() -> Instant) -> Result<()> {
        let waker = Waker::from(Arc::clone(&self.wakeup));
        if let Some(outcome) = Arc::clone(tenure).start_release() {
            return outcome;
        }
        loop {
            if let Some(outcome) = tenure.poll_release(&waker) {
                return outcome;
            }
            let end = end();
            if Instant::now() >= end {
                let detail = "the server did not answer to the release";
                return Err(Error::new(ErrorKind::Unreachable, tenure.facts().target, detail));
            }
            self.pause(Some(end))?;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_given_up() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits for the outcome of `queued`, until `until` at most.
    pub(crate) fn wait(&self, queued: &mut Queued, until: Option<Instant>) -> Result<Waited> {
        let waker = Waker::from(Arc::clone(&self.wakeup));
        loop {
            if let Some(outcome) = queued.poll(&waker) {
                return Ok(Waited::Outcome(outcome));
            }
            if self.is_over() {
                return Ok(queued.give_up().map_or(Waited::Over, Waited::Outcome));
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Waited::Tick);
            }
            self.pause(until)?;
        }
    }

    /// Waits for the outcome of any of `queued`, until `until` at most. A place that has its outcome is removed.
    pub(crate) fn wait_any(&self, queued: &mut BTreeMap<u32, Queued>, until: Option<Instant>) -> Result<(u32, Waited)> {
        let waker = Waker::from(Arc::clone(&self.wakeup));
        loop {
            let outcome = queued.iter_mut().find_map(|(key, queued)| Some((*key, queued.poll(&waker)?)));
            if let Some((key, outcome)) = outcome {
                queued.remove(&key);
                return Ok((key, Waited::Outcome(outcome)));
            }
            if self.is_over() {
                return Ok((0, Waited::Over));
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok((0, Waited::Tick));
            }
            self.pause(until)?;
        }
    }

    /// Waits until one of the watched files changes, or for `timeout`. Returns whether a file has changed.
    pub(crate) fn watch(&self, watches: &[FileWatch], timeout: Duration) -> Result<bool> {
        let failed = |error| Error::io("poll", "the wait failed", error);
        let first = watches.first();
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(timeout, |left| left.min(timeout));
        sys::wait_any(first, None, &self.wakeup.0, timeout).map_err(failed)?;
        first.map_or(Ok(false), |first| first.wait(Duration::ZERO)).map_err(failed)
    }

    /// Sleeps until this is woken, until the deadline, or until `until`. May return early.
    pub(crate) fn pause(&self, until: Option<Instant>) -> Result<()> {
        let now = Instant::now();
        let ends = [self.deadline, until].into_iter().flatten().map(|at| at.saturating_duration_since(now));
        let timeout = ends.fold(LONGEST, Duration::min);
        sys::wait_any(None, None, &self.wakeup.0, timeout).map_err(|error| Error::io("poll", "the wait failed", error))
    }
}

impl SlotAcquire for Patience {
    fn give_up(&self) {
        self.give_up();
    }

    fn await_returned(&self, end: Instant) {
        self.await_returned(end);
    }
}

/// A place in the queue of a lock. Dropping it leaves the queue, and abandons a grant that had come by then.
pub(crate) struct Queued(Option<Box<dyn Pending>>);

impl Queued {
    /// Takes the place that an acquire has begun with. A grant is returned at once.
    pub(crate) fn new(begun: Begun) -> std::result::Result<Queued, Arc<dyn Tenure>> {
        match begun {
            Begun::Granted(tenure) => Err(tenure),
            Begun::Pending(pending) => Ok(Queued(Some(pending))),
        }
    }

    fn poll(&mut self, waker: &Waker) -> Option<Result<Arc<dyn Tenure>>> {
        let outcome = self.0.as_ref()?.poll(waker)?;
        self.0 = None;
        Some(outcome)
    }

    /// Leaves the queue if a grant has come, which is abandoned. Returns whether one had.
    pub(crate) fn abandon_grant(&mut self) -> bool {
        match self.poll(Waker::noop()) {
            Some(Ok(tenure)) => {
                tenure.abandon();
                true
            }
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Leaves all these queues, and waits until that is done, or until `end`. Grants that had come by then are abandoned.
    pub(crate) fn leave_all(queues: &mut BTreeMap<u32, Queued>, end: Instant) {
        let places: Vec<_> = queues.values_mut().filter_map(|queued| queued.0.take()).collect();
        for place in &places {
            if let Some(Ok(tenure)) = place.give_up() {
                tenure.abandon();
            }
        }
        places.iter().for_each(|place| place.await_left(end));
        queues.clear();
    }

    fn give_up(&mut self) -> Option<Result<Arc<dyn Tenure>>> {
        self.0.take()?.give_up()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if let Some(Ok(tenure)) = self.give_up() {
            tenure.abandon();
        }
    }
}
