//! A tenure: the state of one grant, shared by its guards, the queue and the watchdog.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::file::grant::Grant;
use crate::file::lock_file::LockFile;
use crate::file::paths::LockPaths;
use crate::file::release::{self, HandOff};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::options::Overrun;
use crate::model::request::Request;
use crate::model::this_process::this_process;
use crate::process::Liveness;
use crate::record::io::write;
use crate::record::{self, Record, RecordState};
use crate::sys;
use crate::util::loss_listeners::LossListeners;

const HELD: u8 = 0;
const RELEASED: u8 = 1;
const REVOKED: u8 = 2;

/// The queue that granted a tenure, and that ends it.
pub(crate) trait TenureOwner: Send + Sync {
    /// Drops one guard of the tenure. The last one ends it.
    fn release(self: Arc<Self>, tenure: &Arc<FileTenure>) -> Result<()>;

    /// Ends the tenure, whatever its guards do.
    fn revoke(self: Arc<Self>, tenure: &Arc<FileTenure>) -> Result<()>;

    /// Has the watchdog look at the tenures of this queue.
    fn watch(self: Arc<Self>);
}

/// One grant, from its beginning to its end.
pub(crate) struct FileTenure {
    owner: Arc<dyn TenureOwner>,
    pub(crate) paths: Arc<LockPaths>,
    pub(crate) request: Arc<Request>,
    pub(crate) grant: Grant,
    pub(crate) fence: u64,
    pub(crate) generation: u64,
    pub(crate) began: Instant,
    /// The thread that acquired. `None` for a task: only a thread would wait for itself in a second acquire.
    pub(crate) thread: Option<ThreadId>,
    status: AtomicU8,
    /// Whether the grant's crash report was never delivered, because the acquire had been dropped.
    crash_unreported: AtomicBool,
    /// The number of guards: more than one where the tenure is reentrant. It changes under the queue's mutex.
    guards: AtomicUsize,
    /// The record as it was written last. It is locked while it is written, so that nothing is written after the
    /// release.
    current: Mutex<CurrentRecord>,
    pub(crate) listeners: LossListeners,
    cleanup: Option<sys::HeldCell>,
    /// When the watchdog refreshed the record's date last, in nanoseconds since the tenure began.
    refreshed: AtomicU64,
    /// Whether the watchdog has acted on `max_hold`.
    overrun: AtomicBool,
}

struct CurrentRecord {
    record: Option<Arc<Record>>,
    state_offset: u64,
    /// Whether the release has begun. From then on nothing is written.
    closed: bool,
}

impl FileTenure {
    pub(crate) fn new(
        owner: Arc<dyn TenureOwner>,
        paths: Arc<LockPaths>,
        request: Arc<Request>,
        grant: Grant,
        thread: Option<ThreadId>,
    ) -> Arc<FileTenure> {
        let fence = grant.record.as_deref().and_then(Record::previous_fence).unwrap_or(0);
        let cleanup = grant.anchor.as_deref().and_then(|anchor| {
            let file = grant.lock_file.file(anchor)?;
            let id = grant.lock_file.id(anchor)?;
            let aborted = record::state_text(RecordState::Aborted);
            sys::enter_held(&paths.dir, &paths.lock, id, file, aborted, grant.state_offset)
        });
        Arc::new(FileTenure {
            current: Mutex::new(CurrentRecord {
                record: grant.record.clone(),
                state_offset: grant.state_offset,
                closed: false,
            }),
            owner,
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
            refreshed: AtomicU64::new(0),
            overrun: AtomicBool::new(false),
        })
    }

    /// Drops one guard of this tenure. The last one ends it.
    pub(crate) fn release(self: &Arc<FileTenure>) -> Result<()> {
        Arc::clone(&self.owner).release(self)
    }

    /// Ends this tenure on the watchdog's behalf.
    pub(crate) fn revoke(self: &Arc<FileTenure>) -> Result<()> {
        Arc::clone(&self.owner).revoke(self)
    }

    /// Has the watchdog look at this tenure.
    pub(crate) fn watch(&self) {
        Arc::clone(&self.owner).watch();
    }

    pub(crate) fn paths(&self) -> &LockPaths {
        &self.paths
    }

    pub(crate) fn is_held(&self) -> bool {
        self.generation == sys::fork_generation() && self.status.load(Ordering::Acquire) == HELD
    }

    /// Adds a guard.
    pub(crate) fn add_guard(&self) {
        self.guards.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops a guard. Returns whether it was the last one.
    pub(crate) fn drop_guard(&self) -> bool {
        self.guards.fetch_sub(1, Ordering::Relaxed) == 1
    }

    fn current(&self) -> MutexGuard<'_, CurrentRecord> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, detail: &'static str) -> Error {
        Error::new(ErrorKind::Lost, &self.paths().target_path, detail)
            .with_hint("stop: what was written since may be mixed with another holder's")
    }

    /// Fails as lost if natives are no longer kept out.
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
        // Without a record, the target is all that natives have in common.
        if self.grant.anchor.is_none() { self.check_target() } else { Ok(()) }
    }

    /// Fails as lost if the target's name no longer means the locked file, in flock style.
    fn check_target(&self) -> Result<()> {
        let Some(target) = &self.grant.target else { return Ok(()) };
        let paths = self.paths();
        let found = paths.dir.ident_at(&paths.target);
        let found = found.map_err(|error| Error::io(&paths.target_path, "the target cannot be read", error))?;
        match found {
            Some(found) if found.id == target.id => Ok(()),
            Some(_) => Err(self.lost(
                "the target was replaced by another file, which is not locked: programs that use flock(2) are not \
                 kept out",
            )),
            None => Err(self.lost("the target was removed: programs that use flock(2) are not kept out")),
        }
    }

    /// Fails as lost if this tenure no longer holds, or if its lock file is not there.
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

    /// Returns this holder as others see it.
    pub(crate) fn holder(&self) -> Holder {
        let record = self.current().record.clone();
        let liveness = match self.is_held() {
            true => Liveness::alive("it has the kernel lock"),
            false => Liveness::unknown("the lock was released"),
        };
        let mut holder = Holder::from_record(record.as_deref(), liveness);
        if record.is_none() {
            holder.kind = crate::model::holder::HolderKind::Native;
            holder.identity = Some(this_process().identity.clone());
            holder.command = this_process().command.as_deref().map(str::to_owned);
            holder.label = self.request.options.label.as_deref().map(str::to_owned);
        }
        holder
    }

    /// Returns the record as others can read it.
    pub(crate) fn record(&self) -> Option<Record> {
        self.current().record.as_deref().cloned()
    }

    /// Changes the record, in the anchor and in the lock file.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        if self.generation != sys::fork_generation() {
            return Err(self.lost("the lock is the parent's: this is a forked child"));
        }
        let mut current = self.current();
        if current.closed {
            return Err(self.lost("the lock is no longer held"));
        }
        let Some(anchor) = &self.grant.anchor else { return Ok(()) };
        let Some(record) = &mut current.record else { return Ok(()) };
        let record = Arc::make_mut(record);
        change(record);
        let failed = |error| self.paths().anchor_error("cannot be written", error);
        if let LockFile::Copy { file, .. } = &self.grant.lock_file {
            let size = file.ident().map_err(failed)?.size;
            write(file, record, size, true).map_err(failed)?;
        }
        let visible = matches!(self.grant.lock_file, LockFile::Link);
        let size = anchor.file.ident().map_err(failed)?.size;
        current.state_offset = anchor.write(record, size, visible).map_err(failed)?;
        if let Some(cell) = &self.cleanup {
            cell.set_state_offset(current.state_offset);
        }
        Ok(())
    }

    /// Updates `createdAt`, by which foreign programs detect stale locks.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.change(|record| record.created_at = Some(sys::now()))
    }

    /// Forbids further writing. Returns the record as it was written last, with its state's offset.
    fn close(&self, status: u8) -> Option<(Arc<Record>, u64)> {
        if let Some(cell) = &self.cleanup {
            cell.leave();
        }
        let mut current = self.current();
        current.closed = true;
        self.status.store(status, Ordering::Release);
        let state_offset = current.state_offset;
        current.record.take().map(|record| (record, state_offset))
    }

    /// Marks the grant as undelivered, so that the next holder gets its crash report.
    pub(crate) fn discard_undelivered(&self) {
        self.crash_unreported.store(self.grant.previous.is_crashed(), Ordering::Relaxed);
    }

    pub(crate) fn is_crash_unreported(&self) -> bool {
        self.crash_unreported.load(Ordering::Relaxed)
    }

    /// Hands this tenure's locks to another acquire of this process. An undelivered grant is refused: it must be
    /// released, so that the next holder gets its crash report.
    pub(crate) fn hand_off(&self, request: &Request) -> Result<HandOff> {
        match self.is_crash_unreported() {
            true => Ok(HandOff::Refused),
            false => release::hand_off(self.paths(), &self.grant, self.fence, request),
        }
    }

    /// Ends this tenure for its guards. Returns the record for the release, with its state's offset.
    pub(crate) fn end(&self, revoked: bool) -> Option<(Arc<Record>, u64)> {
        let mut record = self.close(if revoked { REVOKED } else { RELEASED });
        if self.is_crash_unreported() {
            record = record.map(|(record, at)| (self.grant.unreported_crash_record(record), at));
        }
        if revoked {
            self.listeners.notify();
        }
        record
    }

    /// Returns whether a loss must still be reported.
    pub(crate) fn wants_loss(&self) -> bool {
        let listeners = &self.listeners;
        !listeners.is_notified() && (listeners.is_wanted() || self.request.options.on_event.is_some())
    }

    /// Returns whether only this process can remove the tenure's lock file, so that it must look for a break itself.
    pub(crate) fn keeps_name(&self) -> bool {
        sys::keeps_names() && matches!(self.grant.lock_file, LockFile::Copy { .. })
    }

    /// Removes the lock file of a tenure that was broken, for the operator who could not. The watchdog calls it again at its
    /// next tick.
    pub(crate) fn give_up_name(&self) {
        let current = self.current();
        // A release that has begun removes the lock file itself.
        if !current.closed && self.generation == sys::fork_generation() {
            let _ = release::give_up_name(self.paths(), &self.grant);
        }
    }

    /// Returns whether the record has a date by which others judge.
    pub(crate) fn has_date(&self) -> bool {
        self.grant.record.is_some() && !matches!(self.grant.lock_file, LockFile::Hidden)
    }

    /// Returns the interval at which the record's date is refreshed, if others judge by it.
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

    /// Returns when the record's date must be refreshed.
    fn refresh_at(&self) -> Option<Instant> {
        let last = self.began + Duration::from_nanos(self.refreshed.load(Ordering::Relaxed));
        last.checked_add(self.refresh_every()?)
    }

    /// Returns when the tenure exceeds its `max_hold`, unless the watchdog has acted on that.
    fn overrun_at(&self) -> Option<Instant> {
        let limit = self.request.options.max_hold.filter(|_| !self.overrun.load(Ordering::Relaxed))?;
        self.began.checked_add(limit)
    }

    /// Returns when the watchdog must look at this tenure.
    pub(crate) fn next_duty(&self) -> Option<Instant> {
        self.refresh_at().into_iter().chain(self.overrun_at()).min()
    }

    /// Returns whether the record's date must be refreshed now. The caller does so.
    pub(crate) fn refresh_is_due(&self, now: Instant) -> bool {
        let due = self.refresh_at().is_some_and(|at| at <= now);
        if due {
            let since = now.saturating_duration_since(self.began).as_nanos();
            self.refreshed.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        due
    }

    /// Returns what must be done about an exceeded `max_hold`, once.
    pub(crate) fn overrun_is_due(&self, now: Instant) -> Option<Overrun> {
        self.overrun_at().filter(|at| *at <= now)?;
        self.overrun.store(true, Ordering::Relaxed);
        Some(self.request.options.overrun)
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
