//! A tenure: everything that belongs to one grant, shared by its guards, the queue and the watchdog.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::file::grant::Grant;
use crate::file::lock_file::{self, LockFile};
use crate::file::paths::LockPaths;
use crate::file::release::{self, Passed};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::options::Overrun;
use crate::model::request::Request;
use crate::model::this_process::this_process;
use crate::process::Liveness;
use crate::record::{self, Record, RecordState};
use crate::sys;
use crate::util::loss_listeners::LossListeners;
use crate::wait::queue::TargetQueue;

const HELD: u8 = 0;
const RELEASED: u8 = 1;
const REVOKED: u8 = 2;

/// One grant, from its beginning to its end.
pub(crate) struct FileTenure {
    pub(crate) queue: Arc<TargetQueue>,
    pub(crate) paths: Arc<LockPaths>,
    pub(crate) request: Arc<Request>,
    pub(crate) grant: Grant,
    pub(crate) fence: u64,
    pub(crate) generation: u64,
    pub(crate) began: Instant,
    /// Who acquired, where a second acquire by it would wait for itself.
    pub(crate) thread: Option<ThreadId>,
    status: AtomicU8,
    /// Whoever it was granted to had gone, and never heard how the one before ended.
    crash_unreported: AtomicBool,
    /// Guards of this tenure: more than one where it is reentrant. Changed under the queue's mutex.
    guards: AtomicUsize,
    /// The record as it stands; locked while it is written, so that nothing is written after the release.
    live: Mutex<Live>,
    pub(crate) listeners: LossListeners,
    cleanup: Option<sys::HeldCell>,
    /// Its place in the watchdog's list plus one; 0 while it is not in it.
    watched: AtomicUsize,
}

struct Live {
    record: Option<Record>,
    state_offset: u64,
    /// The release has begun: no more writing.
    closed: bool,
}

impl FileTenure {
    pub(crate) fn new(
        queue: Arc<TargetQueue>,
        paths: Arc<LockPaths>,
        request: Arc<Request>,
        grant: Grant,
        thread: Option<ThreadId>,
    ) -> Arc<FileTenure> {
        let fence = grant.record.as_ref().and_then(Record::previous_fence).unwrap_or(0);
        let cleanup = grant.anchor.as_deref().and_then(|anchor| {
            let file = grant.lock_file.file(anchor)?;
            let id = grant.lock_file.id(anchor)?;
            let aborted = record::state_text(RecordState::Aborted);
            sys::enter_held(&paths.dir, &paths.lock, id, file, aborted, grant.state_offset)
        });
        Arc::new(FileTenure {
            live: Mutex::new(Live { record: grant.record.clone(), state_offset: grant.state_offset, closed: false }),
            queue,
            paths,
            request,
            grant,
            fence,
            generation: sys::fork_generation(),
            began: Instant::now(),
            thread,
            status: AtomicU8::new(HELD),
            crash_unreported: AtomicBool::new(false),
            guards: AtomicUsize::new(1),
            listeners: LossListeners::default(),
            cleanup,
            watched: AtomicUsize::new(0),
        })
    }

    /// Where the watchdog has it in its list.
    pub(crate) fn watched_at(&self, at: usize) {
        self.watched.store(at + 1, Ordering::Relaxed);
    }

    pub(crate) fn watched(&self) -> Option<usize> {
        self.watched.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(crate) fn paths(&self) -> &LockPaths {
        &self.paths
    }

    pub(crate) fn is_held(&self) -> bool {
        self.generation == sys::fork_generation() && self.status.load(Ordering::Acquire) == HELD
    }

    /// One more guard.
    pub(crate) fn join(&self) {
        self.guards.fetch_add(1, Ordering::Relaxed);
    }

    /// One guard less: was it the last?
    pub(crate) fn leave(&self) -> bool {
        self.guards.fetch_sub(1, Ordering::Relaxed) == 1
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, detail: &'static str) -> Error {
        Error::new(ErrorKind::Lost, &self.paths().target_path, detail)
            .with_hint("stop: what was written since may be mixed with another holder's")
    }

    /// Is it still ours, as far as natives are concerned?
    pub(crate) fn check_anchor(&self) -> Result<()> {
        if self.generation != sys::fork_generation() {
            return Err(self.lost("the lock is the parent's: this is a forked child"));
        }
        match self.status.load(Ordering::Acquire) {
            HELD => {}
            REVOKED => return Err(self.lost("the lock was revoked: it was held for longer than its max_hold")),
            _ => return Err(self.lost("the lock was released")),
        }
        if let Some(anchor) = &self.grant.anchor
            && anchor.current(self.paths())?.is_none()
        {
            return Err(self.lost("the lock was broken by an operator, or its anchor was removed"));
        }
        // Natives have nothing else in common where no record is kept.
        if self.grant.anchor.is_none() { self.check_target() } else { Ok(()) }
    }

    /// Flock style: does the target's name still mean the file that is locked?
    fn check_target(&self) -> Result<()> {
        let Some(target) = &self.grant.target else { return Ok(()) };
        let paths = self.paths();
        let found = paths.dir.ident_at(&paths.target);
        let found = found.map_err(|error| Error::io(&paths.target_path, "the target cannot be read", error))?;
        match found {
            Some(found) if found.id == target.id => Ok(()),
            Some(_) => Err(self.lost(
                "the target was replaced by another file, which nobody has locked: programs that use flock(2) are not \
                 kept out",
            )),
            None => Err(self.lost("the target was removed: programs that use flock(2) are not kept out")),
        }
    }

    /// Is it still ours, and shown as ours?
    pub(crate) fn check(&self) -> Result<()> {
        self.check_anchor()?;
        let Some(anchor) = &self.grant.anchor else { return Ok(()) };
        self.check_target()?;
        let Some(ours) = self.grant.lock_file.id(anchor) else { return Ok(()) };
        match self.paths().lock_file_id()? {
            Some(found) if found == ours => Ok(()),
            None => Err(self.lost("the lock file was removed; natives are still kept out, foreign programs are not")),
            Some(_) => Err(self.lost("the lock file was replaced by another program's")),
        }
    }

    /// This holder, as others see it.
    pub(crate) fn holder(&self) -> Holder {
        let record = self.live().record.clone();
        let liveness = match self.is_held() {
            true => Liveness::alive("it has the kernel lock"),
            false => Liveness::unknown("the lock was released"),
        };
        let mut holder = Holder::from_record(record.as_ref(), liveness);
        if record.is_none() {
            holder.kind = crate::model::holder::HolderKind::Native;
            holder.identity = Some(this_process().identity.clone());
            holder.command = this_process().command.as_deref().map(str::to_owned);
            holder.label = self.request.options.label.as_deref().map(str::to_owned);
        }
        holder
    }

    /// The record as others can read it.
    pub(crate) fn record(&self) -> Option<Record> {
        self.live().record.clone()
    }

    /// Changes the record, in whatever place others see it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        if self.generation != sys::fork_generation() {
            return Err(self.lost("the lock is the parent's: this is a forked child"));
        }
        let mut live = self.live();
        if live.closed {
            return Err(self.lost("the lock is no longer held"));
        }
        let Some(anchor) = &self.grant.anchor else { return Ok(()) };
        let Some(record) = &mut live.record else { return Ok(()) };
        change(record);
        let failed = |error| self.paths().anchor_error("cannot be written", error);
        if let LockFile::Copy { file, .. } = &self.grant.lock_file {
            let size = file.ident().map_err(failed)?.size;
            lock_file::write(file, record, size, true).map_err(failed)?;
        }
        let visible = matches!(self.grant.lock_file, LockFile::Link);
        let size = anchor.file.ident().map_err(failed)?.size;
        live.state_offset = anchor.write(record, size, visible).map_err(failed)?;
        if let Some(cell) = &self.cleanup {
            cell.set_state_offset(live.state_offset);
        }
        Ok(())
    }

    /// The date that foreign programs judge by, made new.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.change(|record| record.created_at = Some(sys::now()))
    }

    /// No more writing from here on; the state that the record is left in.
    fn close(&self, status: u8) -> Option<(Record, u64)> {
        if let Some(cell) = &self.cleanup {
            cell.leave();
        }
        let mut live = self.live();
        live.closed = true;
        self.status.store(status, Ordering::Release);
        let state_offset = live.state_offset;
        live.record.take().map(|record| (record, state_offset))
    }

    /// Nobody will ever look at what it protects: its release leaves word of a crash for the next one.
    pub(crate) fn discard_undelivered(&self) {
        self.crash_unreported.store(self.grant.previous.is_crashed(), Ordering::Relaxed);
    }

    pub(crate) fn is_unreported(&self) -> bool {
        self.crash_unreported.load(Ordering::Relaxed)
    }

    /// Passes what it has on to another acquire of this process. The next holder of a tenure that was abandoned is to hear
    /// of its crash, so that one is released instead.
    pub(crate) fn pass_on(&self, request: &Request) -> Result<Passed> {
        match self.is_unreported() {
            true => Ok(Passed::No),
            false => release::pass(self.paths(), &self.grant, self.fence, request),
        }
    }

    /// Ends it for everyone who asks: returns the record for the release to work with.
    pub(crate) fn end(&self, revoked: bool) -> Option<(Record, u64)> {
        let mut record = self.close(if revoked { REVOKED } else { RELEASED });
        if self.is_unreported() {
            record = record.map(|(record, at)| (self.grant.crash_unreported(record), at));
        }
        if revoked {
            self.listeners.notify();
        }
        record
    }

    /// Does anyone want to hear of a loss?
    pub(crate) fn wants_loss(&self) -> bool {
        let listeners = &self.listeners;
        !listeners.is_notified() && (listeners.is_wanted() || self.request.options.on_event.is_some())
    }

    /// Has it a date that others judge by?
    pub(crate) fn has_date(&self) -> bool {
        self.grant.record.is_some() && !matches!(self.grant.lock_file, LockFile::Hidden)
    }

    /// How often its date is refreshed, if it has one that others judge by.
    pub(crate) fn refresh_every(&self) -> Option<Duration> {
        if !self.has_date() {
            return None;
        }
        let options = &self.request.options;
        if options.refresh_interval == Duration::MAX {
            return None;
        }
        let third = options.max_hold.map(|limit| limit / 3);
        let every = third.map_or(options.refresh_interval, |third| third.min(options.refresh_interval));
        Some(every.max(Duration::from_millis(20)))
    }

    pub(crate) fn overrun_after(&self) -> Option<(Duration, Overrun)> {
        self.request.options.max_hold.map(|limit| (limit, self.request.options.overrun))
    }
}

impl std::fmt::Debug for FileTenure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileTenure")
            .field("target", &self.paths().target_path)
            .field("fence", &self.fence)
            .field("shared", &self.request.shared)
            .field("held", &self.is_held())
            .finish_non_exhaustive()
    }
}
