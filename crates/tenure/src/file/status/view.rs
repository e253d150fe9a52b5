//! The sources of an examination of one lock: its files, and a reading of the kernel's lock table.

use std::cell::Cell;
use std::io;
use std::time::{Duration, SystemTime};

use crate::file::paths::LockPaths;
use crate::model::error::Result;
use crate::model::options::Options;
use crate::model::status::Status;
use crate::process::{Known, Look};
use crate::record::Record;
use crate::record::io::reads;
use crate::sys::{self, Access, File, FileId, FileIdent, FileKind, LockKind, LockTable, Name, TableDevice};

/// A file, and the text of the record that was read from it.
pub(crate) type Seen = (FileId, Vec<u8>);

/// How to treat a record that says `held`, where the table at hand shows no lock.
#[derive(Clone, Copy)]
pub(crate) enum Doubt<'a> {
    /// Find out. The table at hand is newer than `before`, if the record's text is that.
    Resolve { before: Option<&'a Seen> },
    /// Treat it as dead, and note what was seen; or try its kernel lock, where it has been held for a while.
    Note { found: &'a Cell<Option<Seen>>, tries: bool },
    /// Treat it as alive, because it changes all the time.
    AssumeAlive,
}

/// Returns the number by which the kernel's lock table names the device of these paths.
pub(crate) fn kernel_numbers(paths: &LockPaths) -> TableDevice {
    sys::table_device(&paths.dir, &paths.file_system, paths.dir_stat.id.device)
}

#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(super) paths: &'a LockPaths,
    pub(super) options: &'a Options,
    pub(super) locks: Option<&'a LockTable>,
    pub(super) known: &'a Known,
    pub(super) numbers: TableDevice,
    pub(crate) doubt: Doubt<'a>,
    /// Whether the folder's list has just shown that the lock file is a regular file.
    pub(crate) listed: bool,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        paths: &'a LockPaths,
        options: &'a Options,
        locks: Option<&'a LockTable>,
        known: &'a Known,
        numbers: TableDevice,
    ) -> View<'a> {
        View { paths, options, locks, known, numbers, doubt: Doubt::Resolve { before: None }, listed: false }
    }

    pub(super) fn free(&self) -> Status {
        Status::free(&self.paths.target_path, &self.paths.lock_path)
    }

    /// Returns whether the table shows each lock here that was held when it was read.
    pub(crate) fn shows_deaths(&self) -> bool {
        self.numbers.complete && self.locks.is_some_and(LockTable::is_whole)
    }

    pub(super) fn look_at(&self, record: &Record) -> Look {
        record.pid.map_or(Look::Ask, |pid| self.known.look(pid))
    }

    pub(super) fn queue(&self, id: FileId) -> Option<Vec<i64>> {
        self.locks.map(|locks| locks.waiters(id.inode, self.numbers.device))
    }

    pub(super) fn holders(&self, id: FileId) -> Vec<(i64, bool)> {
        self.locks.map(|locks| locks.holders(id.inode, self.numbers.device)).unwrap_or_default()
    }

    /// Returns the natives that wait for a foreign holder, and the one that is just examining its lock file.
    pub(super) fn outside_queues(&self, anchor: FileId) -> Vec<i64> {
        let looking = self.holders(anchor).into_iter().map(|(pid, _)| pid);
        let marked = self.locks.is_some_and(|locks| locks.is_marked(anchor.inode, self.numbers.device));
        let marked = if marked { sys::marked_waiters(anchor.device, anchor.inode) } else { Vec::new() };
        looking.chain(marked).collect()
    }

    /// Returns whether the kernel lock is held on this file, whose record `seen` says so. Returns `None` if the record
    /// has changed or was removed.
    pub(super) fn is_locked(
        &self,
        file: &File,
        id: FileId,
        name: &Name,
        record: &Record,
        seen: &[u8],
    ) -> Result<Option<bool>> {
        if !self.holders(id).is_empty() {
            return Ok(Some(true));
        }
        // The table may be older than the record, and only a newer one may prove a holder dead.
        let newer = match self.doubt {
            Doubt::Note { tries: true, .. }
                if has_settled(record.native.as_ref().and_then(|native| native.acquired_at)) =>
            {
                None
            }
            Doubt::Note { found, .. } => {
                found.set(Some((id, seen.to_owned())));
                return Ok(Some(false));
            }
            // The table is between two readings of one tenure's record, with its name: the holder had no lock in
            // between.
            Doubt::Resolve { before: Some((before, text)) } if *before == id && text == seen => {
                if self.shows_deaths() {
                    return Ok(Some(false));
                }
                None
            }
            Doubt::Resolve { .. } | Doubt::AssumeAlive if self.numbers.complete => sys::lock_table(),
            Doubt::Resolve { .. } | Doubt::AssumeAlive => None,
        };
        if newer.as_ref().is_some_and(|locks| !locks.holders(id.inode, self.numbers.device).is_empty()) {
            return Ok(Some(true));
        }
        let failed = |error| self.paths.anchor_error("cannot be looked at", error);
        let same = || {
            let named = self.paths.dir.ident_at(name)?.map(|found| found.id);
            Ok::<_, io::Error>(named == Some(id) && reads(file, seen)?)
        };
        let changed = matches!(self.doubt, Doubt::AssumeAlive).then_some(true);
        if let Some(newer) = newer {
            if !same().map_err(failed)? {
                return Ok(changed);
            }
            if newer.is_whole() {
                return Ok(Some(false));
            }
        }
        let free = file.try_lock(LockKind::Shared).map_err(failed)?;
        // The record is compared after the lock was tried, so that a holder that has just released is not called dead.
        let same = same();
        if free {
            file.unlock().map_err(failed)?;
        }
        Ok(if same.map_err(failed)? { Some(!free) } else { changed })
    }
}

/// Returns the anchor's file. Where `.tenure` is another kind of file, or closed to this user, there is none.
pub(super) fn anchor_id(paths: &LockPaths) -> Option<FileId> {
    let found = paths.dir.ident_at(&paths.anchor).ok()??;
    (found.kind == FileKind::Regular).then_some(found.id)
}

/// Returns the processes that have the anchor's kernel lock, by the kernel's table; `None` where it cannot be read.
pub(crate) fn anchor_holders(paths: &LockPaths) -> Option<Vec<i64>> {
    let (locks, id) = (sys::lock_table()?, anchor_id(paths)?);
    Some(locks.holders(id.inode, kernel_numbers(paths).device).into_iter().map(|(pid, _)| pid).collect())
}

/// Returns the processes that have the anchor open with its lock, as far as this user can see them.
pub(crate) fn anchor_keepers(paths: &LockPaths) -> Vec<i64> {
    anchor_id(paths).map(|id| sys::lock_keepers(id.device, id.inode)).unwrap_or_default()
}

pub(super) fn open_anchor(paths: &LockPaths) -> Result<Option<(File, FileIdent)>> {
    // The kind is checked before the file is opened, because opening a device can have an effect.
    if anchor_id(paths).is_none() {
        return Ok(None);
    }
    let failed = |error| paths.anchor_error("cannot be read", error);
    match paths.dir.open_at(&paths.anchor, Access::Read) {
        Ok(file) => {
            let found = file.ident().map_err(failed)?;
            Ok((found.kind == FileKind::Regular).then_some((file, found)))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Returns whether a tenure that began at `acquired_at` is not one of many in a row. Trying a kernel lock that changes
/// hands all the time may block its next holder.
pub(crate) fn has_settled(acquired_at: Option<SystemTime>) -> bool {
    let age = acquired_at.and_then(|at| sys::now().duration_since(at).ok());
    age.is_some_and(|age| age >= sys::SETTLED_AGE)
}

/// Returns how long the anchor has been idle: the time since its record was written last.
pub(crate) fn idle_for(modified: SystemTime) -> Duration {
    sys::now().duration_since(modified).unwrap_or(Duration::ZERO)
}
