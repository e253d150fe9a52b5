//! Looking at locks, and taking one away.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::api::{decode, encode, end_of, number};
use super::{Etcd, RECORDS};
use crate::engine::{Engine as _, Scheme};
use crate::error::Result;
use crate::inspect::{Inspection, State};
use crate::presence::holder_of;
use crate::process::Liveness;
use crate::record::{self, Content, Record, RecordState};

/// Keys below a name, first come first, and the record that outlives them.
#[derive(Default)]
struct Found {
    queue: Vec<Value>,
    kept: Option<Record>,
}

pub(super) fn inspect(etcd: &Etcd) -> Result<Inspection> {
    let found = read(etcd)?;
    Ok(inspection(&etcd.url.target, etcd.lock_name(), &found))
}

fn read(etcd: &Etcd) -> Result<Found> {
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
    let answer = etcd.gateway.call("/v3/kv/txn", &body, etcd.limit())?.unwrap_or(Value::Null);
    let range = |at: usize| answer["responses"][at]["response_range"]["kvs"].as_array().cloned().unwrap_or_default();
    Ok(Found { queue: range(0), kept: range(1).first().and_then(record_of) })
}

fn record_of(pair: &Value) -> Option<Record> {
    match record::read(&decode(&pair["value"])) {
        Content::Record(record) => Some(record),
        _ => None,
    }
}

fn inspection(target: &Path, lock_name: &Path, found: &Found) -> Inspection {
    let mut inspection = Inspection::free(target, lock_name);
    inspection.engine = Some(Scheme::Etcd);
    inspection.waiters = Some(found.queue.len().saturating_sub(1));
    if let Some(first) = found.queue.first() {
        inspection.state = State::Held;
        let record = record_of(first);
        let alive = match &record {
            Some(_) => Liveness::alive("its lease is kept alive at the server"),
            None => Liveness::alive("its key is at the server"),
        };
        inspection.holder = Some(holder_of(record.as_ref(), alive));
    } else if let Some(record) = &found.kept
        && record.native.as_ref().is_some_and(|native| native.state != RecordState::Released)
    {
        inspection.state = State::Stale;
        let dead = Liveness::dead("its lease ran out before it had released");
        inspection.holder = Some(holder_of(Some(record), dead));
    }
    inspection
}

/// Every lock below a name that is held, or whose holder died.
pub(super) fn list(etcd: &Etcd) -> Result<Vec<Inspection>> {
    let below = match etcd.url.name.trim_end_matches('/') {
        "" => String::new(),
        name => format!("{name}/"),
    };
    let kept = format!("{RECORDS}{below}");
    let range = |prefix: &str| {
        let key = if prefix.is_empty() { encode("\0") } else { encode(prefix) };
        json!({"request_range": {"key": key, "range_end": end_of(prefix), "sort_order": "ASCEND", "sort_target": "CREATE"}})
    };
    let body = json!({"compare": [], "success": [range(&below), range(&kept)]});
    let answer = etcd.gateway.call("/v3/kv/txn", &body, etcd.limit())?.unwrap_or(Value::Null);
    let pairs = |at: usize| answer["responses"][at]["response_range"]["kvs"].as_array().cloned().unwrap_or_default();
    let mut locks: BTreeMap<String, Found> = BTreeMap::new();
    for pair in pairs(0) {
        let key = String::from_utf8_lossy(&decode(&pair["key"])).into_owned();
        // Somebody else's keys are in there too: a lock's ends in its lease, and is bound to it.
        let Some((name, end)) = key.rsplit_once('/') else { continue };
        if i64::from_str_radix(end, 16) == Ok(number(&pair["lease"])) && !format!("{name}/").starts_with(RECORDS) {
            locks.entry(name.to_owned()).or_default().queue.push(pair);
        }
    }
    for pair in pairs(1) {
        let key = String::from_utf8_lossy(&decode(&pair["key"])).into_owned();
        if let Some(name) = key.strip_prefix(RECORDS) {
            locks.entry(name.to_owned()).or_default().kept = record_of(&pair);
        }
    }
    let all =
        locks.iter().map(|(name, found)| inspection(&etcd.url.sibling(name), Path::new(&format!("{name}/")), found));
    Ok(all.filter(|lock| lock.state != State::Free).collect())
}

/// Takes the lock from its holder: its key goes, and its lease. The record that outlives it says that nobody crashed.
pub(super) fn take_away(etcd: &Etcd) -> Result<bool> {
    let found = read(etcd)?;
    let kept = format!("{RECORDS}{}", etcd.url.name);
    let first = found.queue.first();
    let mut compare = Vec::new();
    let mut success = Vec::new();
    if let Some(mut record) = found.kept {
        if let Some(native) = &mut record.native {
            native.state = RecordState::Released;
        }
        success.push(json!({"request_put": {
            "key": encode(&kept), "value": encode(&crate::engine::hold::text(&record)),
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
    if let Some(lease) = first.map(|first| number(&first["lease"])).filter(|lease| *lease != 0) {
        etcd.gateway.call("/v3/lease/revoke", &json!({ "ID": lease.to_string() }), etcd.limit())?;
    }
    Ok(true)
}
