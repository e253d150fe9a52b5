//! Every system call, one folder a platform: the only place with unsafe code.
//!
//! What lies above names no platform: it works with `Dir`, `File` and their like, and takes
//! `io::ErrorKind::Unsupported` for an answer. A platform without a port answers that to everything.

#![allow(unsafe_code, clippy::disallowed_methods)]

#[cfg(target_os = "linux")]
mod credentials;
mod per_process;
mod types;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;

#[cfg(target_os = "linux")]
#[allow(unused_imports, reason = "each engine has credentials of its own kind")]
pub(crate) use credentials::*;
pub(crate) use per_process::PerProcess;
pub(crate) use types::*;
