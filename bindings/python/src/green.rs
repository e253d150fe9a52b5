//! Green threads.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Returns the module that waits under gevent, where all greenlets share one thread, which must not sleep. Returns `None`
/// unless gevent has patched blocking calls.
pub(crate) fn green_threads(py: Python<'_>) -> Option<Bound<'_, PyModule>> {
    let modules = py.import("sys").and_then(|sys| sys.getattr("modules")).ok()?;
    // By the dictionary itself, because most programs have no such module, and an exception costs more than the rest.
    let monkey = modules.cast::<PyDict>().ok()?.get_item("gevent.monkey").ok()??;
    let patched = monkey.call_method1("is_object_patched", ("time", "sleep")).and_then(|patched| patched.extract());
    if !patched.unwrap_or(false) {
        return None;
    }
    // Prefer the loaded module: under gevent, threads that import at the same time deadlock in its import locks.
    match modules.get_item("tenure._gevent") {
        Ok(green) => green.cast_into().ok(),
        Err(_) => py.import("tenure._gevent").ok(),
    }
}
