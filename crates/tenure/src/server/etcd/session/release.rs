//! Deletes the keys of a session, and gives its lease back.
//!
//! The lease outlives each of its keys, so a key must be deleted when it is not needed, however often the deletion has to
//! be repeated. A key whose creation was not answered may still appear later: it is deleted again at each renewal.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::super::batches::{MOST_OPS, Urgency};
use super::super::client::{LEASE_REVOKE, Outcome, TXN};
use super::super::keys;
use super::super::messages::{Compare, LeaseRequest, RangeRequest, RequestOp, TxnRequest};
use super::{Created, Key, Session, deleted};
use crate::model::error::Result;
use crate::record::{self, Content, Record};
use crate::server::io_thread::within;
use crate::server::lease::{BootTime, call_limit};
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;

/// The time between two attempts to delete a key.
const DELETE_AGAIN: Duration = Duration::from_millis(500);
/// The maximum time to give back a lease that is not needed.
const GIVE_BACK: Duration = Duration::from_secs(1);

impl Session {
    /// Deletes the key of a lost tenure whose guard still exists by then. Without a record, so that the next holder gets its
    /// crash report.
    pub(super) async fn leave_at(self: Arc<Self>, free_at: BootTime, number: u64, wakes: &Notify) {
        while self.state().keys.contains_key(&number) {
            let left = free_at.from(BootTime::now());
            if left.is_zero() {
                break;
            }
            within(left, wakes.notified()).await;
        }
        let key = self.state().take_key(number);
        if let Some(key) = key {
            // A release that began before the loss was known waits for its result, and finds no key.
            if let Some(tenure) = &key.tenure {
                tenure.finish(tenure.check());
            }
            let certainty = key.certainty;
            self.give_back(key, None, certainty).await;
        }
    }

    pub(super) async fn release(self: Arc<Self>, key: Key, tenure: &ServerTenure, limit: Duration) {
        let (record, certainty) = (tenure.final_record(), key.certainty);
        let released = self.try_release(&key, tenure.target(), &record, limit).await;
        match &released {
            Err(error) if !error.is_lost() => {
                let session = Arc::clone(&self);
                // A share leaves the record of the last exclusive holder.
                let record = (!error.takes_no_writes() && key.kind == LockKind::Exclusive).then_some(record);
                let given_back = tokio::spawn(session.give_back(key, record, certainty));
                if error.takes_no_writes() {
                    // A deletion by itself is no write that a full server refuses.
                    within(GIVE_BACK, given_back).await;
                }
            }
            _ => self.forget(key, certainty),
        }
        tenure.finish(released);
    }

    async fn try_release(&self, key: &Key, target: &Path, record: &Record, limit: Duration) -> Result<()> {
        if key.created == 0 {
            return Err(deleted(target));
        }
        let (kept, value) = (keys::record(&key.name), record.to_json());
        let mut success = vec![RequestOp::delete(&key.key)];
        if key.kind == LockKind::Exclusive {
            success.push(RequestOp::put(&kept, &value, 0));
        }
        let request = TxnRequest {
            compare: vec![Compare::created(&key.key, key.created)],
            success,
            failure: vec![RangeRequest::one(&kept).into()],
        };
        let by = Some(Instant::now() + limit);
        let answered = self.batches.txn(Urgency::First, &key.name, request, limit, by).await.and_count(target);
        let (answer, repeated) = answered.map_err(|error| {
            let seconds = self.term().ttl.as_secs();
            error.with_hint(format!(
                "the lock is free as soon as the server answers; if this process ends before that, when its lease is \
                 over, after {seconds} s"
            ))
        })?;
        let answer = answer.unwrap_or_default();
        if answer.succeeded {
            return Ok(());
        }
        // The key was gone. A first attempt of this call may have deleted it, if its answer was lost. Nothing else tells where
        // a share's key went.
        if repeated && key.kind == LockKind::Shared {
            return Ok(());
        }
        let now = answer.pairs(0).first().map_or(&[][..], |pair| &pair.value);
        let later = match record::read(now) {
            Content::Record(now) => now.previous_fence() > record.previous_fence(),
            _ => false,
        };
        if repeated && (later || now == value.as_bytes()) {
            return Ok(());
        }
        Err(deleted(target))
    }

    /// Gives a key back that no tenure has: a waiter's, or that of an acquire that failed.
    pub(in crate::server::etcd) async fn leave(self: Arc<Self>, number: u64, created: Created) {
        let key = self.state().take_key(number);
        if let Some(key) = key {
            self.give_back(key, None, created).await;
        }
    }

    /// Gives a key back that the server was never asked for.
    pub(in crate::server::etcd) fn withdraw(self: &Arc<Self>, number: u64) {
        let key = self.state().take_key(number);
        if let Some(key) = key {
            self.forget(key, Created::Answered);
        }
    }

    /// Deletes a key, however often that has to be repeated, as long as its lease is renewed. `record` is for the next
    /// holder.
    async fn give_back(self: Arc<Self>, key: Key, mut record: Option<Record>, created: Created) {
        while !self.is_lost() {
            let mut success = vec![RequestOp::delete(&key.key)];
            if let Some(record) = &record {
                success.push(RequestOp::put(&keys::record(&key.name), &record.to_json(), 0));
            }
            let compare = match key.created {
                0 => Vec::new(),
                created => vec![Compare::created(&key.key, created)],
            };
            let request = TxnRequest { compare, success, failure: Vec::new() };
            let limit = call_limit(self.term().ttl);
            match self.batches.txn(Urgency::First, &key.name, request, limit, None).await.of(Path::new(&key.name)) {
                Ok(_) => break,
                Err(error) if error.takes_no_writes() && record.is_some() => record = None,
                // The right may come back: each renewal tries.
                Err(error) if error.is_permission_denied() => return self.forget(key, Created::InDoubt),
                Err(_) => sleep(DELETE_AGAIN).await,
            }
        }
        self.forget(key, created);
    }

    /// Frees the name of a key that is gone.
    fn forget(self: &Arc<Self>, key: Key, created: Created) {
        let mut state = self.state();
        state.leaving -= 1;
        self.left.notify_waiters();
        state.wake_behind(&key);
        if created == Created::InDoubt && state.lost.is_none() {
            state.doubtful.push(key.key);
            if state.doubtful.len() >= MOST_OPS {
                state.closed = true;
            }
        } else if let Some(used) = state.names.get_mut(&key.name) {
            used.remove(&key.index);
            if used.is_empty() {
                state.names.remove(&key.name);
            }
        }
        // The lease must outlive the attempts to delete a key, or a later attempt takes the lock for broken.
        if !state.keys.is_empty() || state.leaving > 0 {
            return;
        }
        state.idle_since = Some(Instant::now());
        let lost = state.lost.is_some();
        drop(state);
        match lost {
            // The lease ran on, so that the holders had the rest of it.
            true => drop(tokio::spawn(Arc::clone(self).revoke())),
            false => self.changed.notify_one(),
        }
    }

    /// Gives the lease back if it holds nothing, once the keys that are being deleted are gone.
    pub(in crate::server::etcd) async fn end_if_idle(self: Arc<Self>) {
        loop {
            let left = self.left.notified();
            if self.state().leaving == 0 {
                break;
            }
            left.await;
        }
        if self.close_if_idle(Duration::ZERO) {
            self.revoke().await;
        }
    }

    pub(super) async fn revoke(self: Arc<Self>) {
        let limit = GIVE_BACK.min(call_limit(self.term().ttl));
        let _: Outcome<_> = self.client.call(&LEASE_REVOKE, &LeaseRequest { id: self.lease }, limit).await;
    }

    /// Deletes the keys in doubt, beside everything else.
    pub(super) fn delete_doubtful(self: &Arc<Self>) {
        let success: Vec<RequestOp> = self.state().doubtful.iter().map(|key| RequestOp::delete(key)).collect();
        for some in success.chunks(MOST_OPS) {
            let request = TxnRequest { success: some.to_vec(), ..TxnRequest::default() };
            let session = Arc::clone(self);
            tokio::spawn(async move {
                let limit = call_limit(session.term().ttl);
                let deleted = session.client.call(&TXN, &request, limit).await.of(Path::new(""));
                if deleted.is_err_and(|error| error.is_permission_denied()) {
                    // One key that the user may not delete must not keep the others.
                    for delete in request.success {
                        let request = TxnRequest { success: vec![delete], ..TxnRequest::default() };
                        let _: Outcome<_> = session.client.call(&TXN, &request, limit).await;
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::model::options::Options;
    use crate::model::status::Scheme;
    use crate::model::tenure::Tenure as _;
    use crate::server::etcd::batches::Batches;
    use crate::server::etcd::client::Client;
    use crate::server::fake;
    use crate::server::lease::Lease;
    use crate::server::url::Url;

    /// No call is made: the session's lease is over by the clock.
    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn the_end_of_a_lost_tenure_answers_its_release_and_keeps_a_key_in_doubt() {
        const TARGET: &str = "etcd://release/a";
        let ttl = Duration::from_secs(2);
        let url = Url::parse(Path::new(TARGET), Scheme::Etcd).unwrap();
        let client = Arc::new(Client::new(&url, None).unwrap());
        let batches = Arc::new(Batches::new(&client));
        let term = Lease { ttl, confirmed: BootTime::of_nanos(0) };
        let session = Arc::new(Session::new(&client, &batches, Arc::new(()), 1, term));
        let tenure = fake::tenure(TARGET, Options::default(), ttl);
        let (number, key) = session.reserve("a", LockKind::Exclusive, &Arc::default()).unwrap();
        session.set_created(number, 1, Created::InDoubt);
        assert!(session.hold(number, &tenure));
        tenure.lose("its key was deleted");
        assert!(tenure.poll_release(Waker::noop()).is_none());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let wakes = Notify::new();
        runtime.block_on(Arc::clone(&session).leave_at(BootTime::now(), number, &wakes));
        let outcome = tenure.poll_release(Waker::noop());
        assert!(
            outcome.as_ref().is_some_and(|outcome| outcome.as_ref().is_err_and(|error| error.is_lost())),
            "{outcome:?}"
        );
        assert_eq!(session.state().doubtful, [key.into_bytes()]);
    }
}
