//! The library's `sys`, as this crate compiles it: the calls of the simulated kernel.

#![allow(unsafe_code, clippy::disallowed_methods)]

pub(crate) use crate::kernel::*;
pub(crate) use lock_table::{LockTable, TableDevice};
pub(crate) use types::*;

#[path = "../../../tenure/src/sys/lock_table.rs"]
pub(crate) mod lock_table;
#[path = "../../../tenure/src/sys/types.rs"]
pub(crate) mod types;

// The real kernel, for the comparison with the simulated one.
#[path = "../../../tenure/src/sys/linux/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the comparison uses a part")]
pub(crate) mod linux;
#[path = "../../../tenure/src/sys/unix/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the comparison uses a part")]
pub(crate) mod unix;
