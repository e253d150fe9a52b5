//! The anchor: the file that stays, and that the kernel locks.
//!
//! The native that has the kernel lock on the file that the anchor's path names is the only one that may hold, or that
//! may wait for a foreign holder on behalf of all natives. The path may come to name another file during a wait,
//! because the anchor was pruned, broken, or replaced by a user who could not write it. So after every lock the
//! descriptor is compared with the path.

use std::io;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::file::anchor_dir::{GITIGNORE, check_anchor_dir, create_anchor_dir, dir_error, write_gitignore};
use crate::file::crash::state_reports_crash;
use crate::file::paths::{ANCHORS, LockPaths};
use crate::file::prepare::{CreateError, create, prepare, released_record, unheld_record};
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::options::Options;
use crate::record::cached::{CachedRecord, Milliseconds};
use crate::record::io::write_text;
use crate::record::{self, PriorState, Record, RecordState};
use crate::sys::{self, Access, File, FileId, FileIdent, FileKind, LockKind, ReplaceSteps};

/// The maximum number of retries while the anchor keeps being removed.
const MAX_RETRIES: usize = 1000;

/// An open anchor.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) file: File,
    pub(crate) id: FileId,
    pub(crate) owner: u32,
    /// Whether the anchor is another user's and can only be read. It is replaced once this process has its kernel lock.
    pub(crate) read_only: bool,
    /// The state that is kept from one tenure to the next. Only the thread that has the kernel lock uses it.
    kept: Mutex<Kept>,
}

/// The state that an anchor keeps from one tenure of this process to the next.
#[derive(Debug, Default)]
struct Kept {
    /// The text as an acquire read it last.
    text: Vec<u8>,
    /// The length of such a text without the spaces at its end.
    unpadded: usize,
    /// The record that was written last through this descriptor.
    written: Option<Box<CachedRecord>>,
    /// The record of this process's last tenure. The next one has it again, with its own fence and dates, once no other
    /// part of the process uses it.
    own: Option<Arc<Record>>,
    /// When that tenure began: both of the record's dates.
    own_begun: Milliseconds,
    /// Whether `written` is `own`, but for the fence, the state and the dates.
    own_is_written: bool,
}

impl Anchor {
    /// Opens the anchor, created if it is missing: step 1.
    pub(crate) fn open(paths: &LockPaths, options: &Options) -> Result<Anchor> {
        check_anchor_dir(paths)?;
        let mut folder_is_new = false;
        for tried in 0..MAX_RETRIES {
            if let Some(anchor) = Anchor::open_existing(paths, options)? {
                return Ok(anchor);
            }
            match create_anchor(paths, options) {
                Ok(file) => {
                    if !folder_is_new {
                        // The folder's creator may have died before it wrote this file. No lock depends on it.
                        let _ = write_gitignore(&paths.dir, &[ANCHORS, "/", GITIGNORE].concat());
                    }
                    return Anchor::from_file(paths, file, false);
                }
                Err(CreateError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(CreateError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    create_anchor_dir(paths, tried)?;
                    folder_is_new = true;
                }
                Err(CreateError::Io(error)) => return Err(dir_error(paths, error)),
                Err(CreateError::Reported(error)) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Io, paths.anchor_path(), "the lock's anchor keeps being removed"))
    }

    fn open_existing(paths: &LockPaths, options: &Options) -> Result<Option<Anchor>> {
        // The kind is checked before the file is opened, because opening a device can have an effect.
        match paths.dir.stat_at(&paths.anchor).map_err(|error| dir_error(paths, error))? {
            None => return Ok(None),
            Some(stat) if stat.kind != FileKind::Regular => return Err(paths.anchor_obstructed(stat.kind)),
            Some(_) => {}
        }
        let (file, read_only) = match paths.dir.open_at(&paths.anchor, Access::ReadWrite) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (open_other_users(paths, options, error)?, true)
            }
            Err(error) => return Err(paths.anchor_error("cannot be opened", error)),
        };
        Anchor::from_file(paths, file, read_only).map(Some)
    }

    pub(crate) fn from_file(paths: &LockPaths, file: File, read_only: bool) -> Result<Anchor> {
        let stat = file.stat().map_err(|error| paths.anchor_error("cannot be read", error))?;
        if stat.kind != FileKind::Regular {
            return Err(paths.anchor_obstructed(stat.kind));
        }
        Ok(Anchor { id: stat.id, owner: stat.owner, file, read_only, kept: Mutex::default() })
    }

    /// Returns the file that the anchor's path names, if it is this anchor: step 2.
    pub(crate) fn current(&self, paths: &LockPaths) -> Result<Option<FileIdent>> {
        let found = paths.dir.ident_at(&paths.anchor);
        let found = found.map_err(|error| paths.anchor_error("cannot be compared with its path", error))?;
        Ok(found.filter(|stat| stat.id == self.id))
    }

    /// Reads the record's text, of `size` bytes at most, and returns its state. A text that this descriptor wrote last is
    /// not given to `scan`. That gets the length of the last text, without its padding, and sets this one's: the holders of a
    /// lock often run the same program, and then their texts have one length.
    pub(super) fn read_prior(
        &self,
        size: usize,
        scan: fn(&[u8], &mut usize) -> Option<PriorState>,
    ) -> io::Result<Option<PriorState>> {
        let mut kept = self.kept();
        let Kept { text, unpadded, written, .. } = &mut *kept;
        if text.len() != size {
            text.resize(size, 0);
        }
        let length = self.file.read(text)?;
        text.truncate(length);
        Ok(written.as_ref().and_then(|written| written.state_of(text)).or_else(|| scan(text, unpadded)))
    }

    /// Returns the text that [`read_prior`](Anchor::read_prior) read last.
    pub(super) fn prior_text(&self) -> Vec<u8> {
        self.kept().text.clone()
    }

    /// Returns the record of this process's next tenure, which began at `begun`: the last one's, where no other part of the process uses it and
    /// `renew` accepts it; otherwise the one that `make` makes.
    pub(super) fn own_record(
        &self,
        begun: Milliseconds,
        renew: impl FnOnce(&mut Record) -> bool,
        make: impl FnOnce() -> Record,
    ) -> Arc<Record> {
        let mut kept = self.kept();
        kept.own_begun = begun;
        if let Some(own) = &mut kept.own
            && Arc::get_mut(own).is_some_and(renew)
        {
            return Arc::clone(own);
        }
        let own = Arc::new(make());
        (kept.own, kept.own_is_written) = (Some(Arc::clone(&own)), false);
        own
    }

    /// Returns whether this user could remove a link to the anchor. In a sticky folder, only the anchor's owner and the
    /// folder's can.
    pub(crate) fn can_remove_links(&self, paths: &LockPaths) -> bool {
        if !paths.dir_stat.removal_needs_owner() {
            return true;
        }
        let user = sys::effective_user();
        user == 0 || user == self.owner || user == paths.dir_stat.owner
    }

    /// Drops what is kept from one tenure to the next. Only the open file stays.
    pub(crate) fn drop_kept(&self) {
        *self.kept() = Kept::default();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record over the last one, which has `size` bytes, by [`write_text`]. Returns the offset of the state's
    /// text.
    pub(crate) fn write(&self, record: &Record, size: u64, visible: bool) -> io::Result<u64> {
        let mut kept = self.kept();
        let Kept { written, own, own_begun, own_is_written, .. } = &mut *kept;
        let is_own = own.as_deref().is_some_and(|own| ptr::eq(own, record));
        let patched = match written {
            // Nothing else differs, so nothing else is compared.
            Some(written) if is_own && *own_is_written => written.become_next(record, *own_begun, size),
            Some(written) => written.become_record(record, size),
            None => false,
        };
        if !patched {
            *written = None;
        }
        *own_is_written = is_own;
        let rendered = written.get_or_insert_with(|| Box::new(CachedRecord::new(record, size))).rendered_mut();
        let state_offset = rendered.state_offset;
        // An empty file has no pid to mask, and a mask alone would look like another program's data.
        let outcome = write_text(&self.file, rendered, visible && size > 0);
        if outcome.is_err() {
            // The file's text is unknown.
            *written = None;
        }
        outcome.map(|()| state_offset)
    }

    /// Writes what changes when a tenure follows another within the process. Returns `None` where the whole record must
    /// be written. What others judge by does not change, so nothing has to be masked.
    pub(crate) fn follow(&self, record: &Record) -> Option<io::Result<u64>> {
        let cached = &mut self.kept().written;
        let written = cached.as_mut()?.follow(record).map(|(text, offset)| self.file.write_at(text, offset));
        if !matches!(written, Some(Ok(()))) {
            // It was patched in part, or the file's text is unknown.
            *cached = None;
        }
        let state_offset = cached.as_mut().map_or(0, |cached| cached.rendered_mut().state_offset);
        written.map(|written| written.map(|()| state_offset))
    }

    /// Writes the state of the record in place.
    pub(crate) fn write_state(&self, state: RecordState, offset: u64) -> io::Result<()> {
        let cached = &mut self.kept().written;
        match self.file.write_at(record::state_text(state), offset) {
            Ok(()) => {
                if let Some(cached) = cached {
                    cached.set_state(state);
                }
                Ok(())
            }
            Err(error) => {
                *cached = None;
                Err(error)
            }
        }
    }

    /// Replaces another user's anchor by one of this user, in a folder that permits it. The caller has the old anchor's
    /// kernel lock; the new one is locked before it is visible. The new record continues the old one's fence. It also
    /// keeps the old one's crash report, or says that the lock file must be checked for one, because this process may
    /// die or fail at the replacement.
    pub(crate) fn replace(&self, paths: &LockPaths, options: &Options, prior: Option<PriorState>) -> Result<Anchor> {
        let state = match prior {
            Some(prior) if state_reports_crash(prior) => RecordState::Aborted,
            Some(prior) if prior.state == RecordState::Released => RecordState::Released,
            // Its creator died, because this process has its kernel lock. Later it may look locked, by a process that
            // had queued for it.
            _ if paths.lock_file_id()? == Some(self.id) => RecordState::Aborted,
            Some(prior) => prior.state,
            None => RecordState::Acquiring,
        };
        let file = prepare(paths, options, &unheld_record(prior.map(|prior| prior.fence), state))?;
        let own = Anchor::from_file(paths, file, false).inspect_err(|_| drop(paths.dir.unlink(&paths.new)))?;
        // A process that replaces an anchor has the one prepared file, so no break can come from here on.
        let current = self.current(paths);
        if !matches!(current, Ok(Some(_))) {
            let _ = paths.dir.unlink(&paths.new);
            return Err(current.err().unwrap_or_else(|| anchor_lost(paths)));
        }
        if let Err(error) = paths.rename_to_anchor(Some(&self.file)) {
            // Where the name is another file's, the old anchor had lost it before.
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) {
                return Err(anchor_lost(paths));
            }
            return Err(paths.anchor_error("belongs to another user and cannot be replaced", error));
        }
        match own.current(paths) {
            Ok(Some(_)) => Ok(own),
            other => {
                // The old anchor is unlocked before the new one: a process that enters by the new one must not take the
                // old one for a live holder's.
                let _ = self.file.unlock();
                Err(other.err().unwrap_or_else(|| anchor_lost(paths)))
            }
        }
    }
}

/// Creates a missing anchor. Where a mode was asked for, the anchor appears with it: a user that came between the
/// creation and the change of mode would be refused.
fn create_anchor(paths: &LockPaths, options: &Options) -> std::result::Result<File, CreateError> {
    if sys::replace_steps() == ReplaceSteps::Two && is_being_replaced(paths).map_err(CreateError::Io)? {
        return Err(CreateError::Io(io::ErrorKind::AlreadyExists.into()));
    }
    if options.mode.is_none() {
        return create(paths, &paths.anchor, options);
    }
    let file = prepare(paths, options, &released_record(None)).map_err(CreateError::Reported)?;
    match paths.dir.rename_new(&paths.new, &paths.anchor) {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = paths.dir.unlink(&paths.new);
            Err(match error.kind() {
                io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput => CreateError::Reported(
                    paths
                        .anchor_error("cannot be created with a mode: this file system has no exclusive renames", error)
                        .with_kind(ErrorKind::Unsupported)
                        .with_hint("leave the mode out"),
                ),
                _ => CreateError::Io(error),
            })
        }
    }
}

/// Returns whether the missing anchor is between the two steps of a replacement. If the process that made the first step
/// lives, this waits a moment for it; if it died, the prepared anchor, which continues the old one's record, gets the name
/// here.
fn is_being_replaced(paths: &LockPaths) -> io::Result<bool> {
    let file = match paths.dir.open_at(&paths.new, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !file.try_lock(LockKind::Exclusive)? {
        sys::pause(Duration::from_millis(1));
        return Ok(true);
    }
    if paths.dir.ident_at(&paths.new)?.map(|found| found.id) != Some(file.ident()?.id) {
        return Ok(true);
    }
    match paths.dir.rename_new(&paths.new, &paths.anchor) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(true),
    }
}

/// Opens another user's anchor, which this user may not write, for reading.
fn open_other_users(paths: &LockPaths, options: &Options, denied: io::Error) -> Result<File> {
    let owners_only = paths.dir_stat.removal_needs_owner();
    let replaceable = !owners_only && paths.dir.open_dir(&paths.anchors).is_ok_and(|anchors| anchors.may_write());
    if replaceable {
        match paths.dir.open_at(&paths.anchor, Access::Read) {
            Ok(file) => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                return Err(paths.anchor_error("cannot be opened", error));
            }
            Err(_) => {}
        }
    }
    let error =
        Error::io(paths.anchor_path(), "the lock's anchor belongs to another user and may not be written", denied);
    Err(match (owners_only, options.mode) {
        (true, Some(_)) => error.with_hint("its first user made it without that mode: have them remove it"),
        (true, None) => error
            .with_hint(
                "in a sticky folder such as /tmp a lock is shared between users only if all of them ask for it: \
                 mode(0o666), --mode 666",
            )
            .with_advice(Advice::ShareByMode),
        (false, _) => error
            .with_hint(
                "its owner shares it with mode(0o666) (--mode 666); where the folder may only be read, record(false) \
                 (--no-record) takes the bare kernel lock on the target",
            )
            .with_advice(Advice::ShareByModeOrWithoutRecord),
    })
}

pub(crate) fn anchor_lost(paths: &LockPaths) -> Error {
    Error::new(ErrorKind::Lost, paths.anchor_path(), "the lock's anchor was removed or replaced meanwhile")
}
