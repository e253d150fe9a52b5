//! Every system call, one folder a platform: the only place with unsafe code.
//!
//! What lies above names no platform: it works with `Dir`, `File` and their like, and takes
//! `io::ErrorKind::Unsupported` for an answer. A platform without a port answers that to everything.

#![allow(unsafe_code, clippy::disallowed_methods)]

mod clock;
#[cfg(target_os = "linux")]
mod credentials;
mod fork_local;
pub(crate) mod kernel_locks;
pub(crate) mod stat;
pub(crate) mod sync;
mod types;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;

#[cfg(not(target_os = "linux"))]
mod no_interrupts;
#[cfg(not(target_os = "linux"))]
pub(crate) use no_interrupts::*;

pub(crate) use clock::*;
#[cfg(target_os = "linux")]
#[allow(unused_imports, reason = "each engine has credentials of its own kind")]
pub(crate) use credentials::*;
pub(crate) use fork_local::ForkLocal;
pub(crate) use types::*;
