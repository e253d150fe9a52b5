//! The part of the port that macOS (13 and later) does in its own way. Not run by its authors.

mod process_tree;

// The modules that `unix` and `bsd` call.
pub(super) mod death;
pub(super) mod memory;
pub(super) mod origin;
pub(super) mod pipe;
pub(super) mod proc;

pub(super) use super::bsd::handle;

pub(crate) use super::bsd::{Watch, command_line, descends_from, flock_waits, is_process, open_files, open_wait_notes};
pub(crate) use super::unix::*;
pub(crate) use death::die_with;
pub(crate) use process_tree::ProcessTree;
