//! The lock of a path with the options of this folder: [`Backend`] for them.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::next::WaiterPlace;
use super::patience::{Patience, Queued, Waited};
use super::pending::ThreadedAcquire;
use super::success::{self, Moment};
use super::tenure::CountedTenure;
use super::{next, replace};
use crate::file::history;
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::{IfBusy, Options, Wait};
use crate::model::rank::Rank;
use crate::model::requester::{self, RequesterId};
use crate::model::status::Status;
use crate::model::tenure::{Backend, Begun, Tenure};
use crate::sys::LockKind;
use crate::wait::file_lock::FileLock;

/// The lock of a path whose acquires do more than wait.
#[derive(Debug)]
pub(crate) struct ScheduledLock(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    file: FileLock,
    /// The place of the one waiter.
    place: Option<(FileLock, LockPaths)>,
    options: Options,
    paths: Arc<LockPaths>,
}

/// The requester of an acquire.
struct Requester {
    kind: LockKind,
    /// The thread or task that would wait for itself if it holds the lock already.
    id: Option<RequesterId>,
    /// The requesters around it, which cannot go on while it waits.
    around: Vec<RequesterId>,
}

impl ScheduledLock {
    pub(crate) fn open(target: &Path, options: Options) -> Result<ScheduledLock> {
        if options.not_more_often_than.is_some() && !options.record {
            let detail = "a lock without a record keeps no time of its last success";
            return Err(Error::new(ErrorKind::Unsupported, target, detail));
        }
        let paths = Arc::new(LockPaths::open(target, options.create_parents)?);
        let place = match options.if_busy {
            IfBusy::QueueOne => {
                let place = paths.beside(next::place_of(target))?;
                Some((next::at(&place, &options), place))
            }
            _ => None,
        };
        let file = FileLock::at(&paths, options.clone());
        Ok(ScheduledLock(Arc::new(Parts { file, place, options, paths })))
    }

    fn requester(&self, kind: LockKind, id: Option<RequesterId>, around: Vec<RequesterId>) -> Result<Requester> {
        let options = &self.0.options;
        let alone = matches!(options.if_busy, IfBusy::QueueOne | IfBusy::Replace);
        if kind == LockKind::Shared && (alone || options.not_more_often_than.is_some()) {
            let detail =
                "a share can neither be the one that waits, nor replace a holder, nor be skipped for a recent run";
            return Err(Error::new(ErrorKind::Unsupported, self.target(), detail));
        }
        Ok(Requester { kind, id, around })
    }
}

impl Backend for ScheduledLock {
    fn target(&self) -> &Path {
        self.0.file.target()
    }

    fn rank(&self) -> Result<Rank> {
        self.0.file.rank()
    }

    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        let requester = self.requester(kind, Some(requester::current()), requester::around())?;
        if let Some(tenure) = self.0.try_now(&requester, wait)? {
            return Ok(tenure);
        }
        let began = Instant::now();
        let patience = Patience::new(wait.deadline(began))?;
        match self.0.wait(&requester, &patience)? {
            Some(tenure) => Ok(tenure),
            None => Err(self.0.busy().with_waited(began.elapsed())),
        }
    }

    fn begin(&self, kind: LockKind, wait: Wait, requester: Option<RequesterId>) -> Result<Begun> {
        let requester = self.requester(kind, requester, Vec::new())?;
        if let Some(tenure) = self.0.try_now(&requester, wait)? {
            return Ok(Begun::Granted(tenure));
        }
        let began = Instant::now();
        // The caller watches its deadline.
        let patience = Arc::new(Patience::new(None)?);
        let (parts, again) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let acquire = move |patience: &Patience| parts.wait(&requester, patience);
        let pending = ThreadedAcquire::start(patience, wait.deadline(began), acquire, move || again.busy())?;
        Ok(Begun::Pending(Box::new(pending)))
    }

    fn status(&self) -> Result<Status> {
        self.0.file.status()
    }

    fn note_failure(&self, error: &Error, kind: LockKind) {
        // A skipped run was entered where it was decided.
        if !error.is_skipped() {
            self.0.file.note_failure(error, kind);
        }
    }
}

impl Parts {
    /// Makes one attempt. `None` if the lock is busy and the acquire may wait.
    fn try_now(&self, requester: &Requester, wait: Wait) -> Result<Option<Arc<dyn Tenure>>> {
        self.refuse_recent()?;
        let began = self.file.begin(requester.kind, Wait::Never, requester.id);
        let never = matches!(wait.deadline(Instant::now()), Some(deadline) if deadline <= Instant::now());
        match began {
            Ok(begun) => match Queued::new(begun) {
                Err(tenure) => self.granted(tenure).map(Some),
                // An acquire that never waits is not queued.
                Ok(_) => Ok(None),
            },
            Err(error) if error.is_busy() && !never && self.options.if_busy != IfBusy::Skip => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the lock, as its options say. `None` at the end of the patience.
    fn wait(&self, requester: &Requester, patience: &Patience) -> Result<Option<Arc<dyn Tenure>>> {
        let taken = match &self.place {
            None => None,
            Some((place, paths)) => match next::take_unless_another_waits(place, paths, patience)? {
                WaiterPlace::Taken(taken) => Some(taken),
                WaiterPlace::AnotherWaits => return Err(self.skipped(next::another_waits(self.file.target(), place))),
                WaiterPlace::Over => return Ok(None),
            },
        };
        let Requester { kind, id, around } = requester;
        let queued = Queued::new(self.file.begin_around(*kind, Wait::Forever, *id, around)?);
        let tenure = match queued {
            Err(tenure) => Some(tenure),
            Ok(queued) if self.options.if_busy == IfBusy::Replace => {
                replace::wait(&self.file, &self.paths, queued, patience, self.options.grace)?
            }
            Ok(mut queued) => match patience.wait(&mut queued, None)? {
                Waited::Outcome(outcome) => Some(outcome?),
                Waited::Tick | Waited::Over => None,
            },
        };
        // The next one may wait before the work begins.
        drop(taken);
        tenure.map(|tenure| self.granted(tenure)).transpose()
    }

    /// Looks once more whether the run is needed, because another one may have ended during the wait.
    fn granted(&self, file: Arc<dyn Tenure>) -> Result<Arc<dyn Tenure>> {
        if self.options.not_more_often_than.is_none() {
            return Ok(file);
        }
        if let Err(error) = self.refuse_recent() {
            // A crash is for a holder that works.
            file.abandon();
            return Err(error);
        }
        let (paths, mode) = (Arc::clone(&self.paths), self.options.mode);
        Ok(Arc::new(CountedTenure { file, paths, began: Moment::now(), mode }))
    }

    fn refuse_recent(&self) -> Result<()> {
        let Some(interval) = self.options.not_more_often_than else { return Ok(()) };
        match success::recent(&self.paths, interval)? {
            Some(age) => Err(self.skipped(success::is_recent(&self.paths, age))),
            None => Ok(()),
        }
    }

    /// Enters a run that is not needed into the history, and returns its error.
    fn skipped(&self, error: Error) -> Error {
        if self.options.history > 0 {
            history::append_failure(&self.paths, &self.options, &error, false);
        }
        error
    }

    fn busy(&self) -> Error {
        crate::file::status::busy(&self.paths)
    }
}
