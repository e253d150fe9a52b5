//! Every system call of the command, behind functions that name no platform.
//!
//! `linux` and `windows` have the ports. On other platforms `other` has the same functions, which report that there is no port yet.

mod files;
mod types;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", windows)))]
mod other;
#[cfg(windows)]
mod windows;

pub(crate) use files::write_file;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(not(any(target_os = "linux", windows)))]
pub(crate) use other::*;
pub(crate) use types::{Arrival, Change, FileId, Note, OpenFile};
#[cfg(windows)]
pub(crate) use windows::*;

/// Returns the same command line: its help describes this system.
#[cfg(not(windows))]
pub(crate) fn adapt_help(command: clap::Command) -> clap::Command {
    command
}

/// The keys that end the input at a terminal.
pub(crate) const END_OF_INPUT: &str = if cfg!(windows) { "Ctrl-Z and Enter" } else { "Ctrl-D" };

/// The hint for a command that exists and that this user may not run.
pub(crate) const HOW_TO_MAKE_RUNNABLE: &str = if cfg!(windows) { "" } else { "; `chmod +x`?" };
