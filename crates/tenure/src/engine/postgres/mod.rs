//! Locks that a PostgreSQL server keeps: session advisory locks, so that anything else that takes the same one is
//! excluded too.
//!
//! # The protocol
//!
//! 1. A connection of our own. `idle_session_timeout` is the lease: the server ends a session that says nothing for that
//!    long, and with it its locks. A proxy that lends sessions to others is refused.
//! 2. `pg_try_advisory_lock(hashtextextended(NAME, 0))`, and if another has it `pg_advisory_lock(..)`, which waits in the
//!    server's queue, for no longer than `lock_timeout`.
//! 3. The row of the name in `tenure.locks` says whether the last holder released. If it did not, its session is gone but
//!    its process may not know that yet: its lease is waited out, unless that process is proven dead.
//! 4. One statement takes `nextval` as the fence and writes the record, in one commit.
//! 5. A renewal is a question for `pg_backend_pid()`. The connection's end is the lock's.
//! 6. A release marks the row, commits, and then unlocks.

mod connect;
mod look;
mod password;
mod session;
mod sql;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::connect::Address;
use super::url::Url;
use super::{Engine, Session, Stay};
use crate::error::Result;
use crate::inspect::Inspection;
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
        let lock = lock_in_words(&url.name);
        Ok(Postgres { address: Address::new(url)?, lock })
    }

    /// How long a call may take that is not bound to a lease.
    fn limit(&self) -> Duration {
        self.address.url.ttl / 3
    }
}

/// Does `work`, whose connection has a runtime of its own, where the caller's thread may be one of another runtime's.
fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn lock_in_words(name: &str) -> PathBuf {
    format!("pg_advisory_lock(hashtextextended('{}', 0))", name.replace('\'', "''")).into()
}

impl Engine for Postgres {
    fn lock_name(&self) -> &Path {
        &self.lock
    }

    fn url(&self) -> &Url {
        &self.address.url
    }

    fn join(&self, record: &Record, stay: Stay) -> Result<Box<dyn Session>> {
        Ok(Box::new(session::Place::take(&self.address, record.clone(), stay)?))
    }

    fn inspect(&self) -> Result<Inspection> {
        beside(|| look::inspect(self))
    }

    fn list(&self) -> Result<Vec<Inspection>> {
        beside(|| look::list(self))
    }

    fn take_away(&self, found: &Inspection) -> Result<bool> {
        beside(|| look::take_away(self, found))
    }
}
