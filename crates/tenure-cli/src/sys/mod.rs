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
