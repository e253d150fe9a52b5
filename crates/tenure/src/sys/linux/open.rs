//! Flags of `open(2)` that only Linux has, or names so.

use rustix::fs::OFlags;

/// Opens a folder that may be passed through but not listed (`O_PATH`).
pub(crate) const SEARCH: OFlags = OFlags::PATH;
/// Reads without a new date of the last access (`O_NOATIME`). Refused to all but the file's owner.
pub(crate) const QUIET: OFlags = OFlags::NOATIME;
