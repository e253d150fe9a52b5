//! What a session of any server does for its tenures.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::io_thread;
use super::lock_server::Interrupter;
use super::tenure::ServerTenure;

/// A session that keeps tenures, each under a number of its own.
pub(super) trait KeepsTenures: Send + Sync + 'static {
    /// Acts on the state of a tenure: releases it, reports its loss, publishes its record.
    fn attend(self: Arc<Self>, number: u64) -> impl Future<Output = ()> + Send;

    /// Releases a tenure whose guard exists: `max_hold` has revoked it, or no caller received it.
    fn release_early(
        self: Arc<Self>,
        number: u64,
        tenure: &ServerTenure,
        limit: Duration,
    ) -> impl Future<Output = ()> + Send;

    /// Sets the task that acts on the `max_hold` of a tenure, which ends with the tenure.
    fn set_timer(&self, number: u64, timer: AbortHandle);
}

/// Returns what makes the session look at a tenure, from any thread.
pub(super) fn interrupter<S: KeepsTenures>(session: &Arc<S>, number: u64) -> Interrupter {
    // The session outlives its loss, so that a guard that is dropped later still gives back what the server keeps.
    let session = Arc::clone(session);
    Arc::new(move || {
        let session = Arc::clone(&session);
        // Without the I/O thread nothing can be done.
        let _ = io_thread::spawn(async move { session.attend(number).await });
    })
}
