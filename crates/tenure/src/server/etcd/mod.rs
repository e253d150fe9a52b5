//! Locks that an etcd cluster keeps, by the protocol of etcd's own `concurrency` recipe: `etcdctl lock NAME` and we
//! exclude each other and queue together.
//!
//! # The protocol
//!
//! 1. A lease is granted, of `ttl`.
//! 2. The key `NAME/<lease in hex>` is put, bound to the lease, if it is absent. Its value is the record.
//! 3. The key with the lowest create revision below `NAME/` holds. Everybody else waits for the deletion of the one just
//!    before its own: a watch, so that a release wakes one waiter. It also looks every few seconds, because the member
//!    that has the watch may hang.
//! 4. Whoever finds itself first, in one transaction with its own key, takes that transaction's revision as its fence.
//!    It grows for every grant: the key of the holder before was there at its fence and is gone at ours.
//! 5. The record is kept at `.tenure/NAME` too, where no lease takes it away: so the next holder learns of a crash. A
//!    fence that is not greater than the one there shows that the cluster is a new one and the records were copied.
//! 6. A release marks that record and deletes the key, in one transaction, and revokes the lease. Where the key was gone
//!    by then, the caller is told: its work may have overlapped with another's.
//!
//! # Renewing
//!
//! A renewal is a keep-alive and then a read of our own key by the cluster's majority. Only if both were answered in the
//! same term of the same leader is the lease confirmed: a leader that was deposed and does not know it yet would still
//! answer the keep-alive. It also finds a key that an operator has deleted.

mod api;
mod look;
mod session;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::api::Gateway;
use super::lease::call_limit;
use super::lock_server::{LockServer, Session, WaitLimit};
use super::url::Url;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::status::Status;
use crate::record::Record;

/// The prefix of the records that outlive their leases.
const RECORDS: &str = ".tenure/";

/// A name on a cluster.
#[derive(Debug)]
pub(super) struct Etcd {
    gateway: Arc<Gateway>,
    url: Arc<Url>,
    /// `NAME/`
    prefix: PathBuf,
}

impl Etcd {
    pub(super) fn open(url: Url) -> Result<Etcd> {
        if format!("{}/", url.name).starts_with(RECORDS) {
            let detail = "names below `.tenure/` are for the records of the others";
            return Err(Error::new(ErrorKind::InvalidTarget, url.target, detail));
        }
        let url = Arc::new(url);
        let prefix = format!("{}/", url.name).into();
        Ok(Etcd { gateway: Arc::new(Gateway::new(Arc::clone(&url))?), url, prefix })
    }

    /// How long a call may take that is not bound to a lease.
    fn limit(&self) -> Duration {
        call_limit(self.url.ttl)
    }
}

impl LockServer for Etcd {
    fn lock_name(&self) -> &Path {
        &self.prefix
    }

    fn url(&self) -> &Url {
        &self.url
    }

    fn enqueue(&self, record: &Record, _limit: WaitLimit, answer_by: Option<Instant>) -> Result<Box<dyn Session>> {
        Ok(Box::new(session::Place::take(Arc::clone(&self.gateway), &self.url, record.clone(), answer_by)?))
    }

    fn status_within(&self, limit: Duration) -> Result<Status> {
        look::status(self, limit)
    }

    fn list(&self) -> Result<Vec<Status>> {
        look::list(self)
    }

    fn force_release(&self, _found: &Status) -> Result<bool> {
        look::force_release(self)
    }
}
