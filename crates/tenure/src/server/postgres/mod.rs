//! Locks on a PostgreSQL server, by session advisory locks: they also exclude any other program that takes the same one.
//!
//! # The protocol
//!
//! Every name in the SQL has its schema, and the session's `search_path` is the server's own schema alone: functions that
//! other users put into `public` are never called.
//!
//! 1. Each place has a connection of its own. `idle_session_timeout` is the lease: the server ends a session that is idle
//!    for that long, and with it its locks. A proxy that shares sessions between clients is refused.
//! 2. `pg_try_advisory_lock(hashtextextended(NAME, 0))`, and where that fails `pg_advisory_lock(..)`, which waits in the
//!    server's queue, for at most `lock_timeout`.
//! 3. The row of the name in `tenure.locks` says whether the last holder released. If it did not, its session is gone but
//!    its process may not know that yet: the next holder waits out that lease, unless the process is proven dead.
//! 4. One statement takes `nextval` as the fence and writes the record, in one commit. A sequence that went back behind
//!    the fence in the row (it was reset, or was not copied with the table) is noticed there, and the lock refused.
//! 5. A renewal is a query for `pg_backend_pid()`. When the connection ends, the tenure is lost.
//! 6. A release marks the row, commits, and then unlocks.

mod connect;
mod password;
mod session;
mod sql;
mod status;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::connect::Address;
use super::acquire::{Acquire, AcquireServer};
use super::heartbeat;
use super::lease::call_limit;
use super::lock_server::{LockServer, QueueServer, Session, WaitLimit};
use super::pending::PendingAcquire;
use super::url::Url;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::status::Status;
use crate::record::Record;

/// A name in a database.
#[derive(Debug)]
pub(super) struct Postgres {
    address: Address,
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
        let lock = lock_in_words(&url.name);
        Ok(Postgres { address: Address::new(url)?, lock })
    }

    /// Returns how long a call may take that is not bound to a lease.
    fn limit(&self) -> Duration {
        call_limit(self.address.url.ttl)
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

/// Runs `work` where a connection may block on its own runtime, also if the caller's thread belongs to another runtime.
fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn lock_in_words(name: &str) -> PathBuf {
    format!("pg_advisory_lock(hashtextextended('{}', 0))", name.replace('\'', "''")).into()
}

impl LockServer for Postgres {
    fn lock_name(&self) -> &Path {
        &self.lock
    }

    fn url(&self) -> &Url {
        &self.address.url
    }

    fn status_within(&self, limit: Duration) -> Result<Status> {
        beside(|| status::status(self, limit))
    }

    fn list(&self) -> Result<Vec<Status>> {
        beside(|| status::list(self))
    }

    fn force_release(&self, found: &Status) -> Result<bool> {
        beside(|| status::force_release(self, found))
    }
}

impl AcquireServer for Postgres {
    fn start(self: Arc<Self>, acquire: Acquire, pending: &Arc<PendingAcquire>) -> io::Result<()> {
        heartbeat::start(self, acquire, pending)
    }
}

impl QueueServer for Postgres {
    fn enqueue(&self, record: &Record, limit: WaitLimit, answer_by: Option<Instant>) -> Result<Box<dyn Session>> {
        Ok(Box::new(session::PostgresSession::connect(&self.address, record.clone(), limit, answer_by)?))
    }
}
