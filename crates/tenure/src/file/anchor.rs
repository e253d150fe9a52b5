//! The anchor: the file that stays, and that the kernel locks.
//!
//! Who has the kernel lock on the file that the anchor's path names is the one native that may hold, or that waits for
//! a foreign holder on behalf of all. A path may come to name another file while we wait (it was pruned, broken, or
//! replaced by a user who could not write it): so after every lock the descriptor is compared with the path.

use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::file::lock_file;
use crate::file::paths::{ANCHORS, LockPaths};
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::options::Options;
use crate::record::cached::CachedRecord;
use crate::record::{self, Content, MAX_BYTES, Native, PriorState, Record, RecordState};
use crate::sys::{self, Access, Dir, File, FileId, FileIdent, FileKind, LockKind, Name};

/// How often a path that keeps changing under us is tried again before we call it an error.
const TRIES: usize = 1000;

/// An open anchor.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) file: File,
    pub(crate) id: FileId,
    pub(crate) owner: u32,
    /// Another user's, that we may only read: replaced once we have its kernel lock.
    pub(crate) read_only: bool,
    /// What was written last through this descriptor; used by who has the kernel lock.
    cached: Mutex<Option<CachedRecord>>,
}

impl Anchor {
    /// Step 1: opens the anchor, made if it is missing.
    pub(crate) fn open(paths: &LockPaths, options: &Options) -> Result<Anchor> {
        check_folder(paths)?;
        let mut folder_is_new = false;
        for tried in 0..TRIES {
            if let Some(anchor) = Anchor::open_existing(paths, options)? {
                return Ok(anchor);
            }
            match make(paths, options) {
                Ok(file) => {
                    if !folder_is_new {
                        // Its maker may have died before that was there. Nobody's lock depends on it.
                        let _ = ignore(&paths.dir, &[ANCHORS, "/", IGNORE].concat());
                    }
                    return Anchor::from_file(paths, file, false);
                }
                Err(NotMade::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(NotMade::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    make_folder(paths, tried)?;
                    folder_is_new = true;
                }
                Err(NotMade::Io(error)) => return Err(folder_error(paths, error)),
                Err(NotMade::Told(error)) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Io, paths.anchor_path(), "the lock's anchor keeps being removed by others"))
    }

    fn open_existing(paths: &LockPaths, options: &Options) -> Result<Option<Anchor>> {
        // Looked at before it is opened: opening a device can do something to it.
        match paths.dir.stat_at(&paths.anchor).map_err(|error| folder_error(paths, error))? {
            None => return Ok(None),
            Some(stat) if stat.kind != FileKind::Regular => return Err(paths.anchor_obstructed(stat.kind)),
            Some(_) => {}
        }
        let (file, read_only) = match paths.dir.open_at(&paths.anchor, Access::ReadWrite) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (open_anothers(paths, options, error)?, true)
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
        Ok(Anchor { id: stat.id, owner: stat.owner, file, read_only, cached: Mutex::new(None) })
    }

    /// Step 2: what the anchor's path names now, if that is still this file.
    pub(crate) fn current(&self, paths: &LockPaths) -> Result<Option<FileIdent>> {
        let found = paths.dir.ident_at(&paths.anchor);
        let found = found.map_err(|error| paths.anchor_error("cannot be compared with its path", error))?;
        Ok(found.filter(|stat| stat.id == self.id))
    }

    /// What the record says, and its bytes.
    pub(crate) fn read(&self, paths: &LockPaths, stat: &FileIdent) -> Result<Prior> {
        let size = usize::try_from(stat.size).unwrap_or(MAX_BYTES).min(MAX_BYTES);
        let mut bytes = vec![0; size];
        let length = self.file.read(&mut bytes).map_err(|error| paths.anchor_error("cannot be read", error))?;
        bytes.truncate(length);
        let known = self.cached().as_ref().and_then(|cached| cached.state_of(&bytes));
        Ok(Prior { state: known.or_else(|| Prior::scan(&bytes)), bytes, replaced: None })
    }

    fn cached(&self) -> MutexGuard<'_, Option<CachedRecord>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record over the one before, which has `size` bytes: [`lock_file::write_text`]. Returns where the state's
    /// text stands in it.
    pub(crate) fn write(&self, record: &Record, size: u64, visible: bool) -> io::Result<u64> {
        let mut kept = self.cached();
        let patched = kept.take().and_then(|mut cached| cached.become_record(record, size).then_some(cached));
        let mut cached = patched.unwrap_or_else(|| CachedRecord::new(record, size));
        let rendered = cached.rendered_mut();
        // In an empty one there is no pid to be masked, and a mask alone would look like somebody's data.
        lock_file::write_text(&self.file, rendered, visible && size > 0)?;
        let state_offset = rendered.state_offset;
        // A write that failed leaves nothing: what stands in the file then is not known.
        *kept = Some(cached);
        Ok(state_offset)
    }

    /// Writes what changes with a tenure that follows within the process. `None` where the whole record must be written.
    /// What others judge by stays as it is, so nothing has to be masked.
    pub(crate) fn follow(&self, record: &Record) -> Option<io::Result<u64>> {
        let mut kept = self.cached();
        let mut cached = kept.take()?;
        let (text, offset) = cached.follow(record)?;
        if let Err(error) = self.file.write_at(text, offset) {
            return Some(Err(error));
        }
        let state_offset = cached.rendered_mut().state_offset;
        *kept = Some(cached);
        Some(Ok(state_offset))
    }

    /// Writes the state of the record that stands there.
    pub(crate) fn write_state(&self, state: RecordState, offset: u64) -> io::Result<()> {
        let mut kept = self.cached();
        match self.file.write_at(record::state_text(state), offset) {
            Ok(()) => {
                if let Some(cached) = &mut *kept {
                    cached.set_state(state);
                }
                Ok(())
            }
            Err(error) => {
                *kept = None;
                Err(error)
            }
        }
    }

    /// Replaces another user's anchor by our own, with its kernel lock held, in a folder where we may: the new one is
    /// locked before it can be seen. Its fence goes on from the old one's, whose record said `prior`, and so does the word
    /// of a crash, or that one is to be looked for at the lock file's place: who does this may die at it, or fail.
    pub(crate) fn replace(&self, paths: &LockPaths, options: &Options, prior: Option<PriorState>) -> Result<Anchor> {
        let state = match prior {
            Some(prior) if lock_file::is_cut_off_state(prior) => RecordState::Aborted,
            Some(prior) if prior.state == RecordState::Released => RecordState::Released,
            // Its maker died: we have its kernel lock. Later on it may look locked, by one who had queued for it.
            _ if paths.lock_file_id()? == Some(self.id) => RecordState::Aborted,
            Some(prior) => prior.state,
            None => RecordState::Acquiring,
        };
        let file = prepare(paths, options, &unheld(prior.map(|prior| prior.fence), state))?;
        let own = Anchor::from_file(paths, file, false).inspect_err(|_| drop(paths.dir.unlink(&paths.new)))?;
        // Whoever replaces an anchor has one in the making, and there is one at a time: a break cannot come any more.
        let current = self.current(paths);
        if !matches!(current, Ok(Some(_))) {
            let _ = paths.dir.unlink(&paths.new);
            return Err(current.err().unwrap_or_else(|| replaced(paths)));
        }
        if let Err(error) = paths.dir.rename_over(&paths.new, &paths.anchor) {
            if error.kind() == io::ErrorKind::NotFound {
                return Err(replaced(paths));
            }
            let _ = paths.dir.unlink(&paths.new);
            return Err(paths.anchor_error("belongs to another user and cannot be replaced", error));
        }
        match own.current(paths) {
            Ok(Some(_)) => Ok(own),
            other => {
                // Before our own is let go: who enters by that must not find the old one locked, as if its holder lived.
                let _ = self.file.unlock();
                Err(other.err().unwrap_or_else(|| replaced(paths)))
            }
        }
    }
}

/// Somebody has removed or replaced what is in `.tenure`.
fn replaced(paths: &LockPaths) -> Error {
    Error::new(ErrorKind::Lost, paths.anchor_path(), "the lock's anchor was replaced under us")
}

/// Why a file was not made: a plain failure, or one that is told already.
enum NotMade {
    Io(io::Error),
    Told(Error),
}

/// Makes an anchor that was missing. One with a mode of its own appears with it: a user who came between the making and
/// the change of mode would be refused.
fn make(paths: &LockPaths, options: &Options) -> std::result::Result<File, NotMade> {
    if options.mode.is_none() {
        return create(paths, &paths.anchor, options);
    }
    let file = prepare(paths, options, &released(None)).map_err(NotMade::Told)?;
    match paths.dir.rename_new(&paths.new, &paths.anchor) {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = paths.dir.unlink(&paths.new);
            Err(match error.kind() {
                io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput => NotMade::Told(
                    paths
                        .anchor_error("cannot be made with a mode: this file system has no exclusive renames", error)
                        .with_kind(ErrorKind::Unsupported)
                        .with_hint("leave the mode out"),
                ),
                _ => NotMade::Io(error),
            })
        }
    }
}

/// Makes a file under the name `new`, complete and locked, to be renamed to where it is to be seen.
pub(crate) fn prepare(paths: &LockPaths, options: &Options, record: &Record) -> Result<File> {
    check_folder(paths)?;
    for tried in 0..TRIES {
        match create(paths, &paths.new, options) {
            Ok(file) => {
                let written = (|| {
                    // Until it is locked another may take it for a dead one's, and remove it.
                    let ours = file.try_lock(LockKind::Exclusive)?
                        && paths.dir.stat_at(&paths.new)?.map(|stat| stat.id) == Some(file.stat()?.id);
                    if ours {
                        file.write_at(&record.render(0).bytes, 0)?;
                    }
                    Ok(ours)
                })();
                match written {
                    Ok(true) => return Ok(file),
                    Ok(false) => {}
                    Err(error) => {
                        let _ = paths.dir.unlink(&paths.new);
                        return Err(paths.anchor_error("cannot be written", error));
                    }
                }
            }
            Err(NotMade::Told(error)) => return Err(error),
            // Somebody died between making one and renaming it, or is at it now: that takes a few system calls.
            Err(NotMade::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !drop_dead(paths)? {
                    sys::pause(Duration::from_millis(1));
                }
            }
            Err(NotMade::Io(error)) if error.kind() == io::ErrorKind::NotFound => make_folder(paths, tried)?,
            Err(NotMade::Io(error)) => return Err(paths.anchor_error(CANNOT_BE_MADE, error)),
        }
    }
    Err(Error::new(ErrorKind::Io, paths.anchor_path(), "another process keeps replacing the lock's anchor"))
}

/// Removes a prepared file whose maker is dead: nobody has its kernel lock. `false` if its maker lives.
pub(crate) fn drop_dead(paths: &LockPaths) -> Result<bool> {
    let removed = (|| -> io::Result<bool> {
        let file = paths.dir.open_at(&paths.new, Access::Read)?;
        if !file.try_lock(LockKind::Exclusive)? {
            return Ok(false);
        }
        if paths.dir.stat_at(&paths.new)?.map(|stat| stat.id) == Some(file.stat()?.id) {
            paths.dir.unlink(&paths.new)?;
        }
        Ok(true)
    })();
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        other => other.map_err(|error| paths.anchor_error("cannot be replaced: a half-made one is in the way", error)),
    }
}

/// The record of an anchor that nobody holds, and that carries the fence on.
pub(crate) fn released(fence: Option<u64>) -> Record {
    unheld(fence, RecordState::Released)
}

/// As [`released`], or with word of a holder that was cut off.
pub(crate) fn unheld(fence: Option<u64>, state: RecordState) -> Record {
    let native = Some(Native { fence, ..Native::bare(state) });
    Record { created_at: Some(sys::now()), native, ..Record::default() }
}

fn create(paths: &LockPaths, name: &Name, options: &Options) -> std::result::Result<File, NotMade> {
    let file = paths.dir.create_new(name, options.mode.unwrap_or(0o644)).map_err(NotMade::Io)?;
    if let Some(mode) = options.mode
        && let Err(error) = give_mode(&file, mode)
    {
        let _ = paths.dir.unlink(name);
        return Err(NotMade::Told(not_given(
            paths,
            "cannot be given the mode that was asked for",
            error,
            "leave the mode out where the file system gives all files its own",
        )));
    }
    Ok(file)
}

/// Our own file or folder cannot be given its rights: the file system refuses that, not this user's lack of rights.
fn not_given(paths: &LockPaths, what: &'static str, error: io::Error, hint: &'static str) -> Error {
    let denied = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput);
    let error = paths.anchor_error(what, error).with_hint(hint);
    if denied { error.with_kind(ErrorKind::Unsupported) } else { error }
}

/// The umask took bits away. File systems differ in their answers to a mode that they cannot keep, so the mode that they show
/// afterwards counts. The bits for execution do not matter.
fn give_mode(file: &File, mode: u32) -> io::Result<()> {
    let changed = file.chmod(mode);
    match (file.stat()?.mode ^ mode) & 0o666 {
        0 => Ok(()),
        _ => changed.and(Err(io::ErrorKind::Unsupported.into())),
    }
}

/// Makes `.tenure` with its parent's rights, group and ACL: who may make files beside the target may make them in
/// it. Where that is more than one user it appears with them: a crash in between would shut the others out for ever.
/// `tried`: how often it was tried before.
fn make_folder(paths: &LockPaths, tried: usize) -> Result<()> {
    let mode = paths.dir_stat.mode;
    let alone = mode & 0o022 == 0 && paths.dir_stat.owner == sys::effective_user();
    let made = if alone { paths.anchors.clone() } else { unused_name(tried) };
    match paths.dir.make_dir(&made, mode & 0o777) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(folder_error(paths, error)),
    }
    // Locked until it has its name, so that a sweep leaves it alone. Where it cannot be, a sweep cannot lock it either.
    let locked = (!alone).then(|| paths.dir.open_at(&made, Access::Read)).and_then(io::Result::ok);
    if let Some(file) = &locked
        && let Ok(false) = file.try_lock(LockKind::Exclusive)
    {
        // A sweep has it, and it is about to go.
        return Ok(());
    }
    let fill = || {
        let failed = |error| (CANNOT_BE_MADE, error);
        let dir = paths.dir.open_dir(&made).map_err(failed)?;
        // Another user may have moved some other folder to this name, whose rights are not to change. Ours is new, and empty.
        if !dir.entries().map_err(failed)?.is_empty() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        dir.take_rights_of(&paths.dir).map_err(|error| (NOT_ITS_RIGHTS, error))?;
        ignore(&dir, IGNORE).map_err(failed)
    };
    match fill() {
        Ok(()) if alone => return Ok(()),
        Ok(()) => match paths.dir.rename_over(&made, &paths.anchors) {
            Ok(()) => return Ok(()),
            // Another was first, and ours goes.
            Err(_) if matches!(paths.dir.stat_at(&paths.anchors), Ok(Some(_))) => drop_folder(paths, &made),
            Err(error) => {
                drop_folder(paths, &made);
                return Err(folder_error(paths, error));
            }
        },
        // It was pruned meanwhile, and perhaps made again.
        Err((_, error)) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
        Err((what, error)) => {
            drop_folder(paths, &made);
            return Err(match what {
                NOT_ITS_RIGHTS => not_given(
                    paths,
                    what,
                    error,
                    "make `.tenure` there with the rights that it is to have, or do without it: record(false), --no-record",
                ),
                _ => folder_error(paths, error),
            });
        }
    }
    Ok(())
}

const CANNOT_BE_MADE: &str = "cannot be made";
const NOT_ITS_RIGHTS: &str = "cannot be made: `.tenure` cannot be given the rights of the folder that it is in";

/// Removes a `.tenure` that is not to be, unless somebody uses it already.
fn drop_folder(paths: &LockPaths, made: &Name) {
    if *made != paths.anchors
        && let (Ok(dir), Ok(name)) = (paths.dir.open_dir(made), Name::new(IGNORE.as_ref()))
    {
        let _ = dir.unlink(&name);
    }
    let _ = paths.dir.remove_dir(made);
}

const IGNORE: &str = ".gitignore";

/// Makes the file that keeps git away from anchors; not if it is there.
fn ignore(dir: &Dir, name: &str) -> io::Result<()> {
    let name = Name::new(name.as_ref())?;
    dir.create_new(&name, 0o644)?.write_at(b"*\n", 0).inspect_err(|_| drop(dir.unlink(&name)))
}

/// Makes it in a folder of anchors that was about to be removed, and is used again.
pub(crate) fn ignore_again(anchors: &Dir) {
    let _ = ignore(anchors, IGNORE);
}

/// A name for a `.tenure` in the making, which nobody else has: the clock's nanoseconds and this process's number; another
/// one at each try, whatever the clock does.
fn unused_name(tried: usize) -> Name {
    let now = sys::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = format!("{ANCHORS}.{}.{}", now.as_nanos() + tried as u128, sys::pid());
    Name::new(name.as_ref()).expect("no zero byte is in it")
}

/// Is this a name that [`unused_name`] gives?
pub(crate) fn is_unused_name(name: &OsStr) -> bool {
    let digits = |part: Option<&str>| part.is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    let rest = name.to_str().and_then(|name| name.strip_prefix(ANCHORS)?.strip_prefix('.'));
    rest.is_some_and(|rest| {
        let mut parts = rest.split('.');
        digits(parts.next()) && digits(parts.next()) && parts.next().is_none()
    })
}

/// Removes a `.tenure` in the making whose maker is dead: nobody has its kernel lock, and nothing is in it but what
/// belongs there.
pub(crate) fn drop_dead_folder(dir: &Dir, name: &Name) -> io::Result<()> {
    let folder = dir.open_dir(name)?;
    let file = dir.open_at(name, Access::Read)?;
    let same = folder.stat()?.id == file.stat()?.id;
    if !same || !file.try_lock(LockKind::Exclusive)? || dir.stat_at(name)?.map(|stat| stat.id) != Some(file.stat()?.id)
    {
        return Ok(());
    }
    let entries = folder.entries()?;
    if entries.iter().all(|(name, _)| name.as_os_str() == IGNORE) {
        for (name, _) in &entries {
            folder.unlink(name)?;
        }
        dir.remove_dir(name)?;
    }
    Ok(())
}

/// What has the name of `.tenure` must be a folder: a link could make us write, and remove, files of other folders.
fn check_folder(paths: &LockPaths) -> Result<()> {
    match paths.dir.stat_at(&paths.anchors).map_err(|error| paths.anchor_error("cannot be looked for", error))? {
        Some(stat) if stat.kind != FileKind::Directory => Err(folder_obstructed(paths, stat.kind)),
        _ => Ok(()),
    }
}

fn folder_obstructed(paths: &LockPaths, kind: FileKind) -> Error {
    let path = paths.target_path.with_file_name(paths.anchors.as_os_str());
    let detail = format!("{} stands where the folder of anchors belongs", kind.words());
    Error::new(ErrorKind::Obstructed, path, detail).with_hint("remove it")
}

fn folder_error(paths: &LockPaths, error: io::Error) -> Error {
    // ENOTDIR, ELOOP: something else has the folder's name.
    let odd = paths.dir.stat_at(&paths.anchors).ok().flatten().filter(|stat| stat.kind != FileKind::Directory);
    match odd {
        Some(stat) => folder_obstructed(paths, stat.kind),
        None => paths.anchor_error(CANNOT_BE_MADE, error),
    }
}

/// Another user's anchor that we may not write.
fn open_anothers(paths: &LockPaths, options: &Options, denied: io::Error) -> Result<File> {
    let sticky = paths.dir_stat.mode & 0o1000 != 0;
    let replaceable = !sticky && paths.dir.open_dir(&paths.anchors).is_ok_and(|anchors| anchors.may_write());
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
    Err(match (sticky, options.mode) {
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

/// The record as the last holder left it.
#[derive(Debug)]
pub(crate) struct Prior {
    pub(crate) bytes: Vec<u8>,
    state: Option<PriorState>,
    /// The anchor that it was read from, where that was replaced: its kernel lock is still ours.
    pub(crate) replaced: Option<Arc<Anchor>>,
}

/// As [`Prior::was_shown`], of a record's text that was read without its kernel lock.
pub(crate) fn proves_use(text: &[u8]) -> bool {
    Prior::scan(text).is_some_and(PriorState::was_shown)
}

impl Prior {
    /// `None` where no native has written one.
    pub(crate) fn state(&self) -> Option<PriorState> {
        self.state
    }

    /// Does it prove that a native has held this lock in lock-file style? Then the lock file's place was free, so what
    /// stands there later was made by a program that removes it.
    pub(crate) fn was_shown(&self) -> bool {
        self.state.is_some_and(PriorState::was_shown)
    }

    fn scan(bytes: &[u8]) -> Option<PriorState> {
        if let Some(own) = record::parse_canonical(bytes) {
            return Some(PriorState { fence: own.fence, state: own.state, style: own.style });
        }
        let native = Prior::parse(bytes)?.native?;
        Some(PriorState { fence: native.fence.unwrap_or(0), state: native.state, style: native.style })
    }

    pub(crate) fn record(&self) -> Option<Record> {
        Prior::parse(&self.bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Record> {
        match record::read(bytes) {
            Content::Record(record) => Some(record),
            _ => None,
        }
    }
}
