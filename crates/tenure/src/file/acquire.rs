//! The protocol's acquire, one system call after the other.
//!
//! [`attempt`] never blocks; a helper waits in the kernel ([`KernelWaiter`](crate::wait::kernel_wait::KernelWaiter)).
//! Both end in [`try_grant`], which runs with the anchor's kernel lock held and its path compared. A grant is returned
//! only after the record was written completely, and after this process got the lock file or the target's own lock. On
//! every error the lock is not held.

use std::io;
use std::sync::Arc;

use crate::file::anchor::Anchor;
use crate::file::break_lock;
use crate::file::cached_files::CachedFiles;
use crate::file::crash::state_reports_crash;
use crate::file::grant::{Grant, TargetFile, next_record};
use crate::file::history;
use crate::file::lock_file::{self, Blocker, Published};
use crate::file::paths::{IN_USE, LockPaths};
use crate::file::prior::Prior;
use crate::file::suspended::{self, Carried, Delayed, Yielding};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::request::Request;
use crate::record::{PriorState, Record, SuspendedTenures};
use crate::sys::{self, Access, FileIdent, FileKind, LockKind};

/// The maximum number of retries while the lock's files keep changing.
const MAX_RETRIES: usize = 1000;

/// The result of one attempt that does not wait.
pub(crate) enum Attempt {
    /// Granted: the grant is at the caller's place for it. It is written there once, because a move of it costs as much as
    /// a few system calls' code.
    Granted,
    /// Another process holds the lock, and which one, where the attempt found that out.
    Busy(Option<Box<Blocker>>),
}

/// The result of the steps under the anchor's kernel lock.
pub(crate) enum GrantOutcome {
    /// As [`Attempt::Granted`].
    Granted,
    /// A live or unknown holder has the lock file.
    Blocked(Box<Blocker>),
    /// Another process has the target's own lock.
    TargetBusy,
    /// A suspended tenure that is being resumed goes first.
    GivesWay,
    /// A share goes first, because none of the tenures of these fences took the lock in time. The record still names them.
    SharesFirst(Vec<u64>),
}

pub(crate) fn lock_kind(request: &Request) -> LockKind {
    if request.shared { LockKind::Shared } else { LockKind::Exclusive }
}

/// Makes one attempt to acquire, without waiting. The opened files stay in `cached`; no kernel lock stays unless the
/// lock was granted. Where `yields` says so once the anchor's kernel lock was taken, the attempt ends as busy although
/// the lock may be free, and so it does where `yielding` is to give way to a tenure that is being resumed. A grant is written
/// to `grant`.
#[inline(always)]
pub(crate) fn attempt(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    request: &Request,
    yields: &mut dyn FnMut(&Anchor) -> bool,
    yielding: Yielding,
    grant: &mut Grant,
) -> Result<Attempt> {
    let attempted = attempt_with_retries(paths, cached, request, yields, yielding, grant);
    if attempted.is_err() {
        close_all(cached);
    }
    attempted
}

#[inline]
fn attempt_with_retries(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    request: &Request,
    yields: &mut dyn FnMut(&Anchor) -> bool,
    yielding: Yielding,
    grant: &mut Grant,
) -> Result<Attempt> {
    for _ in 0..MAX_RETRIES {
        if request.bare() {
            let Some(target) = lock_target(paths, cached, request)? else { return Ok(Attempt::Busy(None)) };
            *grant = Grant::bare(target);
            return Ok(Attempt::Granted);
        }
        let anchor = cached_anchor(paths, cached, request)?;
        let locked =
            anchor.file.try_lock(lock_kind(request)).map_err(|error| paths.anchor_error("cannot be locked", error))?;
        let Some(stat) = anchor.current(paths)? else {
            drop_anchor(cached);
            continue;
        };
        if !locked {
            if break_lock::steal(paths, request.options.stale_policy) {
                continue;
            }
            return Ok(Attempt::Busy(None));
        }
        if yields(&anchor) {
            unlock_all(cached);
            return Ok(Attempt::Busy(None));
        }
        return match try_grant(paths, cached, &anchor, &stat, request, &mut |_, _| yielding, grant) {
            Ok(GrantOutcome::Granted) => Ok(Attempt::Granted),
            Ok(GrantOutcome::Blocked(blocker)) => {
                unlock_all(cached);
                Ok(Attempt::Busy(Some(blocker)))
            }
            Ok(GrantOutcome::TargetBusy | GrantOutcome::GivesWay | GrantOutcome::SharesFirst(_)) => {
                unlock_all(cached);
                Ok(Attempt::Busy(None))
            }
            Err(error) if error.is_lost() => {
                // The anchor was removed or replaced, by a break or by a person: its successor is tried.
                unlock_all(cached);
                drop_anchor(cached);
                continue;
            }
            Err(error) => Err(error),
        };
    }
    Err(keeps_changing(paths))
}

/// Makes steps 3 to 6, with the kernel lock on `anchor`, which its path names. `yielding` is asked where a suspended tenure is
/// being resumed. A grant is written to `grant`.
#[inline]
pub(crate) fn try_grant(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    anchor: &Arc<Anchor>,
    stat: &FileIdent,
    request: &Request,
    yielding: &mut dyn FnMut(u64, &[u64]) -> Yielding,
    grant: &mut Grant,
) -> Result<GrantOutcome> {
    if request.shared {
        let options = &request.options;
        let prior = Prior::read(anchor, paths, stat)?;
        if prior.names_suspended() {
            // A share writes no record, so a list of suspended tenures stays.
            match suspended::delay_share(anchor, &prior, request, yielding) {
                None => {}
                Some(Delayed::GivesWay) => return give_way(paths, cached, anchor, &prior, request),
                Some(Delayed::Late(tenures)) => return Ok(GrantOutcome::SharesFirst(tenures)),
            }
        }
        let previous = lock_file::crash_still_reported(paths, anchor, stat, &prior)?;
        let Some(target) = lock_target(paths, cached, request)? else { return Ok(GrantOutcome::TargetBusy) };
        if previous.is_crashed() && options.history > 0 {
            history::append_crash(paths, options, &previous);
        }
        *grant = Grant::share(Arc::clone(anchor), target, previous);
        return Ok(GrantOutcome::Granted);
    }
    if !paths.copies() && !anchor.can_remove_links(paths) {
        paths.set_copies();
    }
    let prior = Prior::read(anchor, paths, stat)?;
    if prior.names_suspended() {
        return try_grant_beside_suspended(paths, cached, anchor, stat, prior, request, yielding, grant);
    }
    try_grant_with(paths, cached, anchor, stat, prior, request, None, grant)
}

/// Returns the outcome of an acquire that is to give way to a resumed tenure. Where a holder blocks both, there is nothing
/// to give: the acquire waits for that holder.
#[cold]
#[inline(never)]
fn give_way(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    anchor: &Anchor,
    prior: &Prior<'_>,
    request: &Request,
) -> Result<GrantOutcome> {
    if !request.flock() {
        let blocker = lock_file::find_blocker(paths, anchor, prior, &request.options)?;
        return Ok(blocker.map_or(GrantOutcome::GivesWay, GrantOutcome::Blocked));
    }
    let Some(target) = lock_target(paths, cached, request)? else { return Ok(GrantOutcome::TargetBusy) };
    target.file.unlock().map_err(|error| target_error(paths, "cannot be unlocked", error))?;
    Ok(GrantOutcome::GivesWay)
}

/// As [`try_grant`], where the last record names suspended tenures.
#[cold]
#[inline(never)]
#[allow(clippy::too_many_arguments, reason = "those of `try_grant`, and the last record")]
fn try_grant_beside_suspended(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    anchor: &Arc<Anchor>,
    stat: &FileIdent,
    prior: Prior<'_>,
    request: &Request,
    yielding: &mut dyn FnMut(u64, &[u64]) -> Yielding,
    grant: &mut Grant,
) -> Result<GrantOutcome> {
    let carried = match suspended::carry_on(anchor, &prior, request, yielding) {
        Carried::GivesWay => return give_way(paths, cached, anchor, &prior, request),
        Carried::Some(tenures) => Some(tenures),
        Carried::None => None,
    };
    try_grant_with(paths, cached, anchor, stat, prior, request, carried.as_ref(), grant)
}

/// Makes steps 3 to 6, after the last record was read. The new one names the tenures in `carried`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "those of `try_grant`, and the last record")]
fn try_grant_with(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    anchor: &Arc<Anchor>,
    stat: &FileIdent,
    prior: Prior<'_>,
    request: &Request,
    carried: Option<&SuspendedTenures>,
    grant: &mut Grant,
) -> Result<GrantOutcome> {
    let options = &request.options;
    // An unfinished takeover left a second link, or its state in the record. So did a native in flock style that held
    // beside the remains of another holder, and died.
    let state = prior.state();
    let cut_off = state.is_some_and(state_reports_crash);
    let look = stat.links > 1 || cut_off || paths.copies();
    let live_file_at_swap = look && lock_file::recover(paths, anchor, &prior, options)?;
    if !anchor.read_only {
        return try_grant_after(paths, cached, anchor, stat, &prior, request, carried, live_file_at_swap, grant);
    }
    try_grant_by_replacement(paths, cached, anchor, prior, request, carried, live_file_at_swap, grant)
}

/// Makes steps 4 to 6 with an anchor of this user, which replaces `anchor`.
#[cold]
#[inline(never)]
#[allow(clippy::too_many_arguments, reason = "those of `try_grant`, and what it found")]
fn try_grant_by_replacement(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    anchor: &Arc<Anchor>,
    mut prior: Prior<'_>,
    request: &Request,
    carried: Option<&SuspendedTenures>,
    live_file_at_swap: bool,
    grant: &mut Grant,
) -> Result<GrantOutcome> {
    let options = &request.options;
    let state = prior.state();
    let own = Arc::new(anchor.replace(paths, options, state)?);
    cached.anchor = Some(Arc::clone(&own));
    // The old anchor may be a dead native's lock file as well. Its kernel lock is kept until that is done, because a
    // process that has queued for it would seem to be its holder.
    prior.replaced = Some(Arc::clone(anchor));
    let stat = own.file.ident().map_err(|error| paths.anchor_error("cannot be read", error));
    let outcome = stat.and_then(|stat| {
        try_grant_after(paths, cached, &own, &stat, &prior, request, carried, live_file_at_swap, grant)
    });
    let _ = anchor.file.unlock();
    outcome
}

/// Makes steps 4 to 6, after the record that `prior` has.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "those of `try_grant`, and what it found")]
fn try_grant_after(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    anchor: &Arc<Anchor>,
    stat: &FileIdent,
    prior: &Prior<'_>,
    request: &Request,
    carried: Option<&SuspendedTenures>,
    live_file_at_swap: bool,
    grant: &mut Grant,
) -> Result<GrantOutcome> {
    let state = prior.state();
    let mut record = next_record(anchor, request, state.map_or(0, |state| state.fence), paths)?;
    if carried.is_some() || request.resumes.is_some() {
        name_suspended(&mut record, carried, state, request);
    }
    let options = &request.options;
    let (target, (published, live_file_at_swap)) = if request.flock() {
        let Some(target) = lock_target(paths, cached, request)? else { return Ok(GrantOutcome::TargetBusy) };
        match lock_file::acquire_hidden(paths, anchor, stat, prior, &record, options, live_file_at_swap) {
            Ok(published) => (Some(target), published),
            Err(error) => {
                let _ = target.file.unlock();
                return Err(error);
            }
        }
    } else {
        // With a lock file, the lock is granted only once the swap names no live file any more.
        (None, (lock_file::publish(paths, anchor, stat, prior, &record, options, live_file_at_swap)?, false))
    };
    let (lock_file, previous, state_offset) = match published {
        Published::Held(lock_file, previous, state_offset) => (lock_file, previous, state_offset),
        Published::Blocked(blocker) => return Ok(GrantOutcome::Blocked(blocker)),
    };
    if previous.is_crashed() && options.history > 0 {
        history::append_crash(paths, options, &previous);
    }
    request.options.report_takeover(&paths.target_path, &previous);
    let now = sys::moment();
    *grant = Grant {
        anchor: Some(Arc::clone(anchor)),
        target,
        lock_file,
        previous,
        record: Some(record),
        state_offset,
        live_file_at_swap,
        checked_at: now,
        began: now,
        locked_since: now,
    };
    Ok(GrantOutcome::Granted)
}

/// Names in a new record the suspended tenures that the last one named, and notes the last one's fence for an acquire that
/// resumes one.
#[cold]
fn name_suspended(
    record: &mut Arc<Record>,
    carried: Option<&SuspendedTenures>,
    last: Option<PriorState>,
    request: &Request,
) {
    if let Some(resumes) = &request.resumes {
        resumes.note_found(last.map_or(0, |state| state.fence));
    }
    if carried.is_some()
        && let Some(native) = &mut Arc::make_mut(record).native
    {
        native.suspended = carried.cloned();
    }
}

#[inline]
pub(crate) fn cached_anchor(paths: &LockPaths, cached: &mut CachedFiles, request: &Request) -> Result<Arc<Anchor>> {
    match &cached.anchor {
        Some(anchor) => Ok(Arc::clone(anchor)),
        None => open_anchor(paths, cached, request),
    }
}

#[cold]
fn open_anchor(paths: &LockPaths, cached: &mut CachedFiles, request: &Request) -> Result<Arc<Anchor>> {
    let anchor = Arc::new(Anchor::open(paths, &request.options)?);
    cached.anchor = Some(Arc::clone(&anchor));
    Ok(anchor)
}

/// Closes an anchor that lost its path. The target's lock, which may have been taken before, is not kept over a wait
/// for the next anchor.
pub(crate) fn drop_anchor(cached: &mut CachedFiles) {
    if let Some(anchor) = cached.anchor.take() {
        let _ = anchor.file.unlock();
    }
    if cached.target.as_ref().is_some_and(|target| target.file.unlock().is_err()) {
        cached.target = None;
    }
    cached.locked = None;
}

/// Takes the target's own kernel lock without waiting. Returns `None` if another process has it.
pub(crate) fn lock_target(
    paths: &LockPaths,
    cached: &mut CachedFiles,
    request: &Request,
) -> Result<Option<Arc<TargetFile>>> {
    for _ in 0..MAX_RETRIES {
        let target = match &cached.target {
            Some(target) => Arc::clone(target),
            None => match open_target(paths, request)? {
                Some(target) => {
                    let target = Arc::new(target);
                    cached.target = Some(Arc::clone(&target));
                    target
                }
                None => continue,
            },
        };
        let locked =
            target.file.try_lock(lock_kind(request)).map_err(|error| target_error(paths, "cannot be locked", error))?;
        // A file is often replaced by a rename, so the lock must be on the file that has the name now.
        let current =
            paths.dir.ident_at(&paths.target).map_err(|error| target_error(paths, "cannot be read", error))?;
        if current.map(|stat| stat.id) == Some(target.id) {
            return Ok(locked.then_some(target));
        }
        if locked {
            let _ = target.file.unlock();
        }
        cached.target = None;
    }
    Err(keeps_changing(paths))
}

/// Returns whether the locked file still has the target's name. An error counts as no.
pub(crate) fn is_target_current(paths: &LockPaths, target: &TargetFile) -> bool {
    matches!(paths.dir.ident_at(&paths.target), Ok(Some(stat)) if stat.id == target.id)
}

/// Opens the target, created if it is missing. Returns `None` if it was removed meanwhile.
#[cold]
#[inline(never)]
fn open_target(paths: &LockPaths, request: &Request) -> Result<Option<TargetFile>> {
    let failed = |error| target_error(paths, "cannot be opened", error);
    let found = paths.dir.stat_at(&paths.target).map_err(failed)?;
    match found.map(|stat| stat.kind) {
        None => match create_target(paths, request.options.mode) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let read_only = error.kind() == io::ErrorKind::ReadOnlyFilesystem;
                let error = target_error(paths, "is missing and cannot be created", error);
                return Err(match read_only {
                    true => error.with_hint("name a file or a folder that exists, such as the folder itself"),
                    false => error,
                });
            }
        },
        Some(FileKind::Regular | FileKind::Directory | FileKind::BlockDevice) => {}
        Some(other) => {
            let detail = format!("the target is {}, which cannot be locked with flock(2)", other.words());
            return Err(Error::new(ErrorKind::Obstructed, &paths.target_path, detail));
        }
    }
    // Where flock(2) is emulated by byte ranges on the server, an exclusive lock needs a writable descriptor.
    let emulated = paths.file_system.emulates_flock;
    let access = if emulated && !request.shared { Access::ReadWrite } else { Access::Read };
    let file = match paths.dir.open_target(&paths.target, access) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = file.stat().map_err(failed)?;
    Ok(Some(TargetFile { id: stat.id, file }))
}

/// Creates a missing target, as any program creates a file. A mode that the caller asked for applies whatever the
/// umask.
fn create_target(paths: &LockPaths, mode: Option<u32>) -> io::Result<()> {
    let file = paths.dir.create_new(&paths.target, mode.unwrap_or(0o666))?;
    mode.map_or(Ok(()), |mode| file.chmod(mode))
}

pub(crate) fn target_error(paths: &LockPaths, what: &'static str, error: io::Error) -> Error {
    let (unsupported, in_use) = (error.kind() == io::ErrorKind::Unsupported, sys::means_in_use(&error));
    let error = Error::io(&paths.target_path, format!("the target {what}"), error);
    match unsupported {
        true => error.with_hint("this file system has no flock(2)"),
        false if in_use => error.with_hint(IN_USE),
        false => error,
    }
}

fn keeps_changing(paths: &LockPaths) -> Error {
    Error::new(ErrorKind::Io, &paths.target_path, "the lock's files keep changing")
}

/// Unlocks the kernel locks that no tenure uses. A file that cannot be unlocked is closed, which frees its lock.
pub(crate) fn unlock_all(cached: &mut CachedFiles) {
    if cached.target.as_ref().is_some_and(|target| target.file.unlock().is_err()) {
        cached.target = None;
    }
    if cached.anchor.as_ref().is_some_and(|anchor| anchor.file.unlock().is_err()) {
        cached.anchor = None;
    }
    cached.locked = None;
}

/// Unlocks and closes all files, after an error.
#[cold]
pub(crate) fn close_all(cached: &mut CachedFiles) {
    unlock_all(cached);
    *cached = CachedFiles::default();
}
