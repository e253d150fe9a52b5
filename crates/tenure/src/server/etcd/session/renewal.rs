//! Renews the lease of a session, and confirms its keys.
//!
//! A renewal confirms every key, many at once, so that a deleted key ends one tenure, and a lost lease ends all.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::super::batches::MOST_OPS;
use super::super::client::{LEASE_KEEP_ALIVE, RANGE, TXN};
use super::super::messages::{Compare, LeaseRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use super::{GONE, Key, PAUSE, Session, deleted};
use crate::model::error::Error;
use crate::server::io_thread::within;
use crate::server::lease::{BootTime, call_limit};
use crate::server::tenure::ServerTenure;
use crate::util::trace::event;

/// How long a session without a key is kept for the next acquire.
const IDLE: Duration = Duration::from_secs(1);

/// A key as the confirmation of many needs it.
struct Checked {
    number: u64,
    key: Vec<u8>,
    created: i64,
}

/// Why a renewal failed.
enum Trouble {
    Lost,
    Unanswered(String),
    /// The user may not read a key.
    Denied(String),
}

impl Trouble {
    fn of(error: &Error) -> Trouble {
        match error.is_permission_denied() {
            true => Trouble::Denied(error.detail().to_owned()),
            false => Trouble::Unanswered(error.detail().to_owned()),
        }
    }
}

impl Session {
    /// Renews the lease and confirms every key.
    async fn renew(self: &Arc<Self>, limit: Duration) -> std::result::Result<(), Trouble> {
        let (sent, end) = (BootTime::now(), Instant::now() + limit);
        let request = LeaseRequest { id: self.lease };
        let alive = self.client.call(&LEASE_KEEP_ALIVE, &request, limit).await.of(Path::new(""));
        let alive = alive.map_err(|error| Trouble::of(&error))?;
        let Some(alive) = alive.filter(|alive| alive.ttl > 0) else { return Err(Trouble::Lost) };
        let term = alive.header.map_or(0, |header| header.raft_term);
        self.delete_doubtful();
        let round = {
            let mut state = self.state();
            state.round += 1;
            state.round
        };
        // A key that is created from here on is not asked for: its own transaction showed that it exists.
        let keys = self.unconfirmed(round);
        if keys.is_empty() {
            self.confirm_leader(term, end).await?;
        }
        let mut checks = JoinSet::new();
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            let batch: Vec<Checked> = keys.by_ref().take(MOST_OPS).collect();
            let session = Arc::clone(self);
            checks.spawn(async move { session.confirm(batch, term, round, sent, end).await });
        }
        while let Some(checked) = checks.join_next().await {
            checked.unwrap_or_else(|_| Err(Trouble::Unanswered("a task failed".to_owned())))?;
        }
        let mut state = self.state();
        state.term.confirmed = sent;
        // Those that were granted since their key was confirmed, or was created.
        let there = |key: &&Key| key.created != 0 && (key.confirmed == round || key.asked != round);
        let confirmed = state.keys.values().filter(there);
        confirmed.filter_map(|key| key.tenure.as_ref()).for_each(|tenure| tenure.confirm(sent));
        Ok(())
    }

    /// Returns the keys that exist, for this renewal to confirm.
    fn unconfirmed(&self, round: u64) -> Vec<Checked> {
        let mut state = self.state();
        let existing = state.keys.iter_mut().filter(|(_, key)| key.created != 0);
        existing
            .map(|(number, key)| {
                key.asked = round;
                Checked { number: *number, key: key.key.clone(), created: key.created }
            })
            .collect()
    }

    /// Confirms that those keys exist, in the same leader's term as the keep-alive. The read in it makes the answer the
    /// majority's: etcd answers a transaction that only compares from one member.
    async fn confirm(
        self: Arc<Self>,
        keys: Vec<Checked>,
        term: u64,
        round: u64,
        sent: BootTime,
        end: Instant,
    ) -> std::result::Result<(), Trouble> {
        let mut parts = vec![keys];
        while let Some(mut keys) = parts.pop() {
            match self.find_gone(&keys, term, end).await {
                Ok(gone) => self.set_confirmed(&keys, &gone, round, sent),
                // One key that the user may not read any more must not end the tenures of the others.
                Err(Trouble::Denied(_)) if keys.len() > 1 => {
                    parts.push(keys.split_off(keys.len() / 2));
                    parts.push(keys);
                }
                // Its tenure expires.
                Err(Trouble::Denied(why)) => self.set_denied(&keys, &why),
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// Returns the numbers of those of the keys that do not exist.
    async fn find_gone(&self, keys: &[Checked], term: u64, end: Instant) -> std::result::Result<Vec<u64>, Trouble> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let read = |key: &Checked| {
            RequestOp::from(RangeRequest { key: key.key.clone(), keys_only: true, ..RangeRequest::default() })
        };
        let request = TxnRequest {
            compare: keys.iter().map(|key| Compare::created(&key.key, key.created)).collect(),
            success: vec![read(first)],
            failure: Vec::new(),
        };
        if self.confirming(&request, term, end).await?.succeeded {
            return Ok(Vec::new());
        }
        let request = TxnRequest { success: keys.iter().map(read).collect(), ..TxnRequest::default() };
        let answer = self.confirming(&request, term, end).await?;
        let created = |at: usize| answer.pairs(at).first().map_or(0, |pair| pair.create_revision);
        let gone = keys.iter().enumerate().filter(|(at, key)| created(*at) != key.created);
        Ok(gone.map(|(_, key)| key.number).collect())
    }

    fn set_confirmed(&self, keys: &[Checked], gone: &[u64], round: u64, sent: BootTime) {
        let mut state = self.state();
        for there in keys.iter().filter(|key| !gone.contains(&key.number)) {
            if let Some(key) = state.keys.get_mut(&there.number) {
                key.confirmed = round;
                if let Some(tenure) = &key.tenure {
                    tenure.confirm(sent);
                }
            }
        }
        drop(state);
        gone.iter().for_each(|number| self.lose_key(*number, deleted(Path::new("")).detail()));
    }

    fn set_denied(&self, keys: &[Checked], why: &str) {
        let state = self.state();
        for tenure in keys.iter().filter_map(|key| state.keys.get(&key.number)?.tenure.as_ref()) {
            tenure.set_renewal_error(Some(why));
        }
    }

    /// Returns the answer of a confirmation, which must be of that term.
    async fn confirming(
        &self,
        request: &TxnRequest,
        term: u64,
        end: Instant,
    ) -> std::result::Result<TxnResponse, Trouble> {
        let left = end.saturating_duration_since(Instant::now());
        let answer = self.client.call(&TXN, request, left).await.of(Path::new(""));
        let answer = answer.map_err(|error| Trouble::of(&error))?.unwrap_or_default();
        same_leader(answer.term(), term)?;
        Ok(answer)
    }

    /// As [`confirm`](Session::confirm), where there is no key: reads one that an acquire of this session has reserved.
    async fn confirm_leader(&self, term: u64, end: Instant) -> std::result::Result<(), Trouble> {
        let key = self.state().keys.values().next().map(|key| key.key.clone());
        let Some(key) = key else { return Ok(()) };
        let left = end.saturating_duration_since(Instant::now());
        let request = RangeRequest { key, keys_only: true, ..RangeRequest::default() };
        let answer = self.client.call(&RANGE, &request, left).await.of(Path::new(""));
        let answer = answer.map_err(|error| Trouble::of(&error))?.unwrap_or_default();
        same_leader(answer.header.map_or(0, |header| header.raft_term), term)
    }

    /// Records the error of the last renewal, for all tenures; `None` after one that succeeded.
    fn set_trouble(&self, trouble: Option<String>) {
        let tenures: Vec<Arc<ServerTenure>> = {
            let mut state = self.state();
            if state.trouble == trouble {
                return;
            }
            state.trouble.clone_from(&trouble);
            state.keys.values().filter_map(|key| key.tenure.clone()).collect()
        };
        tenures.iter().for_each(|tenure| tenure.set_renewal_error(trouble.as_deref()));
    }

    fn has_trouble(&self) -> bool {
        self.state().trouble.is_some()
    }
}

fn same_leader(term: u64, expected: u64) -> std::result::Result<(), Trouble> {
    match term == expected {
        true => Ok(()),
        false => {
            Err(Trouble::Unanswered("the cluster has another leader since: the lease is renewed again".to_owned()))
        }
    }
}

/// A session's task must not end, by a panic, and leave holders that believe they hold.
struct LosesSession(Arc<Session>);

impl Drop for LosesSession {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lose("the task that keeps it failed");
        }
    }
}

/// Renews the lease until the session is lost, or closed without a key.
pub(super) async fn run(session: Arc<Session>) {
    let _loses = LosesSession(Arc::clone(&session));
    let mut again: Option<BootTime> = None;
    loop {
        let lease = session.term();
        let now = BootTime::now();
        if session.state().lost.is_some() {
            return;
        }
        if now >= lease.lost_at() {
            let trouble = session.state().trouble.clone();
            let why = "its lease could not be renewed in time";
            return session.lose(&trouble.map_or(why.to_owned(), |trouble| format!("{why}: {trouble}")));
        }
        if session.close_if_idle(IDLE) {
            return session.revoke().await;
        }
        if again.unwrap_or(lease.renew_at()) <= now {
            let limit = lease.call_limit(now);
            match session.renew(limit).await {
                Ok(()) => {
                    session.set_trouble(None);
                    if again.take().is_some() {
                        event!(INFO, lease = session.lease, "the lease is renewed again");
                    }
                }
                Err(Trouble::Lost) => return session.lose(GONE),
                Err(Trouble::Unanswered(why) | Trouble::Denied(why)) => {
                    event!(WARN, lease = session.lease, error = %why, "the lease was not renewed");
                    // An error of a call that the lease's end cut short says less than the one before it.
                    if limit == call_limit(lease.ttl) || !session.has_trouble() {
                        session.set_trouble(Some(why));
                    }
                    again = Some(BootTime::now().after(PAUSE));
                }
            }
            continue;
        }
        let mut rest = again.unwrap_or_else(|| lease.renew_at()).from(now).min(lease.lost_at().from(now));
        if let Some(since) = session.state().idle_since {
            rest = rest.min(IDLE.saturating_sub(since.elapsed()));
        }
        within(rest, session.changed.notified()).await;
    }
}
