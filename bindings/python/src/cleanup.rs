//! Removal of lock files when a signal or exit(3) ends the process.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

/// The process that installed the removal last. A forked child installs its own.
static INSTALLED_IN: AtomicU32 = AtomicU32::new(0);

/// Installs the removal for this process, and for signals that have their default action by now. The program's own signal
/// handlers stay in place. A failure is ignored, as the next acquire takes over a lock file that is left.
pub(crate) fn install(py: Python<'_>) {
    let pid = std::process::id();
    let _ = tenure::cleanup::install(tenure::cleanup::Handlers::Keep);
    if INSTALLED_IN.swap(pid, Ordering::Relaxed) != pid {
        // The import may fail, as any Python code may. The lock works without it.
        let _ = py.import("tenure._lock").and_then(|module| module.call_method0("_register_child_cleanup"));
    }
}

/// Installs the removal in a forked child whose parent opened the lock.
pub(crate) fn install_once(py: Python<'_>) {
    if INSTALLED_IN.load(Ordering::Relaxed) != std::process::id() {
        install(py);
    }
}

/// Removes this process's lock files, as at exit(3).
#[pyfunction]
pub(crate) fn _clean_up() {
    tenure::cleanup::before_exit();
}
