//! The protocol's acquire and release, one system call after the other.
//!
//! [`attempt`] never blocks; [`step`] is a helper's turn and waits in the kernel. Both end in `enter`, which runs with
//! the anchor's kernel lock held and its path compared. What is promised: a grant is returned only after the record
//! was written whole, and the lock file or the target's own lock is ours; on every error nothing is believed held.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::anchor::{Anchor, Prior};
use crate::clean;
use crate::courtesy;
use crate::error::{Error, Kind, Result};
use crate::guard::Previous;
use crate::options::Event;
use crate::place::Place;
use crate::presence::{self, Blocker, Presence, Shown};
use crate::queue::{self, Kept, Name, Slot};
use crate::record::{Record, RecordState};
use crate::sys::{Access, Brief, FileKind, LockKind, Seat};
use crate::tenure::{Grant, Request, TargetFile, Tenure, new_record};

/// How often what keeps changing under us is tried again before we call it an error.
const TRIES: usize = 1000;

/// What came of a try that does not wait.
#[allow(clippy::large_enum_variant, reason = "the grant is the ordinary outcome; a box would cost each an allocation")]
pub(crate) enum Attempt {
    Granted(Grant),
    /// Held by another; by whom, where that was found out on the way.
    Busy(Option<Box<Blocker>>),
}

/// What came of a helper's turn; `None`: something changed, so look again who waits, and begin anew.
pub(crate) type Step = Option<Grant>;

/// What came of the steps under the kernel lock.
#[allow(clippy::large_enum_variant, reason = "the grant is the ordinary outcome; a box would cost each an allocation")]
enum Entered {
    Granted(Grant),
    /// Somebody is in the way at the lock file's place.
    Blocked(Box<Blocker>),
    /// Somebody has the target's own lock.
    TargetBusy,
}

fn kind(request: &Request) -> LockKind {
    if request.shared { LockKind::Shared } else { LockKind::Exclusive }
}

/// One try to acquire. What it opened stays in `kept`; no kernel lock stays unless it was granted. Where others are to
/// have their turn it is busy, though it may be free; not so `at_once`.
pub(crate) fn attempt(place: &Place, kept: &mut Kept, request: &Request, at_once: bool) -> Result<Attempt> {
    tries(place, kept, request, at_once).inspect_err(|_| close(kept))
}

fn tries(place: &Place, kept: &mut Kept, request: &Request, at_once: bool) -> Result<Attempt> {
    for _ in 0..TRIES {
        if request.bare() {
            return Ok(match lock_target(place, kept, request)? {
                Some(target) => Attempt::Granted(bare_grant(target)),
                None => Attempt::Busy(None),
            });
        }
        let anchor = kept_anchor(place, kept, request)?;
        let locked =
            anchor.file.try_lock(kind(request)).map_err(|error| place.anchor_error("cannot be locked", error))?;
        let Some(stat) = anchor.current(place)? else {
            drop_anchor(kept);
            continue;
        };
        if !locked {
            if clean::rob(place, request.options.stale_policy) {
                continue;
            }
            return Ok(Attempt::Busy(None));
        }
        if !at_once && kept.courtesy.is_over(place, &anchor) {
            let_go(kept);
            return Ok(Attempt::Busy(None));
        }
        let entered = enter(place, kept, &anchor, &stat, request);
        return match entered {
            Ok(Entered::Granted(grant)) => Ok(Attempt::Granted(grant)),
            Ok(Entered::Blocked(blocker)) => {
                let_go(kept);
                Ok(Attempt::Busy(Some(blocker)))
            }
            Ok(Entered::TargetBusy) => {
                let_go(kept);
                Ok(Attempt::Busy(None))
            }
            Err(error) if error.is_lost() => {
                // The anchor went away under us, by a break or a person: its successor is tried.
                let_go(kept);
                drop_anchor(kept);
                continue;
            }
            Err(error) => Err(error),
        };
    }
    Err(keeps_changing(place))
}

/// A helper's turn for the queue's head: waits in the kernel for whatever is in the way, and may be called back from its
/// `seat`.
pub(crate) fn step(
    slot: &Arc<Slot>,
    epoch: u64,
    kept: &mut Kept,
    request: &Request,
    seat: Option<&Seat>,
) -> Result<Step> {
    turn(slot, epoch, kept, request, seat).inspect_err(|_| match slot.is_present(epoch) {
        true => close(kept),
        // Left behind: the anchor's descriptor may be the successor's too, and with it the lock.
        false => *kept = Kept::default(),
    })
}

fn turn(slot: &Arc<Slot>, epoch: u64, kept: &mut Kept, request: &Request, seat: Option<&Seat>) -> Result<Step> {
    let place = &*slot.place();
    if request.bare() {
        return match lock_target(place, kept, request)? {
            Some(target) => Ok(Some(bare_grant(target))),
            None => wait_for_target(slot, epoch, kept, request, seat),
        };
    }
    let anchor = kept_anchor(place, kept, request)?;
    let wanted = kind(request);
    if kept.locked != Some(wanted) {
        let failed = |error| place.anchor_error("cannot be locked", error);
        if kept.locked.take().is_some() {
            anchor.file.unlock().map_err(failed)?;
        }
        if !anchor.file.try_lock(wanted).map_err(failed)? {
            if clean::rob(place, request.options.stale_policy) {
                return Ok(None);
            }
            if !slot.about_to_queue_on(epoch, kept, anchor.id, Name::Anchor, wanted) {
                return Ok(None);
            }
            courtesy::say_waiting(place, &anchor);
            let locked = anchor.file.lock(wanted, seat);
            // Of those who share, others ask while it is held.
            if request.shared || !matches!(locked, Ok(true)) {
                anchor.file.unmark();
            }
            slot.no_longer_queued(epoch);
            if locked.map_err(failed)? {
                kept.locked = Some(wanted);
                kept.courtesy.begin();
            }
            return Ok(None);
        }
        kept.locked = Some(wanted);
        if kept.courtesy.is_over(place, &anchor) {
            anchor.file.unlock().map_err(failed)?;
            kept.locked = None;
            kept.courtesy.stay_away(&anchor);
            return Ok(None);
        }
    }
    let Some(stat) = anchor.current(place)? else {
        drop_anchor(kept);
        return Ok(None);
    };
    match enter(place, kept, &anchor, &stat, request) {
        Ok(Entered::Granted(grant)) => Ok(Some(grant)),
        Ok(Entered::TargetBusy) => wait_for_target(slot, epoch, kept, request, seat),
        Ok(Entered::Blocked(blocker)) => {
            wait_for_blocker(slot, epoch, kept, &blocker, request, seat)?;
            Ok(None)
        }
        Err(error) if error.is_lost() => {
            drop_anchor(kept);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Someone holds by the lock file. A native is waited for in its file's kernel queue, a foreign one by its events.
fn wait_for_blocker(
    slot: &Arc<Slot>,
    epoch: u64,
    kept: &Kept,
    blocker: &Blocker,
    request: &Request,
    seat: Option<&Seat>,
) -> Result<()> {
    let native_lives = blocker.holder.kind == crate::HolderKind::Native && blocker.holder.liveness.is_alive();
    match &blocker.file {
        Some(file) if native_lives => {
            if slot.about_to_queue_on(epoch, kept, blocker.id, Name::LockFile, LockKind::Exclusive) {
                let locked = file.lock(LockKind::Exclusive, seat);
                slot.no_longer_queued(epoch);
                locked.map_err(|error| Error::io(&slot.place().lock_path, "the lock file cannot be locked", error))?;
            }
            Ok(())
        }
        _ => queue::watch(slot, epoch, blocker, &request.options),
    }
}

fn wait_for_target(
    slot: &Arc<Slot>,
    epoch: u64,
    kept: &mut Kept,
    request: &Request,
    seat: Option<&Seat>,
) -> Result<Step> {
    if let Some(target) = kept.target.clone()
        && slot.about_to_queue_on(epoch, kept, target.id, Name::Target, kind(request))
    {
        let locked = target.file.lock(kind(request), seat);
        let alone = slot.no_longer_queued(epoch);
        let locked = locked.map_err(|error| target_error(&slot.place(), "cannot be locked", error))?;
        if alone {
            // The anchor was let go meanwhile, and comes first: who has it may be waiting for this very lock.
            (kept.anchor, kept.locked) = (None, None);
            if locked {
                target.file.unlock().map_err(|error| target_error(&slot.place(), "cannot be unlocked", error))?;
            }
        }
    }
    Ok(None)
}

/// Steps 3 to 6, with the kernel lock on `anchor`, which its path names.
fn enter(place: &Place, kept: &mut Kept, anchor: &Arc<Anchor>, stat: &Brief, request: &Request) -> Result<Entered> {
    let options = &request.options;
    if request.shared {
        let previous = still_told(place, anchor, stat)?;
        return Ok(match lock_target(place, kept, request)? {
            Some(target) => Entered::Granted(Grant {
                anchor: Some(Arc::clone(anchor)),
                target: Some(target),
                presence: Presence::Hidden,
                previous,
                record: None,
                state_offset: 0,
                parked: false,
                seen: Instant::now(),
            }),
            None => Entered::TargetBusy,
        });
    }
    if !place.copies() && presence::must_copy(place, anchor) {
        place.set_copies();
    }
    let prior = anchor.read(place, stat)?;
    // A takeover that was not ended left a second link, or word of itself in the record; and so did a native in flock
    // style that held beside what it left, and died.
    let state = prior.state();
    let cut_off = state.is_some_and(presence::tells_of_end);
    let look = stat.links > 1 || cut_off || place.copies();
    let parked = look && presence::recover(place, anchor, &prior, options)?;
    if !anchor.read_only {
        return enter_as(place, kept, anchor, stat, &prior, request, parked);
    }
    let own = Arc::new(anchor.replace(place, options, state.map(|state| state.fence), cut_off)?);
    kept.anchor = Some(Arc::clone(&own));
    let failed = |error| place.anchor_error("cannot be read", error);
    // The old one may be a dead native's lock file as well, whose kernel lock is about to be tried.
    anchor.file.unlock().map_err(failed)?;
    let stat = own.file.brief().map_err(failed)?;
    enter_as(place, kept, &own, &stat, &prior, request, parked)
}

/// What a share hears of the tenure before it. It changes nothing, so the next exclusive holder hears it as well.
fn still_told(place: &Place, anchor: &Anchor, stat: &Brief) -> Result<Previous> {
    let prior = anchor.read(place, stat)?;
    let visible = presence::is_visible(place, anchor, stat)?;
    Ok(match visible {
        true => presence::own_inode(&prior, prior.state()),
        false => presence::previous(&prior, prior.state(), None),
    })
}

/// Steps 4 to 6, after what `prior` says.
fn enter_as(
    place: &Place,
    kept: &mut Kept,
    anchor: &Arc<Anchor>,
    stat: &Brief,
    prior: &Prior,
    request: &Request,
    parked: bool,
) -> Result<Entered> {
    let state = prior.state();
    let record = new_record(request, state.map_or(0, |state| state.fence), place)?;
    let options = &request.options;
    let (target, (shown, parked)) = if request.flock() {
        let Some(target) = lock_target(place, kept, request)? else { return Ok(Entered::TargetBusy) };
        match presence::show_hidden(place, anchor, stat, prior, &record, options, parked) {
            Ok(shown) => (Some(target), shown),
            Err(error) => {
                let _ = target.file.unlock();
                return Err(error);
            }
        }
    } else {
        // With a lock file it is held only once nobody is parked any more.
        (None, (presence::show(place, anchor, stat, prior, &record, options, parked)?, false))
    };
    Ok(match shown {
        Shown::Blocked(blocker) => Entered::Blocked(blocker),
        Shown::Held(presence, previous, state_offset) => {
            tell_takeover(place, request, &previous);
            let (anchor, record) = (Some(Arc::clone(anchor)), Some(record));
            Entered::Granted(Grant {
                anchor,
                target,
                presence,
                previous,
                record,
                state_offset,
                parked,
                seen: Instant::now(),
            })
        }
    })
}

fn tell_takeover(place: &Place, request: &Request, previous: &Previous) {
    if let (Previous::Crashed(holder), Some(callback)) = (previous, &request.options.on_event) {
        let event = Event::TakenOver { target: &place.target_path, holder };
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(&event)));
    }
    if previous.is_crashed() {
        crate::trace::event!(WARN, target = ?place.target_path, "taken over from a holder that died");
    }
}

fn bare_grant(target: Arc<TargetFile>) -> Grant {
    Grant {
        anchor: None,
        target: Some(target),
        presence: Presence::Hidden,
        previous: Previous::Clean,
        record: None,
        state_offset: 0,
        parked: false,
        seen: Instant::now(),
    }
}

fn kept_anchor(place: &Place, kept: &mut Kept, request: &Request) -> Result<Arc<Anchor>> {
    if let Some(anchor) = &kept.anchor {
        return Ok(Arc::clone(anchor));
    }
    let anchor = Arc::new(Anchor::open(place, &request.options)?);
    kept.anchor = Some(Arc::clone(&anchor));
    Ok(anchor)
}

fn drop_anchor(kept: &mut Kept) {
    if let Some(anchor) = kept.anchor.take() {
        let _ = anchor.file.unlock();
    }
    kept.locked = None;
}

/// Takes the target's own kernel lock without waiting: `None` if another has it.
fn lock_target(place: &Place, kept: &mut Kept, request: &Request) -> Result<Option<Arc<TargetFile>>> {
    for _ in 0..TRIES {
        let target = match &kept.target {
            Some(target) => Arc::clone(target),
            None => match open_target(place, request)? {
                Some(target) => {
                    let target = Arc::new(target);
                    kept.target = Some(Arc::clone(&target));
                    target
                }
                None => continue,
            },
        };
        let locked =
            target.file.try_lock(kind(request)).map_err(|error| target_error(place, "cannot be locked", error))?;
        // A file is often replaced whole, by a rename: the lock must be on the one that has the name.
        let current =
            place.dir.brief_at(&place.target).map_err(|error| target_error(place, "cannot be read", error))?;
        if current.map(|stat| stat.id) == Some(target.id) {
            return Ok(locked.then_some(target));
        }
        if locked {
            let _ = target.file.unlock();
        }
        kept.target = None;
    }
    Err(keeps_changing(place))
}

/// Has the locked file the target's name still? On a doubt it has not.
pub(crate) fn is_current(place: &Place, target: &TargetFile) -> bool {
    matches!(place.dir.brief_at(&place.target), Ok(Some(stat)) if stat.id == target.id)
}

/// `None`: it went away meanwhile.
fn open_target(place: &Place, request: &Request) -> Result<Option<TargetFile>> {
    let failed = |error| target_error(place, "cannot be opened", error);
    let found = place.dir.stat_at(&place.target).map_err(failed)?;
    match found.map(|stat| stat.kind) {
        None => match place.dir.create_new(&place.target, request.options.mode.unwrap_or(0o644)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(target_error(place, "is missing and cannot be made", error)),
        },
        Some(FileKind::Regular | FileKind::Directory | FileKind::BlockDevice) => {}
        Some(other) => {
            let detail = format!("the target is {}, which cannot be locked with flock(2)", other.words());
            return Err(Error::new(Kind::InTheWay, &place.target_path, detail));
        }
    }
    // Where flock(2) is a byte-range lock of the server's, an exclusive one wants a descriptor that may write.
    let emulated = matches!(&*place.file_system.name, "nfs" | "cifs" | "smb2" | "smb");
    let access = if emulated && !request.shared { Access::ReadWrite } else { Access::Read };
    let file = match place.dir.open_at(&place.target, access) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = file.stat().map_err(failed)?;
    Ok(Some(TargetFile { id: stat.id, file }))
}

fn target_error(place: &Place, what: &'static str, error: io::Error) -> Error {
    let unsupported = error.kind() == io::ErrorKind::Unsupported;
    let error = Error::io(&place.target_path, format!("the target {what}"), error);
    if unsupported { error.with_hint("this file system has no flock(2)") } else { error }
}

fn keeps_changing(place: &Place) -> Error {
    Error::new(Kind::Io, &place.target_path, "the lock's files keep changing under us")
}

/// Gives back the kernel locks that are held for nobody; a file that keeps its lock is closed, which frees it.
pub(crate) fn let_go(kept: &mut Kept) {
    if kept.target.as_ref().is_some_and(|target| target.file.unlock().is_err()) {
        kept.target = None;
    }
    if kept.anchor.as_ref().is_some_and(|anchor| anchor.file.unlock().is_err()) {
        kept.anchor = None;
    }
    kept.locked = None;
}

/// After an error: whatever failed, no lock stays.
fn close(kept: &mut Kept) {
    let_go(kept);
    *kept = Kept::default();
}

/// Undoes a grant that nobody wants any more, but for the anchor's kernel lock, which serves the next waiter.
pub(crate) fn take_back(place: &Place, kept: &mut Kept, grant: Grant) {
    let _ = conceal(place, &grant, grant.record.clone().map(|record| grant.untold(record)), grant.state_offset);
    if let Some(target) = &grant.target {
        let _ = target.file.unlock();
    }
    let shared = grant.record.is_none();
    kept.locked = grant.anchor.is_some().then_some(if shared { LockKind::Shared } else { LockKind::Exclusive });
}

/// A release's system calls: the lock file goes, or the record says released; then the kernel locks. Nothing is written
/// after that.
///
/// `ended` is the record as it stands now, and the place of its state.
pub(crate) fn unlock(place: &Place, grant: &Grant, ended: Option<(Record, u64)>) -> Result<()> {
    let (record, state_offset) = ended.map_or((None, 0), |(record, offset)| (Some(record), offset));
    let mut result = conceal(place, grant, record, state_offset);
    let copy = match &grant.presence {
        Presence::Copy { file, .. } => Some(&**file),
        _ => None,
    };
    let target = grant.target.as_deref().map(|target| &target.file);
    let anchor = grant.anchor.as_deref().map(|anchor| &anchor.file);
    for file in [copy, target, anchor].into_iter().flatten() {
        if let Err(error) = file.unlock()
            && result.is_ok()
        {
            result = Err(Error::io(&place.target_path, "the kernel lock cannot be let go", error));
        }
    }
    crate::trace::event!(DEBUG, target = ?place.target_path, ok = result.is_ok(), "released");
    result
}

fn conceal(place: &Place, grant: &Grant, record: Option<Record>, state_offset: u64) -> Result<()> {
    let (Some(anchor), Some(record)) = (&grant.anchor, record) else { return Ok(()) };
    // Flock style held beside a live foreign program's file at the swap: the word that leads there stays.
    let record = if grant.parked { grant.untold(record) } else { record };
    let hidden = matches!(grant.presence, Presence::Hidden);
    let failed = |error| place.anchor_error("cannot be written", error);
    let write = |anchor: &Anchor| {
        let size = anchor.file.brief().map_or(0, |stat| stat.size);
        anchor.write(&record, size, false).map(drop).map_err(failed)
    };
    if record.native.as_ref().is_some_and(|native| native.state == RecordState::Aborted) {
        // Before the lock file goes: who comes next must hear of the crash. While it is there it names us, who live; or a
        // foreign program might rightly put its own there, between our look and the removal.
        if matches!(grant.presence, Presence::Link) {
            anchor.write_state(RecordState::Aborted, state_offset).map_err(failed)?;
            return match presence::hide(place, anchor, &grant.presence, &record) {
                Err(error) if !error.is_lost() => Err(error),
                hidden => write(anchor).and(hidden),
            };
        }
        write(anchor)?;
    } else if hidden {
        anchor.write_state(RecordState::Released, state_offset).map_err(failed)?;
    }
    if !hidden {
        return presence::hide(place, anchor, &grant.presence, &record);
    }
    // No lock file tells of a break here, as it does in `hide`.
    if grant.seen.elapsed() < MOMENT && has_names(grant) {
        return Ok(());
    }
    match anchor.current(place)? {
        Some(_) => Ok(()),
        None => Err(Error::new(Kind::Lost, &place.target_path, "the lock was broken while we held it")),
    }
}

/// What came of passing a tenure on.
#[allow(clippy::large_enum_variant, reason = "the grant is the ordinary outcome; a box would cost each an allocation")]
pub(crate) enum Passed {
    On(Grant),
    /// It was not whole any more; the record is the next one's already, and this is to be released.
    Lost(Grant),
    /// The ordinary way must be gone.
    No,
}

/// For so long after a look at the names the links alone are counted: nothing tells who moved a name aside in that moment
/// from who does so right after a look. The simulated kernel has no clock.
const MOMENT: Duration = if cfg!(tenure_sim) { Duration::MAX } else { Duration::from_millis(1) };

/// Passes what a tenure of this process has on to another, without the kernel.
pub(crate) fn pass(place: &Place, tenure: &Tenure, request: &Request) -> Result<Passed> {
    let grant = &tenure.grant;
    if tenure.is_untold() || grant.parked {
        return Ok(Passed::No);
    }
    let at_once = grant.seen.elapsed() < MOMENT;
    let mut passed = Grant {
        seen: if at_once { grant.seen } else { Instant::now() },
        anchor: grant.anchor.clone(),
        target: grant.target.clone(),
        presence: grant.presence.clone(),
        previous: Previous::Clean,
        record: None,
        state_offset: grant.state_offset,
        parked: false,
    };
    let stays = |target: &TargetFile| match at_once {
        true => target.file.brief().is_ok_and(|found| found.links > 0),
        false => is_current(place, target),
    };
    if !grant.target.as_deref().is_none_or(stays) {
        return Ok(Passed::No);
    }
    let Some(anchor) = &grant.anchor else { return Ok(Passed::On(passed)) };
    let record = new_record(request, tenure.fence, place)?;
    let failed = |error| place.anchor_error("cannot be written", error);
    if let Presence::Copy { file, .. } = &grant.presence {
        let size = file.brief().map_err(failed)?.size;
        presence::write(file, &record, size, true).map_err(failed)?;
    }
    passed.state_offset = match anchor.follow(&record) {
        Some(written) => written.map_err(failed)?,
        None => {
            let visible = matches!(grant.presence, Presence::Link);
            let size = anchor.file.brief().map_err(failed)?.size;
            anchor.write(&record, size, visible).map_err(failed)?
        }
    };
    passed.record = Some(record);
    // After the record: a break carries on whatever fence was written before it took the anchor's name away.
    let whole = if at_once { has_names(grant) } else { is_whole(grant, place) };
    Ok(if whole { Passed::On(passed) } else { Passed::Lost(passed) })
}

/// Has the anchor still its path, and the lock file its name? On a doubt not.
fn is_whole(grant: &Grant, place: &Place) -> bool {
    let Some(anchor) = &grant.anchor else { return true };
    let is_anchors = || anchor.current(place).is_ok_and(|found| found.is_some());
    match &grant.presence {
        Presence::Hidden => is_anchors(),
        // A break, and whoever removes the anchor, leave it a link less. Where it was only moved aside, other natives
        // meet our lock file, and wait for its kernel lock.
        Presence::Link => place
            .dir
            .brief_at(&place.lock)
            .is_ok_and(|found| found.is_some_and(|found| found.id == anchor.id && found.links == 2)),
        Presence::Copy { id, .. } => is_anchors() && place.lock_file_id().is_ok_and(|found| found == Some(*id)),
    }
}

/// Has what a tenure leaves all the names that it should have, as its descriptors tell?
pub(crate) fn has_names(grant: &Grant) -> bool {
    grant.anchor.as_ref().is_none_or(|anchor| presence::has_names(anchor, &grant.presence))
}
