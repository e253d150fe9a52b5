//! Flock style: no lock file is published. A dead native's lock file is removed, and its crash is reported.
//!
//! It is removed as a native's own at a release. The file must name this process before it is checked and removed: then
//! only a program that removes live lock files can put its own there in between. The anchor's inode does so once this
//! process's record is written. A file on an inode of its own is exchanged for the anchor, as in a takeover, and the
//! file that came out is compared with the judged one. If this process dies at that, its record leads the next native
//! to the swap, as it reports the crash.

use std::io;

use super::existing::{Verdict, judge_native, read_existing};
use super::publish::Published;
use super::takeover::{MAX_RETRIES, TakeOver, recover, take_over};
use super::unpublish::{may_stay, restore, roll_back, write_unheld};
use super::visible::{LockFile, is_visible, verify_names};
use crate::file::anchor::{Anchor, anchor_lost};
use crate::file::crash::state_reports_crash;
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, Previous};
use crate::model::options::Options;
use crate::record::{Content, PriorState, Record, RecordState};
use crate::sys::{self, Access, FileId, FileIdent, LockKind};

/// The removal of a dead native's lock file, and what must be undone if it fails.
struct Clearing<'a> {
    paths: &'a LockPaths,
    anchor: &'a Anchor,
    prior: &'a Prior<'a>,
    record: &'a Record,
    options: &'a Options,
    /// A dead native's lock file on an inode of its own.
    dead: Option<FileId>,
    /// Whether the swap names a file whose holder may live, as [`recover`] said last.
    live_file_at_swap: bool,
}

/// Writes the record, with the kernel locks of the anchor and the target held. Returns the new value of
/// `live_file_at_swap` as well.
pub(crate) fn acquire_hidden(
    paths: &LockPaths,
    anchor: &Anchor,
    stat: &FileIdent,
    prior: &Prior<'_>,
    record: &Record,
    options: &Options,
    live_file_at_swap: bool,
) -> Result<(Published, bool)> {
    let state = prior.state();
    if stat.links == 1 && is_released(state) {
        // The usual case: nothing was left to remove or to report.
        let written = anchor.write(record, stat.size, false);
        let state_offset = written.map_err(|error| paths.anchor_error("cannot be written", error))?;
        if let Err(error) = verify_names(paths, anchor, stat, &LockFile::Hidden) {
            roll_back(paths, anchor, &LockFile::Hidden, &Previous::Clean, record, state_offset);
            return Err(error);
        }
        return Ok((Published::Held(LockFile::Hidden, Previous::Clean, state_offset), live_file_at_swap));
    }
    clear_and_acquire(paths, anchor, stat, prior, record, options, live_file_at_swap)
}

/// As [`acquire_hidden`], where a dead native's lock file may be found.
#[cold]
fn clear_and_acquire(
    paths: &LockPaths,
    anchor: &Anchor,
    stat: &FileIdent,
    prior: &Prior<'_>,
    record: &Record,
    options: &Options,
    live_file_at_swap: bool,
) -> Result<(Published, bool)> {
    let state = prior.state();
    let visible = is_visible(paths, anchor, stat)?;
    // Such a file can exist only where the last tenure is not known to be released.
    let dead = if visible || is_released(state) { None } else { dead_native(paths, prior, LockKind::Exclusive)? };
    let mut crashed_holder = dead.as_ref().and_then(crashed);
    if visible && let Previous::Crashed(holder) = prior.previous_by_link() {
        crashed_holder = Some(*holder);
    }
    // The order matters: if this process dies in between, the lock file, or else its own record, reports the crash.
    let state_offset =
        anchor.write(record, stat.size, visible).map_err(|error| paths.anchor_error("cannot be written", error))?;
    let found = dead.as_ref().map(|dead| dead.blocker.id);
    let mut clearing = Clearing { paths, anchor, prior, record, options, dead: found, live_file_at_swap };
    let cleared = match dead {
        Some(dead) => clearing.exchange_away(dead),
        None if visible => clearing.remove(&LockFile::Link).map(|()| None),
        None => Ok(None),
    };
    let previous = match cleared {
        Ok(taken) => prior.previous(taken.or(crashed_holder)),
        Err(error) => {
            clearing.restore_or_mark(prior.previous(crashed_holder).is_crashed(), visible);
            return Err(error);
        }
    };
    if let Err(error) = verify_names(paths, anchor, stat, &LockFile::Hidden) {
        roll_back(paths, anchor, &LockFile::Hidden, &previous, record, state_offset);
        return Err(error);
    }
    Ok((Published::Held(LockFile::Hidden, previous, state_offset), clearing.live_file_at_swap))
}

/// Returns the report of the tenure before for a shared holder. It changes nothing, so the next exclusive holder gets the
/// report as well.
pub(crate) fn crash_still_reported(
    paths: &LockPaths,
    anchor: &Anchor,
    stat: &FileIdent,
    prior: &Prior<'_>,
) -> Result<Previous> {
    let state = prior.state();
    if is_visible(paths, anchor, stat)? {
        return Ok(prior.previous_by_link());
    }
    // Another process that wants a share may check at the same moment.
    let dead = if is_released(state) { None } else { dead_native(paths, prior, LockKind::Shared)? };
    Ok(prior.previous(dead.as_ref().and_then(crashed)))
}

fn is_released(state: Option<PriorState>) -> bool {
    state.is_some_and(|state| state.state == RecordState::Released)
}

impl Clearing<'_> {
    /// Exchanges a dead native's lock file for this process's, and removes that. Returns the crashed holder.
    fn exchange_away(&mut self, mut dead: Verdict) -> Result<Option<Holder>> {
        let Clearing { paths, anchor, prior, record, options, .. } = *self;
        for _ in 0..MAX_RETRIES {
            // Only the process that has the kernel lock of the present anchor may use the swap.
            if anchor.current(paths)?.is_none() {
                return Err(anchor_lost(paths));
            }
            self.live_file_at_swap = recover(paths, anchor, prior, options)?;
            if !self.live_file_at_swap {
                match take_over(paths, anchor, &dead, prior, record, options, paths.copies()) {
                    Ok(TakeOver::Published(lock_file)) => {
                        self.remove(&lock_file)?;
                        return Ok(crashed(&dead));
                    }
                    Ok(TakeOver::Removed) => return Ok(crashed(&dead)),
                    Ok(TakeOver::InUse) => {
                        self.mark_released(&dead)?;
                        return Ok(crashed(&dead));
                    }
                    Ok(TakeOver::Changed) => {}
                    // Another user's file, which may neither be moved nor written, stays. In flock style it does not
                    // block.
                    Err(error) if is_other_users(paths, &error)? && paths.lock_file_id()? == Some(dead.blocker.id) => {
                        return Ok(crashed(&dead));
                    }
                    Err(error) => return Err(error),
                }
            }
            // The judged file's kernel lock is this process's, not a live holder's, so it is unlocked first.
            drop(dead);
            self.live_file_at_swap = recover(paths, anchor, prior, options)?;
            // This process's file may have stayed, where the swap was removed meanwhile.
            self.remove(&LockFile::Link)?;
            match dead_native(paths, prior, LockKind::Exclusive)? {
                Some(again) => dead = again,
                None => return Ok(None),
            }
        }
        Err(Error::new(ErrorKind::Io, &paths.lock_path, "the lock file keeps changing"))
    }

    /// Writes into a dead native's lock file, which stays because a process has it open, that it is released. In flock style
    /// it does not block, but its crash must not be reported again.
    fn mark_released(&self, dead: &Verdict) -> Result<()> {
        let Clearing { paths, record, .. } = *self;
        let failed = |error| paths.lock_error("of a dead holder cannot be written", error);
        let file = match paths.dir.open_at(&paths.lock, Access::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if file.ident().map_err(failed)?.id != dead.blocker.id {
            return Ok(());
        }
        write_unheld(&file, record, RecordState::Released).map_err(failed)
    }

    /// Removes the lock file if it is this process's, as at a release. Otherwise it does not matter in flock style.
    fn remove(&self, lock_file: &LockFile) -> Result<()> {
        let Clearing { paths, anchor, record, .. } = *self;
        if paths.lock_file_id()? != lock_file.id(anchor) {
            return Ok(());
        }
        let Some(file) = lock_file.file(anchor) else { return Ok(()) };
        match paths.remove_name(&paths.lock, file) {
            Ok(_) => Ok(()),
            // Another user's copy that was written over: its record now says that it is not held.
            Err(error) if may_stay(paths, &error) && matches!(lock_file, LockFile::Copy(_)) => {
                write_unheld(file, record, RecordState::Released)
                    .map_err(|error| paths.lock_error("cannot be written", error))
            }
            Err(error) => Err(paths.lock_error("of a dead holder cannot be removed", error)),
        }
    }

    /// Undoes the record, because the lock was not granted. The last holder's record is restored, unless this process's
    /// record may be visible, must lead to the swap, or is the only one that reports a crash: then it is marked as not
    /// held. The last record is also restored where it was `visible`, and still is, as the dead native's lock file.
    fn restore_or_mark(&self, crashed: bool, visible: bool) {
        let Clearing { paths, anchor, prior, record, .. } = *self;
        let half_taken = self.live_file_at_swap || !matches!(paths.dir.stat_at(&paths.swap), Ok(None));
        let at_path = paths.lock_file_id();
        if visible && !half_taken && matches!(at_path, Ok(found) if found == Some(anchor.id)) {
            return restore(anchor, prior, record, true);
        }
        let may_be_published = !matches!(at_path, Ok(found) if found != Some(anchor.id));
        let found_again = self.dead.is_some() && matches!(at_path, Ok(found) if found == self.dead);
        let reported_elsewhere = found_again || prior.state().is_some_and(state_reports_crash);
        if !half_taken && !may_be_published && (reported_elsewhere || !crashed) {
            return restore(anchor, prior, record, false);
        }
        let state = if crashed || half_taken { RecordState::Aborted } else { RecordState::Released };
        let _ = write_unheld(&anchor.file, record, state);
    }
}

/// Returns the crashed holder, unless the lock had been released.
fn crashed(dead: &Verdict) -> Option<Holder> {
    (!dead.released).then(|| dead.blocker.holder.clone())
}

/// Returns whether access to the lock file was refused because it is another user's.
fn is_other_users(paths: &LockPaths, error: &Error) -> Result<bool> {
    if error.io_error().is_none_or(|error| error.kind() != io::ErrorKind::PermissionDenied) {
        return Ok(false);
    }
    let stat = paths.dir.stat_at(&paths.lock).map_err(|error| paths.lock_error("cannot be read", error))?;
    Ok(stat.is_some_and(|stat| stat.owner != sys::effective_user()))
}

/// Returns a lock file that a dead native left in lock-file style, as a copy or with an anchor that was removed since.
/// A file that is not a lock file, and another user's file that may not be read, do not block in flock style.
fn dead_native(paths: &LockPaths, prior: &Prior<'_>, kind: LockKind) -> Result<Option<Verdict>> {
    let found = match read_existing(paths) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) if error.is_obstructed() || is_other_users(paths, &error)? => return Ok(None),
        Err(error) => return Err(error),
    };
    if !matches!(&found.content, Content::Record(record) if record.native.is_some()) {
        return Ok(None);
    }
    Ok(Some(judge_native(paths, found, kind, prior.replaced.as_deref())?).filter(|verdict| verdict.may_take_over))
}
