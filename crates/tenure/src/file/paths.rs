//! The paths of a lock's files: the target's parent as a descriptor, and the names in it.
//!
//! The parent is resolved once. Everything later is relative to its descriptor, so a folder that is renamed or replaced
//! meanwhile changes nothing. The target's last component is never followed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::rank::Rank;
use crate::sys::{
    self, Dir, File, FileId, FileKind, FileSystem, LockFileKind, Name, ReplaceSteps, Stat, TakeoverSteps,
};

/// The folder of anchors, beside the target.
pub(crate) const ANCHORS: &str = ".tenure";
/// The file in it that remembers whether the folder passed its trial.
pub(crate) const TRIAL: &str = ".trial";
/// The names in a tried folder begin with this.
pub(crate) const PROBE_PREFIX: &str = ".tenure-probe-";
const LOCK_SUFFIX: &str = ".lock";
const SWAP_SUFFIX: &str = ".swap";
const NEW_SUFFIX: &str = ".new";
/// A user's history of a lock is `<lock file's name>.<user's number>.history`.
const HISTORY_SUFFIX: &str = ".history";
/// What a holder says of its wait for another lock is `<lock file's name>.<number>.waits`.
const WAITS_SUFFIX: &str = ".waits";

/// The longest pause before an attempt to remove a name that another program keeps. Each is twice as long as the one before,
/// so together they are an eighth of a second.
const LAST_PAUSE: Duration = Duration::from_millis(64);

/// Returns whether a name in `.tenure` is of a trial's answer: [`TRIAL`], or that with the pid of a process that writes it. An
/// anchor's name has letters after a pid.
pub(crate) fn is_of_trial(name: &OsStr) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix(TRIAL));
    let is_pid = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(is_pid))
}

/// Returns the lock file's path, from the target's as the caller named it.
pub(crate) fn lock_path(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(LOCK_SUFFIX);
    path.into()
}

/// The paths of one lock.
#[derive(Debug)]
pub(crate) struct LockPaths {
    pub(crate) folder: Arc<ParentDir>,
    /// The target's path as the caller named it.
    pub(crate) target_path: PathBuf,
    pub(crate) lock_path: PathBuf,
    /// The names, relative to `dir`.
    pub(crate) target: Name,
    pub(crate) lock: Name,
    pub(crate) anchor: Name,
    /// The name at which a takeover prepares the file that it exchanges. Only the process that has the kernel lock uses
    /// it.
    pub(crate) swap: Name,
    /// The name at which an anchor is prepared that will replace another.
    pub(crate) new: Name,
    pub(crate) anchors: Name,
    /// Whether lock files are copies, because hard links do not exist here or could not be removed by this user.
    copies: AtomicBool,
    /// Whether a hard link is known to be the same inode here, by a check or by the kind of file system.
    links: AtomicBool,
}

/// A folder and what the kernel reports of it, which is the same for every lock in it.
#[derive(Debug)]
pub(crate) struct ParentDir {
    pub(crate) dir: Arc<Dir>,
    pub(crate) dir_stat: Stat,
    pub(crate) file_system: FileSystem,
}

impl ParentDir {
    /// Returns the place of a target in this folder, in the order in which several locks are acquired.
    #[allow(dead_code, reason = "the simulation acquires one lock at a time")]
    pub(crate) fn rank_of(&self, target: &Path) -> Result<Rank> {
        let FileId { device, inode } = self.dir_stat.id;
        Ok(Rank::File { device, inode, name: split(target)?.1.to_owned() })
    }

    /// Returns whether this descriptor serves as well as the other's. The inode number alone does not prove it: the
    /// same folder may be reached through two mounts, only one of which may be written; its mode and owner may have
    /// changed since; and on a network file system a number may be reused while a descriptor of the old folder is still
    /// open, and fails.
    pub(crate) fn is_interchangeable_with(&self, other: &ParentDir) -> bool {
        let (ours, theirs) = (&self.dir_stat, &other.dir_stat);
        ours.id == theirs.id
            && ours.mode == theirs.mode
            && ours.owner == theirs.owner
            && matches!((self.dir.mount(), other.dir.mount()), (Ok(ours), Ok(theirs)) if ours == theirs)
    }
}

impl Deref for LockPaths {
    type Target = ParentDir;

    fn deref(&self) -> &ParentDir {
        &self.folder
    }
}

impl LockPaths {
    /// Opens the parent of `target`, created if it is missing and `create_parents` permits it.
    pub(crate) fn open(target: &Path, create_parents: bool) -> Result<LockPaths> {
        let (parent, name) = split(target)?;
        let dir = match Dir::open(parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && create_parents => {
                Dir::create_all(parent).and_then(|()| Dir::open(parent))
            }
            other => other,
        };
        let dir = dir.map_err(|source| {
            let missing = source.kind() == io::ErrorKind::NotFound;
            let error = Error::io(parent, "the target's folder cannot be opened", source);
            match missing {
                true => {
                    error.with_hint("make it, or let create_parents(true) do so").with_advice(Advice::CreateParents)
                }
                false => error,
            }
        })?;
        LockPaths::at(Arc::new(dir), target.to_owned(), name)
    }

    /// As [`open`](LockPaths::open), for reading only. Returns `None` where the parent does not exist.
    pub(crate) fn look(target: &Path) -> Result<Option<LockPaths>> {
        let (parent, name) = split(target)?;
        match Dir::open(parent) {
            Ok(dir) => LockPaths::at(Arc::new(dir), target.to_owned(), name).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(parent, "the target's folder cannot be opened", error)),
        }
    }

    /// Returns the paths of another target in the same folder, which is not opened again.
    #[allow(dead_code, reason = "the simulation has no slots")]
    pub(crate) fn beside(&self, target_path: PathBuf) -> Result<LockPaths> {
        let name = split(&target_path)?.1.to_owned();
        LockPaths::within(&self.folder, target_path, &name)
    }

    /// Returns the paths for the file `name` in an open folder.
    fn at(dir: Arc<Dir>, target_path: PathBuf, name: &OsStr) -> Result<LockPaths> {
        let dir_stat =
            dir.stat().map_err(|error| Error::io(&target_path, "the target's folder cannot be read", error))?;
        let file_system = dir.file_system();
        LockPaths::within(&Arc::new(ParentDir { dir, dir_stat, file_system }), target_path, name)
    }

    /// As [`at`](LockPaths::at), in a folder that was examined already.
    pub(crate) fn within(folder: &Arc<ParentDir>, target_path: PathBuf, name: &OsStr) -> Result<LockPaths> {
        let lock = joined(name, LOCK_SUFFIX);
        let to_name =
            |name: &OsStr| Name::new(name).map_err(|_| invalid(&target_path, "a path cannot hold a zero byte".into()));
        let in_anchors = |suffix: &str| to_name(&path_in_anchors(&lock, suffix));
        // Where only owners may remove files, no user can remove what another user's crash left, so each user has a name of its own.
        let new_suffix = match folder.dir_stat.removal_needs_owner() {
            false => NEW_SUFFIX.to_owned(),
            true => format!(".{}{NEW_SUFFIX}", sys::effective_user()),
        };
        Ok(LockPaths {
            lock_path: target_path.with_file_name(&lock),
            target: to_name(name)?,
            anchor: in_anchors("")?,
            swap: in_anchors(SWAP_SUFFIX)?,
            new: in_anchors(&new_suffix)?,
            lock: to_name(&lock)?,
            anchors: to_name(OsStr::new(ANCHORS))?,
            copies: AtomicBool::new(sys::lock_file_kind() == LockFileKind::Copy),
            // Only the file systems of servers and of programs number names instead of files.
            links: AtomicBool::new(!folder.file_system.shared),
            target_path,
            folder: Arc::clone(folder),
        })
    }

    /// Returns the name of a user's history of this lock. Few locks have one, so it is not kept.
    pub(crate) fn history(&self, user: u32) -> Name {
        self.in_anchors(&format!(".{user}{HISTORY_SUFFIX}"))
    }

    /// Returns the name at which a user's history is prepared that will replace the present one.
    pub(crate) fn new_history(&self, user: u32) -> Name {
        self.in_anchors(&format!(".{user}{HISTORY_SUFFIX}{NEW_SUFFIX}"))
    }

    /// Returns the name of a [note](crate::file::wait_note) that a holder of this lock waits for another.
    pub(crate) fn wait_note(&self, number: u32) -> Name {
        self.in_anchors(&format!(".{number}{WAITS_SUFFIX}"))
    }

    /// Returns the user's number in a file name of `.tenure`, if it is [`history`](LockPaths::history) of this lock.
    pub(crate) fn user_of_history(&self, name: &OsStr) -> Option<u32> {
        let path = Path::new(name);
        let numbered =
            path.file_stem().filter(|_| path.extension().is_some_and(|found| found == &HISTORY_SUFFIX[1..]))?;
        let user = Path::new(numbered).extension()?.to_str()?.parse().ok()?;
        let own = self.history(user);
        (Path::new(own.as_os_str()).file_name() == Some(name)).then_some(user)
    }

    fn in_anchors(&self, suffix: &str) -> Name {
        Name::new(&path_in_anchors(self.lock.as_os_str(), suffix)).expect("a lock file's name has no zero byte")
    }

    pub(crate) fn copies(&self) -> bool {
        self.copies.load(Ordering::Relaxed)
    }

    pub(crate) fn set_copies(&self) {
        self.copies.store(true, Ordering::Relaxed);
    }

    /// Returns whether a hard link is known to be the same inode here.
    pub(crate) fn links_are_known(&self) -> bool {
        self.links.load(Ordering::Relaxed)
    }

    pub(crate) fn set_links_known(&self) {
        self.links.store(true, Ordering::Relaxed);
    }

    /// Removes a name that the caller has found to be `file`'s. Where the system removes a name only while it is a given
    /// file's, no file that came in between is removed. Returns `false` if the name was another file's or missing.
    pub(crate) fn remove_name(&self, name: &Name, file: &File) -> io::Result<bool> {
        match sys::takeover_steps() {
            TakeoverSteps::Exchange => match self.dir.unlink(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                removed => removed.map(|()| true),
            },
            TakeoverSteps::Removal => self.remove_same(name, file),
        }
    }

    /// Removes a name while it is `file`'s. A program that reads the file may keep its name for a moment, which this waits
    /// for.
    fn remove_same(&self, name: &Name, file: &File) -> io::Result<bool> {
        let mut pause = Duration::from_millis(1);
        loop {
            match self.dir.unlink_same(name, file) {
                Err(error) if sys::means_in_use(&error) && pause <= LAST_PAUSE => {}
                removed => return removed,
            }
            sys::pause(pause);
            pause *= 2;
        }
    }

    /// Gives the anchor's name to the prepared file, in place of the anchor `old`. Fails as existing, where that takes two
    /// steps, if there is another anchor by then.
    ///
    /// After an error the prepared file is removed. If the old anchor has lost its name already, the prepared file stays,
    /// for the next process that looks for an anchor: its record alone continues the fence and the crash report.
    pub(crate) fn rename_to_anchor(&self, old: Option<&File>) -> io::Result<()> {
        let mut is_needed = false;
        let mut rename = || match sys::replace_steps() {
            ReplaceSteps::One => self.dir.rename_over(&self.new, &self.anchor),
            ReplaceSteps::Two => {
                if let Some(old) = old {
                    is_needed = self.dir.unlink_same(&self.anchor, old)?;
                }
                self.dir.rename_new(&self.new, &self.anchor)
            }
        };
        rename().inspect_err(|error| {
            if !is_needed || error.kind() == io::ErrorKind::AlreadyExists {
                let _ = self.dir.unlink(&self.new);
            }
        })
    }

    /// Returns the anchor's path, for messages.
    pub(crate) fn anchor_path(&self) -> PathBuf {
        self.target_path.with_file_name(self.anchor.as_os_str())
    }

    /// Returns the file that the lock file's name means now.
    pub(crate) fn lock_file_id(&self) -> Result<Option<FileId>> {
        let found = self.dir.ident_at(&self.lock).map_err(|error| self.lock_error("cannot be read", error))?;
        Ok(found.map(|stat| stat.id))
    }

    pub(crate) fn lock_error(&self, what: &'static str, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::CrossesDevices {
            return self.cross_device_error(&self.lock_path, &format!("the lock file {what}"), error);
        }
        let (full, in_use) = (is_full(&error), sys::means_in_use(&error));
        let error = Error::io(&self.lock_path, format!("the lock file {what}"), error);
        match full {
            true => {
                error.with_hint("free some space; flock style needs no room for a name: style(Style::Flock), --flock")
            }
            false if in_use => error.with_hint(IN_USE),
            false => error,
        }
    }

    /// Returns whether this user may not look up the folder's names, so that nothing in it can be locked.
    fn is_unsearchable(&self) -> bool {
        self.dir.ident_at(&self.target).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    pub(crate) fn anchor_error(&self, what: &'static str, error: io::Error) -> Error {
        let source = error.kind();
        if source == io::ErrorKind::CrossesDevices {
            return self.cross_device_error(&self.anchor_path(), &format!("the lock's anchor {what}"), error);
        }
        let (full, in_use) = (is_full(&error), sys::means_in_use(&error));
        let error = Error::io(self.anchor_path(), format!("the lock's anchor {what}"), error);
        match source {
            _ if in_use => error.with_hint(IN_USE),
            _ if full => error
                .with_hint(
                    "free some space, or do without a record: record(false) (--no-record) takes the bare kernel lock on the \
                     target, which keeps out flock(1) and flock style, but not lock-file style",
                )
                .with_advice(Advice::WithoutRecord),
            io::ErrorKind::PermissionDenied if self.is_unsearchable() => {
                error.with_hint("this user may not search the folder; lock a target in another one")
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => error
                .with_hint(
                    "where the folder may only be read, record(false) (--no-record) takes the bare kernel lock on the target",
                )
                .with_advice(Advice::WithoutRecord),
            io::ErrorKind::Unsupported => error.with_hint("this file system has no flock(2)"),
            _ => error,
        }
    }

    /// Returns the error of a name that cannot be linked or moved between the folder and `.tenure`. Another file system
    /// is one of the possible causes.
    fn cross_device_error(&self, path: &Path, what: &str, error: io::Error) -> Error {
        let why = match self.dir.stat_at(&self.anchors) {
            Ok(Some(found)) if found.id.device != self.dir_stat.id.device => "`.tenure` is on another file system",
            _ => {
                "no name can be linked or moved between this folder and `.tenure` (a sandbox may forbid it, as Landlock does \
                 without its right to refer; so may a mount of its own, or a project's quota)"
            }
        };
        Error::io(path, format!("{what}: {why}"), error)
            .with_kind(ErrorKind::Unsupported)
            .with_hint("flock style does without: style(Style::Flock), --flock")
    }

    /// Returns the error of a file at the lock file's path that is not a lock file.
    pub(crate) fn obstructed(&self, what: &str) -> Error {
        Error::new(
            ErrorKind::Obstructed,
            &self.lock_path,
            format!("{what} occupies the lock file's path; it is not a lock file and was left unchanged"),
        )
        .with_hint("move it, lock another target, or use flock style")
        .with_advice(Advice::MoveOrUseFlockStyle)
    }

    /// As [`obstructed`](LockPaths::obstructed), for the anchor.
    pub(crate) fn anchor_obstructed(&self, kind: FileKind) -> Error {
        let what = kind.words();
        Error::new(ErrorKind::Obstructed, self.anchor_path(), format!("{what} occupies the path of the lock's anchor"))
            .with_hint("remove it")
    }
}

/// The hint of an error by which a system reports that another program has the file open without sharing it.
pub(crate) const IN_USE: &str =
    "another program has the file open and lets no program open it meanwhile: try again once it has closed the file";

/// Returns whether the disk is full, or this user's quota.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Appends a suffix to a name.
pub(crate) fn joined(name: &OsStr, suffix: &str) -> OsString {
    let mut joined = OsString::with_capacity(name.len() + suffix.len());
    joined.push(name);
    joined.push(suffix);
    joined
}

/// Returns the target's name, from a lock file's.
pub(crate) fn target_of(lock: &OsStr) -> Option<&OsStr> {
    let bytes = lock.as_encoded_bytes().strip_suffix(LOCK_SUFFIX.as_bytes()).filter(|name| !name.is_empty())?;
    Path::new(lock).file_stem().filter(|stem| stem.as_encoded_bytes() == bytes)
}

/// As [`target_of`], from any name in `.tenure`, such as a history's, or one that a crash left.
pub(crate) fn target_of_anchor(name: &OsStr) -> Option<&OsStr> {
    let without = |name, suffixes: &[&str]| {
        let path = Path::new(name);
        let is_one = path.extension().is_some_and(|found| suffixes.iter().any(|suffix| found == &suffix[1..]));
        path.file_stem().filter(|_| is_one)
    };
    let stem = without(name, &[SWAP_SUFFIX, NEW_SUFFIX, HISTORY_SUFFIX, WAITS_SUFFIX]);
    let new_history = || without(without(name, &[NEW_SUFFIX])?, &[HISTORY_SUFFIX]);
    // A history has a user's number before its suffix, and, where only owners may remove files, a prepared anchor too. So
    // has a wait note.
    target_of(name)
        .or_else(|| target_of(stem?))
        .or_else(|| target_of(without_number(stem?)?))
        .or_else(|| target_of(without_number(new_history()?)?))
}

/// Returns the path of a name in `.tenure`: the lock file's name with a suffix.
fn path_in_anchors(lock: &OsStr, suffix: &str) -> OsString {
    let name = shortened(joined(lock, suffix), suffix);
    let mut path = OsString::with_capacity(ANCHORS.len() + 1 + name.len());
    path.push(ANCHORS);
    path.push("/");
    path.push(name);
    path
}

fn without_number(name: &OsStr) -> Option<&OsStr> {
    let path = Path::new(name);
    path.extension()?.as_encoded_bytes().iter().all(u8::is_ascii_digit).then(|| path.file_stem())?
}

/// Returns a name in `.tenure`, cut where it would be too long for its suffix, with a hash of the whole so that it
/// stays unique.
pub(crate) fn shortened(name: OsString, suffix: &str) -> OsString {
    if sys::name_len(&name) <= sys::NAME_MAX {
        return name;
    }
    // FNV-1a is stable across versions, unlike std's hashers.
    let hash = name
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    OsString::from(format!("{hash:016x}{suffix}"))
}

/// Returns the target's folder and its name, which must leave room for the suffix.
pub(crate) fn split(target: &Path) -> Result<(&Path, &OsStr)> {
    if target.as_os_str().is_empty() {
        return Err(invalid(target, "the target's name is empty".into()));
    }
    if target.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(invalid(target, "a path cannot hold a zero byte".into()));
    }
    let Some(name) = target.file_name().filter(|_| !sys::ends_without_name(target)) else {
        let detail = "a target must end in a name, not in `/`, `.` or `..`";
        return Err(invalid(target, detail.into()).with_hint("name the folder itself, without a slash at its end"));
    };
    if let Some(why) = sys::special_name(name) {
        return Err(invalid(target, format!("the target's name cannot be a file's: {why}")));
    }
    let limit = sys::NAME_MAX - LOCK_SUFFIX.len();
    if sys::name_len(name) > limit {
        let detail = format!(
            "the target's name has {} bytes; with `{LOCK_SUFFIX}` it must fit into {}",
            sys::name_len(name),
            sys::NAME_MAX
        );
        return Err(invalid(target, detail));
    }
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((parent, name))
}

fn invalid(target: &Path, detail: String) -> Error {
    let display = if target.as_os_str().is_empty() { Path::new("(empty)") } else { target };
    Error::new(ErrorKind::InvalidTarget, display, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_that_ends_in_a_name_is_a_target() {
        for good in ["a", "./a", "a/b.jsonl", "/a", "..a", "../a"] {
            assert!(split(Path::new(good)).is_ok(), "{good}");
        }
        // Names that Windows gives another meaning.
        for special in ["a..", "a.", "nul", "aux.txt", "ab:c"] {
            let split = split(Path::new(special)).map(drop);
            assert_eq!(split.as_ref().is_err_and(Error::is_invalid_target), cfg!(windows), "{special}: {split:?}");
        }
        for bad in ["", "/", "a/", "a/..", "..", ".", "a/.", "a//"] {
            let error = split(Path::new(bad)).expect_err(bad);
            assert!(error.is_invalid_target(), "{bad}: {error}");
        }
    }

    #[test]
    fn a_name_must_leave_room_for_the_suffix() {
        assert!(split(Path::new(&"x".repeat(250))).is_ok());
        let error = split(Path::new(&"x".repeat(251))).expect_err("too long");
        assert!(error.is_invalid_target() && error.to_string().contains("251 bytes"), "{error}");
    }

    #[test]
    fn long_names_in_the_anchors_folder_stay_unique() {
        let one = shortened(OsString::from("a".repeat(255) + SWAP_SUFFIX), SWAP_SUFFIX);
        let other = shortened(OsString::from("a".repeat(254) + "b" + SWAP_SUFFIX), SWAP_SUFFIX);
        assert!(one != other && sys::name_len(&one) <= sys::NAME_MAX);
        assert_eq!(shortened(OsString::from("a.lock.swap"), SWAP_SUFFIX), "a.lock.swap");
    }

    #[test]
    fn a_targets_name_follows_from_the_lock_files_name() {
        assert_eq!(target_of(OsStr::new("main.jsonl.lock")), Some(OsStr::new("main.jsonl")));
        assert_eq!(target_of(OsStr::new(".lock")), None);
        assert_eq!(target_of(OsStr::new("main.jsonl")), None);
        for name in
            ["a.lock", "a.lock.new", "a.lock.swap", "a.lock.1000.new", "a.lock.1000.history", "a.lock.0.history.new"]
        {
            assert_eq!(target_of_anchor(OsStr::new(name)), Some(OsStr::new("a")), "{name}");
        }
        assert_eq!(target_of_anchor(OsStr::new("a.new")), None);
        assert_eq!(target_of_anchor(OsStr::new(".gitignore")), None);
    }
}
