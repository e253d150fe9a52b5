//! The library's `sys`, as this crate compiles it: the calls of the simulated kernel.

#![allow(unsafe_code, clippy::disallowed_methods)]

pub(crate) use crate::kernel::*;
pub(crate) use types::*;

#[path = "../../../tenure/src/sys/kernel_locks.rs"]
pub(crate) mod kernel_locks;
/// The real kernel, for the comparison with the simulated one.
#[cfg(target_os = "linux")]
#[path = "../../../tenure/src/sys/linux/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the comparison uses a part")]
pub(crate) mod linux;
#[path = "../../../tenure/src/sys/stat.rs"]
pub(crate) mod stat;
#[path = "../../../tenure/src/sys/types.rs"]
pub(crate) mod types;
