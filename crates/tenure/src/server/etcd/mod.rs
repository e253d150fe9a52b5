//! Locks on an etcd cluster, by the protocol of etcd's own `concurrency` recipe: Tenure and `etcdctl lock NAME` exclude each
//! other and share one queue.
//!
//! # The protocol
//!
//! 1. A lease is granted, of `ttl`.
//! 2. The key `NAME/<lease in hex>` is put, bound to the lease, if it is absent. Its value is the record.
//! 3. The owner of the key with the lowest create revision below `NAME/` holds. Every waiter watches the key just before its
//!    own, so that a release wakes one waiter. It also reads the queue every few seconds, because the member that has the
//!    watch may hang.
//! 4. A waiter that finds its key first takes the revision of that transaction as its fence. The fence grows with every
//!    grant: the last holder's key existed at the last fence, and does not exist at this one.
//! 5. The record is kept at `.tenure/NAME` too, without a lease, so that the next holder gets a crash report. A fence that
//!    is not greater than the one there shows that the cluster is a new one and the records were copied.
//! 6. A release marks that record and deletes the key, in one transaction, and revokes the lease. Where the key was
//!    gone by then, the release fails as lost: the work of two holders may have overlapped.
//!
//! # Renewing
//!
//! A renewal is a keep-alive and then a read of the holder's key by the cluster's majority. The lease is confirmed only if
//! both were answered in the same term of the same leader: a leader that was deposed and does not know it yet would still
//! answer the keep-alive. The read also finds a key that an operator has deleted.

mod api;
mod session;
mod status;

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

    /// Returns how long a call may take that is not bound to a lease.
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
        Ok(Box::new(session::EtcdSession::enqueue(Arc::clone(&self.gateway), &self.url, record.clone(), answer_by)?))
    }

    fn status_within(&self, limit: Duration) -> Result<Status> {
        status::status(self, limit)
    }

    fn list(&self) -> Result<Vec<Status>> {
        status::list(self)
    }

    fn force_release(&self, _found: &Status) -> Result<bool> {
        status::force_release(self)
    }
}
