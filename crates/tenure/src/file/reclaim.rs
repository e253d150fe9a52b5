//! Removes what a dead holder left, in the ordinary case: a folder may contain very many such locks.
//!
//! It does for a dead native what that holder's own signal handler would have done. Under the anchor's kernel lock, the
//! record is set to `aborted`, so that the next holder gets a crash report, and the lock file is removed. Before that
//! the lock file names this process, as in a takeover: otherwise a foreign program might rightly replace the dead
//! holder's file between this process's check and the removal. Nothing is granted, so the fence does not change.
//!
//! A dead foreign program's lock file has no anchor, where no native has used the lock yet. So the file itself becomes the
//! anchor: the judged inode gets the anchor's name as well, which is one step that fails if there is an anchor, or if the
//! file was removed. Its kernel lock, which was taken for the judgement, is the anchor's from then on, and all else is as
//! after a dead native. That changes the folders twice, where a takeover creates an anchor and changes them five times.
//!
//! Whatever differs in any way is left to a takeover.

use std::io;

use crate::file::anchor_dir::create_anchor_dir;
use crate::file::crash::unreported_crash_record;
use crate::file::grant::new_record;
use crate::file::lock_file::judge_unopened;
use crate::file::paths::LockPaths;
use crate::model::holder::{Holder, Previous};
use crate::model::options::Options;
use crate::model::request::Request;
use crate::record::io::{write, write_text};
use crate::record::{self, CanonicalRecord, Content, MAX_BYTES, Record, RecordState, RecordStyle};
use crate::sys::{self, Access, File, FileId, FileKind, LeaseOutcome, LockKind, Stat, TakeoverSteps};
use crate::util::trace::event;

/// The mode of an anchor that is created without a mode of the caller's.
const ANCHOR_MODE: u32 = 0o644;

/// Removes the lock file `id`, whose text is `text`, if its holder is dead. Returns `false` if the file is still there.
pub(crate) fn reclaim(paths: &LockPaths, id: FileId, text: &[u8]) -> bool {
    let Some(own) = record::parse_canonical(text) else { return false };
    if (own.state, own.style) != (RecordState::Held, RecordStyle::LockFile)
        || paths.file_system.shared
        || paths.dir_stat.removal_needs_owner()
    {
        return false;
    }
    // The scan has just seen that the anchor is a regular file.
    let Ok(file) = paths.dir.open_at(&paths.anchor, Access::ReadWrite) else { return false };
    if !file.try_lock(LockKind::Exclusive).unwrap_or(false) {
        return false;
    }
    // A failure is retried, and reported, by the process that takes the lock over.
    let removed = remove(paths, &file, id, text, &own).unwrap_or(false);
    // Closing alone does not unlock: a child that another thread is just creating has the descriptor too.
    let _ = file.unlock();
    if removed {
        event!(WARN, target = ?paths.target_path, "removed the lock file of a dead holder");
    }
    removed
}

/// Removes the lock file, with the kernel lock on `file`.
fn remove(paths: &LockPaths, file: &File, id: FileId, text: &[u8], own: &CanonicalRecord<'_>) -> io::Result<bool> {
    let is_published = || Ok::<_, io::Error>(paths.dir.ident_at(&paths.lock)?.is_some_and(|found| found.id == id));
    let found = file.ident()?;
    // The inode has two names, the anchor's and the lock file's. With one name only it was released.
    let intact = found.id == id && found.kind == FileKind::Regular && found.links == 2;
    if !intact || paths.dir.ident_at(&paths.anchor)?.is_none_or(|named| named.id != id) || !is_published()? {
        return Ok(false);
    }
    // An unfinished takeover must be completed first.
    if paths.dir.ident_at(&paths.swap)?.is_some() {
        return Ok(false);
    }
    let mut now = vec![0; text.len()];
    if found.size != text.len() as u64 || file.read(&mut now)? != now.len() || now != text {
        return Ok(false);
    }
    let mut dead = own.record();
    let Some(native) = &mut dead.native else { return Ok(false) };
    native.state = RecordState::Aborted;
    let fence = native.fence;
    let Some(mut ours) = own_record(paths) else { return Ok(false) };
    if let Some(native) = &mut ours.native {
        native.fence = fence;
    }
    remove_as_own(paths, file, found.size, id, &ours, &dead)
}

/// Removes the lock file `id`, which is this anchor by its second name, while it has the record `ours`. Then the anchor has the
/// record `dead`. Both say `aborted`.
fn remove_as_own(
    paths: &LockPaths,
    file: &File,
    size: u64,
    id: FileId,
    ours: &Record,
    dead: &Record,
) -> io::Result<bool> {
    let mut ours = ours.render(size);
    let written = write_text(file, &mut ours, true);
    let removed = written.and_then(|()| match paths.dir.ident_at(&paths.lock)?.is_some_and(|found| found.id == id) {
        true => paths.remove_name(&paths.lock, file),
        false => Ok(false),
    });
    // This is written whatever the result. If this process dies before, the next holder gets a crash report as well.
    write(file, dead, ours.bytes.len() as u64, !matches!(removed, Ok(true)))?;
    removed
}

/// Returns what a dead holder's lock file says while this process removes it.
fn own_record(paths: &LockPaths) -> Option<Record> {
    let request = Request::new(Options::default(), false);
    let mut ours = new_record(&request, 0, paths).ok()?;
    ours.native.as_mut()?.state = RecordState::Aborted;
    Some(ours)
}

/// Removes the lock file of a dead foreign program, and keeps the file as the lock's anchor, with the crash report. Returns
/// `false` if that was not done, which a takeover may do: natives have used the lock before, another process has the file
/// open, the file names no process, or an anchor would have another mode or owner.
pub(crate) fn reclaim_foreign(paths: &LockPaths, options: &Options) -> bool {
    if sys::takeover_steps() != TakeoverSteps::Exchange
        || paths.copies()
        || !paths.links_are_known()
        || paths.file_system.shared
        || paths.dir_stat.removal_needs_owner()
    {
        return false;
    }
    let folder_is_missing = match paths.dir.ident_at(&paths.anchors) {
        Ok(None) => true,
        // By a symbolic link this process would write files of other folders.
        Ok(Some(found)) if found.kind == FileKind::Directory => false,
        _ => return false,
    };
    if !folder_is_missing && !matches!(paths.dir.ident_at(&paths.anchor), Ok(None)) {
        return false;
    }
    // The scan has just seen that the lock file is a regular file.
    let Ok(file) = paths.dir.open_at(&paths.lock, Access::ReadWrite) else { return false };
    if !file.try_lock(LockKind::Exclusive).unwrap_or(false) {
        return false;
    }
    // A failure is retried, and reported, by the process that takes the lock over.
    let removed = remove_foreign(paths, &file, options, folder_is_missing).unwrap_or(false);
    // Closing alone does not unlock: a child that another thread is just creating has the descriptor too.
    let _ = file.unlock();
    if removed {
        event!(WARN, target = ?paths.target_path, "removed the lock file of a dead foreign program");
    }
    removed
}

/// Removes the lock file `file`, with its kernel lock.
fn remove_foreign(paths: &LockPaths, file: &File, options: &Options, folder_is_missing: bool) -> io::Result<bool> {
    let found = file.stat()?;
    if !may_be_anchor(&found) || file.write_lease() != LeaseOutcome::Granted {
        return Ok(false);
    }
    // No other process had the file open, so no process is writing its text.
    let mut text = vec![0; usize::try_from(found.size).unwrap_or(MAX_BYTES).min(MAX_BYTES)];
    let length = file.read(&mut text)?;
    text.truncate(length);
    let content = record::read(&text);
    let Content::Record(record) = &content else { return Ok(false) };
    let liveness = judge_unopened(&content, options);
    // An unfinished takeover must be completed first.
    if !liveness.is_dead() || paths.dir.ident_at(&paths.swap)?.is_some() {
        return Ok(false);
    }
    let Some(ours) = own_record(paths) else { return Ok(false) };
    let holder = Holder::from_record(Some(record), liveness);
    let dead = unreported_crash_record(&Previous::Crashed(Box::new(holder)), ours.clone());
    if folder_is_missing && create_anchor_dir(paths, 0).is_err() {
        return Ok(false);
    }
    paths.dir.link_open(file, &paths.anchor)?;
    remove_as_own(paths, file, found.size, found.id, &ours, &dead)
}

/// Returns whether a file is as an anchor that this process would create: with this owner and mode, and no other names.
fn may_be_anchor(found: &Stat) -> bool {
    let is_alone = found.kind == FileKind::Regular && found.links == 1;
    is_alone && found.owner == sys::effective_user() && found.mode & 0o7777 == ANCHOR_MODE
}
