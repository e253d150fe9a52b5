//! Reads the status of locks, and breaks one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Etcd;
use super::client::{LEASE_REVOKE, LEASE_TIME_TO_LIVE, RANGE, TXN};
use super::keys::{self, RECORDS};
use super::messages::{
    ASCEND, BY_CREATION, Compare, KeyValue, LeaseRequest, LeaseTimeToLiveRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::status::{Scheme, State, Status};
use crate::process::Liveness;
use crate::record::{self, Content, Record, RecordState};
use crate::server::sharers;
use crate::util::text;

/// The keys below a name in the order of their creation, and the one of the record that outlives them.
#[derive(Default)]
pub(super) struct Found {
    pub(super) queue: Vec<KeyValue>,
    pub(super) kept: Option<KeyValue>,
}

impl Found {
    /// Returns the record of the last exclusive holder, if that did not release.
    fn unreleased(&self) -> Option<Record> {
        let record = self.kept.as_ref().and_then(record_of)?;
        record.native.as_ref().is_some_and(|native| native.state != RecordState::Released).then_some(record)
    }

    /// Returns the keys that hold the lock of `name`: the first, or all shares that no exclusive acquire is before.
    fn holders(&self, name: &str) -> &[KeyValue] {
        let shares = self.shares(name).len();
        &self.queue[..shares.max(1).min(self.queue.len())]
    }

    /// Returns the shares that hold the lock of `name`; none if it is held exclusively.
    fn shares(&self, name: &str) -> &[KeyValue] {
        let first_other = self.queue.iter().position(|pair| !keys::is_shared(name, &pair.key));
        &self.queue[..first_other.unwrap_or(self.queue.len())]
    }
}

pub(super) async fn status(etcd: &Etcd, limit: Duration) -> Result<Status> {
    let found = read(etcd, limit).await?;
    Ok(status_of(&etcd.url.target, &etcd.url.name, &found))
}

/// Returns the cluster's id. Its first members have chosen it, by their addresses and the cluster's token.
pub(super) async fn cluster(etcd: &Etcd, limit: Duration) -> Result<String> {
    let request = RangeRequest { keys_only: true, ..RangeRequest::one(&keys::record(&etcd.url.name)) };
    let answer = etcd.client().call(&RANGE, &request, limit).await.of(&etcd.url.target)?.unwrap_or_default();
    Ok(format!("{:016x}", answer.header.map_or(0, |header| header.cluster_id)))
}

async fn read(etcd: &Etcd, limit: Duration) -> Result<Found> {
    let (prefix, kept) = (format!("{}/", etcd.url.name), keys::record(&etcd.url.name));
    let queue = RangeRequest { sort_order: ASCEND, sort_target: BY_CREATION, ..RangeRequest::below(&prefix) };
    let request = TxnRequest { success: vec![queue.into(), RangeRequest::one(&kept).into()], ..TxnRequest::default() };
    let answer = etcd.client().call(&TXN, &request, limit).await.of(&etcd.url.target)?.unwrap_or_default();
    Ok(Found { queue: answer.pairs(0).to_vec(), kept: answer.pairs(1).first().cloned() })
}

pub(super) fn key_of(pair: &KeyValue) -> String {
    String::from_utf8_lossy(&pair.key).into_owned()
}

pub(super) fn record_of(pair: &KeyValue) -> Option<Record> {
    match record::read(&pair.value) {
        Content::Record(record) => Some(record),
        _ => None,
    }
}

pub(super) fn status_of(target: &Path, name: &str, found: &Found) -> Status {
    let mut status = Status::free(target, Path::new(&format!("{name}/")));
    status.server = Some(Scheme::Etcd);
    status.waiters = Some(found.queue.len() - found.holders(name).len());
    status.server_tenures = found.holders(name).iter().map(tenure_of).collect();
    let shares = found.shares(name);
    if !shares.is_empty() {
        status.state = State::Held;
        status.open_by = sharers::pids(shares.iter().filter_map(record_of));
    } else if let Some(first) = found.queue.first() {
        status.state = State::Held;
        let record = record_of(first);
        let alive = match &record {
            Some(_) => Liveness::alive("its lease is kept alive at the server"),
            None => Liveness::alive(format!("its key {} is at the server", text::text(&key_of(first)))),
        };
        status.holder = Some(Holder::from_record(record.as_ref(), alive));
    } else if let Some(record) = found.unreleased() {
        status.state = State::Stale;
        let dead = Liveness::dead("its lease ran out before it had released");
        status.holder = Some(Holder::from_record(Some(&record), dead));
    }
    status
}

/// Returns the name of a holder's tenure, which no later one has.
fn tenure_of(pair: &KeyValue) -> String {
    format!("{} {}", pair.create_revision, key_of(pair))
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
            && keys::is_of_lease(end, pair.lease)
            && !key.starts_with(RECORDS)
        {
            locks.entry(name.to_owned()).or_default().queue.push(pair);
        }
    })
    .await?;
    pages(etcd, &format!("{RECORDS}{below}"), Parts::KeysAndValues, |pair| {
        if let Some(name) = key_of(&pair).strip_prefix(RECORDS)
            && record_of(&pair).is_some()
        {
            locks.entry(name.to_owned()).or_default().kept = Some(pair);
        }
    })
    .await?;
    let mut holders = Vec::new();
    for (name, found) in &mut locks {
        found.queue.sort_by_key(|pair| pair.create_revision);
        let count = found.holders(name).len();
        holders.extend(&mut found.queue[..count]);
    }
    for some in holders.chunks_mut(VALUES) {
        let read = |pair: &&mut KeyValue| RangeRequest { key: pair.key.clone(), ..RangeRequest::default() }.into();
        let request = TxnRequest { success: some.iter().map(read).collect(), ..TxnRequest::default() };
        let answer = etcd.client().call(&TXN, &request, etcd.limit()).await.of(&etcd.url.target)?.unwrap_or_default();
        for (at, pair) in some.iter_mut().enumerate() {
            pair.value = answer.pairs(at).first().map(|found| found.value.clone()).unwrap_or_default();
        }
    }
    let all = locks.iter().map(|(name, found)| status_of(&etcd.url.sibling(name), name, found));
    Ok(all.filter(|lock| lock.state != State::Free).collect())
}

/// Takes the lock from its holder in `seen` by deleting the key, or from all of `seen` that share it. Marks the record that
/// outlives an exclusive holder as released, so that the next holder gets no crash report. `false` where that tenure is over.
pub(super) async fn force_release(etcd: &Etcd, seen: &Status) -> Result<bool> {
    let name = &*etcd.url.name;
    let kept = keys::record(name);
    let is_seen = |pair: &&KeyValue| seen.server_tenures.contains(&tenure_of(pair));
    let fence_of = |record: &Record| record.native.as_ref().and_then(|native| native.fence);
    loop {
        let found = read(etcd, etcd.limit()).await?;
        let shares: Vec<KeyValue> = found.shares(name).iter().filter(is_seen).cloned().collect();
        if !shares.is_empty() {
            shares.iter().try_for_each(|share| refuse_other(etcd, share))?;
            return end_shares(etcd, &shares).await;
        }
        let first = found.queue.first();
        let (fence, mut success, unchanged) = match first {
            Some(first) if is_seen(&first) => {
                refuse_other(etcd, first)?;
                let fence = record_of(first).as_ref().and_then(fence_of);
                (fence, vec![RequestOp::delete(&first.key)], Compare::created(&first.key, first.create_revision))
            }
            Some(_) => return Ok(false),
            None => {
                let fence = seen.holder.as_ref().and_then(|holder| holder.fence);
                (fence, Vec::new(), Compare::none_below(&format!("{name}/")))
            }
        };
        // Another fence is that of an earlier holder, and the next one needs its crash report.
        let record = found.unreleased().filter(|record| fence.is_some() && fence_of(record) == fence);
        if let Some(mut record) = record {
            if let Some(native) = &mut record.native {
                native.state = RecordState::Released;
            }
            success.push(RequestOp::put(&kept, &record.to_json(), 0));
        }
        if success.is_empty() {
            return Ok(false);
        }
        let written = found.kept.as_ref().map_or(0, |kept| kept.mod_revision);
        let compare = vec![unchanged, Compare::written(&kept, written)];
        let request = TxnRequest { compare, success, failure: Vec::new() };
        let answer = etcd.client().call(&TXN, &request, etcd.limit()).await.of(&etcd.url.target)?.unwrap_or_default();
        if !answer.succeeded {
            // The holder or the record has changed: look again.
            continue;
        }
        if let Some(first) = first.filter(|first| first.lease != 0 && record_of(first).is_none()) {
            revoke_if_empty(etcd, first.lease).await;
        }
        return Ok(true);
    }
}

/// Deletes the keys of the shares that were found, many at once. `false` if none of them was there any more.
async fn end_shares(etcd: &Etcd, shares: &[KeyValue]) -> Result<bool> {
    let delete = async |some: &[KeyValue]| {
        let compare = some.iter().map(|share| Compare::created(&share.key, share.create_revision)).collect();
        let success = some.iter().map(|share| RequestOp::delete(&share.key)).collect();
        let request = TxnRequest { compare, success, failure: Vec::new() };
        let answer = etcd.client().call(&TXN, &request, etcd.limit()).await.of(&etcd.url.target)?;
        Ok::<bool, Error>(answer.is_some_and(|answer| answer.succeeded))
    };
    let mut any = false;
    for some in shares.chunks(VALUES) {
        if delete(some).await? {
            any = true;
            continue;
        }
        // Some of them were released meanwhile.
        for share in some {
            any |= delete(std::slice::from_ref(share)).await?;
        }
    }
    Ok(any)
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

    fn found(keys: &[&str]) -> Found {
        let pair = |key: &&str| KeyValue { key: (*key).into(), lease: 0x2f, ..KeyValue::default() };
        Found { queue: keys.iter().map(pair).collect(), kept: None }
    }

    #[test]
    fn shares_hold_up_to_the_first_exclusive_acquire() {
        let counts = |keys: &[&str]| (found(keys).holders("a").len(), found(keys).shares("a").len());
        assert_eq!(counts(&[]), (0, 0));
        assert_eq!(counts(&["a/2f", "a/shared:2f"]), (1, 0));
        assert_eq!(counts(&["a/shared:2f"]), (1, 1));
        assert_eq!(counts(&["a/shared:2f", "a/shared:2f.1", "a/2f", "a/shared:30"]), (2, 2));
    }
}
