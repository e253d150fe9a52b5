//! Wait notes: what a holder says of its wait for another lock. They are the edges of the graph in which a deadlock is a
//! circle.
//!
//! While a thread that holds x waits for y, a file `.tenure/<x's lock file>.0.waits` says so, beside x's anchor. So the
//! [walk](crate::file::wait_graph) from y goes to y's note, from there to the lock that y's holder waits for, and so on, and its
//! length is that of the circle. It needs no pid, so it passes through containers.
//!
//! A note counts only if all of this is proven:
//!
//! - Its maker lives and still waits: the maker keeps the note's own kernel lock, and removes the note when the wait ends.
//! - The held lock is still that tenure's: its present record has the note's fence, and says `held`. A share has no
//!   record. It is a kernel lock on the anchor that the note names, and it ends only with its thread's consent, or by a break,
//!   which replaces that anchor.
//! - The path in it leads to the very folder that the note names, by device and inode: a path of another mount namespace
//!   may lead elsewhere. A lock is identified by its folder and its name, because its anchor may be replaced during the wait.
//!
//! A few holders may say so of one lock at a time: those that share it, and the waits of a broken holder and of its
//! successor. So a note has a number in its name. A number that a dead process left is used again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::file::paths::LockPaths;
use crate::record::io::read_once;
use crate::sys::{self, Access, File, FileId, FileKind, LockKind, Name, ReplaceSteps, Stat};

const VERSION: u32 = 1;
/// The number of notes that one lock may have at a time.
const PLACES: u32 = 8;
/// The number of locks that one note may name.
const MAX_HELD: usize = 256;
/// The maximum number of attempts to lock a new note, while a reader has it locked for a moment, and the pause between them.
const LOCK_TRIES: usize = 40;
const LOCK_PAUSE: Duration = Duration::from_micros(50);

/// Returns whether holders write notes on this system. A note is removed while others may have it open, which the ports whose
/// steps differ cannot do.
pub(crate) fn exist_here() -> bool {
    sys::replace_steps() == ReplaceSteps::One
}

/// What a holder says of its wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WaitNote {
    pub(crate) version: u32,
    pub(crate) pid: i64,
    pub(crate) start_time: Option<u64>,
    pub(crate) pid_namespace: Option<u64>,
    pub(crate) command: Option<String>,
    pub(crate) label: Option<String>,
    /// The number of the waiting task in its process; `None` for a thread. With the task's name, if it has one.
    pub(crate) task: Option<u64>,
    pub(crate) task_name: Option<String>,
    /// When the wait began, in milliseconds since 1970, for people.
    pub(crate) since_ms: u64,
    /// The same, in nanoseconds since boot. Of two waits that close a circle at once, the later one fails.
    pub(crate) since_boot_ns: u64,
    /// Whether the waiter looks for a circle itself, and fails where it closes one.
    pub(crate) refuses_itself: bool,
    pub(crate) waits_for: WaitedLock,
    pub(crate) held: Vec<HeldLock>,
}

/// The identity of a lock on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct LockId {
    /// The folder of its lock file.
    device: u64,
    inode: u64,
    /// The lock file's name.
    name: String,
}

impl LockId {
    /// Returns the identity of the lock at `paths`. `None` for a name that is not UTF-8, which has no form in JSON.
    pub(crate) fn of(paths: &LockPaths) -> Option<LockId> {
        let FileId { device, inode } = paths.dir_stat.id;
        Some(LockId { device, inode, name: paths.lock.as_os_str().to_str()?.to_owned() })
    }
}

/// The lock that is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WaitedLock {
    pub(crate) target: PathBuf,
    #[serde(flatten)]
    pub(crate) id: LockId,
    pub(crate) shared: bool,
    /// The number of the lock's slots, of which the waiter waits for one; `None` for the lock without slots.
    #[serde(default)]
    pub(crate) slots: Option<u32>,
}

/// A lock that is held during the wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeldLock {
    #[serde(flatten)]
    pub(crate) id: LockId,
    /// `None` for a share.
    pub(crate) fence: Option<u64>,
    /// The inode of the anchor that a share has locked.
    pub(crate) shared_anchor: Option<u64>,
    /// Whether another process holds it, and runs the waiting process as its command, which does not end before the wait does.
    #[serde(default)]
    pub(crate) for_command: bool,
}

/// A note under its names. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct PublishedNote {
    /// Keeps the note's kernel lock, which shows that its maker lives.
    _file: File,
    pub(crate) id: FileId,
    names: Vec<(Arc<LockPaths>, Name)>,
    generation: u64,
}

impl Drop for PublishedNote {
    fn drop(&mut self) {
        // In a forked child the note is the parent's.
        if self.generation != sys::fork_generation() {
            return;
        }
        for (paths, name) in &self.names {
            // A broken lock's next holder may use the name.
            if matches!(paths.dir.ident_at(name), Ok(Some(found)) if found.id == self.id) {
                let _ = paths.dir.unlink(name);
            }
        }
    }
}

/// Publishes `note` beside each of the locks in `held`. A lock where that fails (no room, no right to write there) has none:
/// a circle through it is not found.
pub(crate) fn publish(
    note: &mut WaitNote,
    held: Vec<(Arc<LockPaths>, HeldLock)>,
    mode: Option<u32>,
) -> Vec<PublishedNote> {
    let mut folders: Vec<Vec<(Arc<LockPaths>, HeldLock)>> = Vec::new();
    for one in held {
        let same = |folder: &&mut Vec<(Arc<LockPaths>, HeldLock)>| {
            folder.len() < MAX_HELD && folder[0].0.dir_stat.id == one.0.dir_stat.id
        };
        match folders.iter_mut().rev().find(same) {
            Some(folder) => folder.push(one),
            None => folders.push(vec![one]),
        }
    }
    let mut published = Vec::with_capacity(folders.len());
    for folder in folders {
        note.held = folder.iter().map(|(_, held)| held.clone()).collect();
        let Ok(text) = serde_json::to_vec(note) else { return Vec::new() };
        let mut first: Option<PublishedNote> = None;
        for (paths, _) in folder {
            // A further name costs one call. Where there are no hard links, each lock has a note of its own.
            if let Some(first) = &mut first
                && let Some((_, from)) = first.names.first()
                && let Ok(name) = claim(&paths, |name| paths.dir.link(from, name))
            {
                first.names.push((paths, name.0));
                continue;
            }
            if let Ok(created) = create(&paths, &text, mode) {
                published.extend(first.replace(created));
            }
        }
        published.extend(first);
    }
    published
}

/// Gives one of the lock's note names to a file, by `place`, which fails as existing where the name is taken. A name that a dead
/// process left is freed.
fn claim<T>(paths: &LockPaths, mut place: impl FnMut(&Name) -> io::Result<T>) -> io::Result<(Name, T)> {
    for number in 0..PLACES {
        let name = paths.wait_note(number);
        for _ in 0..2 {
            match place(&name) {
                Ok(placed) => return Ok((name, placed)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !remove_dead(paths, &name) {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Creates a note. It counts once it is locked and complete.
fn create(paths: &Arc<LockPaths>, text: &[u8], mode: Option<u32>) -> io::Result<PublishedNote> {
    let (name, (file, id)) = claim(paths, |name| {
        let file = paths.dir.create_new(name, mode.unwrap_or(0o644))?;
        if let Some(mode) = mode {
            // A file system that stores no mode keeps its own.
            let _ = file.chmod(mode);
        }
        let id = file.ident()?.id;
        let written = lock(&file).and_then(|()| file.write_at(text, 0));
        // Until it was locked, another process may have taken it for a dead one's.
        let ours = matches!(paths.dir.ident_at(name), Ok(Some(found)) if found.id == id);
        match written {
            Ok(()) if ours => Ok((file, id)),
            // The next number is tried.
            Ok(()) => Err(io::ErrorKind::AlreadyExists.into()),
            // Another process has it locked, and may give its name to a note of its own. A later note takes an unlocked one's number.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => {
                if ours {
                    let _ = paths.dir.unlink(name);
                }
                Err(error)
            }
        }
    })?;
    Ok(PublishedNote { _file: file, id, names: vec![(Arc::clone(paths), name)], generation: sys::fork_generation() })
}

/// Locks a new note. A reader has it locked for a moment only, to see whether its maker lives.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        if file.try_lock(LockKind::Exclusive)? {
            return Ok(());
        }
        sys::pause(LOCK_PAUSE);
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// Removes a note whose maker has ended. Returns `false` if it lives, or if the note cannot be removed.
fn remove_dead(paths: &LockPaths, name: &Name) -> bool {
    let Ok(file) = paths.dir.open_at(name, Access::Read) else { return false };
    // The lock is kept until the name is gone, so that no other process removes its successor.
    matches!(file.try_lock(LockKind::Exclusive), Ok(true))
        && matches!((paths.dir.ident_at(name), file.ident()), (Ok(Some(named)), Ok(open)) if named.id == open.id)
        && paths.dir.unlink(name).is_ok()
}

/// Removes the notes of a lock whose makers have ended.
pub(crate) fn remove_all_dead(paths: &LockPaths) {
    for number in 0..PLACES {
        remove_dead(paths, &paths.wait_note(number));
    }
}

/// Returns the notes of a lock whose makers live.
pub(crate) fn read(paths: &LockPaths) -> Vec<(FileId, WaitNote)> {
    (0..PLACES).filter_map(|number| read_one(paths, &paths.wait_note(number))).collect()
}

fn read_one(paths: &LockPaths, name: &Name) -> Option<(FileId, WaitNote)> {
    let file = paths.dir.open_at(name, Access::Read).ok()?;
    // The kernel lock first: a note that is locked is complete, or about to be.
    if file.try_lock(LockKind::Shared).ok()? {
        let _ = file.unlock();
        return None;
    }
    let found = file.stat().ok()?;
    if found.kind != FileKind::Regular || !is_trusted(paths, &found) {
        return None;
    }
    let note: WaitNote = serde_json::from_slice(&read_once(&file).ok()?).ok()?;
    (note.version >= VERSION).then_some((found.id, note))
}

/// Returns whether a note counts here. In a folder where others may write, any user may create a file with a note's name, which would
/// say of the holder what is not so. This user, the superuser and the owner of the anchor could break the lock anyway.
fn is_trusted(paths: &LockPaths, note: &Stat) -> bool {
    let owns_anchor =
        || paths.dir.stat_at(&paths.anchor).ok().flatten().is_some_and(|anchor| anchor.owner == note.owner);
    note.owner == 0 || note.owner == sys::effective_user() || owns_anchor()
}

/// Returns a path that means the same to another process.
pub(crate) fn absolute(target: &Path) -> Option<PathBuf> {
    std::path::absolute(target).ok()
}

/// Returns a path for a [`Waiting`].
pub(crate) fn shown(target: &Path) -> PathBuf {
    absolute(target).unwrap_or_else(|| target.to_owned())
}
