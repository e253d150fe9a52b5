//! What macOS and FreeBSD share, and Linux has in another way: kqueue in place of inotify, pidfds and eventfd, no leases, no
//! marks of waiters, no table of locks.
//!
//! Where the two differ, the files here call the folder of the system that is compiled, as `this_bsd`.

#[cfg(target_os = "freebsd")]
use super::freebsd as this_bsd;
#[cfg(target_os = "macos")]
use super::macos as this_bsd;

mod acl;
pub(super) mod file_system;
pub(super) mod ident;
mod kqueue;
pub(super) mod lease;
pub(super) mod mark;
mod missing;
mod process_handle;
pub(super) mod rights;
pub(super) mod sysctl;
mod watch;

pub(crate) use missing::{
    awaited_child, clock_is_steered, lock_keepers, lock_table, marked_waiters, openers, process_of_thread,
    reads_start_times_alike, shows_its_start_time, table_device,
};
pub(crate) use process_handle::{ProcessHandle, UNIQUE_ID_SINCE};
pub(crate) use watch::{FileWatch, Wakeup, wait_any};
