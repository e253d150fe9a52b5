//! The protocol's acquire and release, one system call after the other.
//!
//! [`attempt`] never blocks; a helper's turn waits in the kernel ([`Helper::step`]). Both end in `enter`, which runs with
//! the anchor's kernel lock held and its path compared. What is promised: a grant is returned only after the record
//! was written whole, and the lock file or the target's own lock is ours; on every error nothing is believed held.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::file::anchor::{Anchor, Prior};
use crate::file::break_lock;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::new_record;
use crate::file::grant::{Grant, TargetFile};
use crate::file::lock_file::{self, Blocker, LockFile, Published};
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Previous;
use crate::model::request::Request;
use crate::sys::{Access, FileIdent, FileKind, LockKind};

/// How often what keeps changing under us is tried again before we call it an error.
const TRIES: usize = 1000;

/// What came of a try that does not wait.
#[allow(clippy::large_enum_variant, reason = "the grant is the ordinary outcome; a box would cost each an allocation")]
pub(crate) enum Attempt {
    Granted(Grant),
    /// Held by another; by whom, where that was found out on the way.
    Busy(Option<Box<Blocker>>),
}

/// What came of the steps under the kernel lock.
#[allow(clippy::large_enum_variant, reason = "the grant is the ordinary outcome; a box would cost each an allocation")]
pub(crate) enum Entered {
    Granted(Grant),
    /// Somebody is in the way at the lock file's place.
    Blocked(Box<Blocker>),
    /// Somebody has the target's own lock.
    TargetBusy,
}

pub(crate) fn kind(request: &Request) -> LockKind {
    if request.shared { LockKind::Shared } else { LockKind::Exclusive }
}

/// One try to acquire. What it opened stays in `kept`; no kernel lock stays unless it was granted. Where the caller is to
/// yield to other processes, once the anchor's kernel lock is ours, it is busy though it may be free.
pub(crate) fn attempt(
    paths: &LockPaths,
    kept: &mut CachedFiles,
    request: &Request,
    yields: &mut dyn FnMut(&Anchor) -> bool,
) -> Result<Attempt> {
    tries(paths, kept, request, yields).inspect_err(|_| close(kept))
}

fn tries(
    paths: &LockPaths,
    kept: &mut CachedFiles,
    request: &Request,
    yields: &mut dyn FnMut(&Anchor) -> bool,
) -> Result<Attempt> {
    for _ in 0..TRIES {
        if request.bare() {
            return Ok(match lock_target(paths, kept, request)? {
                Some(target) => Attempt::Granted(bare_grant(target)),
                None => Attempt::Busy(None),
            });
        }
        let anchor = kept_anchor(paths, kept, request)?;
        let locked =
            anchor.file.try_lock(kind(request)).map_err(|error| paths.anchor_error("cannot be locked", error))?;
        let Some(stat) = anchor.current(paths)? else {
            drop_anchor(kept);
            continue;
        };
        if !locked {
            if break_lock::steal(paths, request.options.stale_policy) {
                continue;
            }
            return Ok(Attempt::Busy(None));
        }
        if yields(&anchor) {
            release_all(kept);
            return Ok(Attempt::Busy(None));
        }
        let entered = enter(paths, kept, &anchor, &stat, request);
        return match entered {
            Ok(Entered::Granted(grant)) => Ok(Attempt::Granted(grant)),
            Ok(Entered::Blocked(blocker)) => {
                release_all(kept);
                Ok(Attempt::Busy(Some(blocker)))
            }
            Ok(Entered::TargetBusy) => {
                release_all(kept);
                Ok(Attempt::Busy(None))
            }
            Err(error) if error.is_lost() => {
                // The anchor went away under us, by a break or a person: its successor is tried.
                release_all(kept);
                drop_anchor(kept);
                continue;
            }
            Err(error) => Err(error),
        };
    }
    Err(keeps_changing(paths))
}

/// Steps 3 to 6, with the kernel lock on `anchor`, which its path names.
pub(crate) fn enter(
    paths: &LockPaths,
    kept: &mut CachedFiles,
    anchor: &Arc<Anchor>,
    stat: &FileIdent,
    request: &Request,
) -> Result<Entered> {
    let options = &request.options;
    if request.shared {
        let previous = lock_file::crash_still_reported(paths, anchor, stat)?;
        return Ok(match lock_target(paths, kept, request)? {
            Some(target) => Entered::Granted(Grant {
                anchor: Some(Arc::clone(anchor)),
                target: Some(target),
                lock_file: LockFile::Hidden,
                previous,
                record: None,
                state_offset: 0,
                live_file_at_swap: false,
                seen: Instant::now(),
            }),
            None => Entered::TargetBusy,
        });
    }
    if !paths.copies() && lock_file::must_copy(paths, anchor) {
        paths.set_copies();
    }
    let mut prior = anchor.read(paths, stat)?;
    // A takeover that was not ended left a second link, or word of itself in the record; and so did a native in flock
    // style that held beside what it left, and died.
    let state = prior.state();
    let cut_off = state.is_some_and(lock_file::is_cut_off_state);
    let look = stat.links > 1 || cut_off || paths.copies();
    let live_file_at_swap = look && lock_file::recover(paths, anchor, &prior, options)?;
    if !anchor.read_only {
        return enter_as(paths, kept, anchor, stat, &prior, request, live_file_at_swap);
    }
    let own = Arc::new(anchor.replace(paths, options, state)?);
    kept.anchor = Some(Arc::clone(&own));
    // The old one may be a dead native's lock file as well. Its kernel lock stays ours until that is done, or one who had
    // queued for it would seem to be its holder.
    prior.replaced = Some(Arc::clone(anchor));
    let stat = own.file.ident().map_err(|error| paths.anchor_error("cannot be read", error));
    let entered = stat.and_then(|stat| enter_as(paths, kept, &own, &stat, &prior, request, live_file_at_swap));
    let _ = anchor.file.unlock();
    entered
}

/// Steps 4 to 6, after what `prior` says.
fn enter_as(
    paths: &LockPaths,
    kept: &mut CachedFiles,
    anchor: &Arc<Anchor>,
    stat: &FileIdent,
    prior: &Prior,
    request: &Request,
    live_file_at_swap: bool,
) -> Result<Entered> {
    let state = prior.state();
    let record = new_record(request, state.map_or(0, |state| state.fence), paths)?;
    let options = &request.options;
    let (target, (shown, live_file_at_swap)) = if request.flock() {
        let Some(target) = lock_target(paths, kept, request)? else { return Ok(Entered::TargetBusy) };
        match lock_file::take_hidden(paths, anchor, stat, prior, &record, options, live_file_at_swap) {
            Ok(shown) => (Some(target), shown),
            Err(error) => {
                let _ = target.file.unlock();
                return Err(error);
            }
        }
    } else {
        // With a lock file it is held only once nobody is parked any more.
        (None, (lock_file::publish(paths, anchor, stat, prior, &record, options, live_file_at_swap)?, false))
    };
    Ok(match shown {
        Published::Blocked(blocker) => Entered::Blocked(blocker),
        Published::Held(lock_file, previous, state_offset) => {
            request.options.report_takeover(&paths.target_path, &previous);
            let (anchor, record) = (Some(Arc::clone(anchor)), Some(record));
            Entered::Granted(Grant {
                anchor,
                target,
                lock_file,
                previous,
                record,
                state_offset,
                live_file_at_swap,
                seen: Instant::now(),
            })
        }
    })
}

pub(crate) fn bare_grant(target: Arc<TargetFile>) -> Grant {
    Grant {
        anchor: None,
        target: Some(target),
        lock_file: LockFile::Hidden,
        previous: Previous::Clean,
        record: None,
        state_offset: 0,
        live_file_at_swap: false,
        seen: Instant::now(),
    }
}

pub(crate) fn kept_anchor(paths: &LockPaths, kept: &mut CachedFiles, request: &Request) -> Result<Arc<Anchor>> {
    if let Some(anchor) = &kept.anchor {
        return Ok(Arc::clone(anchor));
    }
    let anchor = Arc::new(Anchor::open(paths, &request.options)?);
    kept.anchor = Some(Arc::clone(&anchor));
    Ok(anchor)
}

/// The anchor is another's by now. The target's lock, which may have been taken before it, is not kept over a wait for the
/// next one.
pub(crate) fn drop_anchor(kept: &mut CachedFiles) {
    if let Some(anchor) = kept.anchor.take() {
        let _ = anchor.file.unlock();
    }
    if kept.target.as_ref().is_some_and(|target| target.file.unlock().is_err()) {
        kept.target = None;
    }
    kept.locked = None;
}

/// Takes the target's own kernel lock without waiting: `None` if another has it.
pub(crate) fn lock_target(
    paths: &LockPaths,
    kept: &mut CachedFiles,
    request: &Request,
) -> Result<Option<Arc<TargetFile>>> {
    for _ in 0..TRIES {
        let target = match &kept.target {
            Some(target) => Arc::clone(target),
            None => match open_target(paths, request)? {
                Some(target) => {
                    let target = Arc::new(target);
                    kept.target = Some(Arc::clone(&target));
                    target
                }
                None => continue,
            },
        };
        let locked =
            target.file.try_lock(kind(request)).map_err(|error| target_error(paths, "cannot be locked", error))?;
        // A file is often replaced whole, by a rename: the lock must be on the one that has the name.
        let current =
            paths.dir.ident_at(&paths.target).map_err(|error| target_error(paths, "cannot be read", error))?;
        if current.map(|stat| stat.id) == Some(target.id) {
            return Ok(locked.then_some(target));
        }
        if locked {
            let _ = target.file.unlock();
        }
        kept.target = None;
    }
    Err(keeps_changing(paths))
}

/// Has the locked file the target's name still? On a doubt it has not.
pub(crate) fn is_current(paths: &LockPaths, target: &TargetFile) -> bool {
    matches!(paths.dir.ident_at(&paths.target), Ok(Some(stat)) if stat.id == target.id)
}

/// `None`: it went away meanwhile.
fn open_target(paths: &LockPaths, request: &Request) -> Result<Option<TargetFile>> {
    let failed = |error| target_error(paths, "cannot be opened", error);
    let found = paths.dir.stat_at(&paths.target).map_err(failed)?;
    match found.map(|stat| stat.kind) {
        None => match make_target(paths, request.options.mode) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(target_error(paths, "is missing and cannot be made", error)),
        },
        Some(FileKind::Regular | FileKind::Directory | FileKind::BlockDevice) => {}
        Some(other) => {
            let detail = format!("the target is {}, which cannot be locked with flock(2)", other.words());
            return Err(Error::new(ErrorKind::Obstructed, &paths.target_path, detail));
        }
    }
    // Where flock(2) is a byte-range lock of the server's, an exclusive one wants a descriptor that may write.
    let emulated = matches!(&*paths.file_system.name, "nfs" | "cifs" | "smb2" | "smb");
    let access = if emulated && !request.shared { Access::ReadWrite } else { Access::Read };
    let file = match paths.dir.open_at(&paths.target, access) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = file.stat().map_err(failed)?;
    Ok(Some(TargetFile { id: stat.id, file }))
}

/// Makes a target that is missing, as any program makes a file, and with a mode that is asked for whatever the umask.
fn make_target(paths: &LockPaths, mode: Option<u32>) -> io::Result<()> {
    let file = paths.dir.create_new(&paths.target, mode.unwrap_or(0o666))?;
    mode.map_or(Ok(()), |mode| file.chmod(mode))
}

pub(crate) fn target_error(paths: &LockPaths, what: &'static str, error: io::Error) -> Error {
    let unsupported = error.kind() == io::ErrorKind::Unsupported;
    let error = Error::io(&paths.target_path, format!("the target {what}"), error);
    if unsupported { error.with_hint("this file system has no flock(2)") } else { error }
}

fn keeps_changing(paths: &LockPaths) -> Error {
    Error::new(ErrorKind::Io, &paths.target_path, "the lock's files keep changing under us")
}

/// Gives back the kernel locks that are held for nobody; a file that keeps its lock is closed, which frees it.
pub(crate) fn release_all(kept: &mut CachedFiles) {
    if kept.target.as_ref().is_some_and(|target| target.file.unlock().is_err()) {
        kept.target = None;
    }
    if kept.anchor.as_ref().is_some_and(|anchor| anchor.file.unlock().is_err()) {
        kept.anchor = None;
    }
    kept.locked = None;
}

/// After an error: whatever failed, no lock stays.
pub(crate) fn close(kept: &mut CachedFiles) {
    release_all(kept);
    *kept = CachedFiles::default();
}
