//! The tenures of this folder's locks: a file's tenure, whose success can be recorded, or which has a slot.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;

use super::success::{self, Moment};
use crate::file::paths::LockPaths;
use crate::model::error::Result;
use crate::model::holder::Holder;
use crate::model::tenure::{Facts, LeaseLeft, Tenure};
use crate::record::Record;
use crate::sys::{Access, Inherited};

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

    fn abandon(self: Arc<Self>) {
        Arc::clone(&self.file).abandon();
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

    fn abandon(self: Arc<Self>) {
        Arc::clone(&self.file).abandon();
        self.notify_waiters();
    }
}
