//! How a tenure is visible, and what blocks one.

use std::sync::Arc;
use std::time::Duration;

use crate::file::anchor::Anchor;
use crate::model::holder::{Holder, Previous};
use crate::sys::{File, FileId};

/// How often a lock file that keeps changing under us is looked at again before we call it an error.
pub(super) const MAX_RETRIES: usize = 1000;

/// How a tenure shows itself.
#[derive(Clone, Debug)]
pub(crate) enum LockFile {
    /// Not at all: flock style.
    Hidden,
    /// A hard link to the anchor.
    Link,
    /// A file of its own, kept open and locked: where hard links are not to be had, or would not be ours to remove.
    Copy { file: Arc<File>, id: FileId },
}

impl LockFile {
    /// The inode that the lock file's name must point at.
    pub(crate) fn id(&self, anchor: &Anchor) -> Option<FileId> {
        match self {
            LockFile::Hidden => None,
            LockFile::Link => Some(anchor.id),
            LockFile::Copy { id, .. } => Some(*id),
        }
    }

    /// The visible file.
    pub(crate) fn file<'a>(&'a self, anchor: &'a Anchor) -> Option<&'a File> {
        match self {
            LockFile::Hidden => None,
            LockFile::Link => Some(&anchor.file),
            LockFile::Copy { file, .. } => Some(file),
        }
    }
}

/// Who is in the way, at the lock file's place.
#[derive(Debug)]
pub(crate) struct Blocker {
    pub(crate) holder: Holder,
    /// The judged file, open: a native's is waited for in its kernel queue, a foreign one's by its events.
    pub(crate) file: Option<File>,
    pub(crate) id: FileId,
    /// Look again then, whatever happens.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the anchor proved, when the file was judged, that natives have used this lock before.
    pub(crate) used_before: bool,
}

/// What came of showing the lock file.
#[derive(Debug)]
pub(crate) enum Published {
    /// With the place of the state's text in the record.
    Held(LockFile, Previous, u64),
    Blocked(Box<Blocker>),
}
