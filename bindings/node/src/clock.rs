//! The clock that ends a wait in time: tokio's, on one thread that does nothing else.

use std::future::pending;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle};

/// Started by the first wait, and there until the process ends.
pub(crate) fn clock() -> napi::Result<&'static Handle> {
    static CLOCK: OnceLock<Option<Handle>> = OnceLock::new();

    let handle = CLOCK.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_time().build().ok()?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("tenure-clock".to_owned()).stack_size(64 * 1024);
        thread.spawn(move || runtime.block_on(pending::<()>())).ok()?;
        Some(handle)
    });
    handle.as_ref().ok_or_else(|| napi::Error::from_reason("no thread could be started for the clock of a wait"))
}
