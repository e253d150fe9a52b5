//! The port to Linux.

// System calls are made in this folder only.
#![allow(unsafe_code, clippy::disallowed_methods)]

mod child;
mod disposition;
mod files;
mod folder;
mod inherited;
mod proc;
mod process_tree;
mod shared_memory;
mod signals;
mod spawn;
#[cfg(all(target_env = "gnu", not(test)))]
mod start;
mod terminal;
mod watch;

pub(crate) use child::{Child, ended_by};
pub(crate) use disposition::{die_by, signal_name, stop_self};
pub(crate) use files::{AccessTime, Stamp, access_time, age_access_time, device_and_inode, stamp};
pub(crate) use folder::{make_folder, remove_folder};
pub(crate) use proc::{command_line, descends_from, flock_waits, is_process, open_files};
pub(crate) use process_tree::ProcessTree;
pub(crate) use shared_memory::{SharedWords, die_with, monotonic};
pub(crate) use signals::{ENDING, SIGCHLD, SIGCONT, SIGINT, SIGKILL, SIGTERM, SIGTSTP, Signals, Waker};
pub(crate) use spawn::{
    CHILDREN_KEEP_LOCKS, RUNS_COMMANDS, command, find_program, is_not_executable_format, kill_with_us, script, spawn,
};
#[cfg(all(target_env = "gnu", not(test)))]
pub(crate) use start::start;
pub(crate) use terminal::{columns, in_foreground};
pub(crate) use watch::Watch;
