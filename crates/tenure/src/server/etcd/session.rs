//! A place in the queue of a name, and then a tenure.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::RECORDS;
use super::api::{Gateway, Watch, decode, encode, end_of, number};
use crate::model::error::{Error, ErrorKind, Result};
use crate::record::{self, Content, Record, RecordState};
use crate::server::lease::{BootTime, Lease, call_limit};
use crate::server::lock_server::{AnswerBy, Granted, Interrupter, Session};
use crate::server::url::Url;
use crate::util::text;
use crate::util::thread_pool;

/// The time between two reads of the queue by a waiter. The member that has its watch may hang.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// The time until another watch is set after one that failed.
const WATCH_AGAIN: Duration = Duration::from_millis(500);

/// The maximum time to give back a lease that is not needed.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// An event that wakes the session's thread.
enum Note {
    /// The key just before this one was deleted.
    Gone,
    /// The watch of that number failed.
    Blind(u64),
    /// [`Session::interrupter`] was called.
    Interrupted,
}

fn is_unreleased(record: &Record) -> bool {
    record.native.as_ref().is_some_and(|native| native.state != RecordState::Released)
}

/// A key with a lease.
pub(super) struct EtcdSession {
    gateway: Arc<Gateway>,
    url: Arc<Url>,
    record: Record,
    lease: i64,
    key: String,
    /// The place in the queue: the create revision of the key.
    revision: i64,
    term: Lease,
    notes: Receiver<Note>,
    teller: Sender<Note>,
    /// The record of the last holder, if it did not release, as the first read found it.
    last: Option<Option<Box<Record>>>,
    watching: Option<Watching>,
    /// The number of watches so far.
    watches: u64,
    /// The earliest moment of the next watch.
    watch_from: Instant,
    /// The deadline of every call until the grant.
    answer_by: AnswerBy,
    granted: bool,
}

/// A watch on the key just before this one. Dropping it ends the watch.
struct Watching {
    number: u64,
    /// The create revision of the watched key.
    created: i64,
    watch: Watch,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watch.stop();
    }
}

/// The result of one read of the queue.
struct Seen {
    /// The cluster's revision at that read.
    revision: i64,
    /// The term of the leader that answered.
    term: i64,
    before: Option<Before>,
    /// The record of the last holder.
    kept: Option<Record>,
}

/// The key just before this one.
struct Before {
    key: String,
    created: i64,
    lease: i64,
}

impl EtcdSession {
    /// Takes a place in the queue: steps 1 and 2 of the protocol.
    pub(super) fn enqueue(
        gateway: Arc<Gateway>,
        url: &Arc<Url>,
        record: Record,
        answer_by: Option<Instant>,
    ) -> Result<EtcdSession> {
        let answer_by = AnswerBy::new(answer_by);
        let limit = answer_by.within(call_limit(url.ttl));
        let sent = BootTime::now();
        let seconds = url.ttl.as_secs_f64().ceil();
        let granted = gateway.call("/v3/lease/grant", &json!({ "TTL": format!("{seconds:.0}") }), limit)?;
        let granted = granted.unwrap_or(Value::Null);
        let lease = number(&granted["ID"]);
        if lease == 0 {
            return Err(Error::new(ErrorKind::Io, &url.target, "etcd granted no lease"));
        }
        let ttl = Duration::from_secs(u64::try_from(number(&granted["TTL"])).unwrap_or(0)).max(url.ttl);
        let (teller, notes) = channel();
        let mut session = EtcdSession {
            key: format!("{}/{lease:x}", url.name),
            url: Arc::clone(url),
            gateway,
            record,
            lease,
            revision: 0,
            term: Lease { ttl, confirmed: sent },
            notes,
            teller,
            last: None,
            watching: None,
            watches: 0,
            watch_from: Instant::now(),
            answer_by,
            granted: false,
        };
        let limit = session.limit();
        // A call that was repeated at another member finds the key that the first one put.
        let put = session.put(&session.key, &session.record.to_json());
        let taken = session.call(
            "/v3/kv/txn",
            &json!({
                "compare": [{"key": encode(&session.key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
                "success": [{"request_put": put}],
                "failure": [{"request_range": {"key": encode(&session.key)}}],
            }),
            limit,
        );
        session.revision = match taken {
            Ok(answer) if answer["succeeded"] == true => number(&answer["header"]["revision"]),
            Ok(answer) => number(&answer["responses"][0]["response_range"]["kvs"][0]["create_revision"]),
            Err(error) => {
                let _ = session.give_lease_back(GIVE_BACK.min(call_limit(url.ttl)));
                return Err(error);
            }
        };
        Ok(session)
    }

    fn put(&self, key: &str, value: &str) -> Value {
        json!({"key": encode(key), "value": encode(value), "lease": self.lease.to_string()})
    }

    fn call(&self, path: &str, body: &Value, limit: Duration) -> Result<Value> {
        self.gateway.call(path, body, limit)?.ok_or_else(|| self.forgotten())
    }

    fn forgotten(&self) -> Error {
        Error::new(ErrorKind::Lost, &self.url.target, "its lease is gone at the server: it ran out, or was revoked")
    }

    fn deleted(&self) -> Error {
        Error::new(ErrorKind::Lost, &self.url.target, "its key was deleted at the server: the lock was broken")
    }

    /// Returns the condition that the key is still the one that this session put.
    fn ours(&self) -> Value {
        json!([{
            "key": encode(&self.key), "target": "CREATE", "result": "EQUAL",
            "create_revision": self.revision.to_string(),
        }])
    }

    /// Reads this session's key and the one just before it in one transaction, which is the majority's answer at one
    /// revision; and the last holder's record, if `with_kept`.
    fn look(&self, with_kept: bool, limit: Duration) -> Result<Seen> {
        let prefix = format!("{}/", self.url.name);
        let mut success = vec![json!({"request_range": {
            "key": encode(&prefix), "range_end": end_of(&prefix), "keys_only": true, "limit": "1",
            "max_create_revision": (self.revision - 1).to_string(), "sort_order": "DESCEND", "sort_target": "CREATE",
        }})];
        if with_kept {
            success.push(json!({"request_range": {"key": encode(&self.kept())}}));
        }
        let body = json!({"compare": self.ours(), "success": success, "failure": []});
        let answer = self.call("/v3/kv/txn", &body, limit)?;
        if answer["succeeded"] != true {
            return Err(self.deleted());
        }
        let pair = |at: usize| &answer["responses"][at]["response_range"]["kvs"][0];
        let before = pair(0);
        Ok(Seen {
            revision: number(&answer["header"]["revision"]),
            term: number(&answer["header"]["raft_term"]),
            before: before.is_object().then(|| Before {
                key: String::from_utf8_lossy(&decode(&before["key"])).into_owned(),
                created: number(&before["create_revision"]),
                lease: number(&before["lease"]),
            }),
            kept: match record::read(&decode(&pair(1)["value"])) {
                Content::Record(record) => Some(record),
                _ => None,
            },
        })
    }

    /// Returns the key at which the record outlives its lease.
    fn kept(&self) -> String {
        format!("{RECORDS}{}", self.url.name)
    }

    /// Takes the lock as the first of the queue: publishes the record, with the revision of that read as its fence.
    fn enter(&mut self, seen: &Seen) -> Result<Granted> {
        let fence = u64::try_from(seen.revision).ok();
        let last = seen.kept.as_ref().and_then(Record::previous_fence).unwrap_or(0);
        if fence <= Some(last) {
            let detail =
                format!("its fence would go back: the last holder's was {last}, the cluster is at {}", seen.revision);
            return Err(Error::new(ErrorKind::Io, &self.url.target, detail).with_hint(format!(
                "this is a new cluster, and the records were copied into it. Restore with `etcdutl snapshot restore \
                 --bump-revision`; or, where no resource knows the older fences, `etcdctl del {}`",
                crate::util::text::word(self.kept().as_ref())
            )));
        }
        if let Some(native) = &mut self.record.native {
            native.fence = fence;
            native.acquired_at = Some(SystemTime::now());
        }
        // As the first read found it: a later one may find this session's own write, whose answer was lost.
        let last = self.last.get_or_insert_with(|| seen.kept.clone().filter(is_unreleased).map(Box::new)).clone();
        self.write(self.limit())?;
        self.granted = true;
        self.answer_by = AnswerBy::default();
        self.watching = None;
        Ok(Granted { record: self.record.clone(), last: last.map(|last| *last), confirmed: self.term.confirmed })
    }

    /// Writes the record to the key, and to where it outlives its lease.
    fn write(&self, limit: Duration) -> Result<()> {
        let value = self.record.to_json();
        let body = json!({
            "compare": self.ours(),
            "success": [
                {"request_put": self.put(&self.key, &value)},
                {"request_put": {"key": encode(&self.kept()), "value": encode(&value)}},
            ],
            "failure": [],
        });
        match self.call("/v3/kv/txn", &body, limit)?["succeeded"] == true {
            true => Ok(()),
            false => Err(self.deleted()),
        }
    }

    /// Sets a watch on the key just before this one, whose deletion wakes this session. A watch at a member that does not
    /// answer any more is moved.
    fn watch(&mut self, before: Before, from: i64) {
        let stays =
            |watching: &Watching| watching.created == before.created && watching.watch.member == self.gateway.first();
        if self.watching.as_ref().is_some_and(stays) || Instant::now() < self.watch_from {
            return;
        }
        self.watching = None;
        let (watch, teller, limit) = (self.gateway.watch(), self.teller.clone(), self.term.ttl);
        let there = watch.clone();
        self.watches += 1;
        let number = self.watches;
        let watching = Watching { number, created: before.created, watch };
        let started = thread_pool::run(move || {
            let gone = there.await_deletion(&before.key, from, limit);
            // The session may have ended.
            let _ = teller.send(if gone { Note::Gone } else { Note::Blind(number) });
        });
        self.watching = started.ok().map(|()| watching);
    }

    /// Refuses a key without a lease. It is data below the lock's name, no lock's key, and would never be deleted.
    fn refuse_data(&self, before: &Before) -> Result<()> {
        if before.lease != 0 {
            return Ok(());
        }
        let detail =
            format!("the key {} below its name is no lock's: it has no lease", text::path(before.key.as_ref()));
        Err(Error::new(ErrorKind::Obstructed, &self.url.target, detail)
            .with_hint("all that begins with NAME/ is the lock's queue, for `etcdctl lock` too: lock another name"))
    }

    fn limit(&self) -> Duration {
        self.answer_by.within(self.term.call_limit(BootTime::now()))
    }

    fn give_lease_back(&self, limit: Duration) -> Result<()> {
        self.gateway.call("/v3/lease/revoke", &json!({ "ID": self.lease.to_string() }), limit).map(drop)
    }
}

impl Session for EtcdSession {
    fn wait(&mut self, patience: Duration) -> Result<Option<Granted>> {
        let end = Instant::now() + patience;
        loop {
            let mut seen = self.look(true, self.limit())?;
            let Some(before) = seen.before.take() else { return self.enter(&seen).map(Some) };
            self.refuse_data(&before)?;
            if Instant::now() >= end {
                return Ok(None);
            }
            self.watch(before, seen.revision);
            let again = Instant::now() + if self.watching.is_some() { LOOK_AGAIN } else { WATCH_AGAIN };
            match self.notes.recv_timeout(end.min(again).saturating_duration_since(Instant::now())) {
                Ok(Note::Gone) => self.watching = None,
                // Ignores a watch that was replaced. After one that broke the next one is set a little later.
                Ok(Note::Blind(number)) => {
                    if self.watching.as_ref().is_some_and(|watching| watching.number == number) {
                        self.watching = None;
                        self.watch_from = Instant::now() + WATCH_AGAIN;
                    }
                }
                Err(RecvTimeoutError::Timeout) if again < end => {}
                Ok(Note::Interrupted) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Ok(None);
                }
            }
        }
    }

    fn renew(&mut self, limit: Duration) -> Result<()> {
        let sent = BootTime::now();
        let end = Instant::now() + limit;
        let alive = self.call("/v3/lease/keepalive", &json!({ "ID": self.lease.to_string() }), limit)?;
        if number(&alive["TTL"]) <= 0 {
            return Err(self.forgotten());
        }
        let seen = self.look(false, end.saturating_duration_since(Instant::now()))?;
        if seen.term != number(&alive["header"]["raft_term"]) {
            let detail = "the cluster has another leader since: the lease is renewed again";
            return Err(Error::new(ErrorKind::Unreachable, &self.url.target, detail));
        }
        self.term.confirmed = sent;
        Ok(())
    }

    fn idle(&mut self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            match self.notes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                // From a watch that was set before the grant.
                Ok(Note::Gone | Note::Blind(_)) => {}
                _ => return Ok(()),
            }
        }
    }

    fn publish(&mut self, record: &Record, limit: Duration) -> Result<()> {
        self.record = record.clone();
        self.write(limit)
    }

    fn release(&mut self, record: Option<&Record>, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        self.watching = None;
        let Some(record) = record.filter(|_| self.granted) else { return self.give_lease_back(limit) };
        let (kept, value) = (self.kept(), record.to_json());
        let body = json!({
            "compare": self.ours(),
            "success": [
                {"request_put": {"key": encode(&kept), "value": encode(&value)}},
                {"request_delete_range": {"key": encode(&self.key)}},
            ],
            "failure": [{"request_range": {"key": encode(&kept)}}],
        });
        let released = self.gateway.call_and_count("/v3/kv/txn", &body, limit);
        // The next holder may go on by now. The rest cleans up.
        let _ = self.give_lease_back(end.saturating_duration_since(Instant::now()));
        let (answer, repeated) = released.map_err(|error| {
            error.with_hint(format!("the lock is free when its lease is over, after {} s", self.term.ttl.as_secs()))
        })?;
        let answer = answer.unwrap_or(Value::Null);
        if answer["succeeded"] == true {
            return Ok(());
        }
        // The key was gone. A first attempt of this call may have deleted it, if its answer was lost.
        let now = decode(&answer["responses"][0]["response_range"]["kvs"][0]["value"]);
        let later = match record::read(&now) {
            Content::Record(now) => now.previous_fence() > record.previous_fence(),
            _ => false,
        };
        if repeated && (later || now == value.as_bytes()) {
            return Ok(());
        }
        Err(self.deleted())
    }

    fn interrupter(&self) -> Interrupter {
        let teller = self.teller.clone();
        Arc::new(move || {
            let _ = teller.send(Note::Interrupted);
        })
    }

    fn was_cut_short(&self) -> bool {
        self.answer_by.was_cut_short()
    }

    fn lease(&self) -> Lease {
        self.term
    }
}
