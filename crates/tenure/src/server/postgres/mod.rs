//! Locks on a PostgreSQL server, by session advisory locks: they also exclude any other program that takes the same one.
//!
//! # The protocol
//!
//! Every name in the SQL has its schema, and the session's `search_path` is the server's own schema alone: functions that
//! other users put into `public` are never called.
//!
//! 1. The locks of a process share [sessions](pool). `idle_session_timeout` is the lease: the server ends a session that is
//!    idle for that long, and with it its locks. A proxy that shares sessions between clients is refused.
//! 2. `pg_try_advisory_lock(hashtextextended(NAME, 0))` takes what is free, in one session for all.
//! 3. Where that fails, `pg_advisory_lock(..)` waits in the server's queue, for at most `lock_timeout`: in a session that
//!    has no lock, and then holds. Where all `sessions=` wait or hold, step 2 is repeated.
//! 4. The row of the name in `tenure.locks` says whether the last holder released. If it did not, its session is gone but
//!    its process may not know that yet: the next holder waits out that lease, unless the process is proven dead.
//! 5. One statement takes `nextval` as the fence and writes the record, in one commit, if the row is the one of step 4 or
//!    was released. A sequence that went back behind the fence in the row (it was reset, or was not copied with the table)
//!    is noticed there, and the lock refused.
//!
//!    A shared lock (`pg_advisory_lock_shared`) has no fence. It leaves a *word* in the row: its session's lease. The
//!    shared locks of a name in one session have one word, which the first writes and the last removes. An exclusive grant
//!    finds no word but those whose leases it has waited out, and removes them.
//! 6. A renewal is a query for `pg_backend_pid()` in each session. When a connection ends, its tenures are lost.
//! 7. A release marks the row, or removes the word, commits, and then unlocks.
//!
//! Rows are written by another session than the one that has the advisory lock, because a row or a table may be locked, and
//! a synchronous standby may hang. That session would not be renewed meanwhile. So a session writes only the row of a lock that it
//! releases, if it has no other. Step 5 is safe without it: each grant
//! changes a row that was released, or one whose lease was waited out by a session that had the lock all the time: it is
//! asked once more after the wait. A grant that arrives late finds another row.

mod batches;
mod claims;
mod connect;
mod password;
mod place;
mod plans;
mod pool;
mod rows;
mod session;
mod slots;
mod sql;
mod status;
mod tenures;
mod users;
mod word;
mod writes;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::pool::Pool;
use super::acquire::{Acquire, AcquireServer};
use super::io_thread;
use super::lease::call_limit;
use super::lock_server::LockServer;
use super::pending::PendingAcquire;
use super::url::Url;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::slots::FoundSlots;
use crate::model::status::Status;

/// A name in a database.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    pool: Arc<Pool>,
    url: Arc<Url>,
    /// The advisory lock, as it is written in SQL.
    lock: PathBuf,
}

impl Postgres {
    pub(super) fn open(url: Url) -> Result<Postgres> {
        suit_environment(&url)?;
        if cfg!(not(unix)) && url.socket.is_some() {
            let error =
                Error::new(ErrorKind::Unsupported, &url.target, "Unix sockets are not supported on this system");
            return Err(error.with_hint("name a host in the target"));
        }
        Ok(Postgres::on(Pool::of(&url)?, url))
    }

    fn on(pool: Arc<Pool>, url: Url) -> Postgres {
        let lock = lock_in_words(&url.name);
        Postgres { pool, url: Arc::new(url), lock }
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

/// Refuses variables of libpq that ask for more safety than the target. The target alone names the server, so that all
/// processes with that target use the same one; the user and the password are read (`PGUSER`, `PGPASSWORD`,
/// `PGPASSFILE`).
fn suit_environment(url: &Url) -> Result<()> {
    let of = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    if of("PGSERVICE").is_some() {
        let error = Error::new(ErrorKind::InvalidTarget, &url.target, "PGSERVICE is set, and services are not read");
        return Err(error.with_hint("name host, database, user and `ca=` in the target, and unset it"));
    }
    match of("PGSSLMODE") {
        Some(mode) if url.tls.ca.is_none() => url.suit_sslmode("PGSSLMODE=", &mode),
        _ => Ok(()),
    }
}

fn lock_in_words(name: &str) -> PathBuf {
    format!("pg_advisory_lock(hashtextextended('{}', 0))", name.replace('\'', "''")).into()
}

impl LockServer for Postgres {
    fn lock_name(&self) -> &Path {
        &self.lock
    }

    fn url(&self) -> &Url {
        &self.url
    }

    fn cluster(&self, limit: Duration) -> Result<String> {
        let postgres = self.clone();
        self.wait(async move { status::cluster(&postgres, limit).await })
    }

    fn status_within(&self, limit: Duration) -> Result<Status> {
        let postgres = self.clone();
        self.wait(async move { status::status(&postgres, limit).await })
    }

    fn list(&self) -> Result<Vec<Status>> {
        let postgres = self.clone();
        self.wait(async move { status::list(&postgres).await })
    }

    fn slots(&self, least: Range<u32>, limit: Duration) -> Result<FoundSlots> {
        let postgres = self.clone();
        self.wait(async move { slots::slots(&postgres, least, limit).await })
    }

    fn force_release(&self, found: &Status) -> Result<bool> {
        let (postgres, found) = (self.clone(), found.clone());
        self.wait(async move { status::force_release(&postgres, &found).await })
    }
}

impl AcquireServer for Postgres {
    fn sibling(&self, url: Url) -> Result<Arc<dyn AcquireServer>> {
        Ok(Arc::new(Postgres::on(Arc::clone(&self.pool), url)))
    }

    fn has_shared_locks(&self) -> bool {
        true
    }

    fn start(self: Arc<Self>, acquire: Acquire, pending: &Arc<PendingAcquire>) -> io::Result<()> {
        io_thread::spawn(place::serve(self, acquire, Arc::clone(pending)))
    }
}
