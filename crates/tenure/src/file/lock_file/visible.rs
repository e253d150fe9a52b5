//! How a tenure is visible, and the names that its files must have: the anchor's and the lock file's.

use std::io;
use std::sync::Arc;

use crate::file::anchor::{Anchor, anchor_lost};
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::record::io::read_stable;
use crate::record::{Content, Record};
use crate::sys::{Access, File, FileId, FileIdent, Name};

/// How a tenure is visible.
#[derive(Clone, Debug)]
pub(crate) enum LockFile {
    /// Not at all, in flock style.
    Hidden,
    /// A hard link to the anchor.
    Link,
    /// A file of its own, kept open and locked, where hard links do not exist or could not be removed by this user.
    Copy(Arc<CopyFile>),
}

/// The file of a lock file that is a copy.
#[derive(Debug)]
pub(crate) struct CopyFile {
    pub(crate) file: File,
    pub(crate) id: FileId,
}

impl LockFile {
    /// Returns the inode that the lock file's name must have.
    pub(crate) fn id(&self, anchor: &Anchor) -> Option<FileId> {
        match self {
            LockFile::Hidden => None,
            LockFile::Link => Some(anchor.id),
            LockFile::Copy(copy) => Some(copy.id),
        }
    }

    /// Returns the visible file.
    pub(crate) fn file<'a>(&'a self, anchor: &'a Anchor) -> Option<&'a File> {
        match self {
            LockFile::Hidden => None,
            LockFile::Link => Some(&anchor.file),
            LockFile::Copy(copy) => Some(&copy.file),
        }
    }
}

/// Returns whether the lock file is this process's anchor, by a second link. Then it is a dead native's, whose kernel
/// lock this process has.
pub(crate) fn is_visible(paths: &LockPaths, anchor: &Anchor, stat: &FileIdent) -> Result<bool> {
    // A dead native's unfinished takeover leaves more than one link as well.
    Ok(stat.links > 1 && paths.lock_file_id()? == Some(anchor.id))
}

/// Returns whether a tenure's files have all their names. The links of the descriptors are counted, which costs a quarter of a check
/// by path: a removal leaves one link less, and so does a break, the anchor's first. A name that was moved aside still
/// counts, so this serves only right after a check by path.
pub(crate) fn has_names(anchor: &Anchor, lock_file: &LockFile) -> bool {
    let has = |file: &File, links| file.links().is_ok_and(|found| found == links);
    match lock_file {
        LockFile::Hidden => has(&anchor.file, 1),
        LockFile::Link => has(&anchor.file, 2),
        LockFile::Copy(copy) => has(&copy.file, 1) && has(&anchor.file, 1),
    }
}

/// Fails as lost if a name is not this tenure's: the last step. A link takes the anchor by its name, and since that was
/// compared `.tenure` may have been removed or the lock broken; then another process may hold. `stat` is the anchor's
/// as it was compared. Where the anchor had no other name, its links are enough.
pub(crate) fn verify_names(paths: &LockPaths, anchor: &Anchor, stat: &FileIdent, lock_file: &LockFile) -> Result<()> {
    let is_copy = matches!(lock_file, LockFile::Copy(_));
    if !is_copy && stat.links == 1 && has_names(anchor, lock_file) {
        return Ok(());
    }
    // The copy was renamed by a name in `.tenure`, which may have come to be another process's.
    if let LockFile::Copy(copy) = lock_file
        && paths.lock_file_id()? != Some(copy.id)
    {
        return Err(Error::new(ErrorKind::Lost, &paths.lock_path, "the lock file was removed or replaced meanwhile"));
    }
    // The anchor is compared last, because a break takes the anchor's name first.
    anchor.current(paths)?.map(drop).ok_or_else(|| anchor_lost(paths))
}

/// Returns whether the new link `name` is the anchor itself. On some file systems (sshfs) each name of a file has an
/// inode number, a kernel lock and a link count of its own: such a link is of no use, and is removed again. It is
/// checked once for each lock.
pub(super) fn is_link(paths: &LockPaths, anchor: &Anchor, name: &Name, record: &Record) -> Result<bool> {
    if paths.links_are_known() {
        return Ok(true);
    }
    let failed = |error| paths.lock_error("cannot be compared with its anchor", error);
    let Some(found) = paths.dir.ident_at(name).map_err(failed)? else { return Ok(true) };
    if found.id == anchor.id {
        paths.set_links_known();
        return Ok(true);
    }
    // Another program may have replaced it since.
    if !shows_record(paths, name, record).map_err(failed)? {
        return Ok(true);
    }
    match paths.dir.unlink(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(paths.lock_error("is no link to its anchor, and cannot be removed", error))
        }
        _ => {
            paths.set_copies();
            Ok(false)
        }
    }
}

/// Returns whether the file at `name` has this tenure's record.
fn shows_record(paths: &LockPaths, name: &Name, record: &Record) -> io::Result<bool> {
    let file = match paths.dir.open_at(name, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let fence = |record: &Record| record.native.as_ref().and_then(|native| native.fence);
    Ok(match read_stable(&file)? {
        Content::Record(found) => found.pid == record.pid && fence(&found).is_some() && fence(&found) == fence(record),
        _ => false,
    })
}
