//! Walks a folder, and the folders below it, to find every lock.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::file::anchor_dir;
use crate::file::paths::{ANCHORS, LockPaths, ParentDir, target_of, target_of_anchor};
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

/// One find of a walk.
#[allow(clippy::large_enum_variant, reason = "a lock is the ordinary one, and none is kept")]
pub(crate) enum Visited<'a> {
    /// The paths of a lock.
    Lock(LockPaths),
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
                targets.extend(
                    anchors.iter().filter_map(|(name, _)| target_of_anchor(name.as_os_str())).map(OsStr::to_owned),
                );
            }
            FileKind::Directory if anchor_dir::is_temporary_name(text) => visit(Visited::HalfMade(&dir, &name)),
            FileKind::Directory => folders.push(name),
            FileKind::Regular => targets.extend(target_of(text).map(OsStr::to_owned)),
            _ => {}
        }
    }
    targets.sort_unstable();
    targets.dedup();
    if !targets.is_empty() {
        let folder = Arc::new(ParentDir { file_system: dir.file_system(), dir: Arc::clone(&dir), dir_stat });
        for target in targets {
            if let Ok(paths) = LockPaths::within(&folder, path.join(&target), &target) {
                visit(Visited::Lock(paths));
            }
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
