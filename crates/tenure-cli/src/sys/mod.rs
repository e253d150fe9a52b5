//! Every system call of the command, behind functions that name no platform.
//!
//! | folder or file | compiled |
//! | --- | --- |
//! | `files`, `release`, `types` | everywhere |
//! | `no_folder_watch` | on all systems but Linux: watches on whole folders are unsupported |
//! | `unix` | on Linux, macOS and FreeBSD: what they share |
//! | `linux` | on Linux: the rest |
//! | `bsd` | on macOS and FreeBSD: what they share and Linux does in another way |
//! | `macos`, `freebsd` | on one of them: the rest |
//! | `windows` | on Windows: all of it |
//! | `other` | on systems without a port: functions that report so; locks on servers work |

// System calls are made in this folder only.
#![allow(unsafe_code, clippy::disallowed_methods)]

#[cfg(any(target_os = "freebsd", target_os = "macos"))]
mod bsd;
mod files;
#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(not(target_os = "linux"))]
mod no_folder_watch;
#[cfg(not(any(target_os = "freebsd", target_os = "linux", target_os = "macos", windows)))]
mod other;
mod release;
mod types;
#[cfg(any(target_os = "freebsd", target_os = "linux", target_os = "macos"))]
mod unix;
#[cfg(windows)]
mod windows;
// Its unit test finds a passage that a changed help text has no longer, on every system.
#[cfg(all(test, not(windows)))]
#[allow(dead_code)]
#[path = "windows/help.rs"]
mod windows_help;

pub(crate) use files::{folder_entries, replace_file, write_file};
#[cfg(target_os = "freebsd")]
pub(crate) use freebsd::*;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(target_os = "macos")]
pub(crate) use macos::*;
#[cfg(not(target_os = "linux"))]
pub(crate) use no_folder_watch::FolderWatch;
#[cfg(not(any(target_os = "freebsd", target_os = "linux", target_os = "macos", windows)))]
pub(crate) use other::*;
pub(crate) use release::release;
pub(crate) use types::{Arrival, Change, Entry, EntryChange, FileId, Note, Notice, OpenFile, Part, WakeUps};
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
/// Whether a command can be made to end with this process, as a lease requires: the kernel does that, or on Windows a job.
pub(crate) const ENDS_COMMANDS_WITH_US: bool = cfg!(any(target_os = "freebsd", target_os = "linux", windows));
