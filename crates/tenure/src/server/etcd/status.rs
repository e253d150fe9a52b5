//! Reads the status of locks, and breaks one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{decode, encode, encode_bytes, end_of, number};
use super::{Etcd, RECORDS};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::status::{Scheme, State, Status};
use crate::process::Liveness;
use crate::record::{self, Content, Record, RecordState};
use crate::server::lock_server::LockServer as _;
use crate::util::text;

/// The keys below a name in the order of their creation, and the record that outlives them.
#[derive(Default)]
struct Found {
    queue: Vec<Value>,
    kept: Option<Record>,
}

pub(super) fn status(etcd: &Etcd, limit: Duration) -> Result<Status> {
    let found = read(etcd, limit)?;
    Ok(status_of(&etcd.url.target, etcd.lock_name(), &found))
}

fn read(etcd: &Etcd, limit: Duration) -> Result<Found> {
    let (prefix, kept) = (format!("{}/", etcd.url.name), format!("{RECORDS}{}", etcd.url.name));
    let body = json!({
        "compare": [],
        "success": [
            {"request_range": {
                "key": encode(&prefix), "range_end": end_of(&prefix), "sort_order": "ASCEND", "sort_target": "CREATE",
            }},
            {"request_range": {"key": encode(&kept)}},
        ],
    });
    let answer = etcd.gateway.call("/v3/kv/txn", &body, limit)?.unwrap_or(Value::Null);
    let range = |at: usize| answer["responses"][at]["response_range"]["kvs"].as_array().cloned().unwrap_or_default();
    Ok(Found { queue: range(0), kept: range(1).first().and_then(record_of) })
}

fn key_of(pair: &Value) -> String {
    String::from_utf8_lossy(&decode(&pair["key"])).into_owned()
}

fn record_of(pair: &Value) -> Option<Record> {
    match record::read(&decode(&pair["value"])) {
        Content::Record(record) => Some(record),
        _ => None,
    }
}

fn status_of(target: &Path, lock_name: &Path, found: &Found) -> Status {
    let mut status = Status::free(target, lock_name);
    status.server = Some(Scheme::Etcd);
    status.waiters = Some(found.queue.len().saturating_sub(1));
    if let Some(first) = found.queue.first() {
        status.state = State::Held;
        let record = record_of(first);
        let alive = match &record {
            Some(_) => Liveness::alive("its lease is kept alive at the server"),
            None => Liveness::alive(format!("its key {} is at the server", text::text(&key_of(first)))),
        };
        status.holder = Some(Holder::from_record(record.as_ref(), alive));
    } else if let Some(record) = &found.kept
        && record.native.as_ref().is_some_and(|native| native.state != RecordState::Released)
    {
        status.state = State::Stale;
        let dead = Liveness::dead("its lease ran out before it had released");
        status.holder = Some(Holder::from_record(Some(record), dead));
    }
    status
}

/// The maximum number of keys in one answer. A cluster may have millions of other keys.
const PAGE: usize = 1000;
/// The number of values in one request. etcd accepts at most 128 in a transaction.
const VALUES: usize = 100;

/// Passes every pair from the prefix on to `each`, page by page.
fn pages(etcd: &Etcd, prefix: &str, keys_only: bool, mut each: impl FnMut(Value)) -> Result<()> {
    let mut from = if prefix.is_empty() { "\0".as_bytes().to_vec() } else { prefix.as_bytes().to_vec() };
    loop {
        let body = json!({
            "key": encode_bytes(&from), "range_end": end_of(prefix), "limit": PAGE.to_string(), "keys_only": keys_only,
        });
        let mut answer = etcd.gateway.call("/v3/kv/range", &body, etcd.limit())?.unwrap_or(Value::Null);
        let more = answer["more"] == true;
        let Value::Array(pairs) = answer["kvs"].take() else { return Ok(()) };
        match pairs.last() {
            Some(last) if more => {
                from = decode(&last["key"]);
                from.push(0);
            }
            _ => from.clear(),
        }
        pairs.into_iter().for_each(&mut each);
        if from.is_empty() {
            return Ok(());
        }
    }
}

/// Returns every lock below a name that is held, or whose holder died.
pub(super) fn list(etcd: &Etcd) -> Result<Vec<Status>> {
    let below = match etcd.url.name.trim_end_matches('/') {
        "" => String::new(),
        name => format!("{name}/"),
    };
    let mut locks: BTreeMap<String, Found> = BTreeMap::new();
    pages(etcd, &below, true, |pair| {
        let key = key_of(&pair);
        // Other programs' keys are in there too. A lock's key ends in its lease, and is bound to it.
        if let Some((name, end)) = key.rsplit_once('/')
            && number(&pair["lease"]) != 0
            && i64::from_str_radix(end, 16) == Ok(number(&pair["lease"]))
            && !key.starts_with(RECORDS)
        {
            locks.entry(name.to_owned()).or_default().queue.push(pair);
        }
    })?;
    pages(etcd, &format!("{RECORDS}{below}"), false, |pair| {
        if let Some(name) = key_of(&pair).strip_prefix(RECORDS)
            && let Some(record) = record_of(&pair)
        {
            locks.entry(name.to_owned()).or_default().kept = Some(record);
        }
    })?;
    let mut firsts = Vec::new();
    for found in locks.values_mut() {
        found.queue.sort_by_key(|pair| number(&pair["create_revision"]));
        firsts.extend(found.queue.first_mut());
    }
    for some in firsts.chunks_mut(VALUES) {
        let ranges: Vec<Value> = some.iter().map(|pair| json!({"request_range": {"key": pair["key"]}})).collect();
        let body = json!({"compare": [], "success": ranges});
        let mut answer = etcd.gateway.call("/v3/kv/txn", &body, etcd.limit())?.unwrap_or(Value::Null);
        for (at, pair) in some.iter_mut().enumerate() {
            pair["value"] = answer["responses"][at]["response_range"]["kvs"][0]["value"].take();
        }
    }
    let all =
        locks.iter().map(|(name, found)| status_of(&etcd.url.sibling(name), Path::new(&format!("{name}/")), found));
    Ok(all.filter(|lock| lock.state != State::Free).collect())
}

/// Takes the lock from its holder by deleting the key and revoking the lease. Marks the record that outlives them as
/// released, so that the next holder gets no crash report.
pub(super) fn force_release(etcd: &Etcd) -> Result<bool> {
    let found = read(etcd, etcd.limit())?;
    let kept = format!("{RECORDS}{}", etcd.url.name);
    let first = found.queue.first();
    if let Some(first) = first {
        refuse_other(etcd, first)?;
    }
    let mut compare = Vec::new();
    let mut success = Vec::new();
    if let Some(mut record) = found.kept {
        if let Some(native) = &mut record.native {
            native.state = RecordState::Released;
        }
        success.push(json!({"request_put": {
            "key": encode(&kept), "value": encode(&record.to_json()),
        }}));
    }
    if let Some(first) = first {
        let created = number(&first["create_revision"]).to_string();
        compare.push(json!({"key": first["key"], "target": "CREATE", "result": "EQUAL", "create_revision": created}));
        success.push(json!({"request_delete_range": {"key": first["key"]}}));
    }
    let body = json!({"compare": compare, "success": success, "failure": []});
    let answer = etcd.gateway.call("/v3/kv/txn", &body, etcd.limit())?.unwrap_or(Value::Null);
    if answer["succeeded"] != true {
        return Ok(false);
    }
    // The lock is broken by now, and the lease holds nothing any more.
    if let Some(lease) = first.map(|first| number(&first["lease"])).filter(|lease| *lease != 0) {
        let _ = etcd.gateway.call("/v3/lease/revoke", &json!({ "ID": lease.to_string() }), etcd.limit());
    }
    Ok(true)
}

/// Fails where the first key below the lock's name is another lock's, or no lock's at all.
fn refuse_other(etcd: &Etcd, first: &Value) -> Result<()> {
    let key = key_of(first);
    let rest = key.strip_prefix(&format!("{}/", etcd.url.name)).unwrap_or_default();
    if number(&first["lease"]) != 0 && !rest.contains('/') {
        return Ok(());
    }
    let shown = text::path(key.as_ref());
    let error = |detail: String| Error::new(ErrorKind::Obstructed, &etcd.url.target, detail);
    Err(match rest.rsplit_once('/') {
        Some((name, _)) if number(&first["lease"]) != 0 => {
            let other = etcd.url.sibling(&format!("{}/{name}", etcd.url.name));
            error(format!("it is held by the key {shown}, of another lock"))
                .with_hint(format!("break that one: {}", text::word(&other)))
        }
        _ => error(format!("the key {shown} below its name is no lock's"))
            .with_hint("lock another name, or delete that key if no program needs it"),
    })
}
