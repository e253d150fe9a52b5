//! Walks a folder, and the folders below it, to find every lock.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::file::anchor_dir;
use crate::file::paths::{ANCHORS, LockPaths, PROBE_PREFIX, ParentDir, target_of, target_of_anchor};
use crate::model::error::{Error, Result};
use crate::sys::{Dir, FileKind, Name, Stat};

/// The options of [`list`](crate::list()).
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions {
    pub(super) recursive: bool,
    pub(super) cross_file_systems: bool,
}

impl ListOptions {
    /// Sets whether to list the folders below, too, without following links. Off by default.
    pub fn recursive(mut self, recursive: bool) -> ListOptions {
        self.recursive = recursive;
        self
    }

    /// Sets whether to list folders below on other file systems. Off by default, because such a file system may belong to a
    /// server that does not answer.
    pub fn cross_file_systems(mut self, cross: bool) -> ListOptions {
        self.cross_file_systems = cross;
        self
    }
}

/// The folders that a walk visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Only the folder itself.
    ParentDir,
    /// The folder and those below on its own file system.
    FileSystem,
    /// The folder and all below.
    All,
}

impl Depth {
    pub(crate) fn of(recursive: bool, cross_file_systems: bool) -> Depth {
        match (recursive, cross_file_systems) {
            (false, _) => Depth::ParentDir,
            (true, false) => Depth::FileSystem,
            (true, true) => Depth::All,
        }
    }
}

/// A lock that a walk has found. Its paths are made by the thread that examines it.
pub(crate) struct FoundLock {
    folder: Arc<ParentDir>,
    /// The folder's path as the caller named it.
    folder_path: Arc<Path>,
    pub(crate) target: OsString,
    /// Whether a regular file with the lock file's name was in the folder's list.
    pub(crate) has_lock_file: bool,
}

impl FoundLock {
    /// Returns the paths of the lock. `None` where a file has a name that no target's lock can have.
    pub(crate) fn paths(&self) -> Option<LockPaths> {
        LockPaths::within(&self.folder, self.folder_path.join(&self.target), &self.target).ok()
    }
}

/// One find of a walk.
pub(crate) enum Visited<'a> {
    /// A lock.
    Lock(FoundLock),
    /// An unfinished `.tenure` folder.
    HalfMade(&'a Dir, &'a Name),
}

/// Visits every lock in a folder: the lock of each lock file, and of each anchor without a lock file. A missing folder has
/// none.
pub(crate) fn walk(dir: &Path, depth: Depth, visit: &mut dyn FnMut(Visited<'_>)) -> Result<()> {
    let failed = |error| Error::io(dir, "the folder cannot be read", error);
    let open = match Dir::open(dir) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let dir_stat = open.stat().map_err(failed)?;
    visit_folder(Arc::new(open), dir_stat, dir, depth, visit).map_err(failed)
}

fn visit_folder(
    dir: Arc<Dir>,
    dir_stat: Stat,
    path: &Path,
    depth: Depth,
    visit: &mut dyn FnMut(Visited<'_>),
) -> io::Result<()> {
    let mut targets = Vec::new();
    let mut folders = Vec::new();
    for (name, kind) in dir.entries()? {
        let text = name.as_os_str();
        let kind = match kind {
            FileKind::Unknown => dir.stat_at(&name).ok().flatten().map_or(FileKind::Unknown, |stat| stat.kind),
            known => known,
        };
        match kind {
            FileKind::Directory if text == OsStr::new(ANCHORS) => {
                // An unreadable `.tenure` hides only locks without a lock file.
                let anchors = dir.open_dir(&name).and_then(|anchors| anchors.entries()).unwrap_or_default();
                let names = anchors.iter().filter_map(|(name, _)| target_of_anchor(name.as_os_str()));
                targets.extend(names.map(|target| (target.to_owned(), false)));
            }
            FileKind::Directory if anchor_dir::is_temporary_name(text) => visit(Visited::HalfMade(&dir, &name)),
            // A trial's locks are its own: another process that took them over would spoil it.
            FileKind::Directory if text.as_encoded_bytes().starts_with(PROBE_PREFIX.as_bytes()) => {}
            FileKind::Directory => folders.push(name),
            FileKind::Regular => targets.extend(target_of(text).map(|target| (target.to_owned(), true))),
            _ => {}
        }
    }
    targets.sort_unstable();
    // A lock file and its anchor are one lock.
    targets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 |= same && next.1;
        same
    });
    if !targets.is_empty() {
        let folder = Arc::new(ParentDir { file_system: dir.file_system(), dir: Arc::clone(&dir), dir_stat });
        let folder_path: Arc<Path> = path.into();
        for (target, has_lock_file) in targets {
            let (folder, folder_path) = (Arc::clone(&folder), Arc::clone(&folder_path));
            visit(Visited::Lock(FoundLock { folder, folder_path, target, has_lock_file }));
        }
    }
    if depth != Depth::ParentDir {
        for name in folders {
            descend(&dir, &name, path, dir_stat, depth, visit);
        }
    }
    Ok(())
}

/// Visits a folder below, unless it cannot be read, or is on another file system that `depth` excludes.
fn descend(dir: &Dir, name: &Name, path: &Path, above: Stat, depth: Depth, visit: &mut dyn FnMut(Visited<'_>)) {
    let Ok(below) = dir.open_dir(name) else { return };
    let Ok(stat) = below.stat() else { return };
    if depth == Depth::All || stat.id.device == above.id.device {
        let _ = visit_folder(Arc::new(below), stat, &path.join(name.as_os_str()), depth, visit);
    }
}
