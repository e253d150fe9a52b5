//! A tenure: the state of one grant, shared by its guards, the queue and the watchdog.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::file::grant::Grant;
use crate::file::lock_file::LockFile;
use crate::file::paths::LockPaths;
use crate::file::release::{self, HandOff};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::options::Overrun;
use crate::model::request::Request;
use crate::model::requester::RequesterId;
use crate::model::this_process::this_process;
use crate::process::Liveness;
use crate::record::io::write;
use crate::record::{self, Record, RecordState};
use crate::sys;
use crate::util::loss_listeners::LossListeners;
use crate::wait::notes::Notes;
use crate::wait::tenures_by_requester;

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
///
/// Its allocation serves the next tenure of its queue, where no guard has it any more ([`FileTenure::begin`]). So it does
/// not keep the queue: the queue keeps itself while a tenure of it lasts.
pub(crate) struct FileTenure {
    owner: Weak<dyn TenureOwner>,
    pub(crate) paths: Arc<LockPaths>,
    pub(crate) request: Arc<Request>,
    /// What was granted, without its record, which is in `current`.
    pub(crate) grant: Grant,
    pub(crate) fence: u64,
    pub(crate) generation: u64,
    /// The thread or task that acquired. `None` for a task that is not known: it would not wait for itself in a second acquire.
    pub(crate) requester: Option<RequesterId>,
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
    /// What only this process knows of the tenure. It is used where a history is kept.
    pub(super) notes: Notes,
}

struct CurrentRecord {
    record: Option<Arc<Record>>,
    state_offset: u64,
    /// Whether the release has begun. From then on nothing is written.
    closed: bool,
}

impl FileTenure {
    /// Returns a tenure of `owner` that has not begun.
    pub(crate) fn unused(
        owner: &Arc<impl TenureOwner + 'static>,
        paths: &Arc<LockPaths>,
        request: &Arc<Request>,
    ) -> Arc<FileTenure> {
        let owner = Arc::downgrade(owner);
        Arc::new(FileTenure {
            owner,
            paths: Arc::clone(paths),
            request: Arc::clone(request),
            grant: Grant::empty(),
            fence: 0,
            generation: sys::fork_generation(),
            requester: None,
            status: AtomicU8::new(RELEASED),
            crash_unreported: AtomicBool::new(false),
            guards: AtomicUsize::new(0),
            current: Mutex::new(CurrentRecord { record: None, state_offset: 0, closed: true }),
            listeners: LossListeners::default(),
            cleanup: None,
            refreshed: AtomicU64::new(0),
            overrun: AtomicBool::new(false),
            notes: Notes::default(),
        })
    }

    /// Begins the tenure of `grant`, which was filled in. The tenure is new, or was over.
    #[inline(always)]
    pub(crate) fn begin(&mut self, paths: Arc<LockPaths>, request: Arc<Request>, requester: Option<RequesterId>) {
        tenures_by_requester::enter(requester);
        let record = self.grant.record.take();
        (self.paths, self.request, self.requester) = (paths, request, requester);
        self.fence = record.as_deref().and_then(Record::previous_fence).unwrap_or(0);
        *self.status.get_mut() = HELD;
        *self.crash_unreported.get_mut() = false;
        *self.guards.get_mut() = 1;
        *self.current.get_mut().unwrap_or_else(PoisonError::into_inner) =
            CurrentRecord { record, state_offset: self.grant.state_offset, closed: false };
        self.listeners.forget();
        self.cleanup = enter_held(&self.paths, &self.grant);
        *self.refreshed.get_mut() = 0;
        *self.overrun.get_mut() = false;
        if self.request.options.history > 0 {
            self.notes = Notes::default();
        }
    }

    /// Returns the tenure, which is over, for the next grant, if no other part of the process still has it. Its files are
    /// dropped, so that they can be closed.
    #[inline]
    pub(crate) fn reuse(self: &mut Arc<FileTenure>) -> Option<&mut FileTenure> {
        let tenure = Arc::get_mut(self)?;
        (tenure.grant.anchor, tenure.grant.target) = (None, None);
        Some(tenure)
    }

    /// Returns whether the tenure may be kept until the next acquire, with the files that its queue keeps open too. A
    /// copy's file is closed at once: an open lock file looks held to foreign programs.
    pub(crate) fn may_be_kept(&self) -> bool {
        !matches!(self.grant.lock_file, LockFile::Copy(_))
            && self.request.options.on_event.is_none()
            && !self.listeners.is_wanted()
    }

    /// Drops one guard of this tenure. The last one ends it.
    pub(crate) fn release(self: &Arc<FileTenure>) -> Result<()> {
        match self.owner.upgrade() {
            Some(owner) => owner.release(self),
            // The queue keeps itself until the tenure is over: this one was revoked.
            None if self.drop_guard() => self.check(),
            None => Ok(()),
        }
    }

    /// Ends this tenure on the watchdog's behalf.
    pub(crate) fn revoke(self: &Arc<FileTenure>) -> Result<()> {
        match self.owner.upgrade() {
            Some(owner) => owner.revoke(self),
            None => self.check(),
        }
    }

    /// Has the watchdog look at this tenure.
    pub(crate) fn watch(&self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.watch();
        }
    }

    pub(crate) fn paths(&self) -> &LockPaths {
        &self.paths
    }

    pub(crate) fn is_held(&self) -> bool {
        self.generation == sys::fork_generation() && self.status.load(Ordering::Acquire) == HELD
    }

    /// Returns whether it has more than one guard.
    pub(crate) fn has_other_guards(&self) -> bool {
        self.guards.load(Ordering::Relaxed) > 1
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
            return Err(
                self.lost("the lock was broken by an operator or stolen for its age, or its anchor was removed")
            );
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
            None => Err(self.lost("the lock file was removed: programs that use Tenure are still excluded, those that know only the lock file are not")),
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
        if let LockFile::Copy(copy) = &self.grant.lock_file {
            let size = copy.file.ident().map_err(failed)?.size;
            write(&copy.file, record, size, true).map_err(failed)?;
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
        tenures_by_requester::leave(self.requester);
        let mut current = self.current();
        current.closed = true;
        // Under that lock: a change of the record that is under way still writes to the cell.
        if let Some(cell) = &self.cleanup {
            cell.leave();
        }
        self.status.store(status, Ordering::Release);
        let state_offset = current.state_offset;
        current.record.take().map(|record| (record, state_offset))
    }

    /// Marks the grant as undelivered, so that the next holder gets its crash report.
    pub(crate) fn discard_undelivered(&self) {
        self.crash_unreported.store(self.grant.previous.is_crashed(), Ordering::Relaxed);
        if self.request.options.history > 0 {
            self.note_undelivered();
        }
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
        sys::keeps_names() && matches!(self.grant.lock_file, LockFile::Copy(_))
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
    #[inline]
    pub(crate) fn has_date(&self) -> bool {
        self.fence != 0 && !matches!(self.grant.lock_file, LockFile::Hidden)
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

    /// Returns whether the watchdog has work for this tenure, before any caller listens for its loss.
    #[inline]
    pub(crate) fn needs_watchdog(&self) -> bool {
        let options = &self.request.options;
        (self.has_date() && options.refresh_interval != Duration::MAX)
            || options.max_hold.is_some()
            || options.on_event.is_some()
            || self.keeps_name()
    }

    /// Returns in what time the record's date must be refreshed.
    fn refresh_in(&self) -> Option<Duration> {
        let every = self.refresh_every()?;
        Some((every + Duration::from_nanos(self.refreshed.load(Ordering::Relaxed))).saturating_sub(self.age()))
    }

    /// Returns in what time the tenure exceeds its `max_hold`, unless the watchdog has acted on that.
    fn overrun_in(&self) -> Option<Duration> {
        let limit = self.request.options.max_hold.filter(|_| !self.overrun.load(Ordering::Relaxed))?;
        Some(limit.saturating_sub(self.age()))
    }

    /// Returns the time since the tenure began.
    pub(crate) fn age(&self) -> Duration {
        sys::moment().since(self.grant.began)
    }

    /// Returns in what time the watchdog must look at this tenure.
    pub(crate) fn next_duty(&self) -> Option<Duration> {
        self.refresh_in().into_iter().chain(self.overrun_in()).min()
    }

    /// Returns whether the record's date must be refreshed now. The caller does so.
    pub(crate) fn refresh_is_due(&self) -> bool {
        let due = self.refresh_in().is_some_and(|left| left.is_zero());
        if due {
            self.refreshed.store(u64::try_from(self.age().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        due
    }

    /// Returns what must be done about an exceeded `max_hold`, once.
    pub(crate) fn overrun_is_due(&self) -> Option<Overrun> {
        self.overrun_in().filter(|left| left.is_zero())?;
        self.overrun.store(true, Ordering::Relaxed);
        Some(self.request.options.overrun)
    }
}

/// Adds a visible lock file to the table for a signal's handler.
fn enter_held(paths: &LockPaths, grant: &Grant) -> Option<sys::HeldCell> {
    let anchor = grant.anchor.as_deref()?;
    let file = grant.lock_file.file(anchor)?;
    let id = grant.lock_file.id(anchor)?;
    let aborted = record::state_text(RecordState::Aborted);
    sys::enter_held(&paths.dir, &paths.lock, id, file, &anchor.file, aborted, grant.state_offset)
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
