//! The native half of the package `tenure`: Python objects over the Rust library. What can be written in Python is in
//! `python/tenure`.
//!
//! - Every call of the library that takes more than a few instructions releases the GIL.
//! - Waits handle Python's signals: see [`signal_wait`].
//! - No mutex of a class is locked while the GIL is released, so that a forked child finds all of them free. For the same
//!   reason nothing is initialized at its first use, as `PyOnceLock` does: the initializing thread may wait for the GIL
//!   while another thread forks, and in the child no thread would finish the initialization.

mod attempt;
mod circle;
mod cleanup;
mod convert;
mod doorbell;
mod error;
mod event_loop;
mod green;
mod guard;
mod history;
mod holder;
mod lock;
mod releasing;
mod signal_wait;
mod status;
mod suspended;
mod sys;
mod task;
mod timeout;
mod wait;

/// The module that `tenure/__init__.py` imports from.
#[pyo3::pymodule]
mod _tenure {
    #[pymodule_export]
    use crate::circle::CircleWait;
    #[pymodule_export]
    use crate::cleanup::{_clean_up, _give_up_waits};
    #[pymodule_export]
    use crate::doorbell::Doorbell;
    #[pymodule_export]
    use crate::event_loop::Waiting;
    #[pymodule_export]
    use crate::guard::{Guard, LeaseLeft};
    #[pymodule_export]
    use crate::history::{PastTenure, history};
    #[pymodule_export]
    use crate::holder::Holder;
    #[pymodule_export]
    use crate::lock::{_order_of, Lock};
    #[pymodule_export]
    use crate::releasing::Releasing;
    #[pymodule_export]
    use crate::status::{_server_of, Status, SuspendedHolder, break_lock, deadlocks, list, slots, status};
    #[pymodule_export]
    use crate::suspended::Suspended;
    #[pymodule_export]
    use crate::task::Task;

    use pyo3::prelude::*;

    /// Initializes what pyo3 keeps for dates and for refused arguments, before a second thread can need it.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let _ = module.getattr("status")?.call1((module.py().None(),));
        std::time::SystemTime::UNIX_EPOCH.into_pyobject(module.py()).map(drop)
    }
}
