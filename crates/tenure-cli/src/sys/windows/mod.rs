//! The port to Windows.
//!
//! Windows has no signals. An event of the console (Ctrl-C, Ctrl-Break, its close) is shown as the signal that means the same.

// System calls are made in this folder only.
#![allow(unsafe_code, clippy::disallowed_methods)]

mod child;
mod console;
mod files;
mod help;
mod job;
mod missing;
mod numbers;
mod signals;
mod spawn;
mod watch;

pub(crate) use child::{Child, ended_by};
pub(crate) use console::{columns, in_foreground};
pub(crate) use files::{AccessTime, Stamp, access_time, age_access_time, device, make_folder, remove_folder, stamp};
pub(crate) use help::adapt_help;
pub(crate) use job::ProcessTree;
pub(crate) use missing::{
    SharedWords, command_line, descends_from, die_with, flock_waits, is_process, monotonic, open_files, open_wait_notes,
};
pub(crate) use numbers::{ENDING, SIGCHLD, SIGCONT, SIGINT, SIGKILL, SIGTERM, SIGTSTP, signal_name};
pub(crate) use signals::{Signals, Waker, die_by, stop_self};
pub(crate) use spawn::{
    CHILDREN_KEEP_LOCKS, RUNS_COMMANDS, command, find_program, is_not_executable_format, kill_with_us, script, spawn,
};
pub(crate) use watch::Watch;
