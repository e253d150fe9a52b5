//! Reads the status of locks, and breaks one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Etcd;
use super::client::{LEASE_REVOKE, LEASE_TIME_TO_LIVE, RANGE, TXN};
use super::messages::{
    ASCEND, BY_CREATION, Compare, KeyValue, LeaseRequest, LeaseTimeToLiveRequest, RangeRequest, RequestOp, TxnRequest,
};
use super::session::RECORDS;
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
    queue: Vec<KeyValue>,
    kept: Option<Record>,
}

pub(super) async fn status(etcd: &Etcd, limit: Duration) -> Result<Status> {
    let found = read(etcd, limit).await?;
    Ok(status_of(&etcd.url.target, etcd.lock_name(), &found))
}

async fn read(etcd: &Etcd, limit: Duration) -> Result<Found> {
    let (prefix, kept) = (format!("{}/", etcd.url.name), format!("{RECORDS}{}", etcd.url.name));
    let queue = RangeRequest { sort_order: ASCEND, sort_target: BY_CREATION, ..RangeRequest::below(&prefix) };
    let request = TxnRequest { success: vec![queue.into(), RangeRequest::one(&kept).into()], ..TxnRequest::default() };
    let answer = etcd.client().call(&TXN, &request, limit).await.of(&etcd.url.target)?.unwrap_or_default();
    Ok(Found { queue: answer.pairs(0).to_vec(), kept: answer.pairs(1).first().and_then(record_of) })
}

fn key_of(pair: &KeyValue) -> String {
    String::from_utf8_lossy(&pair.key).into_owned()
}

fn record_of(pair: &KeyValue) -> Option<Record> {
    match record::read(&pair.value) {
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
const PAGE: i64 = 1000;
/// The number of values in one request. etcd accepts at most 128 in a transaction.
const VALUES: usize = 100;

/// What a page has of each pair.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Keys,
    KeysAndValues,
}

/// Passes every pair from the prefix on to `each`, page by page.
async fn pages(etcd: &Etcd, prefix: &str, parts: Parts, mut each: impl FnMut(KeyValue)) -> Result<()> {
    let mut request = RangeRequest { limit: PAGE, keys_only: parts == Parts::Keys, ..RangeRequest::below(prefix) };
    if request.key.is_empty() {
        request.key.push(0);
    }
    loop {
        let answer = etcd.client().call(&RANGE, &request, etcd.limit()).await.of(&etcd.url.target)?.unwrap_or_default();
        let last = answer.kvs.last().filter(|_| answer.more).map(|pair| pair.key.clone());
        answer.kvs.into_iter().for_each(&mut each);
        let Some(last) = last else { return Ok(()) };
        request.key = last;
        request.key.push(0);
    }
}

/// Returns whether the last part of a key is that of a lease: `<lease in hex>` or, for a second key of the same name,
/// `<lease in hex>.1`.
fn is_of_lease(end: &str, lease: i64) -> bool {
    let (end, number) = end.split_once('.').unwrap_or((end, "0"));
    lease != 0 && i64::from_str_radix(end, 16) == Ok(lease) && number.parse::<usize>().is_ok()
}

/// Returns every lock below a name that is held, or whose holder died.
pub(super) async fn list(etcd: &Etcd) -> Result<Vec<Status>> {
    let below = match etcd.url.name.trim_end_matches('/') {
        "" => String::new(),
        name => format!("{name}/"),
    };
    let mut locks: BTreeMap<String, Found> = BTreeMap::new();
    pages(etcd, &below, Parts::Keys, |pair| {
        let key = key_of(&pair);
        // Other programs' keys are in there too. A lock's key ends in its lease, and is bound to it.
        if let Some((name, end)) = key.rsplit_once('/')
            && is_of_lease(end, pair.lease)
            && !key.starts_with(RECORDS)
        {
            locks.entry(name.to_owned()).or_default().queue.push(pair);
        }
    })
    .await?;
    pages(etcd, &format!("{RECORDS}{below}"), Parts::KeysAndValues, |pair| {
        if let Some(name) = key_of(&pair).strip_prefix(RECORDS)
            && let Some(record) = record_of(&pair)
        {
            locks.entry(name.to_owned()).or_default().kept = Some(record);
        }
    })
    .await?;
    let mut firsts = Vec::new();
    for found in locks.values_mut() {
        found.queue.sort_by_key(|pair| pair.create_revision);
        firsts.extend(found.queue.first_mut());
    }
    for some in firsts.chunks_mut(VALUES) {
        let read = |pair: &&mut KeyValue| RangeRequest { key: pair.key.clone(), ..RangeRequest::default() }.into();
        let request = TxnRequest { success: some.iter().map(read).collect(), ..TxnRequest::default() };
        let answer = etcd.client().call(&TXN, &request, etcd.limit()).await.of(&etcd.url.target)?.unwrap_or_default();
        for (at, pair) in some.iter_mut().enumerate() {
            pair.value = answer.pairs(at).first().map(|found| found.value.clone()).unwrap_or_default();
        }
    }
    let all =
        locks.iter().map(|(name, found)| status_of(&etcd.url.sibling(name), Path::new(&format!("{name}/")), found));
    Ok(all.filter(|lock| lock.state != State::Free).collect())
}

/// Takes the lock from its holder by deleting the key. Marks the record that outlives it as released, so that the next
/// holder gets no crash report.
pub(super) async fn force_release(etcd: &Etcd) -> Result<bool> {
    let found = read(etcd, etcd.limit()).await?;
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
        success.push(RequestOp::put(&kept, &record.to_json(), 0));
    }
    if let Some(first) = first {
        compare.push(Compare::created(&first.key, first.create_revision));
        success.push(RequestOp::delete(&first.key));
    }
    let request = TxnRequest { compare, success, failure: Vec::new() };
    let answer = etcd.client().call(&TXN, &request, etcd.limit()).await.of(&etcd.url.target)?.unwrap_or_default();
    if !answer.succeeded {
        return Ok(false);
    }
    if let Some(first) = first.filter(|first| first.lease != 0 && record_of(first).is_none()) {
        revoke_if_empty(etcd, first.lease).await;
    }
    Ok(true)
}

/// Revokes the lease of a foreign holder, such as `etcdctl lock`, which ends it, unless it has another key. Tenure's own
/// leases are for all locks of a process, and may get the next key at any moment.
async fn revoke_if_empty(etcd: &Etcd, lease: i64) {
    let (target, request) = (&etcd.url.target, LeaseTimeToLiveRequest { id: lease, keys: true });
    // The lock is broken by now, so an error does not matter.
    let found = etcd.client().call(&LEASE_TIME_TO_LIVE, &request, etcd.limit()).await.of(target);
    if let Ok(Some(found)) = found
        && found.keys.is_empty()
    {
        let _ = etcd.client().call(&LEASE_REVOKE, &LeaseRequest { id: lease }, etcd.limit()).await.of(target);
    }
}

/// Fails where the first key below the lock's name is another lock's, or no lock's at all.
fn refuse_other(etcd: &Etcd, first: &KeyValue) -> Result<()> {
    let key = key_of(first);
    let rest = key.strip_prefix(&format!("{}/", etcd.url.name)).unwrap_or_default();
    if first.lease != 0 && !rest.contains('/') {
        return Ok(());
    }
    let shown = text::path(key.as_ref());
    let error = |detail: String| Error::new(ErrorKind::Obstructed, &etcd.url.target, detail);
    Err(match rest.rsplit_once('/') {
        Some((name, _)) if first.lease != 0 => {
            let other = etcd.url.sibling(&format!("{}/{name}", etcd.url.name));
            error(format!("it is held by the key {shown}, of another lock"))
                .with_hint(format!("break that one: {}", text::word(&other)))
        }
        _ => error(format!("the key {shown} below its name is no lock's"))
            .with_hint("lock another name, or delete that key if no program needs it"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_lock_ends_in_its_lease() {
        assert!(is_of_lease("2f", 0x2f) && is_of_lease("2f.3", 0x2f));
        assert!(!is_of_lease("2f", 0x30) && !is_of_lease("2f.x", 0x2f) && !is_of_lease("config", 0x2f));
        assert!(!is_of_lease("0", 0), "data");
    }
}
