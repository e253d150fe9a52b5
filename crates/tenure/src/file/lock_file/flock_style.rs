//! Flock style: no lock file is shown, and one that a dead native left goes, with word of its crash.
//!
//! It goes as a native's own does at its release: it must say that we live before it is looked at and removed, so that
//! nobody but who removes a live lock file can put his own there in between. The anchor's inode says so once our record
//! is written. What is on an inode of its own is exchanged for the anchor, as in a takeover: what came out is compared
//! with what was judged. If we die at that, our record leads the next one to the swap, as it tells of the crash.

use std::io;

use super::existing::{Verdict, judge_native, read_existing};
use super::names::{is_visible, verify_names};
use super::takeover::{recover, take_over};
use super::types::{LockFile, MAX_RETRIES, Published};
use super::unpublish::{may_stay, restore, roll_back, write_unheld};
use crate::file::anchor::{Anchor, anchor_lost};
use crate::file::crash::state_reports_crash;
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, Previous};
use crate::model::options::Options;
use crate::record::{Content, PriorState, Record, RecordState};
use crate::sys::{self, FileId, FileIdent, LockKind};

/// What flock style found, and what it owes.
struct Clearing<'a> {
    paths: &'a LockPaths,
    anchor: &'a Anchor,
    prior: &'a Prior,
    record: &'a Record,
    options: &'a Options,
    /// A dead native's lock file on an inode of its own.
    dead: Option<FileId>,
    /// The swap names the file of one who may live: what [`recover`](super::recover) said last.
    live_file_at_swap: bool,
}

/// Writes the record, with the anchor's kernel lock and the target's held. Returns `live_file_at_swap` as it is by now.
pub(crate) fn acquire_hidden(
    paths: &LockPaths,
    anchor: &Anchor,
    stat: &FileIdent,
    prior: &Prior,
    record: &Record,
    options: &Options,
    live_file_at_swap: bool,
) -> Result<(Published, bool)> {
    let state = prior.state();
    let visible = is_visible(paths, anchor, stat)?;
    // Only where the last tenure is not known to be released can there be one on an inode of its own.
    let dead = if visible || is_released(state) { None } else { dead_native(paths, prior, LockKind::Exclusive)? };
    let mut left = dead.as_ref().and_then(crashed);
    if visible && let Previous::Crashed(holder) = prior.previous_by_link() {
        left = Some(*holder);
    }
    // In this order: the lock file, or else our own record, tells of the crash if we die in between.
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
        Ok(taken) => prior.previous(taken.or(left)),
        Err(error) => {
            clearing.restore_or_mark(prior.previous(left).is_crashed(), visible);
            return Err(error);
        }
    };
    if let Err(error) = verify_names(paths, anchor, stat, &LockFile::Hidden) {
        roll_back(paths, anchor, &LockFile::Hidden, &previous, record, state_offset);
        return Err(error);
    }
    Ok((Published::Held(LockFile::Hidden, previous, state_offset), clearing.live_file_at_swap))
}

/// What a share hears of the tenure before it. It changes nothing, so the next exclusive holder hears it as well.
pub(crate) fn crash_still_reported(paths: &LockPaths, anchor: &Anchor, stat: &FileIdent) -> Result<Previous> {
    let prior = Prior::read(anchor, paths, stat)?;
    let state = prior.state();
    if is_visible(paths, anchor, stat)? {
        return Ok(prior.previous_by_link());
    }
    // Another that shares may look at the same moment.
    let dead = if is_released(state) { None } else { dead_native(paths, &prior, LockKind::Shared)? };
    Ok(prior.previous(dead.as_ref().and_then(crashed)))
}

fn is_released(state: Option<PriorState>) -> bool {
    state.is_some_and(|state| state.state == RecordState::Released)
}

impl Clearing<'_> {
    /// Exchanges a dead native's lock file for one of ours, which then goes. Returns who had crashed.
    fn exchange_away(&mut self, mut dead: Verdict) -> Result<Option<Holder>> {
        let Clearing { paths, anchor, prior, record, options, .. } = *self;
        for _ in 0..MAX_RETRIES {
            // The swap is only for who has the kernel lock of the anchor that is there.
            if anchor.current(paths)?.is_none() {
                return Err(anchor_lost(paths));
            }
            self.live_file_at_swap = recover(paths, anchor, prior, options)?;
            if !self.live_file_at_swap {
                match take_over(paths, anchor, &dead, prior, record, options, paths.copies()) {
                    Ok(Some(lock_file)) => {
                        self.remove(&lock_file)?;
                        return Ok(crashed(&dead));
                    }
                    Ok(None) => {}
                    // Another user's, that may neither be moved nor written: it stays, and is in nobody's way.
                    Err(error) if is_other_users(paths, &error)? && paths.lock_file_id()? == Some(dead.blocker.id) => {
                        return Ok(crashed(&dead));
                    }
                    Err(error) => return Err(error),
                }
            }
            // Without the kernel lock of what was judged, which is ours and not a live one's.
            drop(dead);
            self.live_file_at_swap = recover(paths, anchor, prior, options)?;
            // Ours may have stayed, where the swap was removed under us.
            self.remove(&LockFile::Link)?;
            match dead_native(paths, prior, LockKind::Exclusive)? {
                Some(again) => dead = again,
                None => return Ok(None),
            }
        }
        Err(Error::new(ErrorKind::Io, &paths.lock_path, "the lock file keeps changing under us"))
    }

    /// The lock file goes, if it is ours: as at a release. If it is not, that is nothing to flock style.
    fn remove(&self, lock_file: &LockFile) -> Result<()> {
        let Clearing { paths, anchor, record, .. } = *self;
        if paths.lock_file_id()? != lock_file.id(anchor) {
            return Ok(());
        }
        match paths.dir.unlink(&paths.lock) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A copy of another user's that was written over: it says that nobody holds.
            Err(error) if may_stay(paths, &error) && matches!(lock_file, LockFile::Copy { .. }) => {
                let written = lock_file.file(anchor).map(|file| write_unheld(file, record, RecordState::Released));
                written.unwrap_or(Ok(())).map_err(|error| paths.lock_error("cannot be written", error))
            }
            Err(error) => Err(paths.lock_error("of a dead holder cannot be removed", error)),
        }
    }

    /// We do not hold. The last holder's record comes back, unless ours may show itself, must lead to the swap, or alone
    /// tells of a crash: then it says that nobody holds. It comes back as well where it was `visible`, and is still: as the
    /// dead native's lock file that it was.
    fn restore_or_mark(&self, crashed: bool, visible: bool) {
        let Clearing { paths, anchor, prior, record, .. } = *self;
        let half_taken = self.live_file_at_swap || !matches!(paths.dir.stat_at(&paths.swap), Ok(None));
        let at_path = paths.lock_file_id();
        if visible && !half_taken && matches!(at_path, Ok(found) if found == Some(anchor.id)) {
            return restore(anchor, prior, record, true);
        }
        let shown = !matches!(at_path, Ok(found) if found != Some(anchor.id));
        let found_again = self.dead.is_some() && matches!(at_path, Ok(found) if found == self.dead);
        let told = found_again || prior.state().is_some_and(state_reports_crash);
        if !half_taken && !shown && (told || !crashed) {
            return restore(anchor, prior, record, false);
        }
        let state = if crashed || half_taken { RecordState::Aborted } else { RecordState::Released };
        let _ = write_unheld(&anchor.file, record, state);
    }
}

/// Who left it, unless it had been released.
fn crashed(dead: &Verdict) -> Option<Holder> {
    (!dead.released).then(|| dead.blocker.holder.clone())
}

/// Was the lock file refused to us because it is another user's?
fn is_other_users(paths: &LockPaths, error: &Error) -> Result<bool> {
    if error.io_error().is_none_or(|error| error.kind() != io::ErrorKind::PermissionDenied) {
        return Ok(false);
    }
    let stat = paths.dir.stat_at(&paths.lock).map_err(|error| paths.lock_error("cannot be read", error))?;
    Ok(stat.is_some_and(|stat| stat.owner != sys::effective_user()))
}

/// What a native in lock-file style left as a copy, or with an anchor that somebody has removed since. What is no lock, or
/// another user's that may not be read, is in nobody's way in flock style.
fn dead_native(paths: &LockPaths, prior: &Prior, kind: LockKind) -> Result<Option<Verdict>> {
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
