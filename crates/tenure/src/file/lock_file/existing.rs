//! The existing lock file, and whether its holder lives.

use std::io;
use std::time::Duration;

use crate::file::anchor::Anchor;
use crate::file::crash::is_other_boot;
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::file::staleness::{self as judge, Facts, ForeignFacts, OpenElsewhere, Origin};
use crate::model::error::Result;
use crate::model::holder::Holder;
use crate::model::options::{Options, StalePolicy};
use crate::model::stale_reason::StaleReason;
use crate::process::{self, Liveness, Look};
use crate::record::io::read_text;
use crate::record::{self, Content, Marker, Record, RecordState};
use crate::sys::{self, Access, File, FileId, FileKind, LeaseOutcome, LockKind};

/// The existing lock file, open and read.
pub(crate) struct ExistingLockFile {
    pub(crate) file: File,
    pub(crate) id: FileId,
    /// The text as it was read. `content` is its meaning.
    pub(crate) text: Vec<u8>,
    pub(crate) content: Content,
}

/// A holder that blocks an acquire by its lock file.
#[derive(Debug)]
pub(crate) struct Blocker {
    pub(crate) holder: Holder,
    /// The judged file, open. A native is waited for in the file's kernel queue, a foreign holder by its events.
    pub(crate) file: Option<File>,
    pub(crate) id: FileId,
    /// When to judge again, whatever happens.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the anchor proved, when the file was judged, that natives have used this lock before.
    pub(crate) used_before: bool,
    /// Whether the holder is dead, and the lock file cannot be removed because a process has it open.
    pub(crate) name_in_use: bool,
}

/// Opens and reads the existing lock file. Returns `None` if there is none.
pub(crate) fn read_existing(paths: &LockPaths) -> Result<Option<ExistingLockFile>> {
    let Some(stat) = paths.dir.ident_at(&paths.lock).map_err(|error| paths.lock_error("cannot be read", error))? else {
        return Ok(None);
    };
    if stat.kind != FileKind::Regular {
        return Err(paths.obstructed(stat.kind.words()));
    }
    read_listed(paths)
}

/// As [`read_existing`], where the caller has just seen that the name is a regular file's: opening a device can have an
/// effect.
pub(crate) fn read_listed(paths: &LockPaths) -> Result<Option<ExistingLockFile>> {
    let file = match paths.dir.open_at(&paths.lock, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(paths.lock_error("cannot be opened", error)),
    };
    read_open(paths, file).map(Some)
}

pub(super) fn read_open(paths: &LockPaths, file: File) -> Result<ExistingLockFile> {
    let unreadable = |error| paths.lock_error("cannot be read", error);
    let stat = file.ident().map_err(unreadable)?;
    if stat.kind != FileKind::Regular {
        return Err(paths.obstructed(stat.kind.words()));
    }
    let text = read_text(&file, stat.size).map_err(unreadable)?;
    Ok(ExistingLockFile { id: stat.id, content: record::read(&text), text, file })
}

/// An existing lock file with its verdict.
pub(crate) struct Verdict {
    pub(crate) blocker: Blocker,
    pub(crate) reasons: Vec<StaleReason>,
    /// Whether it may be exchanged away: its holder is proven dead, or the caller's policy steals it.
    pub(crate) may_take_over: bool,
    /// Whether it is a native's record that says `released`, so that no holder crashed.
    pub(super) released: bool,
    pub(super) native: bool,
}

impl Verdict {
    /// Returns whether the lock file is this record's.
    pub(super) fn is_of(&self, record: &Record) -> bool {
        let holder = &self.blocker.holder;
        let fence = record.native.as_ref().and_then(|native| native.fence);
        self.native && fence.is_some() && fence == holder.fence && holder.pid() == record.pid
    }
}

/// Returns the holder whose lock file would block an acquire. `anchor` is the current one, and its kernel lock is the
/// caller's. Nothing is changed.
pub(crate) fn find_blocker(
    paths: &LockPaths,
    anchor: &Anchor,
    prior: &Prior<'_>,
    options: &Options,
) -> Result<Option<Box<Blocker>>> {
    let Some(found) = read_existing(paths)? else { return Ok(None) };
    // A dead native's, whose kernel lock the caller has.
    if found.id == anchor.id {
        return Ok(None);
    }
    let verdict = judge_found(paths, found, options, prior.replaced.as_deref(), prior.was_shown())?;
    Ok((!verdict.may_take_over).then(|| Box::new(verdict.blocker)))
}

/// Returns whether the judged holder still blocks. The caller calls this once it has begun to wait for that holder's events,
/// because what happened before has none. The caller must not have the judged file open.
pub(crate) fn still_blocks(paths: &LockPaths, blocker: &Blocker, options: &Options) -> Result<bool> {
    match read_existing(paths)? {
        Some(found) if found.id == blocker.id && blocker.name_in_use => Ok(true),
        Some(found) if found.id == blocker.id => {
            Ok(!judge_found(paths, found, options, None, blocker.used_before)?.may_take_over)
        }
        _ => Ok(false),
    }
}

/// Judges a lock file. `ours` is an anchor whose kernel lock the caller has. `used_before` is
/// [`Prior::was_shown`](crate::file::prior::Prior::was_shown).
///
/// For a foreign file that may be taken over, the caller gets the file's own `flock(2)` with the verdict and keeps it
/// over the exchange: a program that only `flock(2)`s the file must not acquire it meanwhile.
pub(super) fn judge_found(
    paths: &LockPaths,
    found: ExistingLockFile,
    options: &Options,
    ours: Option<&Anchor>,
    used_before: bool,
) -> Result<Verdict> {
    let native = match &found.content {
        Content::NotALock(what) => return Err(paths.obstructed(what)),
        Content::Record(record) => record.native.is_some(),
        Content::Blank | Content::Torn => false,
    };
    match native {
        true => judge_native(paths, found, LockKind::Exclusive, ours),
        false => {
            let flocked = |file: &File| file.try_lock(LockKind::Exclusive).is_ok_and(|locked| !locked);
            Ok(judge_foreign(paths, found, options, Look::Ask, used_before, &flocked))
        }
    }
}

/// Judges a native's record on another inode than this process's anchor: the anchor was removed under its holder, or
/// the lock file is a copy. A kernel lock of `kind` is tried, unless the inode is `ours`.
pub(super) fn judge_native(
    paths: &LockPaths,
    found: ExistingLockFile,
    kind: LockKind,
    ours: Option<&Anchor>,
) -> Result<Verdict> {
    let Content::Record(record) = &found.content else { unreachable!("only a record is native") };
    let native = record.native.as_ref();
    let released = native.is_some_and(|native| native.state == RecordState::Released);
    let failed = |error| paths.lock_error("cannot be locked", error);
    let liveness = if !released && paths.file_system.shared && is_other_boot(record) {
        Liveness::unknown(unreachable_machine(paths))
    } else if ours.is_some_and(|anchor| anchor.id == found.id) || is_unheld(&found.file, kind).map_err(failed)? {
        Liveness::dead("its kernel lock is free")
    } else {
        Liveness::alive("it has the kernel lock")
    };
    Ok(Verdict {
        reasons: Vec::new(),
        may_take_over: liveness.is_dead(),
        released,
        native: true,
        blocker: Blocker {
            holder: Holder::from_record(Some(record), liveness),
            id: found.id,
            file: Some(found.file),
            retry_after: None,
            used_before: false,
            name_in_use: false,
        },
    })
}

/// Takes the kernel lock of a native's lock file, if no holder has it. A holder's is exclusive; a process that only reads
/// the lock's status may have a shared one for a moment, beside which this one is shared too.
fn is_unheld(file: &File, kind: LockKind) -> io::Result<bool> {
    Ok(file.try_lock(kind)? || kind == LockKind::Exclusive && file.try_lock(LockKind::Shared)?)
}

/// Judges a foreign lock file. `look` is what was found of its record's pid, after the record was read. `flocked` tells
/// whether another process has the file's own `flock(2)`; it is asked only where the file would count as dead
/// otherwise.
pub(crate) fn judge_foreign(
    paths: &LockPaths,
    found: ExistingLockFile,
    options: &Options,
    look: Look,
    used_before: bool,
    flocked: &dyn Fn(&File) -> bool,
) -> Verdict {
    let mut record = match &found.content {
        Content::Record(record) => record.clone(),
        _ => Record::default(),
    };
    let modified = found.file.stat().ok().map(|stat| stat.modified);
    let origin = record.marker.as_ref().map(origin);
    if origin.is_some() {
        // The text of a marker has no date.
        record.created_at = modified;
    }
    let reasons = openclaw_reasons(&record, options.stale_after, false, look);
    let mtime_age = modified.and_then(|modified| sys::now().duration_since(modified).ok()).unwrap_or(Duration::ZERO);
    let mut facts = ForeignFacts {
        content: &found.content,
        empty: found.text.is_empty(),
        used_before,
        reasons: &reasons,
        open: open_elsewhere(&found.file, &record),
        flocked: false,
        mtime_age,
        malformed_grace: options.malformed_grace,
        stale_after: options.stale_after,
        shared_fs: paths.file_system.shared,
        origin,
    };
    let mut verdict = judge::judge_foreign(&facts);
    if verdict.liveness.is_dead() && flocked(&found.file) {
        facts.flocked = true;
        verdict = judge::judge_foreign(&facts);
    }
    let holder = Holder::from_record(Some(&record), verdict.liveness.clone());
    let stolen = match options.stale_policy {
        StalePolicy::Proof => false,
        StalePolicy::StealAfter(limit) => {
            reasons.contains(&StaleReason::HoldExceeded) || holder.age().is_some_and(|age| age > limit)
        }
    };
    Verdict {
        may_take_over: verdict.liveness.is_dead() || stolen,
        reasons,
        released: false,
        native: false,
        blocker: Blocker {
            holder,
            file: Some(found.file),
            id: found.id,
            retry_after: verdict.retry_after,
            used_before,
            name_in_use: false,
        },
    }
}

/// Judges a foreign lock file with this content that names a process. No other process has the file open, and this process
/// has its `flock(2)`. The file system is this machine's alone. For any other content the answer is unknown.
pub(crate) fn judge_unopened(content: &Content, options: &Options) -> Liveness {
    let Content::Record(record @ Record { native: None, marker: None, pid: Some(1..), .. }) = content else {
        return Liveness::unknown("it is not the file of a foreign program that names its process");
    };
    let reasons = openclaw_reasons(record, options.stale_after, false, Look::Ask);
    let facts = ForeignFacts {
        content,
        empty: false,
        used_before: false,
        reasons: &reasons,
        open: OpenElsewhere::No,
        flocked: false,
        mtime_age: Duration::ZERO,
        malformed_grace: options.malformed_grace,
        stale_after: options.stale_after,
        shared_fs: false,
        origin: None,
    };
    judge::judge_foreign(&facts).liveness
}

/// Returns whether another process has a foreign lock file open. A reader matters only where no process is named, so
/// only then a write lease is requested: other natives that examine the file at this moment have it open for reading
/// too.
pub(super) fn open_elsewhere(file: &File, record: &Record) -> OpenElsewhere {
    match file.read_lease() {
        LeaseOutcome::Refused => return OpenElsewhere::ForWriting,
        LeaseOutcome::Unavailable => return OpenElsewhere::CannotTell,
        LeaseOutcome::Granted if record.pid.is_some() => return OpenElsewhere::No,
        LeaseOutcome::Granted => {}
    }
    match file.write_lease() {
        LeaseOutcome::Granted => OpenElsewhere::No,
        LeaseOutcome::Refused => OpenElsewhere::ForReading,
        LeaseOutcome::Unavailable => OpenElsewhere::CannotTell,
    }
}

/// Returns where the holder runs that a marker names.
fn origin(marker: &Marker) -> Origin {
    let here = sys::host().is_some_and(|host| marker.is_of(&host, sys::pid_namespace()));
    let boots = marker.boot_id.as_deref().map(str::to_owned).zip(sys::boot_id());
    match (here, boots) {
        (false, _) => Origin::Elsewhere,
        (true, Some((recorded, own))) if recorded != own => Origin::OtherBoot,
        (true, _) => Origin::Here,
    }
}

/// Returns the reasons of OpenClaw's rules, with this process's own facts and what `look` found of the record's pid.
pub(crate) fn openclaw_reasons(
    record: &Record,
    stale_after: Duration,
    held_here: bool,
    look: Look,
) -> Vec<StaleReason> {
    let own_pid = i64::from(sys::pid());
    judge::reasons(
        record,
        &Facts {
            now: sys::now(),
            stale_after,
            own_pid,
            // It is compared with this process's own start time only.
            own_start_time: record.pid.filter(|pid| *pid == own_pid).and_then(process::start_time),
            held_here,
            alive: &|pid| match look {
                Look::Lives(_) => true,
                Look::Gone => false,
                Look::Ask => process::is_alive(pid),
            },
            start_time: &|pid| match look {
                Look::Lives(seen) => seen.start_time,
                Look::Gone | Look::Ask => process::comparable_start_time(pid),
            },
        },
    )
}

pub(crate) fn unreachable_machine(paths: &LockPaths) -> String {
    format!("it is of another machine or another boot, and {} may be mounted by several", paths.file_system.name)
}
