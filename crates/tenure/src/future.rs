//! Acquires without blocking a thread, with tokio's clock for the deadline.

use std::sync::Arc;

use crate::acquire_future::{AcquireFuture, Requester};
use crate::guard::Guard;
use crate::model::error::Result;
use crate::model::options::Wait;
use crate::model::tenure::Backend;
use crate::sys::LockKind;

pub(crate) async fn acquire(backend: &Arc<dyn Backend>, kind: LockKind, wait: Wait) -> Result<Guard> {
    let mut acquiring = AcquireFuture::begin(backend, kind, wait, Requester::Task)?;
    let Some(deadline) = acquiring.deadline() else { return acquiring.await };
    match tokio::time::timeout_at(deadline.into(), &mut acquiring).await {
        Ok(outcome) => outcome,
        Err(_) => acquiring.give_up(),
    }
}
