//! The outcome of an acquire on its way to the caller, whatever the server.

use std::sync::Arc;
use std::time::Duration;

use super::acquire::{Acquire, overrun};
use super::keeps_tenures::KeepsTenures;
use super::last_answer::LastAnswer;
use super::lease::{ANSWER, call_limit};
use super::pending::PendingAcquire;
use super::tenure::ServerTenure;
use super::{clock, io_thread, registry};
use crate::model::error::{Error, ErrorKind};
use crate::model::status::Status;
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

/// Returns the error of an acquire that ended at its deadline without the lock.
///
/// "Busy" is the server's word. A server that was silent at the deadline may have freed the lock meanwhile, so that the
/// outcome is unknown, unless this process itself holds the lock by its clock. `found` is the answer of a server that was asked for
/// the holder.
pub(super) fn late(error: Error, acquire: &Acquire, found: Option<Status>, answers: &LastAnswer) -> Error {
    let waited = acquire.since.elapsed();
    let is_known = || registry::held_here(error.path()).iter().any(|tenure| tenure.check().is_ok());
    if found.is_some() || answers.is_since(acquire.needs_word_since()) || is_known() {
        return error.with_holder(found.and_then(|found| found.holder)).with_waited(waited);
    }
    let detail = "the server has not answered since the deadline: whether the lock is still held is not known";
    Error::new(ErrorKind::Unreachable, error.path(), detail)
        .with_hint("is it running, and can it be reached from here?")
        .with_waited(waited)
}
