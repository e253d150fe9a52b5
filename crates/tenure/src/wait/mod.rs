//! Waiting for a file's lock, and what a process does while it holds one.

pub(crate) mod deadlock;
pub(crate) mod fairness;
pub(crate) mod fd_cache;
pub(crate) mod file_lock;
pub(crate) mod history;
pub(crate) mod kernel_wait;
pub(crate) mod notes;
pub(crate) mod queue;
pub(crate) mod queued;
pub(crate) mod registry;
pub(crate) mod suspension;
pub(crate) mod tenure;
pub(crate) mod tenures_by_requester;
pub(crate) mod watchdog;
pub(crate) mod yielding;
