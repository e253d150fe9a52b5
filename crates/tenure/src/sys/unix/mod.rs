//! The part of the front that all Unixes share.
//!
//! The files here work with POSIX calls. Where Unixes differ, they call the folder of the Unix that is compiled, as
//! `this_unix`. Such a folder has these modules, which know nothing of [`Dir`] and [`File`] and take descriptors:
//!
//! | module | functions |
//! | --- | --- |
//! | `clock` | `SINCE_BOOT` and `MOMENT`: the clocks |
//! | `close` | `close_range`: closes descriptors in a child |
//! | `name_key` | `name_key`: a name as a folder compares it |
//! | `open` | `SEARCH`: the flag that opens a folder that may be passed through but not listed. `QUIET`: the flags by which a read leaves no date |
//! | `ident` | `ident`: identifies a file. `mount`: identifies the mount that a folder was reached through |
//! | `rename` | `exchange`, `rename_new`, `rename_over`, `unlink_same` and `link_open` |
//! | `file_system` | `file_system`: names a folder's file system |
//! | `lease` | `lease`: reports whether another process has a file open |
//! | `mark` | `mark`, `unmark` and `is_marked`: the byte by which a waiter shows that it waits. `mark_numbered` and `is_numbered_marked`: the bytes of suspended tenures |
//! | `rights` | `take_rights_of`: gives a new folder the rights of another |
//! | `fork_witness` | `map`: returns a word that a fork sets to zero |
//! | `interrupt` | `InterruptHandle`; a Unix without such a signal hands on `sys::no_interrupts` |
//!
//! Besides, its `mod.rs` re-exports this folder, and has what else the front ([`crate::sys`]) lists.

#[cfg(target_os = "freebsd")]
use super::freebsd as this_unix;
#[cfg(target_os = "linux")]
use super::linux as this_unix;
#[cfg(target_os = "macos")]
use super::macos as this_unix;

mod cleanup;
mod clock;
pub(super) mod command_text;
mod dir;
mod file;
mod fork;
mod held_table;
mod inherit;
pub(super) mod mode;
mod name;
mod process;
mod second_process;
pub(super) mod signal;
pub(super) mod stat;
mod table;
mod thread;

pub(crate) use cleanup::{HeldCell, clean_up, enter_held, install_cleanup, install_cleanup_over, resets_itself};
pub(crate) use clock::{moment, since_boot, since_epoch};
pub(crate) use dir::{Dir, means_no_links};
pub(crate) use file::File;
pub(crate) use fork::fork_generation;
pub(crate) use inherit::{Inherited, inherit, inherit_always};
pub(crate) use name::{NAME_MAX, Name, ends_without_name, name_len, special_name};
pub(super) use process::checked_pid;
pub(crate) use process::{effective_user, host, is_no_such_process, open_file_limit, pid, signal_zero};
pub(crate) use second_process::SecondProcess;
pub(crate) use thread::{spawn, with_signals_blocked};
