//! A takeover (step 6), and its recovery by the next native where it was cut off (step 3).

use std::io;
use std::sync::Arc;

use super::copy::{make_copy, no_links};
use super::existing::{Verdict, judge_found, open_elsewhere, read_open};
use super::visible::{CopyFile, LockFile, is_link};
use crate::file::anchor::{Anchor, anchor_lost};
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::file::staleness::OpenElsewhere;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::Options;
use crate::record::io::{read_stable, write};
use crate::record::{Content, Record};
use crate::sys::{self, Access, FileKind, LeaseOutcome, LockKind, Name, TakeoverSteps};

/// The maximum number of retries while the lock file keeps changing.
pub(super) const MAX_RETRIES: usize = 1000;

/// The result of a takeover's second half.
pub(super) enum TakeOver {
    /// The lock file is this process's, in the judged one's place.
    Published(LockFile),
    /// The judged file is gone, and its name is free. The anchor's record reports the crash until the next lock file
    /// exists.
    Removed,
    /// Something changed: read the lock file again, and the swap too.
    Changed,
    /// A process has the judged file open in a way that keeps its name.
    InUse,
}

/// Replaces or removes the judged file, by the steps that the system allows: the second half of step 6.
pub(super) fn take_over(
    paths: &LockPaths,
    anchor: &Anchor,
    verdict: &Verdict,
    prior: &Prior<'_>,
    record: &Record,
    options: &Options,
    copy: bool,
) -> Result<TakeOver> {
    if sys::takeover_steps() == TakeoverSteps::Removal {
        return remove_judged(paths, verdict, prior, record);
    }
    let exchanged = exchange_judged(paths, anchor, verdict, prior, record, options, copy)?;
    Ok(exchanged.map_or(TakeOver::Changed, TakeOver::Published))
}

/// Removes the judged file in one step, while the name is that very file's. So no other program's file is removed, and
/// none has to be put back. The name is free from then on, and its next file is judged as any other.
fn remove_judged(paths: &LockPaths, verdict: &Verdict, prior: &Prior<'_>, record: &Record) -> Result<TakeOver> {
    let Some(file) = &verdict.blocker.file else { return Ok(TakeOver::Changed) };
    match paths.dir.unlink_same(&paths.lock, file) {
        Ok(true) => Ok(TakeOver::Removed),
        Ok(false) => Ok(TakeOver::Changed),
        Err(error) if sys::means_in_use(&error) => Ok(TakeOver::InUse),
        Err(error) => {
            let adopted = adopt_or_fail(paths, verdict, prior, record, error)?;
            Ok(adopted.map_or(TakeOver::Changed, TakeOver::Published))
        }
    }
}

/// Exchanges the judged file for this process's lock file. Returns `None` where something changed.
fn exchange_judged(
    paths: &LockPaths,
    anchor: &Anchor,
    verdict: &Verdict,
    prior: &Prior<'_>,
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
        // Another anchor, which had come to have the name, was linked. What is at the swap now is for that anchor's
        // holder to recover.
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
    // Another program's file, which came after the judgement, or a file that another process has opened since, is put
    // back.
    match paths.dir.exchange(&paths.swap, &paths.lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(paths.lock_error("cannot be put back", error));
        }
        _ => {}
    }
    // The second exchange may have taken out a third program's file, which was not judged; or this process's file was
    // removed meanwhile, and the file is still at the swap.
    let back = at_swap()?;
    if back.is_none() || back == ours {
        drop_swap()?;
    }
    Ok(None)
}

/// Returns whether another process has opened the judged file since, where the verdict relies on no process having it open.
/// After the exchange no process can open it by its name.
fn was_opened(verdict: &Verdict) -> bool {
    let nameless =
        !verdict.native && verdict.blocker.holder.liveness.is_dead() && verdict.blocker.holder.identity.is_none();
    let file = verdict.blocker.file.as_ref().filter(|_| nameless);
    file.is_some_and(|file| open_elsewhere(file, &Record::default()) != OpenElsewhere::No)
}

pub(super) enum SwapOutcome {
    Prepared(LockFile),
    /// A dead user's file where only owners may remove files has the name, and only that user may remove it.
    Denied,
    /// The anchor or `.tenure` was removed, or another native was at the swap.
    Changed,
}

/// Links or copies the next lock file to the swap's name.
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
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && paths.dir_stat.removal_needs_owner() => {
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
                io::ErrorKind::PermissionDenied if paths.dir_stat.removal_needs_owner() => Ok(SwapOutcome::Denied),
                io::ErrorKind::NotFound => Ok(SwapOutcome::Changed),
                _ => Err(failed(error)),
            }
        }
    }
}

/// Writes over a dead native's file that may not be moved, whose kernel lock this process has. Fails for a foreign
/// file.
pub(super) fn adopt_or_fail(
    paths: &LockPaths,
    verdict: &Verdict,
    prior: &Prior<'_>,
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
    if !denied && sys::takeover_steps() == TakeoverSteps::Exchange {
        cannot = cannot.with_kind(ErrorKind::Unsupported).with_hint(
            "this file system cannot exchange two names (RENAME_EXCHANGE), so nothing was removed: once you are sure, \
             remove the lock file yourself",
        );
    }
    cannot
}

/// Writes this process's record over a dead native's copy that cannot be moved, and verifies that the copy still has
/// the name.
pub(super) fn adopt(
    paths: &LockPaths,
    verdict: &Verdict,
    prior: &Prior<'_>,
    record: &Record,
) -> Result<Option<LockFile>> {
    let failed = |error| paths.lock_error("was left by another user's dead program and may not be written", error);
    // The file must be opened for writing, so the locks on the read-only descriptors are unlocked. The anchor's lock
    // keeps natives out.
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
    Ok((paths.lock_file_id()? == Some(stat.id)).then_some(LockFile::Copy(Arc::new(CopyFile { file, id: stat.id }))))
}

/// Undoes or completes the takeover of a native that died in it: step 3. Returns `true` if the swap names the file of a
/// holder that may live, and another holder that may live has the lock file. Then the file stays at the swap, and
/// nothing may be published beside it.
pub(crate) fn recover(paths: &LockPaths, anchor: &Anchor, prior: &Prior<'_>, options: &Options) -> Result<bool> {
    let failed = |error| paths.anchor_error("cannot be recovered", error);
    for _ in 0..MAX_RETRIES {
        let Some(swap) = paths.dir.stat_at(&paths.swap).map_err(failed)? else { return Ok(false) };
        let ours = swap.id == anchor.id || swap.kind != FileKind::Regular;
        match if ours { Some(true) } else { is_swap_over(paths, anchor, prior, options)? } {
            None => return Ok(false),
            Some(true) => {
                return match paths.dir.unlink(&paths.swap) {
                    // Another user's file where only owners may remove files stays until that user comes again. A takeover does without
                    // the swap.
                    Err(error)
                        if error.kind() == io::ErrorKind::PermissionDenied && paths.dir_stat.removal_needs_owner() =>
                    {
                        Ok(false)
                    }
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
                // The judged file's kernel lock is kept over the exchange.
                AtName::Dead(_judged) => paths.dir.exchange(&paths.swap, &paths.lock),
                AtName::MayLive => return Ok(true),
                AtName::Gone => continue,
            },
        };
        match moved {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
                return Err(failed(error));
            }
            // The file that came out is judged next.
            _ => {}
        }
    }
    Err(Error::new(ErrorKind::Io, &paths.lock_path, "the lock file keeps changing"))
}

/// Returns whether the tenure of the file at the swap is over. While the dead native's own lock file exists, no release
/// has removed the file. Later its process may live and have released; then it does not have the file open. Returns
/// `None` if the file is gone.
///
/// A file of no bytes may be another program's that does not keep it open, so it is judged as at the lock file's path.
pub(super) fn is_swap_over(
    paths: &LockPaths,
    anchor: &Anchor,
    prior: &Prior<'_>,
    options: &Options,
) -> Result<Option<bool>> {
    if !is_of_prior_tenure(paths, anchor, prior)? {
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

/// The verdict on the file at a name.
pub(super) enum AtName {
    /// The holder is dead. The judged file is open, so this process has its kernel lock.
    Dead(Box<Verdict>),
    /// The holder may live. This is also assumed of a file that cannot be read, and of a file that is not a lock file.
    MayLive,
    Gone,
}

pub(super) fn judge_at(paths: &LockPaths, name: &Name, prior: &Prior<'_>, options: &Options) -> Result<AtName> {
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

/// Exchanges a live holder's file at the swap for the lock file, as in a takeover.
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

/// Returns whether the lock file is the last native's: the anchor's inode, or a copy with the anchor's fence.
pub(super) fn is_of_prior_tenure(paths: &LockPaths, anchor: &Anchor, prior: &Prior<'_>) -> Result<bool> {
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
