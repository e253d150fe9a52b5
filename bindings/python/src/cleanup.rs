//! The lock files go when a signal or exit(3) ends the process.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

/// The process that has asked for it last: a forked child asks for itself.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Asks for it, and again for signals that have their default action since. A handler of the program's is left alone, and
/// decides. Where it cannot be had, a lock file that stays is taken over all the same.
pub(crate) fn install(py: Python<'_>) {
    let pid = std::process::id();
    let _ = tenure::cleanup::install(tenure::cleanup::Handlers::Keep);
    if ASKED.swap(pid, Ordering::Relaxed) != pid {
        // It may fail as any code of Python's; the lock is none the worse.
        let _ = py.import("tenure._lock").and_then(|module| module.call_method0("_clean_up_at_a_childs_end"));
    }
}

/// Asks for it in a process that has not: a forked child with a lock that its parent opened.
pub(crate) fn install_once(py: Python<'_>) {
    if ASKED.load(Ordering::Relaxed) != std::process::id() {
        install(py);
    }
}

/// Removes this process's lock files, as at exit(3).
#[pyfunction]
pub(crate) fn _clean_up() {
    tenure::cleanup::before_exit();
}
