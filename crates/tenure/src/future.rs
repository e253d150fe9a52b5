//! Acquires without blocking a thread, with tokio's clock for the deadline.

use crate::acquire_future::{AcquireFuture, Requester};
use crate::guard::Guard;
use crate::model::error::Result;
use crate::model::options::Wait;
use crate::schedule::opened::Opened;
use crate::sys::LockKind;

pub(crate) async fn acquire(lock: &Opened, kind: LockKind, wait: Wait) -> Result<Guard> {
    let mut acquiring = AcquireFuture::begin(lock, kind, wait, Requester::Task)?;
    let Some(deadline) = acquiring.deadline() else { return acquiring.await };
    match tokio::time::timeout_at(deadline.into(), &mut acquiring).await {
        Ok(outcome) => outcome,
        Err(_) => acquiring.give_up(),
    }
}
