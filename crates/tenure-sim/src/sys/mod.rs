//! The system calls of the library as it is compiled here: those of the simulated kernel.

#![allow(unsafe_code, clippy::disallowed_methods)]

pub(crate) use crate::kernel::*;
pub(crate) use types::*;

#[path = "../../../tenure/src/sys/kernel_locks.rs"]
pub(crate) mod kernel_locks;
/// The real kernel, which the simulated one is compared with.
#[cfg(target_os = "linux")]
#[path = "../../../tenure/src/sys/linux/mod.rs"]
#[allow(dead_code, unused_imports, reason = "only what the comparison needs is used")]
pub(crate) mod linux;
#[path = "../../../tenure/src/sys/stat.rs"]
pub(crate) mod stat;
#[path = "../../../tenure/src/sys/types.rs"]
pub(crate) mod types;
