//! What macOS and FreeBSD share, and Linux has in another way.

#[cfg(target_os = "freebsd")]
use super::freebsd as this_bsd;
#[cfg(target_os = "macos")]
use super::macos as this_bsd;

pub(super) mod handle;
mod missing;
mod watch;

pub(crate) use missing::{command_line, descends_from, flock_waits, is_process, open_files, open_wait_notes};
pub(crate) use watch::Watch;
