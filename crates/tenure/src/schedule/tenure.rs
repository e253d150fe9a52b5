//! The tenures of this folder's locks: a file's tenure, whose success can be recorded, or which has a slot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::success::{self, Moment};
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::options::Wait;
use crate::model::rank::Rank;
use crate::model::requester::RequesterId;
use crate::model::status::Status;
use crate::model::tenure::{Backend, Begun, Facts, LeaseLeft, Meanwhile, Pending, Suspension, Tenure};
use crate::record::Record;
use crate::sys::{Access, Inherited, LockKind};

/// A tenure whose success is recorded, if its holder says so.
#[derive(Debug)]
pub(crate) struct CountedTenure {
    pub(crate) file: Arc<dyn Tenure>,
    pub(crate) paths: Arc<LockPaths>,
    pub(crate) began: Moment,
    pub(crate) mode: Option<u32>,
}

impl Tenure for CountedTenure {
    fn facts(&self) -> Facts<'_> {
        self.file.facts()
    }

    fn holder(&self) -> Holder {
        self.file.holder()
    }

    fn record(&self) -> Option<Record> {
        self.file.record()
    }

    fn change(&self, change: &mut dyn FnMut(&mut Record)) -> Result<()> {
        self.file.change(change)
    }

    fn mark_successful(&self) -> Result<()> {
        self.file.check_natives()?;
        success::write(&self.paths, &self.began, self.mode)
    }

    fn refresh(&self) -> Result<()> {
        self.file.refresh()
    }

    fn note_exit_code(&self, code: i32) {
        self.file.note_exit_code(code);
    }

    fn check(&self) -> Result<()> {
        self.file.check()
    }

    fn check_natives(&self) -> Result<()> {
        self.file.check_natives()
    }

    fn descriptors(&self) -> Result<Vec<Inherited>> {
        self.file.descriptors()
    }

    fn poll_loss(self: Arc<Self>, waker: &Waker) -> bool {
        Arc::clone(&self.file).poll_loss(waker)
    }

    fn release(self: Arc<Self>) -> Result<()> {
        Arc::clone(&self.file).release()
    }

    fn check_suspendable(&self) -> Result<()> {
        self.file.check_suspendable()
    }

    fn suspend(self: Arc<Self>) -> Result<Arc<dyn Suspension>> {
        let file = Arc::clone(&self.file).suspend()?;
        let (paths, began) = (Arc::clone(&self.paths), self.began.clone());
        Ok(Arc::new(CountedSuspension { file, run: Run { paths, began, mode: self.mode } }))
    }

    fn abandon(self: Arc<Self>) {
        Arc::clone(&self.file).abandon();
    }
}

/// A suspended run, which began when its first tenure did.
#[derive(Debug)]
struct CountedSuspension {
    file: Arc<dyn Suspension>,
    run: Run,
}

#[derive(Clone, Debug)]
struct Run {
    paths: Arc<LockPaths>,
    began: Moment,
    mode: Option<u32>,
}

impl Run {
    fn resumed(&self, file: Arc<dyn Tenure>) -> Arc<dyn Tenure> {
        let Run { paths, began, mode } = self.clone();
        Arc::new(CountedTenure { file, paths, began, mode })
    }
}

impl Backend for CountedSuspension {
    fn target(&self) -> &Path {
        self.file.target()
    }

    fn rank(&self) -> Result<Rank> {
        self.file.rank()
    }

    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        self.file.acquire(kind, wait).map(|file| self.run.resumed(file))
    }

    fn begin(&self, kind: LockKind, wait: Wait, requester: Option<RequesterId>) -> Result<Begun> {
        Ok(match self.file.begin(kind, wait, requester)? {
            Begun::Granted(file) => Begun::Granted(self.run.resumed(file)),
            Begun::Pending(file) => Begun::Pending(Box::new(CountedAcquire { file, run: self.run.clone() })),
        })
    }

    fn status(&self) -> Result<Status> {
        self.file.status()
    }

    fn note_failure(&self, error: &Error, kind: LockKind) {
        self.file.note_failure(error, kind);
    }
}

impl Suspension for CountedSuspension {
    fn fence(&self) -> u64 {
        self.file.fence()
    }

    fn goes_first(&self) -> bool {
        self.file.goes_first()
    }

    fn meanwhile(&self, resumed: &Facts<'_>) -> Meanwhile {
        self.file.meanwhile(resumed)
    }
}

/// The place in the queue of a run that is being resumed.
struct CountedAcquire {
    file: Box<dyn Pending>,
    run: Run,
}

impl Pending for CountedAcquire {
    fn deadline(&self) -> Option<Instant> {
        self.file.deadline()
    }

    fn poll(&self, waker: &Waker) -> Option<Result<Arc<dyn Tenure>>> {
        Some(self.file.poll(waker)?.map(|file| self.run.resumed(file)))
    }

    fn give_up(&self) -> Option<Result<Arc<dyn Tenure>>> {
        Some(self.file.give_up()?.map(|file| self.run.resumed(file)))
    }

    fn busy(&self) -> Error {
        self.file.busy()
    }
}

/// A tenure of a slot.
#[derive(Debug)]
pub(crate) struct SlotTenure {
    pub(crate) file: Arc<dyn Tenure>,
    /// The target that the slots are of.
    pub(crate) target: PathBuf,
    pub(crate) number: u32,
    /// The slot's own; `None` on a server.
    pub(crate) paths: Option<Arc<LockPaths>>,
}

impl SlotTenure {
    /// Notifies the waiters that watch the slot's anchor: closing a file that was open for writing is an event. It comes after
    /// the kernel lock is free.
    fn notify_waiters(&self) {
        if let Some(paths) = &self.paths {
            drop(paths.dir.open_at(&paths.anchor, Access::ReadWrite));
        }
    }
}

impl Tenure for SlotTenure {
    fn facts(&self) -> Facts<'_> {
        Facts { target: &self.target, slot: Some(self.number), ..self.file.facts() }
    }

    fn holder(&self) -> Holder {
        self.file.holder()
    }

    fn record(&self) -> Option<Record> {
        self.file.record()
    }

    fn change(&self, change: &mut dyn FnMut(&mut Record)) -> Result<()> {
        self.file.change(change)
    }

    fn refresh(&self) -> Result<()> {
        self.file.refresh()
    }

    fn note_exit_code(&self, code: i32) {
        self.file.note_exit_code(code);
    }

    fn check(&self) -> Result<()> {
        self.file.check()
    }

    fn check_natives(&self) -> Result<()> {
        self.file.check_natives()
    }

    fn lease(&self) -> Option<LeaseLeft> {
        self.file.lease()
    }

    fn descriptors(&self) -> Result<Vec<Inherited>> {
        self.file.descriptors()
    }

    fn poll_loss(self: Arc<Self>, waker: &Waker) -> bool {
        Arc::clone(&self.file).poll_loss(waker)
    }

    fn release(self: Arc<Self>) -> Result<()> {
        let released = Arc::clone(&self.file).release();
        self.notify_waiters();
        released
    }

    fn start_release(self: Arc<Self>) -> Option<Result<()>> {
        match &self.paths {
            Some(_) => Some(self.release()),
            None => Arc::clone(&self.file).start_release(),
        }
    }

    fn poll_release(&self, waker: &Waker) -> Option<Result<()>> {
        self.file.poll_release(waker)
    }

    fn check_suspendable(&self) -> Result<()> {
        let detail = "a slot cannot be suspended: several hold at once, and another may take this one";
        Err(Error::new(ErrorKind::Unsupported, &self.target, detail)
            .with_hint("release it, acquire a slot again, and read again what it protects"))
    }

    fn suspend(self: Arc<Self>) -> Result<Arc<dyn Suspension>> {
        self.check_suspendable()?;
        Arc::clone(&self.file).suspend()
    }

    fn abandon(self: Arc<Self>) {
        Arc::clone(&self.file).abandon();
        self.notify_waiters();
    }
}
