//! Flags of `open(2)` that only FreeBSD has, or names so.

use rustix::fs::OFlags;

/// Opens a folder that may be passed through but not listed (`O_SEARCH`).
pub(crate) const SEARCH: OFlags = OFlags::from_bits_retain(libc::O_SEARCH as u32);
/// Reads leave a date: no flag prevents that.
pub(crate) const QUIET: OFlags = OFlags::empty();
