//! The way through a folder, and below it, to the place of every lock.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::file::anchor_dir;
use crate::file::paths::{ANCHORS, LockPaths, ParentDir, target_of, target_of_anchor};
use crate::model::error::{Error, Result};
use crate::sys::{Dir, FileKind, Name, Stat};

/// Where [`list`](crate::list) looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions {
    pub(super) recursive: bool,
    pub(super) cross_file_systems: bool,
}

impl ListOptions {
    /// Below the folder too; links are not followed. Off by default.
    pub fn recursive(mut self, recursive: bool) -> ListOptions {
        self.recursive = recursive;
        self
    }

    /// Below the folder, on other file systems too. Off by default: one of them may be a server that does not answer.
    pub fn cross_file_systems(mut self, cross: bool) -> ListOptions {
        self.cross_file_systems = cross;
        self
    }
}

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The folder alone.
    ParentDir,
    /// Below it, on its own file system.
    FileSystem,
    /// Below it, wherever that is.
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

/// What a walk comes to.
#[allow(clippy::large_enum_variant, reason = "a place is the ordinary one, and none is kept")]
pub(crate) enum Visited<'a> {
    /// The place of a lock.
    Lock(LockPaths),
    /// A `.tenure` in the making.
    HalfMade(&'a Dir, &'a Name),
}

/// Visits the place of every lock in a folder: of each lock file, and of each anchor that shows none. A missing folder
/// has none.
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

pub(super) fn visit_folder(
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
                // A folder of anchors that cannot be read hides only locks that show no lock file.
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

/// A folder below: left out where it cannot be read, or is on another file system.
pub(super) fn descend(
    dir: &Dir,
    name: &Name,
    path: &Path,
    above: Stat,
    depth: Depth,
    visit: &mut dyn FnMut(Visited<'_>),
) {
    let Ok(below) = dir.open_dir(name) else { return };
    let Ok(stat) = below.stat() else { return };
    if depth == Depth::All || stat.id.device == above.id.device {
        let _ = visit_folder(Arc::new(below), stat, &path.join(name.as_os_str()), depth, visit);
    }
}
