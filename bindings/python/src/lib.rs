//! The native half of the package `tenure`: Python's view of the Rust library, and no lock of its own.
//!
//! - The GIL is let go around every call of the library that may take longer than a few instructions.
//! - A wait hears signals: see `wait`.
//! - No mutex of a class is locked while the GIL is let go, so that a forked child finds all of them free. For the same
//!   reason nothing is made at its first use and kept, as by `PyOnceLock`: whoever makes it may wait for the GIL, which
//!   the thread that forks has, and in the child nobody is there to finish it.
//!
//! What can be said in Python stands in `python/tenure`.

mod cleanup;
mod error;
mod held;
mod lock;
mod look;
mod wait;

/// What `tenure/__init__.py` builds on.
#[pyo3::pymodule]
mod _tenure {
    #[pymodule_export]
    use crate::cleanup::_clean_up;
    #[pymodule_export]
    use crate::held::Held;
    #[pymodule_export]
    use crate::lock::Lock;
    #[pymodule_export]
    use crate::look::{Holder, Status, break_lock, status};
    #[pymodule_export]
    use crate::wait::{Doorbell, Waiting};

    use pyo3::prelude::*;

    /// What pyo3 keeps of this kind is made before a second thread can use it: for dates, and for a refused argument.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let _ = module.getattr("status")?.call1((module.py().None(),));
        std::time::SystemTime::UNIX_EPOCH.into_pyobject(module.py()).map(drop)
    }
}
