//! A session: one lease, for all locks of this process on one cluster with the same `ttl`.
//!
//! A key of a session is `NAME/<lease in hex>`, as in etcd's recipe, or that of a share. A second key of the same name, for
//! another acquire of this process, ends in a number ([`keys`]).
//!
//! The session's task renews the lease. A renewal confirms every key, many at once, so that a deleted key ends one tenure,
//! and a lost lease ends all.
//!
//! The lease outlives each of its keys, so a key must be deleted when it is not needed, however often the deletion has to
//! be repeated. A key whose creation was not answered may still appear later: it is deleted again at each renewal.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::batches::{MOST_OPS, Urgency};
use super::client::{Client, LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE, Outcome, RANGE, TXN};
use super::messages::{Compare, LeaseGrantRequest, LeaseRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use super::{keys, waiters};
use crate::model::error::{Error, ErrorKind, Result};
use crate::record::{self, Content, Record};
use crate::server::io_thread::within;
use crate::server::keeps_tenures::KeepsTenures;
use crate::server::lease::{BootTime, Lease, call_limit};
use crate::server::reports;
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;
use crate::util::trace::event;

/// The time between two attempts to reach a server that does not answer.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// The time between two attempts to delete a key.
const DELETE_AGAIN: Duration = Duration::from_millis(500);
/// The time until a record that could not be published is published again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);
/// How long a session without a key is kept for the next acquire.
const IDLE: Duration = Duration::from_secs(1);
/// The maximum time to give back a lease that is not needed.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// The reason of a loss by the server's word.
pub(super) const GONE: &str = "its lease is gone at the server: it ran out, or was revoked";

/// One lease, and the keys that are bound to it.
pub(super) struct Session {
    client: Arc<Client>,
    /// The cluster, which the program's end has to find as long as this session may have a lease to give back.
    _cluster: Arc<dyn Any + Send + Sync>,
    pub(super) lease: i64,
    state: Mutex<State>,
    /// Wakes the session's task.
    changed: Notify,
    /// Wakes the task that looks after the waiters.
    waiters: Notify,
    /// Wakes the task that gives the lease back, because a key was deleted.
    left: Notify,
}

struct State {
    term: Lease,
    /// Nothing more begins in this session: its lease is lost or was given back, or too many keys are in doubt.
    closed: bool,
    /// The reason why the lease is lost.
    lost: Option<String>,
    last: u64,
    keys: BTreeMap<u64, Key>,
    /// The number of keys that are being deleted.
    leaving: usize,
    /// The numbers in use of each name.
    names: HashMap<String, BTreeSet<usize>>,
    /// Keys that may still appear.
    doubtful: Vec<Vec<u8>>,
    /// The number of the current renewal.
    round: u64,
    /// The error of the last renewal, if that failed.
    trouble: Option<String>,
    idle_since: Option<Instant>,
}

impl State {
    /// Takes a key out, to be deleted and then [forgotten](Session::forget).
    fn take_key(&mut self, number: u64) -> Option<Key> {
        let key = self.keys.remove(&number);
        self.leaving += usize::from(key.is_some());
        key
    }
}

/// A key of the session.
struct Key {
    name: String,
    kind: LockKind,
    /// Distinguishes the session's keys of one name.
    index: usize,
    key: Vec<u8>,
    /// The create revision; 0 until that is known, and once the key is gone.
    created: i64,
    certainty: Created,
    /// The key just before this one, for which its waiter waits.
    before: Option<(Vec<u8>, i64)>,
    wakes: Arc<Notify>,
    tenure: Option<Arc<ServerTenure>>,
    is_publishing: bool,
    /// The task that acts on `max_hold`.
    timer: Option<AbortHandle>,
    /// The last renewal that asked for it.
    asked: u64,
    /// The last renewal that confirmed it.
    confirmed: u64,
}

/// A waiter, as the [task](waiters) that looks after all of them needs it.
pub(super) struct Waiter {
    pub(super) number: u64,
    /// Its key exists, and so does the key for which it waits.
    pub(super) conditions: [Compare; 2],
    pub(super) wakes: Arc<Notify>,
}

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

/// Whether the server may still create a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// The server has answered.
    Answered,
    InDoubt,
}

impl Session {
    /// Begins a session, with a lease of `ttl`. It keeps its cluster.
    pub(super) async fn begin(
        client: &Arc<Client>,
        cluster: Arc<dyn Any + Send + Sync>,
        ttl: Duration,
        target: &Path,
        limit: Duration,
    ) -> Result<Arc<Session>> {
        let sent = BootTime::now();
        // Whole seconds, the next greater.
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let granted = client.call(&LEASE_GRANT, &LeaseGrantRequest { ttl: seconds }, limit).await.of(target)?;
        let granted = granted.unwrap_or_default();
        if granted.id == 0 {
            return Err(Error::new(ErrorKind::Io, target, "etcd granted no lease"));
        }
        let granted_ttl = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(0)).max(ttl);
        let session = Arc::new(Session {
            client: Arc::clone(client),
            _cluster: cluster,
            lease: granted.id,
            state: Mutex::new(State {
                term: Lease { ttl: granted_ttl, confirmed: sent },
                closed: false,
                lost: None,
                last: 0,
                keys: BTreeMap::new(),
                leaving: 0,
                names: HashMap::new(),
                doubtful: Vec::new(),
                round: 0,
                trouble: None,
                idle_since: Some(Instant::now()),
            }),
            changed: Notify::new(),
            waiters: Notify::new(),
            left: Notify::new(),
        });
        tokio::spawn(run(Arc::clone(&session)));
        tokio::spawn(waiters::look_after(Arc::clone(&session)));
        Ok(session)
    }

    /// Returns whether acquires may begin in this session.
    pub(super) fn is_open(&self) -> bool {
        !self.state().closed && !self.is_lost()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Returns how long the server remembers the session's keys, and when the last confirmed renewal was sent.
    pub(super) fn term(&self) -> Lease {
        self.state().term
    }

    /// Returns whether the lease is lost, at the server or by the clock.
    pub(super) fn is_lost(&self) -> bool {
        let state = self.state();
        state.lost.is_some() || BootTime::now() >= state.term.lost_at()
    }

    /// Reserves a key below `name` for an acquire. Returns its number in the session, and the key; `None` if the session is
    /// closed.
    pub(super) fn reserve(&self, name: &str, kind: LockKind, wakes: &Arc<Notify>) -> Option<(u64, String)> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        let used = state.names.entry(name.to_owned()).or_default();
        let index = match used.last() {
            // Without a gap: one process may have thousands of keys of a name.
            Some(last) if last + 1 == used.len() => used.len(),
            _ => (0..).find(|index| !used.contains(index)).unwrap_or(0),
        };
        used.insert(index);
        let key = keys::place(name, kind, self.lease, index);
        state.last += 1;
        let number = state.last;
        let (name, wakes) = (name.to_owned(), Arc::clone(wakes));
        let bytes = key.clone().into_bytes();
        let entry = Key {
            name,
            kind,
            index,
            key: bytes,
            created: 0,
            certainty: Created::Answered,
            before: None,
            wakes,
            tenure: None,
            is_publishing: false,
            timer: None,
            asked: 0,
            confirmed: 0,
        };
        state.keys.insert(number, entry);
        state.idle_since = None;
        Some((number, key))
    }

    /// Records that the key exists, since that revision. `certainty`: whether it may appear once more after its deletion,
    /// because a member that hangs has the request too.
    pub(super) fn set_created(&self, number: u64, created: i64, certainty: Created) {
        if let Some(key) = self.state().keys.get_mut(&number) {
            key.created = created;
            key.certainty = certainty;
        }
    }

    /// Sets the key that the waiter at `number` waits for.
    pub(super) fn set_before(&self, number: u64, before: Option<(&str, i64)>) {
        let waits = before.is_some();
        if let Some(key) = self.state().keys.get_mut(&number) {
            key.before = before.map(|(key, created)| (key.into(), created));
        }
        if waits {
            self.waiters.notify_one();
        }
    }

    /// Returns up to `most` waiters with a greater number than `after`, and the number of all waiters. `None` if there will be
    /// none any more.
    pub(super) fn waiters_after(&self, after: u64, most: usize) -> Option<(Vec<Waiter>, usize)> {
        let state = self.state();
        if state.lost.is_some() || (state.closed && state.keys.is_empty()) {
            return None;
        }
        let (mut some, mut count) = (Vec::new(), 0);
        for (number, key) in &state.keys {
            let Some((before, since)) = key.before.as_ref().filter(|_| key.created != 0 && key.tenure.is_none()) else {
                continue;
            };
            count += 1;
            if *number > after && some.len() < most {
                let conditions = [Compare::created(&key.key, key.created), Compare::created(before, *since)];
                some.push(Waiter { number: *number, conditions, wakes: Arc::clone(&key.wakes) });
            }
        }
        Some((some, count))
    }

    /// Waits for a waiter to begin, or for the session's end, for at most `limit`.
    pub(super) async fn await_waiter(&self, limit: Duration) {
        within(limit, self.waiters.notified()).await;
    }

    /// Makes the key that of a tenure; `false` if the lease is lost.
    pub(super) fn hold(&self, number: u64, tenure: &Arc<ServerTenure>) -> bool {
        let mut state = self.state();
        if state.lost.is_some() {
            return false;
        }
        // A renewal may have found that the key is gone.
        let Some(key) = state.keys.get_mut(&number).filter(|key| key.created != 0) else { return false };
        key.tenure = Some(Arc::clone(tenure));
        // A renewal may have ended since the tenure was created. The lease was good at that renewal, and the key exists.
        tenure.confirm(state.term.confirmed);
        true
    }

    /// Deletes the key of a lost tenure whose guard still exists by then. Without a record, so that the next holder gets its
    /// crash report.
    async fn leave_at(self: Arc<Self>, free_at: BootTime, number: u64, wakes: &Notify) {
        while self.state().keys.contains_key(&number) {
            let left = free_at.from(BootTime::now());
            if left.is_zero() {
                return self.leave(number, Created::Answered).await;
            }
            within(left, wakes.notified()).await;
        }
    }

    async fn release(self: Arc<Self>, key: Key, tenure: &ServerTenure, limit: Duration) {
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
        let answered = self.client.txn(Urgency::First, &key.name, request, limit, by).await.and_count(target);
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
    pub(super) async fn leave(self: Arc<Self>, number: u64, created: Created) {
        let key = self.state().take_key(number);
        if let Some(key) = key {
            self.give_back(key, None, created).await;
        }
    }

    /// Gives a key back that the server was never asked for.
    pub(super) fn withdraw(self: &Arc<Self>, number: u64) {
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
            match self.client.txn(Urgency::First, &key.name, request, limit, None).await.of(Path::new(&key.name)) {
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
    pub(super) async fn end_if_idle(self: Arc<Self>) {
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

    async fn revoke(self: Arc<Self>) {
        let limit = GIVE_BACK.min(call_limit(self.term().ttl));
        let _: Outcome<_> = self.client.call(&LEASE_REVOKE, &LeaseRequest { id: self.lease }, limit).await;
    }

    async fn publish(self: Arc<Self>, number: u64, tenure: &Arc<ServerTenure>) {
        loop {
            let (key, created, name) = {
                let mut state = self.state();
                let Some(key) = state.keys.get_mut(&number) else { return };
                if !tenure.is_unpublished() || !tenure.is_held() {
                    key.is_publishing = false;
                    return;
                }
                (key.key.clone(), key.created, key.name.clone())
            };
            let Some(record) = tenure.take_unpublished() else { continue };
            let limit = tenure.lease().call_limit(BootTime::now());
            match self.write(&key, created, &name, &record, tenure.target(), limit).await {
                Ok(()) => {}
                Err(error) if error.is_lost() => {
                    self.lose_key(number, error.detail());
                    return;
                }
                Err(_) => {
                    event!(WARN, target = ?tenure.target(), "the record was not published: the server did not answer");
                    tenure.mark_unpublished();
                    sleep(PUBLISH_AGAIN).await;
                }
            }
        }
    }

    /// Writes a record to a key, and to where it outlives its lease.
    pub(super) async fn write(
        &self,
        key: &[u8],
        created: i64,
        name: &str,
        record: &Record,
        target: &Path,
        limit: Duration,
    ) -> Result<()> {
        let (value, text) = (record.to_json(), String::from_utf8_lossy(key));
        let request = TxnRequest {
            compare: vec![Compare::created(key, created)],
            success: vec![RequestOp::put(&text, &value, self.lease), RequestOp::put(&keys::record(name), &value, 0)],
            failure: Vec::new(),
        };
        let by = Some(Instant::now() + limit);
        match self.client.txn(Urgency::First, name, request, limit, by).await.of(target)? {
            Some(answer) if answer.succeeded => Ok(()),
            Some(_) => Err(deleted(target)),
            None => {
                self.lose(GONE);
                Err(forgotten(target))
            }
        }
    }

    /// Ends a tenure, or the wait of a waiter, whose key is gone.
    fn lose_key(&self, number: u64, why: &str) {
        let found = self.state().keys.get_mut(&number).map(|key| {
            key.created = 0;
            (key.tenure.clone(), Arc::clone(&key.wakes))
        });
        match found {
            Some((Some(tenure), _)) => drop(tenure.lose(why.to_owned())),
            Some((None, wakes)) => wakes.notify_one(),
            None => {}
        }
    }

    /// Ends the session and everything in it, because its lease is lost.
    pub(super) fn lose(&self, why: &str) {
        let mut state = self.state();
        state.closed = true;
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(why.to_owned());
        let all: Vec<_> = state.keys.values().map(|key| (key.tenure.clone(), Arc::clone(&key.wakes))).collect();
        drop(state);
        for (tenure, wakes) in all {
            match tenure {
                Some(tenure) => drop(tenure.lose(why.to_owned())),
                None => wakes.notify_one(),
            }
        }
        self.changed.notify_one();
        self.waiters.notify_one();
    }

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

    /// Deletes the keys in doubt, beside everything else.
    fn delete_doubtful(self: &Arc<Self>) {
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

    /// Closes the session if it has had no key for that long. Returns whether it did.
    fn close_if_idle(&self, idle: Duration) -> bool {
        let mut state = self.state();
        let close = state.lost.is_none() && state.idle_since.is_some_and(|since| since.elapsed() >= idle);
        state.closed |= close;
        drop(state);
        if close {
            // Their task ends.
            self.waiters.notify_one();
        }
        close
    }
}

impl KeepsTenures for Session {
    async fn attend(self: Arc<Self>, number: u64) {
        enum Todo {
            Release(Key),
            Report(Arc<Notify>),
            Publish,
        }
        let (tenure, todo) = {
            let mut state = self.state();
            let Some(key) = state.keys.get_mut(&number) else { return };
            let Some(tenure) = key.tenure.clone() else { return };
            let todo = if tenure.is_released() {
                let Some(key) = state.take_key(number) else { return };
                key.wakes.notify_one();
                if let Some(timer) = &key.timer {
                    timer.abort();
                }
                Todo::Release(key)
            } else if !tenure.is_held() {
                Todo::Report(Arc::clone(&key.wakes))
            } else if tenure.is_unpublished() && !std::mem::replace(&mut key.is_publishing, true) {
                Todo::Publish
            } else {
                return;
            };
            (tenure, todo)
        };
        match todo {
            Todo::Release(key) => self.release(key, &tenure, tenure.time_to_release()).await,
            Todo::Report(wakes) => {
                // The holder has the rest of its own lease to stop its work. The session's may be renewed for others.
                let free_at = tenure.lease().free_at();
                reports::report_loss(tenure);
                self.leave_at(free_at, number, &wakes).await;
            }
            Todo::Publish => self.publish(number, &tenure).await,
        }
    }

    async fn release_early(self: Arc<Self>, number: u64, tenure: &ServerTenure, limit: Duration) {
        let key = self.state().take_key(number);
        if let Some(key) = key {
            self.release(key, tenure, limit).await;
        }
    }

    fn set_timer(&self, number: u64, timer: AbortHandle) {
        match self.state().keys.get_mut(&number) {
            Some(key) => key.timer = Some(timer),
            // It was released already.
            None => timer.abort(),
        }
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
async fn run(session: Arc<Session>) {
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

/// Returns the error of a lease that is lost.
pub(super) fn forgotten(target: &Path) -> Error {
    Error::new(ErrorKind::Lost, target, GONE)
}

/// Returns the error of a key that is gone, though its lease is not.
pub(super) fn deleted(target: &Path) -> Error {
    Error::new(ErrorKind::Lost, target, "its key was deleted at the server: the lock was broken")
}
