//! A grant on its way to the caller, whatever the server.

use std::sync::Arc;
use std::time::Duration;

use super::acquire::overrun;
use super::keeps_tenures::KeepsTenures;
use super::lease::{ANSWER, call_limit};
use super::pending::PendingAcquire;
use super::tenure::ServerTenure;
use super::{clock, io_thread, registry};
use crate::util::trace::event;

/// Hands a tenure that the session keeps to the caller. One that the caller gave up is released.
pub(super) async fn hand_over<S: KeepsTenures>(
    session: Arc<S>,
    number: u64,
    tenure: Arc<ServerTenure>,
    ttl: Duration,
    pending: &PendingAcquire,
) {
    event!(DEBUG, target = ?tenure.target(), fence = tenure.fence, "granted");
    registry::add_held(&tenure);
    clock::watch(tenure.lease().lost_at());
    if tenure.is_takeover() {
        let told = Arc::clone(&tenure);
        io_thread::run_blocking(move || told.options.report_takeover(told.target(), &told.previous)).await;
    }
    pending.set_interrupter(None);
    if !pending.resolve(Ok(Arc::clone(&tenure))) && tenure.drop_undelivered() {
        return session.release_early(number, &tenure, ANSWER).await;
    }
    if let Some(at) = tenure.options.max_hold.and_then(|limit| tenure.began.checked_add(limit)) {
        let owner = Arc::clone(&session);
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            if tenure.is_held() && overrun(&tenure) {
                session.release_early(number, &tenure, call_limit(ttl)).await;
            }
        });
        owner.set_timer(number, timer.abort_handle());
    }
}
