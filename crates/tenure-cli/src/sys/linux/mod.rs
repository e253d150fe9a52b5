//! The part of the port that only Linux has, or does in its own way.

mod folder_watch;
mod process_tree;
#[cfg(all(target_env = "gnu", not(test)))]
mod start;
#[cfg(feature = "top")]
mod terminal;
mod watch;

// The modules that `unix` calls.
pub(super) mod death;
pub(super) mod handle;
pub(super) mod memory;
pub(super) mod origin;
pub(super) mod pipe;
pub(super) mod proc;

pub(crate) use super::unix::*;
pub(crate) use death::die_with;
pub(crate) use folder_watch::FolderWatch;
pub(crate) use proc::{command_line, descends_from, flock_waits, is_process, open_files, open_wait_notes};
pub(crate) use process_tree::ProcessTree;
#[cfg(all(target_env = "gnu", not(test)))]
pub(crate) use start::start;
#[cfg(feature = "top")]
pub(crate) use terminal::{enter_raw_mode, leave_raw_mode, read_terminal, terminal_size};
pub(crate) use watch::Watch;
