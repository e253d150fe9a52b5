//! The names that a tenure must have: the anchor's and the lock file's.

use super::types::LockFile;
use crate::file::anchor::{Anchor, anchor_lost};
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::sys::{File, FileIdent};

/// Is the lock file our own anchor, with a second link? It is a dead native's, whose kernel lock we have.
pub(crate) fn is_visible(paths: &LockPaths, anchor: &Anchor, stat: &FileIdent) -> Result<bool> {
    // More than one link may be a dead native's unfinished takeover as well.
    Ok(stat.links > 1 && paths.lock_file_id()? == Some(anchor.id))
}

/// Has a tenure all the names that it should have? Asked of the descriptors, which costs a quarter of a look at a path: a
/// removal leaves a link less, and so does a break, the anchor first. A name that was moved aside is a name still, so this
/// serves right after a look.
pub(crate) fn has_names(anchor: &Anchor, lock_file: &LockFile) -> bool {
    let has = |file: &File, links| file.ident().is_ok_and(|found| found.links == links);
    match lock_file {
        LockFile::Hidden => has(&anchor.file, 1),
        LockFile::Link => has(&anchor.file, 2),
        LockFile::Copy { file, .. } => has(file, 1) && has(&anchor.file, 1),
    }
}

/// The last step. A link takes the anchor by its name, and `.tenure` may have been removed, or the lock broken, since that
/// was compared: then somebody else has it, or may. `stat` is the anchor's as it was compared: where it had no other name,
/// its links tell.
pub(crate) fn verify_names(paths: &LockPaths, anchor: &Anchor, stat: &FileIdent, lock_file: &LockFile) -> Result<()> {
    let copy = matches!(lock_file, LockFile::Copy { .. });
    if !copy && stat.links == 1 && has_names(anchor, lock_file) {
        return Ok(());
    }
    // It was renamed by a name in `.tenure`, which may have come to be another's.
    if let LockFile::Copy { id, .. } = lock_file
        && paths.lock_file_id()? != Some(*id)
    {
        return Err(Error::new(ErrorKind::Lost, &paths.lock_path, "the lock file was removed under us"));
    }
    // Last, because a break takes the anchor's name first.
    anchor.current(paths)?.map(drop).ok_or_else(|| anchor_lost(paths))
}
