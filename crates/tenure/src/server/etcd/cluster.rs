//! A cluster, for one user in this process: its client, its sessions and its watches.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::batches::Batches;
use super::client::Client;
use super::looks::Looks;
use super::session::Session;
use super::turns::Turns;
use super::watches::Watches;
use crate::model::error::{Error, ErrorKind, Result};
use crate::server::io_thread::within;
use crate::server::tls;
use crate::server::url::Url;
use crate::sys::ForkLocal;

/// How many acquires of a process enter their queues at the same time: enough for some calls, each of which carries many.
const MOST_ENTERING: usize = 512;

/// A cluster, by its members' addresses, and a user of it.
pub(super) struct Cluster {
    pub(super) client: Arc<Client>,
    batches: Arc<Batches>,
    pub(super) watches: Arc<Watches>,
    pub(super) turns: Arc<Turns>,
    pub(super) looks: Looks,
    /// The acquires that enter their queues at the same time.
    pub(super) entering: Semaphore,
    /// The current session of each length of a lease. Locked while a session begins.
    sessions: tokio::sync::Mutex<HashMap<Duration, Weak<Session>>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.client.fmt(f)
    }
}

fn clusters() -> &'static Mutex<Vec<Weak<Cluster>>> {
    static CLUSTERS: ForkLocal<Mutex<Vec<Weak<Cluster>>>> = ForkLocal::new();
    CLUSTERS.get(Mutex::default)
}

/// Returns every cluster that this process uses.
pub(super) fn all() -> Vec<Arc<Cluster>> {
    let clusters = clusters().lock().unwrap_or_else(PoisonError::into_inner);
    clusters.iter().filter_map(Weak::upgrade).collect()
}

impl Cluster {
    /// Returns this process's cluster for a target.
    pub(super) fn of(url: &Url) -> Result<Arc<Cluster>> {
        let identity = tls::read(url)?;
        let mut clusters = clusters().lock().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|cluster| cluster.strong_count() > 0);
        let same = |cluster: &Arc<Cluster>| cluster.client.is_for(url, identity.as_ref());
        if let Some(cluster) = clusters.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(cluster);
        }
        let client = Arc::new(Client::new(url, identity)?);
        let batches = Arc::new(Batches::new(&client));
        let (watches, sessions) = (Arc::default(), tokio::sync::Mutex::default());
        let (turns, looks) = (Arc::default(), Looks::default());
        let cluster = Arc::new(Cluster {
            client,
            batches,
            watches,
            turns,
            looks,
            entering: Semaphore::new(MOST_ENTERING),
            sessions,
        });
        clusters.push(Arc::downgrade(&cluster));
        Ok(cluster)
    }

    /// Returns the session of that length, which begins if there is none.
    pub(super) async fn session(
        self: &Arc<Self>,
        ttl: Duration,
        target: &Path,
        limit: Duration,
    ) -> Result<Arc<Session>> {
        let end = Instant::now() + limit;
        let unanswered = || Error::new(ErrorKind::Unreachable, target, "no lease was granted within the time");
        let mut sessions = within(limit, self.sessions.lock()).await.ok_or_else(unanswered)?;
        if let Some(session) = sessions.get(&ttl).and_then(Weak::upgrade).filter(|session| session.is_open()) {
            return Ok(session);
        }
        let left = end.saturating_duration_since(Instant::now());
        // With memory of its own, because this is a part of every acquire's task.
        let begin = Session::begin(&self.client, &self.batches, Arc::<Cluster>::clone(self), ttl, target, left);
        let session = Box::pin(begin).await?;
        sessions.insert(ttl, Arc::downgrade(&session));
        Ok(session)
    }

    /// Gives back the leases that hold nothing, because the process is about to end.
    pub(super) async fn end_idle_sessions(&self) {
        let sessions: Vec<Arc<Session>> = self.sessions.lock().await.values().filter_map(Weak::upgrade).collect();
        for session in sessions {
            session.end_if_idle().await;
        }
    }
}
