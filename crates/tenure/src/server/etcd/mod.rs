//! Locks on an etcd cluster, by the protocol of etcd's own `concurrency` recipe: Tenure and `etcdctl lock NAME` exclude each
//! other and share one queue.
//!
//! # The protocol
//!
//! 1. A lease is granted, of `ttl`. All locks of this process on the cluster with the same `ttl` share it, as one
//!    `concurrency.Session` does.
//! 2. The key `NAME/<lease in hex>` is put, bound to the lease, if it is absent. Its value is the record. Another acquire of
//!    this process for the same name puts `NAME/<lease in hex>.1`, and so on.
//!    A shared acquire puts `NAME/shared:<lease in hex>`.
//! 3. The owner of the key with the lowest create revision below `NAME/` holds. A share holds as soon as no key before it is
//!    exclusive; an exclusive acquire waits for every key before it, as `etcdctl lock` does. So they are granted in the order
//!    of the queue, and no exclusive acquire waits for a share that began later. Every waiter watches the last key for which
//!    it waits, so that a release wakes one waiter, or all shares behind it. Every few seconds the keys of all waiters are also read, because the member
//!    that has the watches may hang.
//! 4. A waiter that finds its key first takes the revision of that transaction as its fence. The fence grows with every
//!    grant: the last holder's key existed at the last fence, and does not exist at this one. A share has no fence.
//! 5. The record is kept at `.tenure/NAME` too, without a lease, so that the next holder gets a crash report. A share reads it
//!    and leaves it to the next exclusive holder; its own end leaves no report. A fence that
//!    is not greater than the one there shows that the cluster is a new one and the records were copied.
//! 6. A release marks that record and deletes the key, in one transaction. The lease is given back when none of its keys is
//!    left. Where the key was gone by then, the release fails as lost: the work of two holders may have overlapped.
//!
//! # Renewing
//!
//! A renewal is a keep-alive and then a read of the holders' keys by the cluster's majority, 128 in a transaction. The lease
//! is confirmed only if all were answered in the same term of the same leader: a leader that was deposed and does not know
//! it yet would still answer the keep-alive. The reads also find a key that an operator has deleted.

mod batches;
mod client;
mod cluster;
mod connection;
mod keys;
mod looks;
mod messages;
mod place;
mod session;
mod slots;
mod status;
mod turns;
mod watches;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::client::Client;
use self::cluster::Cluster;
use self::keys::RECORDS;
use super::acquire::{Acquire, AcquireServer};
use super::io_thread;
use super::lease::call_limit;
use super::lock_server::LockServer;
use super::pending::PendingAcquire;
use super::url::Url;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::slots::FoundSlots;
use crate::model::status::Status;

/// A name on a cluster.
#[derive(Clone, Debug)]
pub(super) struct Etcd {
    cluster: Arc<Cluster>,
    url: Arc<Url>,
    /// `NAME/`
    prefix: PathBuf,
}

impl Etcd {
    pub(super) fn open(url: Url) -> Result<Etcd> {
        let cluster = Cluster::of(&url)?;
        Etcd::on(cluster, url)
    }

    fn on(cluster: Arc<Cluster>, url: Url) -> Result<Etcd> {
        if format!("{}/", url.name).starts_with(RECORDS) {
            let detail = "names below `.tenure/` are for the records of the others";
            return Err(Error::new(ErrorKind::InvalidTarget, url.target, detail));
        }
        let prefix = format!("{}/", url.name).into();
        Ok(Etcd { cluster, url: Arc::new(url), prefix })
    }

    fn client(&self) -> &Client {
        &self.cluster.client
    }

    /// Returns how long a call may take that is not bound to a lease.
    fn limit(&self) -> Duration {
        call_limit(self.url.ttl)
    }

    /// Runs a task on the I/O thread, and waits for its result.
    fn wait<T: Send + 'static>(&self, task: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        io_thread::wait(task).map_err(|error| Error::io(&self.url.target, "the I/O thread could not start", error))?
    }
}

impl LockServer for Etcd {
    fn lock_name(&self) -> &Path {
        &self.prefix
    }

    fn url(&self) -> &Url {
        &self.url
    }

    fn cluster(&self, limit: Duration) -> Result<String> {
        let etcd = self.clone();
        self.wait(async move { status::cluster(&etcd, limit).await })
    }

    fn status_within(&self, limit: Duration) -> Result<Status> {
        let etcd = self.clone();
        self.wait(async move { status::status(&etcd, limit).await })
    }

    fn list(&self) -> Result<Vec<Status>> {
        let etcd = self.clone();
        self.wait(async move { status::list(&etcd).await })
    }

    fn slots(&self, least: Range<u32>, limit: Duration) -> Result<FoundSlots> {
        let etcd = self.clone();
        self.wait(async move { slots::slots(&etcd, least, limit).await })
    }

    fn force_release(&self, found: &Status) -> Result<bool> {
        let (etcd, found) = (self.clone(), found.clone());
        self.wait(async move { status::force_release(&etcd, &found).await })
    }
}

impl AcquireServer for Etcd {
    fn start(self: Arc<Self>, acquire: Acquire, pending: &Arc<PendingAcquire>) -> io::Result<()> {
        io_thread::spawn(place::serve(self, acquire, Arc::clone(pending)))
    }

    fn sibling(&self, url: Url) -> Result<Arc<dyn AcquireServer>> {
        Ok(Arc::new(Etcd::on(Arc::clone(&self.cluster), url)?))
    }

    fn has_shared_locks(&self) -> bool {
        true
    }
}

/// Gives back the leases of this process that hold nothing, within `limit`, because it is about to end.
pub(super) fn give_idle_leases_back(limit: Duration) {
    let clusters = cluster::all();
    let end = async move {
        for cluster in &clusters {
            cluster.end_idle_sessions().await;
        }
    };
    if !cluster::all().is_empty() {
        let _ = io_thread::wait(io_thread::within(limit, end));
    }
}
