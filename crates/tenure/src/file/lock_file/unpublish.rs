//! Removes the lock file, at a release or where an acquire failed.

use std::io;

use super::visible::LockFile;
use crate::file::anchor::Anchor;
use crate::file::crash::unreported_crash_record;
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Previous;
use crate::record::io::{MASKED, write_masked};
use crate::record::{self, PID_KEY_OFFSET, Record, RecordState};
use crate::sys::File;

/// Removes the lock file, if it is still this tenure's: step 1 of a release.
pub(crate) fn unpublish(paths: &LockPaths, anchor: &Anchor, lock_file: &LockFile, record: &Record) -> Result<()> {
    let (Some(ours), Some(file)) = (lock_file.id(anchor), lock_file.file(anchor)) else { return Ok(()) };
    let at_path = paths.lock_file_id();
    if let Ok(at_path) = at_path
        && at_path != Some(ours)
    {
        let detail = "the lock file was removed or replaced while this process held it; it was left unchanged";
        return Err(Error::new(ErrorKind::Lost, &paths.lock_path, detail));
    }
    match paths.remove_name(&paths.lock, file) {
        Ok(_) => Ok(()),
        Err(error) => {
            // The file stays, so it must say that it is not held: no pid, and a state that natives read.
            let crash_unreported = record.native.as_ref().is_some_and(|native| native.state == RecordState::Aborted);
            let state = if crash_unreported { RecordState::Aborted } else { RecordState::Released };
            let _ = write_unheld(file, record, state);
            // Another user's copy where only owners may remove files is expected to stay. It is marked as released.
            if may_stay(paths, &error) {
                Ok(())
            } else {
                Err(paths.lock_error("cannot be removed; it is marked as released", error))
            }
        }
    }
}

/// Returns whether the removal of a lock file was refused because it is another user's where only owners may remove files.
pub(super) fn may_stay(paths: &LockPaths, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && paths.dir_stat.removal_needs_owner()
}

/// Writes a record that names no holder, in a file that stays.
pub(super) fn write_unheld(file: &File, record: &Record, state: RecordState) -> io::Result<()> {
    let mut husk = record.clone();
    husk.pid = None;
    if let Some(native) = &mut husk.native {
        native.state = state;
    }
    file.write_at(MASKED, PID_KEY_OFFSET)?;
    file.write_at(&husk.render(file.stat()?.size).bytes, 0)
}

/// Undoes [`publish`](super::publish()), because the lock was not granted. The next holder gets the crash report that
/// this one would have got.
pub(crate) fn roll_back(
    paths: &LockPaths,
    anchor: &Anchor,
    lock_file: &LockFile,
    previous: &Previous,
    record: &Record,
    state_offset: u64,
) {
    let crashed = previous.is_crashed();
    let state = if crashed { RecordState::Aborted } else { RecordState::Released };
    let written = anchor.file.write_at(record::state_text(state), state_offset);
    let report = unreported_crash_record(previous, record.clone());
    if crashed && written.is_err() {
        // The lock file stays then, because it alone reports the crash; but it names no holder.
        let _ = write_unheld(lock_file.file(anchor).unwrap_or(&anchor.file), &report, state);
    } else if unpublish(paths, anchor, lock_file, &report).is_ok() && crashed {
        let _ = record_crash(anchor, &report);
    }
}

/// Writes the record that reports a crash, in an anchor that is not visible.
pub(crate) fn record_crash(anchor: &Anchor, report: &Record) -> io::Result<()> {
    let size = anchor.file.ident().map_or(0, |stat| stat.size);
    anchor.write(report, size, false).map(drop)
}

/// Restores the last holder's record, because the lock was not granted and that tenure's end must still be reported.
pub(crate) fn restore(anchor: &Anchor, prior: &Prior<'_>, ours: &Record, visible: bool) {
    let mut bytes = prior.bytes();
    bytes.resize(bytes.len().max(ours.render(0).bytes.len()), b' ');
    let _ = match visible {
        true => write_masked(&anchor.file, &mut bytes),
        false => anchor.file.write_at(&bytes, 0),
    };
}
