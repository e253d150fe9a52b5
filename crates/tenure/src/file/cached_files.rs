//! The files that a process has open for one target.

use std::sync::Arc;

use crate::file::anchor::Anchor;
use crate::file::grant::TargetFile;
use crate::file::paths::LockPaths;
use crate::sys::LockKind;

/// Descriptors that stay open from one tenure to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct CachedFiles {
    pub(crate) paths: Option<Arc<LockPaths>>,
    pub(crate) anchor: Option<Arc<Anchor>>,
    pub(crate) target: Option<Arc<TargetFile>>,
    /// The kind of kernel lock that this process has on `anchor` without a tenure: a helper was granted it in the
    /// kernel's queue, and goes on with it. It is never kept over a wait.
    pub(crate) locked: Option<LockKind>,
}
