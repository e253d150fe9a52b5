//! The lock file of a tenure, and the holder that blocks one.

use std::sync::Arc;
use std::time::Duration;

use crate::file::anchor::Anchor;
use crate::model::holder::{Holder, Previous};
use crate::sys::{File, FileId};

/// The maximum number of retries while the lock file keeps changing.
pub(super) const MAX_RETRIES: usize = 1000;

/// How a tenure is visible.
#[derive(Clone, Debug)]
pub(crate) enum LockFile {
    /// Not at all, in flock style.
    Hidden,
    /// A hard link to the anchor.
    Link,
    /// A file of its own, kept open and locked, where hard links do not exist or could not be removed by this user.
    Copy { file: Arc<File>, id: FileId },
}

impl LockFile {
    /// Returns the inode that the lock file's name must have.
    pub(crate) fn id(&self, anchor: &Anchor) -> Option<FileId> {
        match self {
            LockFile::Hidden => None,
            LockFile::Link => Some(anchor.id),
            LockFile::Copy { id, .. } => Some(*id),
        }
    }

    /// Returns the visible file.
    pub(crate) fn file<'a>(&'a self, anchor: &'a Anchor) -> Option<&'a File> {
        match self {
            LockFile::Hidden => None,
            LockFile::Link => Some(&anchor.file),
            LockFile::Copy { file, .. } => Some(file),
        }
    }
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
}

/// The result of publishing a lock file.
#[derive(Debug)]
pub(crate) enum Published {
    /// Granted, with the offset of the record's state.
    Held(LockFile, Previous, u64),
    Blocked(Box<Blocker>),
}
