//! A place in the queue of a name, and the tenure that comes of it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::RECORDS;
use super::api::{Gateway, decode, encode, end_of, number};
use crate::engine::hold::text;
use crate::engine::lease::{BootTime, Lease};
use crate::engine::url::Url;
use crate::engine::{Granted, Interrupter, Session};
use crate::error::{Error, Kind, Result};
use crate::helpers;
use crate::record::{self, Content, Record, RecordState};

/// What wakes whoever has the place.
enum Note {
    /// The key just before ours may be gone.
    Look,
    /// [`Session::interrupter`] was called.
    Interrupted,
}

/// A key with a lease.
pub(super) struct Place {
    gateway: Arc<Gateway>,
    url: Arc<Url>,
    record: Record,
    lease: i64,
    key: String,
    /// Where we stand in the queue: our key's create revision.
    revision: i64,
    term: Lease,
    notes: Receiver<Note>,
    teller: Sender<Note>,
    /// The key that a watch is set on.
    watched: Option<i64>,
    granted: bool,
}

/// What one look at the queue found.
struct Seen {
    /// The cluster's revision at that look.
    revision: i64,
    /// Whose word it is: a leader's term.
    term: i64,
    /// The key just before ours, and its create revision.
    before: Option<(String, i64)>,
}

impl Place {
    /// Steps 1 and 2.
    pub(super) fn take(gateway: Arc<Gateway>, url: &Arc<Url>, record: Record) -> Result<Place> {
        let limit = url.ttl / 3;
        let sent = BootTime::now();
        let seconds = url.ttl.as_secs_f64().ceil();
        let granted = gateway.call("/v3/lease/grant", &json!({ "TTL": format!("{seconds:.0}") }), limit)?;
        let granted = granted.unwrap_or(Value::Null);
        let lease = number(&granted["ID"]);
        if lease == 0 {
            return Err(Error::new(Kind::Io, &url.target, "etcd granted no lease"));
        }
        let ttl = Duration::from_secs(u64::try_from(number(&granted["TTL"])).unwrap_or(0)).max(url.ttl);
        let (teller, notes) = channel();
        let mut place = Place {
            key: format!("{}/{lease:x}", url.name),
            url: Arc::clone(url),
            gateway,
            record,
            lease,
            revision: 0,
            term: Lease { ttl, confirmed: sent },
            notes,
            teller,
            watched: None,
            granted: false,
        };
        // A call that was repeated at another member finds the key that the first one put.
        let put = place.put(&place.key, &text(&place.record));
        let taken = place.call(
            "/v3/kv/txn",
            &json!({
                "compare": [{"key": encode(&place.key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
                "success": [{"request_put": put}],
                "failure": [{"request_range": {"key": encode(&place.key)}}],
            }),
            limit,
        );
        place.revision = match taken {
            Ok(answer) if answer["succeeded"] == true => number(&answer["header"]["revision"]),
            Ok(answer) => number(&answer["responses"][0]["response_range"]["kvs"][0]["create_revision"]),
            Err(error) => {
                let _ = place.give_lease_back(limit);
                return Err(error);
            }
        };
        Ok(place)
    }

    fn put(&self, key: &str, value: &str) -> Value {
        json!({"key": encode(key), "value": encode(value), "lease": self.lease.to_string()})
    }

    fn call(&self, path: &str, body: &Value, limit: Duration) -> Result<Value> {
        self.gateway.call(path, body, limit)?.ok_or_else(|| self.forgotten())
    }

    fn forgotten(&self) -> Error {
        Error::new(Kind::Lost, &self.url.target, "its lease is gone at the server: it ran out, or somebody revoked it")
    }

    fn deleted(&self) -> Error {
        Error::new(Kind::Lost, &self.url.target, "its key was deleted at the server: the lock was broken")
    }

    /// Is our key still the one that we put?
    fn ours(&self) -> Value {
        json!([{
            "key": encode(&self.key), "target": "CREATE", "result": "EQUAL",
            "create_revision": self.revision.to_string(),
        }])
    }

    /// Our own key and the one just before it, in one transaction: the majority's word at one revision.
    fn look(&self, limit: Duration) -> Result<Seen> {
        let prefix = format!("{}/", self.url.name);
        let body = json!({
            "compare": self.ours(),
            "success": [{"request_range": {
                "key": encode(&prefix), "range_end": end_of(&prefix), "keys_only": true, "limit": "1",
                "max_create_revision": (self.revision - 1).to_string(), "sort_order": "DESCEND", "sort_target": "CREATE",
            }}],
            "failure": [],
        });
        let answer = self.call("/v3/kv/txn", &body, limit)?;
        if answer["succeeded"] != true {
            return Err(self.deleted());
        }
        let before = &answer["responses"][0]["response_range"]["kvs"][0];
        let key = String::from_utf8_lossy(&decode(&before["key"])).into_owned();
        Ok(Seen {
            revision: number(&answer["header"]["revision"]),
            term: number(&answer["header"]["raft_term"]),
            before: before.is_object().then(|| (key, number(&before["create_revision"]))),
        })
    }

    /// We are the first: the record is written where all can see it, with `fence` in it.
    fn enter(&mut self, fence: i64) -> Result<Granted> {
        if let Some(native) = &mut self.record.native {
            native.fence = u64::try_from(fence).ok();
            native.acquired_at = Some(SystemTime::now());
        }
        let last = self.write(self.limit())?;
        self.granted = true;
        Ok(Granted { record: self.record.clone(), last, confirmed: self.term.confirmed })
    }

    /// Writes the record to our key and to where it outlives it. Returns what was there, if it is of another tenure that
    /// was never released.
    fn write(&self, limit: Duration) -> Result<Option<Record>> {
        let value = text(&self.record);
        let kept = format!("{RECORDS}{}", self.url.name);
        let body = json!({
            "compare": self.ours(),
            "success": [
                {"request_put": self.put(&self.key, &value)},
                {"request_put": {"key": encode(&kept), "value": encode(&value), "prev_kv": true}},
            ],
            "failure": [],
        });
        let answer = self.call("/v3/kv/txn", &body, limit)?;
        if answer["succeeded"] != true {
            return Err(self.deleted());
        }
        let Content::Record(last) = record::read(&decode(&answer["responses"][1]["response_put"]["prev_kv"]["value"]))
        else {
            return Ok(None);
        };
        // A call that was repeated finds its own.
        let other = last.previous_fence() != self.record.previous_fence();
        let unreleased = last.native.as_ref().is_some_and(|native| native.state != RecordState::Released);
        Ok((other && unreleased).then_some(last))
    }

    /// Sets a watch on the key just before ours: its end wakes us.
    fn watch(&mut self, key: String, created: i64, from: i64) {
        self.watched = Some(created);
        let (gateway, teller, limit) = (Arc::clone(&self.gateway), self.teller.clone(), self.term.ttl);
        let _ = helpers::run(move || {
            gateway.watch_deletion(&key, from, limit);
            // Whoever waited may have gone.
            let _ = teller.send(Note::Look);
        });
    }

    fn limit(&self) -> Duration {
        self.term.call_limit(BootTime::now())
    }

    fn give_lease_back(&self, limit: Duration) -> Result<()> {
        self.gateway.call("/v3/lease/revoke", &json!({ "ID": self.lease.to_string() }), limit).map(drop)
    }
}

impl Session for Place {
    fn wait(&mut self, patience: Duration) -> Result<Option<Granted>> {
        let end = Instant::now() + patience;
        loop {
            let seen = self.look(self.limit())?;
            let Some((key, created)) = seen.before else { return self.enter(seen.revision).map(Some) };
            if self.watched != Some(created) {
                self.watch(key, created, seen.revision);
            }
            match self.notes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                // The watch is over, whatever it saw.
                Ok(Note::Look) => self.watched = None,
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
        let seen = self.look(end.saturating_duration_since(Instant::now()))?;
        if seen.term != number(&alive["header"]["raft_term"]) {
            let detail = "the cluster has another leader since: the lease is renewed again";
            return Err(Error::new(Kind::Unreachable, &self.url.target, detail));
        }
        self.term.confirmed = sent;
        Ok(())
    }

    fn rest(&mut self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            match self.notes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                // A watch of the time before the grant.
                Ok(Note::Look) => {}
                _ => return Ok(()),
            }
        }
    }

    fn show(&mut self, record: &Record, limit: Duration) -> Result<()> {
        self.record = record.clone();
        self.write(limit).map(drop)
    }

    fn release(&mut self, record: Option<&Record>, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        if let Some(record) = record.filter(|_| self.granted) {
            let kept = format!("{RECORDS}{}", self.url.name);
            let body = json!({
                "compare": self.ours(),
                "success": [
                    {"request_put": {"key": encode(&kept), "value": encode(&text(record))}},
                    {"request_delete_range": {"key": encode(&self.key)}},
                ],
                "failure": [{"request_range": {"key": encode(&self.key)}}],
            });
            let released = self.call("/v3/kv/txn", &body, limit);
            // The next one may go on; what follows tidies up.
            let _ = self.give_lease_back(end.saturating_duration_since(Instant::now()));
            return released.map(drop).map_err(|error| {
                error.with_hint(format!("the lock is free when its lease is over, after {} s", self.term.ttl.as_secs()))
            });
        }
        self.give_lease_back(limit)
    }

    fn interrupter(&self) -> Interrupter {
        let teller = self.teller.clone();
        Arc::new(move || {
            let _ = teller.send(Note::Interrupted);
        })
    }

    fn lease(&self) -> Lease {
        self.term
    }
}
