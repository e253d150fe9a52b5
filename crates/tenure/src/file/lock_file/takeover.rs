//! A takeover: step 6, and its recovery by the next native where it was cut off, step 3.

use std::io;
use std::sync::Arc;

use super::copy::{is_link, make_copy, no_links};
use super::existing::{Verdict, judge_found, open_elsewhere, read_open};
use super::types::{LockFile, MAX_RETRIES};
use crate::file::anchor::{Anchor, anchor_lost};
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::file::staleness::OpenElsewhere;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::Options;
use crate::record::io::{read_stable, write};
use crate::record::{Content, Record};
use crate::sys::{Access, FileKind, LeaseOutcome, LockKind, Name};

/// Step 6's second half: the judged file is gone, and ours has its place unless that was removed since. `None` means that
/// something changed; look again, at the swap too.
pub(super) fn take_over(
    paths: &LockPaths,
    anchor: &Anchor,
    verdict: &Verdict,
    prior: &Prior,
    record: &Record,
    options: &Options,
    copy: bool,
) -> Result<Option<LockFile>> {
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let lock_file = match prepare_swap(paths, anchor, record, options, copy)? {
        SwapOutcome::Prepared(lock_file) => lock_file,
        SwapOutcome::Denied => return adopt_or_fail(paths, verdict, prior, record, denied()),
        SwapOutcome::Changed => return Ok(None),
    };
    let ours = lock_file.id(anchor);
    let failed = |error| paths.lock_error("cannot be taken over", error);
    let drop_swap = || match paths.dir.unlink(&paths.swap) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    let at_swap = || Ok::<_, Error>(paths.dir.stat_at(&paths.swap).map_err(failed)?.map(|stat| stat.id));
    if at_swap()? != ours {
        // Another anchor was linked, which had come to have the name. What is there now is for its holder to recover.
        return Err(anchor_lost(paths));
    }
    if let Err(error) = paths.dir.exchange(&paths.swap, &paths.lock) {
        drop_swap()?;
        return match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => adopt_or_fail(paths, verdict, prior, record, error),
        };
    }
    if at_swap()? == Some(verdict.blocker.id) && !was_opened(verdict) {
        drop_swap()?;
        return Ok(Some(lock_file));
    }
    // Another's, which came after we judged, or a file that somebody has opened since. Back with it.
    match paths.dir.exchange(&paths.swap, &paths.lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(paths.lock_error("cannot be put back", error));
        }
        _ => {}
    }
    // What came for it may be a third one's, which nobody has judged; or ours was removed meanwhile, and it is still there.
    let back = at_swap()?;
    if back.is_none() || back == ours {
        drop_swap()?;
    }
    Ok(None)
}

/// Has a process opened the file that was judged since then, where the verdict stands on nobody having it open? Nobody can
/// open it by its name any more once it has been exchanged.
fn was_opened(verdict: &Verdict) -> bool {
    let nameless =
        !verdict.native && verdict.blocker.holder.liveness.is_dead() && verdict.blocker.holder.identity.is_none();
    let file = verdict.blocker.file.as_ref().filter(|_| nameless);
    file.is_some_and(|file| open_elsewhere(file, &Record::default()) != OpenElsewhere::No)
}

pub(super) enum SwapOutcome {
    Prepared(LockFile),
    /// What a dead user left in a sticky folder has the name, and only that user may remove it.
    Denied,
    /// The anchor or `.tenure` has gone, or another native was at the swap.
    Changed,
}

/// Puts what will be the lock file under the swap's name.
pub(super) fn prepare_swap(
    paths: &LockPaths,
    anchor: &Anchor,
    record: &Record,
    options: &Options,
    copy: bool,
) -> Result<SwapOutcome> {
    let failed = |error| paths.lock_error("cannot be taken over", error);
    if !copy {
        match paths.dir.link(&paths.anchor, &paths.swap) {
            Ok(()) if is_link(paths, anchor, &paths.swap, record)? => return Ok(SwapOutcome::Prepared(LockFile::Link)),
            Ok(()) => {}
            Err(error) if no_links(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && paths.is_sticky() => {
                return Ok(SwapOutcome::Denied);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                return Ok(SwapOutcome::Changed);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    let lock_file = make_copy(paths, record, options)?;
    match paths.dir.rename_over(&paths.new, &paths.swap) {
        Ok(()) => Ok(SwapOutcome::Prepared(lock_file)),
        Err(error) => {
            let _ = paths.dir.unlink(&paths.new);
            match error.kind() {
                io::ErrorKind::PermissionDenied if paths.is_sticky() => Ok(SwapOutcome::Denied),
                io::ErrorKind::NotFound => Ok(SwapOutcome::Changed),
                _ => Err(failed(error)),
            }
        }
    }
}

/// A dead native's file that may not be moved is written over in place: we have its kernel lock.
pub(super) fn adopt_or_fail(
    paths: &LockPaths,
    verdict: &Verdict,
    prior: &Prior,
    record: &Record,
    error: io::Error,
) -> Result<Option<LockFile>> {
    if verdict.native { adopt(paths, verdict, prior, record) } else { Err(cannot_exchange(paths, verdict, error)) }
}

pub(super) fn cannot_exchange(paths: &LockPaths, verdict: &Verdict, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::CrossesDevices {
        let holder = Some(verdict.blocker.holder.clone());
        return paths.lock_error("of a dead holder cannot be taken over", error).with_holder(holder);
    }
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let what = if denied { "its holder is dead, but it may not be removed" } else { "its holder is dead" };
    let mut cannot = Error::io(&paths.lock_path, what, error).with_holder(Some(verdict.blocker.holder.clone()));
    if !denied {
        cannot = cannot.with_kind(ErrorKind::Unsupported).with_hint(
            "this file system cannot exchange two names (RENAME_EXCHANGE), so nothing was removed: once you are sure, \
             remove the lock file yourself",
        );
    }
    cannot
}

/// Writes our record over a dead native's copy that cannot be moved, then makes sure that it still has the name.
pub(super) fn adopt(paths: &LockPaths, verdict: &Verdict, prior: &Prior, record: &Record) -> Result<Option<LockFile>> {
    let failed = |error| paths.lock_error("was left by another user's dead program and may not be written", error);
    // What locks it gives way to an open file that can be written; the anchor's lock keeps natives out.
    let replaced = prior.replaced.iter().map(|anchor| &anchor.file);
    for file in verdict.blocker.file.iter().chain(replaced) {
        file.unlock().map_err(failed)?;
    }
    let file = match paths.dir.open_at(&paths.lock, Access::ReadWrite) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = file.ident().map_err(failed)?;
    if stat.id != verdict.blocker.id || !file.try_lock(LockKind::Exclusive).map_err(failed)? {
        return Ok(None);
    }
    write(&file, record, stat.size, true).map_err(failed)?;
    Ok((paths.lock_file_id()? == Some(stat.id)).then_some(LockFile::Copy { file: Arc::new(file), id: stat.id }))
}

/// Step 3: undoes or ends what a native left that died in a takeover. `true`: the swap names the file of one who may live,
/// and another who may live has the lock file's place, so it stays there, and nothing may be shown beside it.
pub(crate) fn recover(paths: &LockPaths, anchor: &Anchor, prior: &Prior, options: &Options) -> Result<bool> {
    let failed = |error| paths.anchor_error("cannot be recovered", error);
    for _ in 0..MAX_RETRIES {
        let Some(swap) = paths.dir.stat_at(&paths.swap).map_err(failed)? else { return Ok(false) };
        let ours = swap.id == anchor.id || swap.kind != FileKind::Regular;
        match if ours { Some(true) } else { is_swap_over(paths, anchor, prior, options)? } {
            None => return Ok(false),
            Some(true) => {
                return match paths.dir.unlink(&paths.swap) {
                    // Another user's, in a sticky folder: it stays until they come again. A takeover does without.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied && paths.is_sticky() => Ok(false),
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                    _ => Ok(false),
                };
            }
            Some(false) => {}
        }
        let lock = paths.dir.stat_at(&paths.lock).map_err(|error| paths.lock_error("cannot be read", error))?;
        let moved = match lock {
            None => paths.dir.rename_new(&paths.swap, &paths.lock),
            Some(stat) if stat.id == anchor.id => paths.dir.exchange(&paths.swap, &paths.lock),
            Some(stat) if stat.kind != FileKind::Regular => return Ok(true),
            Some(_) => match judge_at(paths, &paths.lock, prior, options)? {
                // Its kernel lock stays ours over the exchange.
                AtName::Dead(_judged) => paths.dir.exchange(&paths.swap, &paths.lock),
                AtName::MayLive => return Ok(true),
                AtName::Gone => continue,
            },
        };
        match moved {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
                return Err(failed(error));
            }
            // What came out is judged in its turn.
            _ => {}
        }
    }
    Err(Error::new(ErrorKind::Io, &paths.lock_path, "the lock file keeps changing under us"))
}

/// Is the tenure of the file at the swap over? While the dead native's own lock file is there, no release has removed that.
/// Later on its process may live and have released: then it has the file no longer open. `None`: it is gone.
///
/// A file of no bytes may be another program's that does not keep it open, so it is judged as at its own place.
pub(super) fn is_swap_over(
    paths: &LockPaths,
    anchor: &Anchor,
    prior: &Prior,
    options: &Options,
) -> Result<Option<bool>> {
    if !shows_prior_tenure(paths, anchor, prior)? {
        let file = match paths.dir.open_at(&paths.swap, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Ok(Some(false)),
        };
        let closed = file.read_lease() == LeaseOutcome::Granted;
        let foreign = match read_stable(&file).map_err(|error| paths.lock_error("cannot be read", error))? {
            Content::NotALock(_) => false,
            Content::Record(record) => record.native.is_none(),
            Content::Torn => true,
            Content::Blank => file.ident().is_ok_and(|stat| stat.size > 0),
        };
        if closed && foreign {
            return Ok(Some(true));
        }
    }
    Ok(match judge_at(paths, &paths.swap, prior, options)? {
        AtName::Dead(_) => Some(true),
        AtName::MayLive => Some(false),
        AtName::Gone => None,
    })
}

/// What stands at a name, by the judgement of its holder.
pub(super) enum AtName {
    /// With the judged file, and so with its kernel lock.
    Dead(Box<Verdict>),
    /// As must be assumed of what cannot be read, and of what is no lock.
    MayLive,
    Gone,
}

pub(super) fn judge_at(paths: &LockPaths, name: &Name, prior: &Prior, options: &Options) -> Result<AtName> {
    let file = match paths.dir.open_at(name, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AtName::Gone),
        Err(_) => return Ok(AtName::MayLive),
    };
    let found = read_open(paths, file)?;
    if matches!(found.content, Content::NotALock(_)) {
        return Ok(AtName::MayLive);
    }
    let verdict = judge_found(paths, found, options, prior.replaced.as_deref(), prior.was_shown())?;
    Ok(match verdict.blocker.holder.liveness.is_dead() {
        true => AtName::Dead(Box::new(verdict)),
        false => AtName::MayLive,
    })
}

/// Exchanges a live holder's file at the swap with the one in its place, as in a takeover.
pub(super) fn put_back(paths: &LockPaths, verdict: &Verdict) -> Result<()> {
    let failed = |error| paths.lock_error("cannot be put back", error);
    let exchange = || match paths.dir.exchange(&paths.swap, &paths.lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    exchange()?;
    match paths.dir.stat_at(&paths.swap).map_err(failed)? {
        Some(out) if out.id == verdict.blocker.id => paths.dir.unlink(&paths.swap).map_err(failed),
        Some(_) => exchange(),
        None => Ok(()),
    }
}

/// Is the lock file the dead native's: the anchor's inode, or a copy with the anchor's fence?
pub(super) fn shows_prior_tenure(paths: &LockPaths, anchor: &Anchor, prior: &Prior) -> Result<bool> {
    let Some(stat) = paths.dir.stat_at(&paths.lock).map_err(|error| paths.lock_error("cannot be read", error))? else {
        return Ok(false);
    };
    if stat.id == anchor.id || stat.kind != FileKind::Regular {
        return Ok(stat.id == anchor.id);
    }
    let Some(fence) = prior.state().map(|state| state.fence) else { return Ok(false) };
    let Ok(file) = paths.dir.open_at(&paths.lock, Access::Read) else { return Ok(false) };
    Ok(match read_stable(&file) {
        Ok(Content::Record(Record { native: Some(native), .. })) => native.fence == Some(fence),
        _ => false,
    })
}
