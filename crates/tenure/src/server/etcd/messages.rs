//! The messages of etcd's gRPC interface, as far as they are used here (`api/etcdserverpb/rpc.proto`, `mvccpb/kv.proto`).
//! Fields that are not listed are neither sent nor read.

use prost::{Message, Oneof};

pub(super) const ASCEND: i32 = 1;
pub(super) const DESCEND: i32 = 2;
/// The sort target: create revisions.
pub(super) const BY_CREATION: i32 = 2;
/// The targets of a comparison: the revision at which a key was created, and that of its last change.
const CREATE: i32 = 1;
const MOD: i32 = 2;
/// The filter of a watch that only needs deletions.
pub(super) const NO_PUT: i32 = 0;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(super) raft_term: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(super) create_revision: i64,
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(super) lease: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) limit: i64,
    #[prost(int32, tag = "5")]
    pub(super) sort_order: i32,
    #[prost(int32, tag = "6")]
    pub(super) sort_target: i32,
    #[prost(bool, tag = "8")]
    pub(super) keys_only: bool,
    #[prost(int64, tag = "13")]
    pub(super) max_create_revision: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) lease: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(oneof = "Op", tags = "1, 2, 3")]
    op: Option<Op>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Op {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    DeleteRange(DeleteRangeRequest),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    range: Option<RangeResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    #[prost(oneof = "Target", tags = "5, 6")]
    value: Option<Target>,
    #[prost(bytes = "vec", tag = "64")]
    range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Target {
    #[prost(int64, tag = "5")]
    CreateRevision(i64),
    #[prost(int64, tag = "6")]
    ModRevision(i64),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub(super) failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    responses: Vec<ResponseOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    pub(super) ttl: i64,
}

/// Also the answer to a keep-alive, whose fields have the same numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
}

/// The request of a keep-alive, and of a revoke.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseTimeToLiveRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(bool, tag = "2")]
    pub(super) keys: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LeaseTimeToLiveResponse {
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub(super) keys: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) password: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub(super) token: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchRequest {
    #[prost(oneof = "WatchOp", tags = "1, 2")]
    op: Option<WatchOp>,
}

#[derive(Clone, PartialEq, Oneof)]
enum WatchOp {
    #[prost(message, tag = "1")]
    Create(WatchCreateRequest),
    #[prost(message, tag = "2")]
    Cancel(WatchCancelRequest),
}

#[derive(Clone, PartialEq, Message)]
struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "3")]
    start_revision: i64,
    #[prost(int32, repeated, tag = "5")]
    filters: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct WatchCancelRequest {
    #[prost(int64, tag = "1")]
    watch_id: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchResponse {
    #[prost(int64, tag = "2")]
    pub(super) watch_id: i64,
    #[prost(bool, tag = "3")]
    pub(super) created: bool,
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    /// The events, whose contents do not matter: a watch has one key and only sees its deletion.
    #[prost(bytes = "vec", repeated, tag = "11")]
    pub(super) events: Vec<Vec<u8>>,
}

impl RangeRequest {
    pub(super) fn one(key: &str) -> RangeRequest {
        RangeRequest { key: key.into(), ..RangeRequest::default() }
    }

    pub(super) fn below(prefix: &str) -> RangeRequest {
        RangeRequest { key: prefix.into(), range_end: end_of(prefix), ..RangeRequest::default() }
    }
}

impl From<RangeRequest> for RequestOp {
    fn from(range: RangeRequest) -> RequestOp {
        RequestOp { op: Some(Op::Range(range)) }
    }
}

impl RequestOp {
    /// Puts a key, bound to a lease unless that is 0.
    pub(super) fn put(key: &str, value: &str, lease: i64) -> RequestOp {
        RequestOp { op: Some(Op::Put(PutRequest { key: key.into(), value: value.into(), lease })) }
    }

    pub(super) fn delete(key: &[u8]) -> RequestOp {
        RequestOp { op: Some(Op::DeleteRange(DeleteRangeRequest { key: key.to_vec() })) }
    }
}

impl TxnRequest {
    /// Returns whether it may change a key.
    pub(super) fn changes(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| !matches!(op.op, Some(Op::Range(_))))
    }
}

impl Compare {
    /// Requires that the key was created at that revision; that it is absent, where that is 0.
    pub(super) fn created(key: &[u8], revision: i64) -> Compare {
        let value = Some(Target::CreateRevision(revision));
        Compare { target: CREATE, key: key.to_vec(), value, range_end: Vec::new() }
    }

    /// Requires that the key was last written at that revision; that it is absent, where that is 0.
    pub(super) fn written(key: &str, revision: i64) -> Compare {
        let value = Some(Target::ModRevision(revision));
        Compare { target: MOD, key: key.into(), value, range_end: Vec::new() }
    }

    /// Requires that there is no key below a prefix.
    pub(super) fn none_below(prefix: &str) -> Compare {
        Compare { range_end: end_of(prefix), ..Compare::created(prefix.as_bytes(), 0) }
    }
}

impl TxnResponse {
    /// Returns the pairs that the operation at `at` read.
    pub(super) fn pairs(&self, at: usize) -> &[KeyValue] {
        self.responses.get(at).and_then(|op| op.range.as_ref()).map_or(&[], |range| &range.kvs)
    }

    /// Returns an answer whose operations have read those keys, one each.
    #[cfg(test)]
    pub(super) fn of_pairs(keys: &[&str]) -> TxnResponse {
        let response = |key: &&str| {
            let kvs = vec![KeyValue { key: (*key).into(), ..KeyValue::default() }];
            ResponseOp { range: Some(RangeResponse { kvs, ..RangeResponse::default() }) }
        };
        TxnResponse { responses: keys.iter().map(response).collect(), ..TxnResponse::default() }
    }

    /// Returns the answers of the parts of which this one's transaction was made, whose numbers of operations are `counts`.
    pub(super) fn split(mut self, counts: &[usize]) -> Vec<TxnResponse> {
        let mut responses = std::mem::take(&mut self.responses).into_iter();
        let part = |count: &usize| {
            let responses = responses.by_ref().take(*count).collect();
            TxnResponse { header: self.header.clone(), succeeded: self.succeeded, responses }
        };
        counts.iter().map(part).collect()
    }

    pub(super) fn revision(&self) -> i64 {
        self.header.as_ref().map_or(0, |header| header.revision)
    }

    pub(super) fn term(&self) -> u64 {
        self.header.as_ref().map_or(0, |header| header.raft_term)
    }
}

impl WatchRequest {
    /// Watches for the deletion of `key`, from `revision` on.
    pub(super) fn create(key: &str, revision: i64) -> WatchRequest {
        let create = WatchCreateRequest { key: key.into(), start_revision: revision, filters: vec![NO_PUT] };
        WatchRequest { op: Some(WatchOp::Create(create)) }
    }

    pub(super) fn cancel(watch_id: i64) -> WatchRequest {
        WatchRequest { op: Some(WatchOp::Cancel(WatchCancelRequest { watch_id })) }
    }
}

/// Returns the first key after all those that begin with `prefix`.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < 0xff {
            bytes.push(last + 1);
            return bytes;
        }
    }
    // Beyond every key.
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_after_its_last_byte() {
        assert_eq!(end_of("a/"), b"a0");
        assert_eq!(end_of(""), [0]);
    }

    #[test]
    fn a_condition_of_absence_is_sent_and_not_left_out() {
        // result EQUAL (0, left out), target CREATE, key "a", create_revision 0.
        assert_eq!(Compare::created(b"a", 0).encode_to_vec(), [0x10, 1, 0x1a, 1, b'a', 0x28, 0]);
    }

    #[test]
    fn a_watch_sees_deletions_only() {
        let bytes = WatchRequest::create("a", 7).encode_to_vec();
        assert_eq!(bytes, [0x0a, 8, 0x0a, 1, b'a', 0x18, 7, 0x2a, 1, 0]);
    }
}
