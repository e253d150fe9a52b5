//! The sessions of this process on one server, for one database, user and `ttl`: one that takes what is free, one or two
//! that write rows, and at most `sessions=` that wait in the server's queue and then hold.
//!
//! Where more acquires wait than these sessions can serve, the others are tried again and again, many by one statement: of
//! each name for which no session waits, the first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::sleep;
use tokio_postgres::Row;

use super::connect::{Address, Answer, CANCELLED, Connection, Failure, Value};
use super::session::{Claim, Kind, PAUSE, Permit, Session};
use super::sql;
use super::tenures;
use super::users::Users;
use super::writes::Writes;
use crate::model::error::{ErrorKind, Result};
use crate::record::Record;
use crate::server::io_thread::within;
use crate::server::lease::call_limit;
use crate::server::tls;
use crate::server::url::Url;
use crate::sys::{ForkLocal, LockKind};

/// The maximum number of records of grants whose answer was too late.
const MOST_UNSURE: usize = 64;
/// The number of statements for rows under way at once.
const MOST_STATEMENTS: usize = 64;
/// How long all statements that wait for other programs wait in turn, until it is the first one's again.
const ROUND: Duration = Duration::from_secs(1);
/// The maximum time until a server has ended a session that was closed.
const ROOM_LIMIT: Duration = Duration::from_secs(1);
/// The most sessions that did not answer and are kept for the locks that they have.
const MOST_RETIRED: usize = 4;
/// The maximum pause before the third writer that hangs. It doubles for each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// How often the pause between two writers doubles.
const MOST_DOUBLED: u32 = 10;
/// The shortest time between two attempts for the waiters for which no session waits.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(250);
/// How much longer than an attempt the time until the next one is, up to [`LONGEST`].
const SHARE: u32 = 20;
/// The longest time between two attempts. One slow attempt says little about the next.
const LONGEST: Duration = Duration::from_secs(2);

pub(super) struct Pool {
    pub(super) address: Address,
    /// Each is locked while its session begins.
    keeper: tokio::sync::Mutex<Weak<Session>>,
    writer: tokio::sync::Mutex<Weak<Session>>,
    /// Locked for each of its statements.
    patient: tokio::sync::Mutex<Weak<Session>>,
    hanging: Mutex<Hanging>,
    /// The keepers that did not answer, and whose locks this process still has.
    retired: Mutex<Vec<Weak<Session>>>,
    /// The keeper, for a server that accepts no second connection.
    last_keeper: Mutex<Weak<Session>>,
    statements: Semaphore,
    /// No proxy shares the sessions of this server.
    is_direct: Mutex<bool>,
    /// The grants whose answer was too late.
    unsure: Mutex<Vec<Unsure>>,
    pub(super) users: Arc<Users>,
    pub(super) writes: Writes,
    is_sweeping: AtomicBool,
    /// What no other process's keys begin with, and the number of keys so far.
    keys: (u64, AtomicU64),
    /// The number of statements that wait for other programs.
    blocked: AtomicU32,
    places: Mutex<Places>,
    /// Wakes the task that tries for waiters.
    try_now: Notify,
}

/// A grant whose answer was lost. The server may still commit it, and it has no holder.
struct Unsure {
    name: String,
    record: String,
    /// The record of the holder that had crashed before it, whose row it replaces.
    crashed: Option<Record>,
}

impl Unsure {
    fn is(&self, name: &str, record: &str) -> bool {
        (&*self.name, &*self.record) == (name, record)
    }
}

/// The writers that hang, one after the other: a commit that waits for a synchronous standby has no time limit at the server,
/// where each stays as a backend.
#[derive(Debug, Default)]
struct Hanging {
    /// A statement was not answered since a row was written last.
    is_silent: bool,
    /// The number of writers that were lost since then.
    lost: u32,
    /// No other begins before that.
    again_at: Option<Instant>,
}

impl Hanging {
    /// Records that a writer was not renewed in time. After the second, the pauses begin, and double.
    fn lose(&mut self, ttl: Duration, now: Instant) {
        if self.is_silent {
            let pause = self.lost.checked_sub(1).map(|doubled| ttl.saturating_mul(1 << doubled.min(MOST_DOUBLED)));
            self.again_at = pause.and_then(|pause| now.checked_add(pause));
            self.lost += 1;
        }
    }
}

/// The waiters, and the sessions that wait.
#[derive(Default)]
struct Places {
    last: u64,
    /// Those that have no session, in the order of their arrival.
    waiters: BTreeMap<u64, Waiter>,
    /// The sessions that wait, or hold since, or begin.
    taken: usize,
    /// The names that sessions wait for.
    awaited: HashMap<Arc<str>, usize>,
    /// The sessions that neither wait nor hold.
    free: Vec<Weak<Session>>,
    is_trying: bool,
    /// Names that this process has unlocked since the last attempt, or whose waiters are new.
    unlocked: HashSet<Arc<str>>,
}

struct Waiter {
    name: Arc<str>,
    kind: LockKind,
    tell: oneshot::Sender<Chance>,
}

/// A session that nothing has yet. Its tasks keep it, so it is closed when this is dropped.
struct Unkept {
    session: Arc<Session>,
    is_kept: bool,
}

impl Unkept {
    fn keep(mut self) -> Arc<Session> {
        self.is_kept = true;
        Arc::clone(&self.session)
    }
}

impl Drop for Unkept {
    fn drop(&mut self) {
        if !self.is_kept {
            self.session.close("it was not needed");
        }
    }
}

/// What a waiter gets.
pub(super) enum Chance {
    /// It may wait in a session.
    Turn(SessionPermit),
    /// Its lock was free.
    Claim(Claim),
    /// The server does not answer.
    Failed(Failure),
}

/// The right to remove the words of dead readers.
pub(super) struct Sweeping(Arc<Pool>);

impl Drop for Sweeping {
    fn drop(&mut self) {
        self.0.is_sweeping.store(false, Ordering::Relaxed);
    }
}

/// The right to one of the sessions that wait and then hold.
pub(super) struct SessionPermit {
    pool: Arc<Pool>,
    /// The name that is waited for.
    awaits: Option<Arc<str>>,
    /// It was never wanted.
    is_unwanted: bool,
}

impl Permit for SessionPermit {
    fn end_wait(&mut self) {
        if let Some(name) = self.awaits.take() {
            self.pool.places().end_wait(&name);
            // What was granted may be shared with other waiters.
            self.pool.released(&name);
        }
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        self.end_wait();
        self.pool.places().taken -= 1;
        if !self.is_unwanted {
            self.pool.assign();
        }
    }
}

impl Places {
    fn end_wait(&mut self, name: &Arc<str>) {
        if let Some(count) = self.awaited.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.awaited.remove(name);
            }
        }
    }

    /// Returns the waiter that is to wait in the next session: the first whose name none waits for, or the first of all.
    fn next(&self) -> Option<u64> {
        let lonely = self.waiters.iter().find(|(_, waiter)| !self.awaited.contains_key(&waiter.name));
        lonely.or_else(|| self.waiters.first_key_value()).map(|(key, _)| *key)
    }

    /// Returns the waiters to try for: of each name the first, and the others that may share the lock with it.
    fn to_try(&self, is_wanted: impl Fn(&Arc<str>) -> bool) -> Vec<(u64, Arc<str>, LockKind)> {
        let mut names: HashMap<&Arc<str>, LockKind> = HashMap::new();
        let mut found = Vec::new();
        for (key, waiter) in &self.waiters {
            let name = &waiter.name;
            if !is_wanted(name) || self.awaited.contains_key(name) {
                continue;
            }
            let may_have = match names.get(name) {
                None => true,
                // Those behind a waiter for the exclusive lock come after it.
                Some(before) => *before == LockKind::Shared && waiter.kind == LockKind::Shared,
            };
            names.insert(name, if may_have { waiter.kind } else { LockKind::Exclusive });
            if may_have {
                found.push((*key, Arc::clone(name), waiter.kind));
            }
        }
        found
    }
}

/// A place among the waiters, left when this is dropped.
pub(super) struct Waiting {
    pool: Arc<Pool>,
    key: u64,
    pub(super) chance: oneshot::Receiver<Chance>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pool.places().waiters.remove(&self.key);
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

impl Pool {
    /// Returns this process's pool for a target.
    pub(super) fn of(url: &Url) -> Result<Arc<Pool>> {
        static POOLS: ForkLocal<Mutex<Vec<Weak<Pool>>>> = ForkLocal::new();
        let identity = tls::read(url)?;
        let mut pools = POOLS.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        let same = |pool: &Arc<Pool>| pool.address.is_for(url, identity.as_ref());
        if let Some(pool) = pools.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(pool);
        }
        let pool = Arc::new(Pool {
            address: Address::new(url.clone(), identity)?,
            keeper: tokio::sync::Mutex::default(),
            writer: tokio::sync::Mutex::default(),
            patient: tokio::sync::Mutex::default(),
            hanging: Mutex::default(),
            retired: Mutex::default(),
            last_keeper: Mutex::default(),
            statements: Semaphore::new(MOST_STATEMENTS),
            is_direct: Mutex::new(false),
            unsure: Mutex::default(),
            users: Users::new(),
            writes: Writes::default(),
            is_sweeping: AtomicBool::new(false),
            keys: (RandomState::new().hash_one(Instant::now()), AtomicU64::new(0)),
            blocked: AtomicU32::new(0),
            places: Mutex::default(),
            try_now: Notify::new(),
        });
        pools.push(Arc::downgrade(&pool));
        Ok(pool)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> Duration {
        call_limit(self.address.url.ttl)
    }

    fn hanging(&self) -> MutexGuard<'_, Hanging> {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the session that writes rows was not renewed in time, or was silent for as long as a call may take.
    pub(super) fn writer_ran_out(&self) {
        self.hanging().lose(self.address.url.ttl.min(FIRST_PAUSE), Instant::now());
    }

    /// Leaves a keeper that does not answer to its lease, so that new locks get another session.
    fn retire(&self, session: &Arc<Session>) -> Answer<()> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|session| session.upgrade().is_some_and(|session| session.is_open()));
        if retired.len() >= MOST_RETIRED {
            let detail = format!("the server has not answered in {} sessions", retired.len() + 1);
            return Err(Failure::new(ErrorKind::Unreachable, detail)
                .with_hint("they have locks of this process, and end with their leases"));
        }
        if session.retire() {
            retired.push(Arc::downgrade(session));
        }
        Ok(())
    }

    /// Records whether a statement for a row was answered. Only a row that was written proves that commits do not hang.
    fn heard(&self, sql: &str, answer: &Answer<Vec<Row>>) {
        let mut hanging = self.hanging();
        match answer {
            Ok(rows) if matches!(sql, sql::GRANT | sql::SHARE | sql::WRITE_ALL) && !rows.is_empty() => {
                *hanging = Hanging::default()
            }
            Err(failure) if failure.is_unanswered() && !failure.is_lost() && !failure.has_code(CANCELLED) => {
                hanging.is_silent = true;
            }
            _ => {}
        }
    }

    /// Returns a key for the word of a shared lock, which no other word ever has.
    pub(super) fn next_key(&self) -> String {
        format!("{:016x}.{}", self.keys.0, self.keys.1.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the right to remove the words of dead readers, which one task has at a time.
    pub(super) fn sweep(self: &Arc<Self>) -> Option<Sweeping> {
        (!self.is_sweeping.swap(true, Ordering::Relaxed)).then(|| Sweeping(Arc::clone(self)))
    }

    fn unsure(&self) -> MutexGuard<'_, Vec<Unsure>> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a grant whose answer was lost, and the holder that had crashed before it.
    pub(super) fn be_unsure(&self, name: &str, record: &str, crashed: Option<&Record>) {
        let mut unsure = self.unsure();
        if unsure.len() >= MOST_UNSURE {
            unsure.remove(0);
        }
        unsure.push(Unsure { name: name.to_owned(), record: record.to_owned(), crashed: crashed.cloned() });
    }

    /// Records that this record was granted after all.
    pub(super) fn be_sure(&self, name: &str, record: &str) {
        self.unsure().retain(|unsure| !unsure.is(name, record));
    }

    /// Returns the holder that had crashed before a grant that has no holder: the outer value is `None` where the record is
    /// of another grant.
    pub(super) fn crashed_before_unsure(&self, name: &str, record: &str) -> Option<Option<Record>> {
        self.unsure().iter().find(|unsure| unsure.is(name, record)).map(|unsure| unsure.crashed.clone())
    }

    async fn begin(self: &Arc<Self>, kind: Kind, limit: Duration) -> Answer<Arc<Session>> {
        let session = Session::begin(Arc::new(Arc::clone(self)), kind, limit).await?;
        if matches!(kind, Kind::Keeper | Kind::Waiter) {
            tokio::spawn(tenures::listen(Arc::clone(&session)));
        }
        Ok(session)
    }

    /// Begins a session that ends again unless it is kept: also where the acquire that began it is given up.
    async fn begin_unkept(self: &Arc<Self>, kind: Kind, limit: Duration) -> Answer<Unkept> {
        Ok(Unkept { session: self.begin(kind, limit).await?, is_kept: false })
    }

    /// Begins a keeper at a server that was at its connection limit, once it has ended the session that was closed.
    async fn begin_after_close(self: &Arc<Self>, limited: Failure, limit: Duration) -> Answer<Arc<Session>> {
        let end = Instant::now() + limit.min(ROOM_LIMIT);
        let mut failure = limited;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left <= PAUSE {
                return Err(failure);
            }
            sleep(PAUSE).await;
            match self.begin(Kind::Keeper, left - PAUSE).await {
                Err(again) if again.is_connection_limit() => failure = again,
                answer => return answer,
            }
        }
    }

    /// Returns the session that takes what is free, which begins if there is none.
    pub(super) async fn keeper(self: &Arc<Self>, limit: Duration) -> Answer<Arc<Session>> {
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        let mut keeper = within(limit, self.keeper.lock()).await.ok_or_else(|| Failure::silent(limit))?;
        if let Some(session) = keeper.upgrade().filter(|session| session.is_open()) {
            if !session.connection.is_silent() {
                return Ok(session);
            }
            self.retire(&session)?;
        }
        let direct = || self.is_direct.lock().unwrap_or_else(PoisonError::into_inner);
        let session = if *direct() {
            self.begin(Kind::Keeper, left()).await?
        } else {
            // The writer's session serves for the comparison before it serves anything else.
            let mut writer = within(left(), self.writer.lock()).await.ok_or_else(|| Failure::silent(limit))?;
            let limit = left();
            let (ours, other) =
                tokio::join!(self.begin_unkept(Kind::Keeper, limit), self.begin_unkept(Kind::Writer, limit));
            match (ours, other) {
                (Ok(ours), Ok(other)) => {
                    let refused =
                        self.address.refuse_proxy(&ours.session.connection, &other.session.connection, left()).await;
                    if let Err(failure) = refused {
                        ours.session.close(&failure.detail);
                        other.session.close(&failure.detail);
                        return Err(failure);
                    }
                    *writer = Arc::downgrade(&other.keep());
                    *direct() = true;
                    ours.keep()
                }
                (Ok(_), Err(failure)) | (Err(failure), Ok(_)) if failure.is_proxys_limit() => {
                    return Err(failure.with_hint(
                        "a proxy is between us and the server, and has no room for the second session by which we see \
                         whether it lends a server's session to several clients",
                    ));
                }
                // Every renewal compares the backend as well.
                (Ok(ours), Err(failure)) if failure.is_connection_limit() => ours.keep(),
                (Err(failure), Ok(other)) if failure.is_connection_limit() => {
                    // The server has room for one.
                    other.session.close(&failure.detail);
                    drop(other);
                    self.begin_after_close(failure, left()).await?
                }
                (Err(failure), _) | (_, Err(failure)) => return Err(failure),
            }
        };
        *keeper = Arc::downgrade(&session);
        *self.last_keeper.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&session);
        Ok(session)
    }

    /// Returns the session that writes rows, which begins if there is none. At the server's connection limit the row of
    /// `name` is written by the keeper, if no other lock would be lost with it.
    pub(super) async fn writer(self: &Arc<Self>, name: &str, limit: Duration) -> Answer<Arc<Session>> {
        let end = Instant::now() + limit;
        let mut writer = within(limit, self.writer.lock()).await.ok_or_else(|| Failure::silent(limit))?;
        if let Some(session) = writer.upgrade().filter(|session| session.is_open()) {
            if !session.connection.is_silent() {
                return Ok(session);
            }
            session.close("the server did not answer in time");
            self.writer_ran_out();
        }
        if let Some(again_at) = self.hanging().again_at.filter(|again_at| Instant::now() < *again_at) {
            let seconds = again_at.saturating_duration_since(Instant::now()).as_secs() + 1;
            let detail = "the server answered no statement that writes a row, in two sessions or more";
            return Err(Failure::new(ErrorKind::Unreachable, detail).with_hint(format!(
                "its commits may wait for a synchronous standby; another session is tried in {seconds} s"
            )));
        }
        let left = end.saturating_duration_since(Instant::now());
        match self.begin(Kind::Writer, left).await {
            Ok(session) => {
                *writer = Arc::downgrade(&session);
                Ok(session)
            }
            Err(failure) if failure.is_connection_limit() => {
                let keeper = self.last_keeper.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
                keeper.filter(|session| session.is_open() && session.has_at_most(name)).ok_or(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns a session to wait in.
    pub(super) async fn waiter(self: &Arc<Self>, limit: Duration) -> Answer<Arc<Session>> {
        loop {
            let free = self.places().free.pop();
            let Some(free) = free else { return self.begin(Kind::Waiter, limit).await };
            if let Some(session) = free.upgrade().filter(|session| session.is_open()) {
                return Ok(session);
            }
        }
    }

    /// Runs a statement for the row of `name`, and creates the tables where they are missing. It may be executed twice.
    pub(super) async fn rows(
        self: &Arc<Self>,
        name: &str,
        sql: &'static str,
        values: &[Value<'_>],
        limit: Duration,
    ) -> Answer<Vec<Row>> {
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        loop {
            match self.rows_once(name, sql, values, left(), &mut false, None).await {
                // The writer's loss costs no holder its lock, so it must not fail a release.
                Err(failure) if failure.is_lost() && left() > PAUSE => sleep(PAUSE).await,
                answer => return answer,
            }
        }
    }

    /// As [`rows`](Pool::rows), for a statement that must not be executed twice. Sets `sent` once the server may execute it,
    /// which is that of `beside`.
    pub(super) async fn rows_once(
        self: &Arc<Self>,
        name: &str,
        sql: &'static str,
        values: &[Value<'_>],
        limit: Duration,
        sent: &mut bool,
        beside: Option<&Connection>,
    ) -> Answer<Vec<Row>> {
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        let turn = within(limit, self.statements.acquire()).await;
        let _turn = turn.ok_or_else(|| Failure::silent(limit))?;
        let writer = self.writer(name, left()).await?;
        must_be_beside(&writer, beside)?;
        *sent = true;
        let answer = writer.connection.rows(left(), sql, values).await;
        self.heard(sql, &answer);
        match answer {
            Err(failure) if failure.is_missing() => {
                *sent = false;
                let (_patient, session) = self.patient(left()).await?;
                // Two sessions that create them at once disturb each other. The second time they are there.
                let tables = format!("SET lock_timeout = 0; {}", sql::TABLES);
                if let Err(failure) = session.connection.batch(left(), &tables).await {
                    if failure.kind == ErrorKind::PermissionDenied {
                        return Err(failure);
                    }
                    session.connection.batch(left(), &tables).await?;
                }
                *sent = true;
                writer.connection.rows(left(), sql, values).await
            }
            answer => answer,
        }
    }

    /// Runs a statement that other programs block, because they have locked the row or the table. Of several such statements
    /// each waits for a moment, and then the next: one whose row is unlocked does not wait for the others'.
    pub(super) async fn rows_patiently(
        self: &Arc<Self>,
        sql: &'static str,
        values: &[Value<'_>],
        limit: Duration,
        beside: Option<&Connection>,
    ) -> Answer<Vec<Row>> {
        let end = Instant::now() + limit;
        let left = || end.saturating_duration_since(Instant::now());
        let blocked = Blocked::begin(&self.blocked);
        loop {
            let (_patient, session) = self.patient(left()).await?;
            must_be_beside(&session, beside)?;
            let moment = (ROUND / blocked.count()).min(left()).max(Duration::from_millis(1));
            let briefly = format!("SET lock_timeout = '{}ms'", moment.as_millis());
            let answer = session.connection.run(left(), |client| async move {
                let (set, rows) = tokio::join!(client.batch_execute(&briefly), client.query_typed(sql, values));
                set.and(rows)
            });
            let answer = answer.await;
            session.touch();
            match answer {
                Err(failure) if failure.is_blocked() && !left().is_zero() => {}
                Err(failure) if failure.is_blocked() => return Err(Failure::blocked()),
                Err(failure) => {
                    if failure.is_unanswered() && !failure.has_code(CANCELLED) {
                        // The statement may run on.
                        session.close(&failure.detail);
                    }
                    return Err(failure);
                }
                answer => return answer,
            }
        }
    }

    /// Returns the session for statements that may have to wait for other programs, one after the other.
    async fn patient(
        self: &Arc<Self>,
        limit: Duration,
    ) -> Answer<(tokio::sync::MutexGuard<'_, Weak<Session>>, Arc<Session>)> {
        let end = Instant::now() + limit;
        // It is in use while another statement waits, and else for as long as a session takes to begin.
        let mut patient = within(limit, self.patient.lock()).await.ok_or_else(Failure::blocked)?;
        if let Some(session) = patient.upgrade().filter(|session| session.is_open()) {
            session.touch();
            return Ok((patient, session));
        }
        let session = self.begin(Kind::Patient, end.saturating_duration_since(Instant::now())).await?;
        *patient = Arc::downgrade(&session);
        Ok((patient, session))
    }

    /// Takes a place among the waiters.
    pub(super) fn enter(self: &Arc<Self>, name: &Arc<str>, kind: LockKind) -> Waiting {
        let (tell, chance) = oneshot::channel();
        let key = {
            let mut places = self.places();
            places.last += 1;
            let key = places.last;
            places.waiters.insert(key, Waiter { name: Arc::clone(name), kind, tell });
            key
        };
        self.assign();
        let starts = {
            let mut places = self.places();
            let starts = !places.is_trying && !places.waiters.is_empty();
            if places.is_trying && places.waiters.contains_key(&key) {
                // Its lock may be free since the attempt before it waited: the task's next one may be far.
                places.unlocked.insert(Arc::clone(name));
                self.try_now.notify_one();
            }
            places.is_trying |= starts;
            starts
        };
        if starts {
            tokio::spawn(try_for_waiters(Arc::clone(self)));
        }
        Waiting { pool: Arc::clone(self), key, chance }
    }

    /// Gives the sessions that are not in use to waiters.
    fn assign(self: &Arc<Self>) {
        loop {
            let (turn, waiter) = {
                let mut places = self.places();
                if places.taken >= self.address.url.sessions {
                    return;
                }
                let Some(waiter) = places.next().and_then(|key| places.waiters.remove(&key)) else { return };
                places.taken += 1;
                *places.awaited.entry(Arc::clone(&waiter.name)).or_default() += 1;
                let awaits = Some(Arc::clone(&waiter.name));
                (SessionPermit { pool: Arc::clone(self), awaits, is_unwanted: false }, waiter)
            };
            // The next iteration gives it to another waiter.
            if let Err(Chance::Turn(mut turn)) = waiter.tell.send(Chance::Turn(turn)) {
                turn.is_unwanted = true;
            }
        }
    }

    /// Keeps a session that neither waits nor holds for the next waiter.
    pub(super) fn keep_free(&self, session: &Arc<Session>) {
        self.places().free.push(Arc::downgrade(session));
    }

    /// Records that this process has unlocked a name, which may have waiters.
    pub(super) fn released(&self, name: &Arc<str>) {
        let mut places = self.places();
        if places.waiters.values().any(|waiter| waiter.name == *name) {
            places.unlocked.insert(Arc::clone(name));
            drop(places);
            self.try_now.notify_one();
        }
    }

    /// Tries once for the waiters for which no session waits.
    async fn try_once(self: &Arc<Self>, waiters: &[(u64, Arc<str>, LockKind)]) {
        let end = Instant::now() + self.limit();
        let keeper = match self.keeper(self.limit()).await {
            Ok(keeper) => keeper,
            Err(failure) => {
                // Each decides by its own deadline.
                let mut places = self.places();
                let failed: Vec<Waiter> = waiters.iter().filter_map(|(key, ..)| places.waiters.remove(key)).collect();
                drop(places);
                for waiter in failed {
                    let _ = waiter.tell.send(Chance::Failed(failure.clone()));
                }
                return;
            }
        };
        let asked: Vec<_> = waiters.iter().map(|(key, name, kind)| (*key, keeper.ask_for(name, *kind))).collect();
        for (key, answer) in asked {
            let Some(answer) = answer else { continue };
            // A keeper that does not answer is replaced before the next attempt. What it takes after all is unlocked.
            let left = end.saturating_duration_since(Instant::now());
            let Some(Ok(Ok(Some(claim)))) = within(left, answer).await else { continue };
            let waiter = self.places().waiters.remove(&key);
            if let Some(waiter) = waiter {
                // A claim that is not wanted any more is unlocked.
                let _ = waiter.tell.send(Chance::Claim(claim));
            }
        }
    }
}

/// A statement that waits for other programs.
struct Blocked<'a>(&'a AtomicU32);

impl<'a> Blocked<'a> {
    fn begin(count: &'a AtomicU32) -> Blocked<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Blocked(count)
    }

    /// Returns the number of such statements.
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Closes a session that is at another server than the locks, so that the next one may be at theirs.
fn must_be_beside(session: &Session, other: Option<&Connection>) -> Answer<()> {
    let Some(other) = other else { return Ok(()) };
    session.connection.must_be_beside(other).inspect_err(|failure| session.close(&failure.detail))
}

/// The task that tries for waiters must not end, by a panic, and leave them waiting. The next one begins it again.
struct FailsWaiters(Arc<Pool>);

impl Drop for FailsWaiters {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let failed = {
            let mut places = self.0.places();
            places.is_trying = false;
            std::mem::take(&mut places.waiters)
        };
        for waiter in failed.into_values() {
            let _ =
                waiter.tell.send(Chance::Failed(Failure::new(ErrorKind::Io, "the task that serves waiters panicked")));
        }
    }
}

/// Tries again and again for the waiters for which no session waits, until there are none.
async fn try_for_waiters(pool: Arc<Pool>) {
    let _fails = FailsWaiters(Arc::clone(&pool));
    let mut all_at = Instant::now();
    loop {
        let began = Instant::now();
        let is_for_all = all_at <= began;
        let waiters = {
            let mut places = pool.places();
            let unlocked = std::mem::take(&mut places.unlocked);
            if places.waiters.is_empty() {
                places.is_trying = false;
                return;
            }
            places.to_try(|name| is_for_all || unlocked.contains(name))
        };
        if !waiters.is_empty() {
            pool.try_once(&waiters).await;
        }
        if is_for_all {
            all_at = Instant::now() + TRY_AGAIN.max((began.elapsed() * SHARE).min(LONGEST));
        }
        within(all_at.saturating_duration_since(Instant::now()), pool.try_now.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_between_writers_that_hang_double() {
        let (ttl, now) = (Duration::from_secs(10), Instant::now());
        let mut hanging = Hanging::default();
        // A partition, or a sleep of the machine, is no sign of a commit that hangs.
        hanging.lose(ttl, now);
        assert_eq!((hanging.lost, hanging.again_at), (0, None));
        hanging.is_silent = true;
        hanging.lose(ttl, now);
        assert_eq!(hanging.again_at, None);
        for seconds in [10, 20, 40] {
            hanging.lose(ttl, now);
            assert_eq!(hanging.again_at, Some(now + Duration::from_secs(seconds)));
        }
        hanging.lost = u32::MAX - 1;
        hanging.lose(ttl, now);
        assert_eq!(hanging.again_at, Some(now + ttl * 1024));
    }
}
