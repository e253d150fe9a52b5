//! Removes what a dead native left, in the ordinary case: a folder may contain very many such locks.
//!
//! It does for a dead holder what that holder's own signal handler would have done. Under the anchor's kernel lock, the
//! record is set to `aborted`, so that the next holder gets a crash report, and the lock file is removed. Before that
//! the lock file names this process, as in a takeover: otherwise a foreign program might rightly replace the dead
//! holder's file between this process's check and the removal. Nothing is granted, so the fence does not change.
//! Whatever differs in any way is left to a takeover.

use std::io;

use crate::file::grant::new_record;
use crate::file::paths::LockPaths;
use crate::model::options::Options;
use crate::model::request::Request;
use crate::record::io::{write, write_text};
use crate::record::{self, CanonicalRecord, Record, RecordState, RecordStyle};
use crate::sys::{Access, File, FileId, FileKind, LockKind};
use crate::util::trace::event;

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
    let Some(ours) = own_record(&dead, paths) else { return Ok(false) };
    let mut ours = ours.render(found.size);
    let written = write_text(file, &mut ours, true);
    let removed = written.and_then(|()| if is_published()? { paths.remove_name(&paths.lock, file) } else { Ok(false) });
    // This is written whatever the result. If this process dies before, the next holder gets a crash report as well.
    write(file, &dead, ours.bytes.len() as u64, !matches!(removed, Ok(true)))?;
    removed
}

/// Returns what a dead holder's lock file says while this process removes it.
fn own_record(dead: &Record, paths: &LockPaths) -> Option<Record> {
    let request = Request::new(Options::default(), false);
    let mut ours = new_record(&request, 0, paths).ok()?;
    let (native, last) = (ours.native.as_mut()?, dead.native.as_ref()?);
    (native.state, native.fence) = (last.state, last.fence);
    Some(ours)
}
