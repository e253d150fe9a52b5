//! Every system call of the command, behind functions that name no platform.
//!
//! `linux` has the port. On other platforms `other` has the same functions, which report that there is no port yet.

mod files;
mod types;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

pub(crate) use files::write_file;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;
pub(crate) use types::{Arrival, Change, FileId, Note, OpenFile};
