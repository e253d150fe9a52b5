//! A session of the server, which many locks of this process share: the advisory locks that it has are *claims*, and a
//! tenure is a claim whose row is written.
//!
//! Nothing that may block is executed by a session that has claims, so that its renewals are answered: rows are written by
//! [another](Beside::show), but for the release of the only claim (`locks.rs`). A session that waits in the server's queue has
//! no claim.
//!
//! An advisory lock is reentrant within its session. So the session knows the numbers that it has, and unlocks once what
//! it has taken twice.
//!
//! The session's task renews the lease, which is the server's `idle_session_timeout`. When the connection ends, or the
//! lease was not renewed in time, all its tenures are lost, and no other.

mod claim;
mod locks;
mod renewal;
mod waiting;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::claims::Claims;
use super::connect::{Address, Answer, Connection, Failure, Purpose};
use super::sql;
use super::users::Users;
use crate::model::error::ErrorKind;
use crate::record::Record;
use crate::server::lease::{BootTime, Lease, call_limit};
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;

/// The time between two attempts to reach a server that does not answer.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// The time until a record that could not be published is published again, or a release written again.
pub(super) const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// How long a session without a claim is kept for the next acquire.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// The purpose of a session of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Takes what is free.
    Keeper,
    /// Writes rows.
    Writer,
    /// Writes rows that other programs have locked.
    Patient,
    /// Waits in the server's queue, and then holds.
    Waiter,
}

/// An answer to come.
pub(super) type Coming<'a, T> = Pin<Box<dyn Future<Output = Answer<T>> + Send + 'a>>;

/// What a session needs of the sessions beside it.
pub(super) trait Beside: Send + Sync {
    fn address(&self) -> &Address;

    /// Returns what keeps all of them.
    fn users(&self) -> &Arc<Users>;

    /// Replaces the record in the row of the holder with that fence. `false` if the row is another's.
    fn show<'a>(&'a self, name: &'a Arc<str>, fence: i64, record: &'a Record, limit: Duration) -> Coming<'a, bool>;

    /// Removes the word with that key. `false` if it is not there.
    fn unshare<'a>(&'a self, name: &'a Arc<str>, key: &'a str, limit: Duration) -> Coming<'a, bool>;

    /// Returns whether an operator has asked the sessions with that word to give their shares up.
    fn is_breaking_share<'a>(&'a self, name: &'a str, key: &'a str, limit: Duration) -> Coming<'a, bool>;

    /// Returns whether an operator has asked the holder with that fence to give the lock up.
    fn is_breaking<'a>(&'a self, name: &'a str, fence: i64, limit: Duration) -> Coming<'a, bool>;

    /// Records that this process has unlocked a name, which may have waiters.
    fn released(&self, name: &Arc<str>);

    /// Records that a session of that kind was not renewed in time.
    fn ran_out(&self, kind: Kind);

    /// Keeps a session that neither waits nor holds for the next waiter.
    fn keep_free(&self, session: &Arc<Session>);
}

/// The right to be one of the sessions that wait and then hold, until it is dropped.
pub(super) trait Permit: Send {
    /// Records that the session has got what it waited for.
    fn end_wait(&mut self);
}

/// A session, and what it has.
pub(super) struct Session {
    pub(super) beside: Arc<dyn Beside>,
    pub(super) connection: Connection,
    kind: Kind,
    state: Mutex<State>,
    /// Wakes the session's task.
    changed: Notify,
    /// Wakes the task that takes and unlocks.
    asked: Notify,
}

pub(super) struct State {
    term: Lease,
    /// Nothing more begins in this session.
    closed: bool,
    /// It does not answer, and another takes what is free.
    is_retired: bool,
    /// It is in the server's queue, where its connection's keep-alives watch it. A statement is no idle time.
    waits: bool,
    /// The reason why it is lost.
    pub(super) lost: Option<String>,
    pub(super) claims: Claims,
    tries: VecDeque<Try>,
    unlocks: VecDeque<Unlock>,
    /// A statement that takes or unlocks is under way.
    is_asking: bool,
    /// The error of the last renewal, if that failed.
    trouble: Option<String>,
    idle_since: Instant,
    /// The right to wait, and then to hold.
    permit: Option<Box<dyn Permit>>,
}

impl State {
    /// Returns whether the session has a lock, or may have one.
    fn has_locks(&self) -> bool {
        !self.claims.are_none() || !self.unlocks.is_empty() || self.is_asking
    }
}

/// A lock that is to be taken if it is free.
struct Try {
    name: Arc<str>,
    kind: LockKind,
    tell: oneshot::Sender<Answer<Option<Claim>>>,
}

/// An advisory lock that is to be unlocked.
struct Unlock {
    number: i64,
    kind: LockKind,
    name: Arc<str>,
    tell: Option<oneshot::Sender<Answer<bool>>>,
}

/// A claim that no tenure has. Dropped, it is unlocked.
pub(super) struct Claim {
    pub(super) session: Arc<Session>,
    number: Option<u64>,
}

impl Session {
    /// Begins a session. It keeps those beside it.
    pub(super) fn begin(beside: Arc<dyn Beside>, kind: Kind, limit: Duration) -> Coming<'static, Arc<Session>> {
        // Its tasks begin sessions as well, and the compiler resolves no type that contains itself.
        Box::pin(Session::connect(beside, kind, limit))
    }

    async fn connect(beside: Arc<dyn Beside>, kind: Kind, limit: Duration) -> Answer<Arc<Session>> {
        let ttl = beside.address().url.ttl;
        let sent = BootTime::now();
        let first = sql::begin(ttl.as_millis(), call_limit(ttl).as_millis());
        let end = Instant::now() + limit;
        let connection = beside.address().connect(&first, Purpose::Lock, limit).await?;
        if kind == Kind::Keeper {
            // Not before the connection is known to be fit: a standby refuses it.
            connection.batch(end.saturating_duration_since(Instant::now()), sql::LISTEN).await?;
        }
        let session = Arc::new(Session {
            beside,
            connection,
            kind,
            state: Mutex::new(State {
                term: Lease { ttl, confirmed: sent },
                closed: false,
                is_retired: false,
                waits: false,
                lost: None,
                claims: Claims::default(),
                tries: VecDeque::new(),
                unlocks: VecDeque::new(),
                is_asking: false,
                trouble: None,
                idle_since: Instant::now(),
                permit: None,
            }),
            changed: Notify::new(),
            asked: Notify::new(),
        });
        tokio::spawn(renewal::run(Arc::clone(&session)));
        if matches!(kind, Kind::Keeper | Kind::Waiter) {
            tokio::spawn(locks::take_and_unlock(Arc::clone(&session)));
        }
        Ok(session)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether acquires may begin in this session.
    pub(super) fn is_open(&self) -> bool {
        !self.state().closed && !self.is_lost() && self.connection.over.why().is_none()
    }

    /// Leaves the session to the locks that it has. `false` if it has none: then it is closed.
    pub(super) fn retire(&self) -> bool {
        let mut state = self.state();
        state.is_retired = true;
        if state.claims.are_none() {
            drop(state);
            self.close("the server did not answer in time");
            return false;
        }
        true
    }

    /// Returns whether the session has no lock but that of a name.
    pub(super) fn has_at_most(&self, name: &str) -> bool {
        self.state().claims.are_at_most(name)
    }

    pub(super) fn term(&self) -> Lease {
        self.state().term
    }

    /// Returns whether the session is lost, at the server or by the clock.
    pub(super) fn is_lost(&self) -> bool {
        let state = self.state();
        state.lost.is_some() || (!state.waits && BootTime::now() >= state.term.lost_at())
    }

    /// Returns why the session is lost.
    pub(super) fn loss(&self) -> Failure {
        let why = self.state().lost.clone();
        Failure::new(ErrorKind::Lost, why.unwrap_or_else(|| "its session could not be renewed in time".to_owned()))
    }

    /// Wakes the session's task: the pool may be idle.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    pub(super) fn call_limit(&self) -> Duration {
        call_limit(self.beside.address().url.ttl)
    }

    /// Ends the session and everything in it.
    pub(super) fn close(&self, why: &str) {
        self.lose(why);
        self.connection.close(why);
    }

    /// Ends the session and everything in it, because the server has ended it or it was not renewed in time.
    fn lose(&self, why: &str) {
        let mut state = self.state();
        state.closed = true;
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(why.to_owned());
        let tries = std::mem::take(&mut state.tries);
        let tenures: Vec<Arc<ServerTenure>> = state.claims.tenures().cloned().collect();
        drop(state);
        for tenure in tenures {
            tenure.lose(why.to_owned());
        }
        for asked in tries {
            let _ = asked.tell.send(Err(self.loss()));
        }
        self.changed.notify_one();
        self.asked.notify_one();
    }
}
