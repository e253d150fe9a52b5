//! The processes that the command started.
//!
//! macOS gives no process the orphans of another, and no handle of a process that is not a child. A descendant could end
//! between a proof and a signal, and its pid be another process's. So only the command itself is signalled. Its descendants
//! have inherited the lock, which is held until they have ended too.

use crate::sys::unix::Child;

/// The command.
pub(crate) struct ProcessTree;

impl ProcessTree {
    /// Adopts nothing.
    pub(crate) fn adopt_orphans() -> ProcessTree {
        ProcessTree
    }

    /// Does nothing: this process has no other child than the command.
    pub(crate) fn reap(&self, _command: &Child) {}

    /// Returns no descendant.
    pub(crate) fn descendants(&self, _command: &Child) -> Vec<i32> {
        Vec::new()
    }

    /// Signals the command.
    pub(crate) fn signal(&self, command: &Child, signal: i32) -> Vec<i32> {
        command.signal(signal);
        Vec::new()
    }
}
