//! A session: one lease, for all locks of this process on one cluster with the same `ttl`.
//!
//! A key of a session is `NAME/<lease in hex>`, as in etcd's recipe, or `NAME/shared:<lease in hex>` for a shared acquire. A
//! second key of the same name, for another acquire of this process, ends in a number ([`keys`]).
//!
//! The session's task renews the lease ([`renewal`]). The lease outlives each of its keys, which are deleted one by one
//! ([`release`]).

mod publish;
mod release;
mod renewal;
mod waiters;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::batches::Batches;
use super::client::{Client, LEASE_GRANT};
use super::keys;
use super::messages::{Compare, LeaseGrantRequest};
use crate::model::error::{Error, ErrorKind, Result};
use crate::server::io_thread::within;
use crate::server::keeps_tenures::KeepsTenures;
use crate::server::lease::{BootTime, Lease};
use crate::server::reports;
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;

/// The time between two attempts to reach a server that does not answer.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The reason of a loss by the server's word.
pub(super) const GONE: &str = "its lease is gone at the server: it ran out, or was revoked";

/// One lease, and the keys that are bound to it.
pub(super) struct Session {
    client: Arc<Client>,
    batches: Arc<Batches>,
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
    /// The keys of each name, by what distinguishes them.
    names: HashMap<String, BTreeMap<usize, u64>>,
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

    /// Wakes the waiters of this session that wait for a key that is gone. The cluster reports it to a watch that began a moment
    /// ago up to 100 ms late.
    fn wake_behind(&self, gone: &Key) {
        let others = self.names.get(&gone.name).into_iter().flat_map(BTreeMap::values);
        let is_behind = |key: &&Key| {
            key.before.as_ref().is_some_and(|(before, created)| *created == gone.created && *before == gone.key)
        };
        let behind = others.filter_map(|number| self.keys.get(number)).filter(is_behind);
        behind.for_each(|key| key.wakes.notify_one());
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
struct Waiter {
    number: u64,
    /// Its key exists, and so does the key for which it waits.
    conditions: [Compare; 2],
    wakes: Arc<Notify>,
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
        batches: &Arc<Batches>,
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
        let term = Lease { ttl: granted_ttl, confirmed: sent };
        let session = Arc::new(Session::new(client, batches, cluster, granted.id, term));
        tokio::spawn(renewal::run(Arc::clone(&session)));
        tokio::spawn(waiters::look_after(Arc::clone(&session)));
        Ok(session)
    }

    fn new(
        client: &Arc<Client>,
        batches: &Arc<Batches>,
        cluster: Arc<dyn Any + Send + Sync>,
        lease: i64,
        term: Lease,
    ) -> Session {
        Session {
            client: Arc::clone(client),
            batches: Arc::clone(batches),
            _cluster: cluster,
            lease,
            state: Mutex::new(State {
                term,
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
        }
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

    pub(super) fn batches(&self) -> &Arc<Batches> {
        &self.batches
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
        state.last += 1;
        let number = state.last;
        let used = state.names.entry(name.to_owned()).or_default();
        let index = match used.last_key_value() {
            // Without a gap: one process may have thousands of keys of a name.
            Some((last, _)) if last + 1 == used.len() => used.len(),
            _ => (0..).find(|index| !used.contains_key(index)).unwrap_or(0),
        };
        used.insert(index, number);
        let key = keys::place(name, kind, self.lease, index);
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
    fn waiters_after(&self, after: u64, most: usize) -> Option<(Vec<Waiter>, usize)> {
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
    async fn await_waiter(&self, limit: Duration) {
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

/// Returns the error of a lease that is lost.
pub(super) fn forgotten(target: &Path) -> Error {
    Error::new(ErrorKind::Lost, target, GONE)
}

/// Returns the error of a key that is gone, though its lease is not.
pub(super) fn deleted(target: &Path) -> Error {
    Error::new(ErrorKind::Lost, target, "its key was deleted at the server: the lock was broken")
}
