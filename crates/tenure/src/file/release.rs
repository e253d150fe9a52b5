//! The end of a tenure: the lock file is removed or the record says `released`, and then the kernel lock is unlocked;
//! or all of it is handed to another acquire of this process.

use std::sync::Arc;

use crate::file::acquire::is_target_current;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::{Grant, TargetFile, next_record};
use crate::file::lock_file::{self, LockFile};
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Previous;
use crate::model::request::Request;
use crate::record::io::write;
use crate::record::{Record, RecordState};
use crate::sys::{self, File, LockKind};

/// Undoes a grant that no waiter wants any more, except for the anchor's kernel lock, which serves the next waiter.
pub(crate) fn undo_grant(paths: &LockPaths, cached: &mut CachedFiles, grant: Grant) {
    let _ = unpublish_or_record(
        paths,
        &grant,
        grant.record.clone().map(|record| grant.unreported_crash_record(record)),
        grant.state_offset,
    );
    if let Some(target) = &grant.target {
        let _ = target.file.unlock();
    }
    let shared = grant.record.is_none();
    cached.locked = grant.anchor.is_some().then_some(if shared { LockKind::Shared } else { LockKind::Exclusive });
}

/// Makes a release's system calls: removes the lock file or writes the state `released`, then unlocks. Nothing is
/// written after that.
///
/// `ended` is the record as it was written last, and its state's offset.
pub(crate) fn unlock(paths: &LockPaths, grant: &Grant, ended: Option<(Arc<Record>, u64)>) -> Result<()> {
    let (record, state_offset) = ended.map_or((None, 0), |(record, offset)| (Some(record), offset));
    let mut result = unpublish_or_record(paths, grant, record, state_offset);
    let mut unlock = |file: &File| {
        if let Err(error) = file.unlock()
            && result.is_ok()
        {
            result = Err(Error::io(&paths.target_path, "the kernel lock cannot be released", error));
        }
    };
    if let LockFile::Copy(copy) = &grant.lock_file {
        unlock(&copy.file);
    }
    if let Some(target) = &grant.target {
        unlock(&target.file);
    }
    if let Some(anchor) = &grant.anchor {
        unlock(&anchor.file);
    }
    crate::util::trace::event!(DEBUG, target = ?paths.target_path, ok = result.is_ok(), "released");
    result
}

/// Removes the lock file of a tenure that was broken, where only its holder can, and releases that file's kernel lock. All
/// else is left to the release. Returns whether the tenure was broken. After an error the caller tries again later.
pub(crate) fn give_up_name(paths: &LockPaths, grant: &Grant) -> Result<bool> {
    let (Some(anchor), LockFile::Copy(copy)) = (&grant.anchor, &grant.lock_file) else { return Ok(false) };
    if anchor.current(paths)?.is_some() {
        return Ok(false);
    }
    // The kernel lock comes second: without it the file would look like a dead holder's that cannot be removed.
    paths.remove_name(&paths.lock, &copy.file).map_err(|error| paths.lock_error("cannot be removed", error))?;
    copy.file.unlock().map_err(|error| paths.lock_error("cannot be unlocked", error))?;
    Ok(true)
}

fn unpublish_or_record(paths: &LockPaths, grant: &Grant, record: Option<Arc<Record>>, state_offset: u64) -> Result<()> {
    let (Some(anchor), Some(record)) = (&grant.anchor, record) else { return Ok(()) };
    // In flock style this tenure held beside a live foreign program's file at the swap: the record must still lead to
    // it.
    let record = if grant.live_file_at_swap { grant.unreported_crash_record(record) } else { record };
    let hidden = matches!(grant.lock_file, LockFile::Hidden);
    let failed = |error| paths.anchor_error("cannot be written", error);
    let report = || lock_file::record_crash(anchor, &record).map_err(failed);
    if record.native.as_ref().is_some_and(|native| native.state == RecordState::Aborted) {
        // This is written before the lock file is removed, because the next holder must get the crash report. While the
        // lock file exists it names this process, which lives: otherwise a foreign program might rightly replace it
        // between this process's check and the removal.
        if matches!(grant.lock_file, LockFile::Link) {
            anchor.write_state(RecordState::Aborted, state_offset).map_err(failed)?;
            return match lock_file::unpublish(paths, anchor, &grant.lock_file, &record) {
                Err(error) if !error.is_lost() => Err(error),
                hidden => report().and(hidden),
            };
        }
        report()?;
    } else if hidden {
        anchor.write_state(RecordState::Released, state_offset).map_err(failed)?;
    }
    if !hidden {
        return lock_file::unpublish(paths, anchor, &grant.lock_file, &record);
    }
    // Without a lock file, only the anchor's path shows a break.
    if sys::moment().since(grant.checked_at) < sys::NAMES_CHECK_TTL && has_names(grant) {
        return Ok(());
    }
    match anchor.current(paths)? {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Lost, &paths.target_path, "the lock was broken while this process held it")),
    }
}

/// The result of a hand-off.
#[allow(clippy::large_enum_variant, reason = "the grant is the ordinary outcome; a box would cost each an allocation")]
pub(crate) enum HandOff {
    Done(Grant),
    /// The tenure had lost a name. The record is the next tenure's already, and this grant must be released.
    Lost(Grant),
    /// The tenure must be released in the ordinary way.
    Refused,
}

/// Hands the locks of a tenure of this process to another acquire, without the kernel.
pub(crate) fn hand_off(paths: &LockPaths, grant: &Grant, fence: u64, request: &Request) -> Result<HandOff> {
    if grant.live_file_at_swap {
        return Ok(HandOff::Refused);
    }
    let now = sys::moment();
    let checked_recently = now.since(grant.checked_at) < sys::NAMES_CHECK_TTL;
    let mut next = Grant {
        checked_at: if checked_recently { grant.checked_at } else { now },
        began: now,
        locked_since: grant.locked_since,
        anchor: grant.anchor.clone(),
        target: grant.target.clone(),
        lock_file: grant.lock_file.clone(),
        previous: Previous::Clean,
        record: None,
        state_offset: grant.state_offset,
        live_file_at_swap: false,
    };
    let has_name = |target: &TargetFile| match checked_recently {
        true => target.file.links().is_ok_and(|links| links > 0),
        false => is_target_current(paths, target),
    };
    if !grant.target.as_deref().is_none_or(has_name) {
        return Ok(HandOff::Refused);
    }
    let Some(anchor) = &grant.anchor else { return Ok(HandOff::Done(next)) };
    let record = next_record(anchor, request, fence, paths)?;
    if let Some(resumes) = &request.resumes {
        resumes.note_found(fence);
    }
    let failed = |error| paths.anchor_error("cannot be written", error);
    if let LockFile::Copy(copy) = &grant.lock_file {
        let size = copy.file.ident().map_err(failed)?.size;
        write(&copy.file, &record, size, true).map_err(failed)?;
    }
    next.state_offset = match anchor.follow(&record) {
        Some(written) => written.map_err(failed)?,
        None => {
            let visible = matches!(grant.lock_file, LockFile::Link);
            let size = anchor.file.ident().map_err(failed)?.size;
            anchor.write(&record, size, visible).map_err(failed)?
        }
    };
    next.record = Some(record);
    // This is checked after the record was written: a break continues the fence that was written before it took the
    // anchor's name.
    let intact = if checked_recently { has_names(grant) } else { has_names_at_paths(grant, paths) };
    Ok(if intact { HandOff::Done(next) } else { HandOff::Lost(next) })
}

/// Returns whether the anchor still has its path and the lock file its name. An error counts as no.
fn has_names_at_paths(grant: &Grant, paths: &LockPaths) -> bool {
    let Some(anchor) = &grant.anchor else { return true };
    let is_anchors = || anchor.current(paths).is_ok_and(|found| found.is_some());
    match &grant.lock_file {
        LockFile::Hidden => is_anchors(),
        // A break, or the removal of the anchor, leaves one link less. Where the anchor was only moved aside, other
        // natives find this lock file, and wait for its kernel lock.
        LockFile::Link => paths
            .dir
            .ident_at(&paths.lock)
            .is_ok_and(|found| found.is_some_and(|found| found.id == anchor.id && found.links == 2)),
        LockFile::Copy(copy) => paths.lock_file_id().is_ok_and(|found| found == Some(copy.id)) && is_anchors(),
    }
}

/// Returns whether the files of a tenure have all their names, as the descriptors show.
pub(crate) fn has_names(grant: &Grant) -> bool {
    grant.anchor.as_ref().is_none_or(|anchor| lock_file::has_names(anchor, &grant.lock_file))
}
