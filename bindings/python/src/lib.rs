//! The native half of the package `tenure`: Python's view of the Rust library, and no lock of its own.
//!
//! - The GIL is let go around every call of the library that may take longer than a few instructions.
//! - A wait hears signals: see `wait`.
//! - No mutex of a class is locked while the GIL is let go, so that a forked child finds all of them free.
//!
//! What can be said in Python stands in `python/tenure`.

mod error;
mod held;
mod lock;
mod look;
mod wait;

/// What `tenure/__init__.py` builds on.
#[pyo3::pymodule]
mod _tenure {
    #[pymodule_export]
    use crate::held::Held;
    #[pymodule_export]
    use crate::lock::Lock;
    #[pymodule_export]
    use crate::look::{Holder, Status, status};
    #[pymodule_export]
    use crate::wait::Waiting;
}
