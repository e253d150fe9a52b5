//! Removal of lock files when a signal or exit(3) ends the process, and of waiters on servers when the interpreter ends.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

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

/// Whether the interpreter returns the places in servers' queues at its end. A forked child inherits that.
static GIVES_UP_AT_EXIT: AtomicBool = AtomicBool::new(false);

/// Makes the interpreter return this process's places in servers' queues at its end.
pub(crate) fn give_up_at_exit(py: Python<'_>) -> PyResult<()> {
    if !GIVES_UP_AT_EXIT.swap(true, Ordering::Relaxed) {
        let give_up = py.import("tenure._tenure")?.getattr("_give_up_waits")?;
        py.import("atexit")?.call_method1("register", (give_up,))?;
    }
    Ok(())
}

/// Returns this process's places in servers' queues, within a second.
#[pyfunction]
pub(crate) fn _give_up_waits(py: Python<'_>) {
    py.detach(|| tenure::server::give_up_waits(Duration::from_secs(1)));
}

/// Removes this process's lock files, as at exit(3), and returns its places in servers' queues.
#[pyfunction]
pub(crate) fn _clean_up(py: Python<'_>) {
    tenure::cleanup::before_exit();
    if GIVES_UP_AT_EXIT.load(Ordering::Relaxed) {
        _give_up_waits(py);
    }
}
