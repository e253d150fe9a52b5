//! A session of the server, which many locks of this process share: the advisory locks that it has are *claims*, and a
//! tenure is a claim whose row is written.
//!
//! Nothing that may block is executed by a session that has claims, so that its renewals are answered: rows are written by
//! [another](Beside::show). A session that waits in the server's queue has no claim.
//!
//! An advisory lock is reentrant within its session. So the session knows the numbers that it has, and unlocks once what
//! it has taken twice.
//!
//! The session's task renews the lease, which is the server's `idle_session_timeout`. When the connection ends, or the
//! lease was not renewed in time, all its tenures are lost, and no other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::claims::{Claimed, Claims};
use super::connect::{Address, Answer, Connection, Failure, Purpose, Value};
use super::sql;
use super::users::Users;
use super::word::Written;
use crate::model::error::ErrorKind;
use crate::record::Record;
use crate::server::io_thread::within;
use crate::server::lease::{BootTime, Lease, call_limit};
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;
use crate::util::trace::event;

/// The maximum number of locks in one statement. A renewal waits behind one statement at most.
const MOST_AT_ONCE: usize = 1024;
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

impl Claim {
    /// Returns the advisory lock's place among the claims of its session.
    pub(super) fn key(&self) -> Option<u64> {
        self.number
    }

    /// Unlocks it, and waits for the server's answer. It is unlocked also where the caller does not wait for that.
    pub(super) async fn leave(mut self) {
        let Some(claim) = self.number.take().and_then(|number| self.session.take_claim(number)) else { return };
        let session = Arc::clone(&self.session);
        let leaving = tokio::spawn(async move {
            let _ = session.unshare(&claim, session.call_limit()).await;
            let _ = session.unlock(claim).await;
        });
        let _ = leaving.await;
    }

    /// Shares the word of the name in this session, which the first of its shared locks writes by `write`. The others wait
    /// for it within `limit`. Returns the exclusive holder before, if that was never released; `None` where the word could
    /// not be written.
    pub(super) async fn share<W>(
        &self,
        name: &str,
        limit: Duration,
        write: impl FnOnce() -> W,
    ) -> Answer<Option<Option<Record>>>
    where
        W: Future<Output = Answer<Option<Written>>>,
    {
        let word = self.session.state().claims.word_of(name).ok_or_else(|| self.session.loss())?;
        let joined = word.join(limit, write).await?;
        let mut state = self.session.state();
        if joined.is_some()
            && let Some(claim) = self.number.and_then(|key| state.claims.get_mut(key))
        {
            claim.word = Some(word);
        }
        Ok(joined)
    }

    /// Makes the claim that of a tenure; `false` if the session is lost.
    pub(super) fn hold(&mut self, fence: i64, tenure: &Arc<ServerTenure>) -> bool {
        let mut state = self.session.state();
        let Some(key) = self.number.filter(|_| state.lost.is_none()) else { return false };
        let confirmed = state.term.confirmed;
        let Some(claim) = state.claims.get_mut(key) else { return false };
        (claim.fence, claim.tenure) = (fence, Some(Arc::clone(tenure)));
        // A renewal may have ended since the tenure was created.
        tenure.confirm(confirmed);
        drop(state);
        self.number = None;
        true
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(claim) = self.number.take().and_then(|number| self.session.take_claim(number)) else { return };
        if claim.word.is_none() {
            return self.session.unlock_later(&claim, None);
        }
        let session = Arc::clone(&self.session);
        tokio::spawn(async move {
            let _ = session.unshare(&claim, session.call_limit()).await;
            session.unlock_later(&claim, None);
        });
    }
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
        tokio::spawn(run(Arc::clone(&session)));
        if matches!(kind, Kind::Keeper | Kind::Waiter) {
            tokio::spawn(take_and_unlock(Arc::clone(&session)));
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

    /// Takes a lock if it is free.
    pub(super) async fn try_lock(self: &Arc<Self>, name: &Arc<str>, kind: LockKind) -> Answer<Option<Claim>> {
        match self.ask_for(name, kind) {
            // Without an answer the session has it.
            Some(answer) => answer.await.unwrap_or(Ok(None)),
            None => Ok(None),
        }
    }

    /// Asks for a lock if it is free. `None` where the session has it, and it is not shared, or is closed.
    pub(super) fn ask_for(
        self: &Arc<Self>,
        name: &Arc<str>,
        kind: LockKind,
    ) -> Option<oneshot::Receiver<Answer<Option<Claim>>>> {
        let (tell, answer) = oneshot::channel();
        let mut state = self.state();
        if state.closed || state.lost.is_some() {
            drop(state);
            let _ = tell.send(Err(self.loss()));
            return Some(answer);
        }
        if state.claims.kind_of(name).is_some_and(|held| held != LockKind::Shared || kind != LockKind::Shared) {
            return None;
        }
        state.tries.push_back(Try { name: Arc::clone(name), kind, tell });
        drop(state);
        self.asked.notify_one();
        Some(answer)
    }

    /// Records an advisory lock that the server has granted. `None` where the session had it already, and does not share it.
    fn claim(self: &Arc<Self>, name: &Arc<str>, number: i64, kind: LockKind) -> Option<Claim> {
        let user = self.beside.users().add();
        let mut state = self.state();
        let taken = state.claims.take(name, number, kind, user);
        if taken.is_surplus {
            // Another name with this number, or another acquire of this name.
            state.unlocks.push_back(Unlock { number, kind, name: Arc::clone(name), tell: None });
            self.asked.notify_one();
        }
        taken.key.map(|key| Claim { session: Arc::clone(self), number: Some(key) })
    }

    /// Takes a claim out, to be unlocked. Its name and number stay until then.
    pub(super) fn take_claim(&self, key: u64) -> Option<Claimed> {
        self.state().claims.remove(key)
    }

    /// Removes the word of a shared lock, if it is the last with that word. `false` if the word is not there any more.
    pub(super) async fn unshare(&self, claim: &Claimed, limit: Duration) -> Answer<bool> {
        let Some(word) = &claim.word else { return Ok(true) };
        match word.leave().await {
            Some(key) => self.beside.unshare(&claim.name, &key, limit).await,
            None => Ok(true),
        }
    }

    /// Unlocks what was claimed. Returns whether the session had it.
    pub(super) async fn unlock(&self, claim: Claimed) -> Answer<bool> {
        let (tell, answer) = oneshot::channel();
        self.unlock_later(&claim, Some(tell));
        let limit = self.call_limit();
        match within(limit, answer).await {
            Some(answer) => answer.unwrap_or_else(|_| Err(self.loss())),
            None => Err(Failure::silent(limit)),
        }
    }

    fn unlock_later(&self, claim: &Claimed, tell: Option<oneshot::Sender<Answer<bool>>>) {
        let Claimed { number, name, kind, .. } = claim;
        let mut state = self.state();
        let is_last = state.claims.forget(claim);
        if !is_last {
            // The others of this session share it on.
            if let Some(tell) = tell {
                let _ = tell.send(Ok(true));
            }
        } else if self.connection.over.why().is_none() {
            state.unlocks.push_back(Unlock { number: *number, kind: *kind, name: Arc::clone(name), tell });
        }
        drop(state);
        self.asked.notify_one();
        self.changed.notify_one();
    }

    /// Waits in the server's queue until the lock is granted, for at most `lock_timeout`. Then the caller
    /// [ends the wait](Session::end_wait). It [closes](Session::close) a session whose wait it drops.
    pub(super) async fn wait_for(
        self: &Arc<Self>,
        (name, kind): (&Arc<str>, LockKind),
        permit: impl Permit + 'static,
        lock_timeout: u128,
        limit: Duration,
    ) -> Answer<Claim> {
        {
            let mut state = self.state();
            if state.closed || state.lost.is_some() || state.has_locks() {
                drop(state);
                return Err(self.loss());
            }
            state.waits = true;
            state.permit = Some(Box::new(permit));
        }
        self.wake();
        let ttl = self.beside.address().url.ttl;
        let (third, own) = ((ttl / 3).as_millis(), call_limit(ttl).as_millis());
        // The server then notices the client's death while the client waits. Not every platform's server can.
        let check = format!("SET client_connection_check_interval = '{third}ms'");
        let times = format!("UNLISTEN *; SET lock_timeout = '{lock_timeout}ms'; SET statement_timeout = 0");
        // Where the last two are reset before the wait begins, a break of what it was granted would not be reported.
        let back =
            format!("SET statement_timeout = '{own}ms'; SET lock_timeout = '{}ms'; {}", sql::BRIEFLY_MS, sql::LISTEN);
        let begun = self.connection.run(limit, |client| async move {
            let _ = client.batch_execute(&check).await;
            client.batch_execute(&times).await
        });
        begun.await?;
        let lock = if kind == LockKind::Shared { sql::LOCK_SHARED } else { sql::LOCK };
        let values: &[Value<'_>] = &[(&&**name, Type::TEXT)];
        let locking = self.connection.run_long(|client| async move {
            // Sent together, so that resetting the timeouts costs no round trip.
            let (locked, back) = tokio::join!(client.query_typed(lock, values), client.batch_execute(&back));
            locked.and_then(|rows| back.map(|()| rows))
        });
        let rows = locking.await?;
        let number = rows.first().map(|row| row.get::<_, i64>(0));
        let claim = number.and_then(|number| self.claim(name, number, kind)).ok_or_else(|| self.loss())?;
        if let Some(permit) = &mut self.state().permit {
            permit.end_wait();
        }
        Ok(claim)
    }

    /// Returns whether the session has waited and its lease has not begun.
    pub(super) fn waits(&self) -> bool {
        self.state().waits
    }

    /// Begins the lease of a session that has waited, by a question that is asked after the wait.
    pub(super) async fn end_wait(&self) -> Answer<()> {
        let sent = BootTime::now();
        let confirmed = self.connection.check_backend(self.call_limit()).await;
        {
            let mut state = self.state();
            state.waits = false;
            if confirmed.is_ok() {
                state.term.confirmed = sent;
            }
        }
        self.wake();
        if let Err(failure) = confirmed {
            self.lose(&failure.detail);
            return Err(failure);
        }
        Ok(())
    }

    /// Cancels a wait in the server's queue, and ends the session.
    pub(super) async fn stop_waiting(&self, limit: Duration) {
        self.connection.cancel(limit).await;
        self.close("its wait was given up");
        let permit = self.state().permit.take();
        drop(permit);
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

    /// Renews the lease.
    async fn renew(&self, limit: Duration) -> Answer<()> {
        let sent = BootTime::now();
        self.connection.check_backend(limit).await?;
        let mut state = self.state();
        state.term.confirmed = sent;
        state.claims.tenures().for_each(|tenure| tenure.confirm(sent));
        Ok(())
    }

    /// Records the error of the last renewal, for all tenures; `None` after one that succeeded.
    fn set_trouble(&self, trouble: Option<String>) {
        let tenures: Vec<Arc<ServerTenure>> = {
            let mut state = self.state();
            if state.trouble == trouble {
                return;
            }
            state.trouble.clone_from(&trouble);
            state.claims.tenures().cloned().collect()
        };
        tenures.iter().for_each(|tenure| tenure.set_renewal_error(trouble.as_deref()));
    }

    /// Closes the session if it has had nothing to do for a while. Returns whether it did.
    fn close_if_idle(&self) -> bool {
        // The writers serve all sessions, and the keeper all acquires.
        let mut state = self.state();
        let idle = match self.kind {
            Kind::Waiter | Kind::Patient => true,
            Kind::Keeper | Kind::Writer => state.is_retired || self.beside.users().are_idle(IDLE),
        };
        let close = idle
            && !state.waits
            && state.permit.is_none()
            && !state.has_locks()
            && state.tries.is_empty()
            && state.idle_since.elapsed() >= IDLE;
        state.closed |= close;
        close
    }

    /// Records that the session is in use.
    pub(super) fn touch(&self) {
        self.state().idle_since = Instant::now();
    }

    /// Gives the pool its place back once a session that waited holds nothing any more. The next waiter may use it.
    fn settle(self: &Arc<Self>) {
        let permit = {
            let mut state = self.state();
            if state.has_locks() || state.waits {
                return;
            }
            state.idle_since = Instant::now();
            state.permit.take()
        };
        if let Some(permit) = permit {
            if self.is_open() {
                self.beside.keep_free(self);
            }
            drop(permit);
        }
    }
}

/// Takes and unlocks advisory locks, many by one statement, until the session is lost.
async fn take_and_unlock(session: Arc<Session>) {
    let _loses = LosesSession(Arc::clone(&session));
    loop {
        let (unlocks, asked, lost) = {
            let mut state = session.state();
            let most = state.unlocks.len().min(MOST_AT_ONCE);
            let unlocks: Vec<Unlock> = state.unlocks.drain(..most).collect();
            let asked = Asked::from(&mut state);
            state.is_asking = !unlocks.is_empty() || !asked.are_none();
            (unlocks, asked, state.closed && session.connection.over.why().is_some())
        };
        if unlocks.is_empty() && asked.are_none() {
            session.settle();
            if lost {
                return;
            }
            session.asked.notified().await;
            continue;
        }
        if !unlocks.is_empty() {
            session.unlock_all(unlocks).await;
        }
        if !asked.joins.is_empty() {
            session.join_all(asked.joins).await;
        }
        if !asked.tries.is_empty() {
            session.try_all(asked.tries, asked.others).await;
        }
    }
}

/// The tries that one statement serves.
#[derive(Default)]
struct Asked {
    tries: Vec<Try>,
    /// For locks that the session shares already.
    joins: Vec<Try>,
    /// For locks that one of `tries` is to share.
    others: Vec<Try>,
}

impl Asked {
    fn from(state: &mut State) -> Asked {
        let most = state.tries.len().min(MOST_AT_ONCE);
        let mut asked = Asked::default();
        // A name twice in one statement would be taken twice. A dropped sender is an answer: it is not free.
        let mut names: HashMap<Arc<str>, LockKind> = HashMap::new();
        for one in state.tries.drain(..most) {
            let held = state.claims.kind_of(&one.name);
            let kind = held.or_else(|| names.get(&one.name).copied());
            match kind {
                None => {
                    names.insert(Arc::clone(&one.name), one.kind);
                    asked.tries.push(one);
                }
                Some(LockKind::Shared) if one.kind == LockKind::Shared && held.is_some() => asked.joins.push(one),
                Some(LockKind::Shared) if one.kind == LockKind::Shared => asked.others.push(one),
                Some(_) => {}
            }
        }
        asked
    }

    fn are_none(&self) -> bool {
        self.tries.is_empty() && self.joins.is_empty()
    }
}

impl Session {
    async fn unlock_all(self: &Arc<Self>, unlocks: Vec<Unlock>) {
        let numbers: Vec<i64> = unlocks.iter().map(|unlock| unlock.number).collect();
        let shared: Vec<bool> = unlocks.iter().map(|unlock| unlock.kind == LockKind::Shared).collect();
        let values: &[Value<'_>] = &[(&numbers, Type::INT8_ARRAY), (&shared, Type::BOOL_ARRAY)];
        let answer = loop {
            match self.connection.rows_long(sql::UNLOCK, values).await {
                Err(failure) if !failure.is_lost() && self.may_unlock_again(&numbers) => sleep(PAUSE).await,
                answer => break answer,
            }
        };
        let answer = answer.map(|rows| {
            let failed = rows.iter().filter(|row| !row.get::<_, Option<bool>>(1).unwrap_or(false));
            failed.map(|row| row.get(0)).collect::<HashSet<i64>>()
        });
        for (at, unlock) in (1..).zip(unlocks) {
            let unlocked = answer.as_ref().map(|failed| !failed.contains(&at)).map_err(Failure::clone);
            if let Some(tell) = unlock.tell {
                let _ = tell.send(unlocked);
            }
            self.beside.released(&unlock.name);
        }
        if let Err(failure) = answer {
            self.close(&format!("a lock could not be released: {}", failure.detail));
        }
    }

    /// Returns whether a failed statement may be repeated. It may have unlocked some: again it must not unlock a claim.
    fn may_unlock_again(&self, numbers: &[i64]) -> bool {
        let state = self.state();
        state.lost.is_none() && !numbers.iter().any(|number| state.claims.has_number(*number))
    }

    /// Takes locks that are free. The others are asked again for what these share.
    async fn try_all(self: &Arc<Self>, tries: Vec<Try>, others: Vec<Try>) {
        let names: Vec<&str> = tries.iter().map(|asked| &*asked.name).collect();
        let shared: Vec<bool> = tries.iter().map(|asked| asked.kind == LockKind::Shared).collect();
        let values: &[Value<'_>] = &[(&names, Type::TEXT_ARRAY), (&shared, Type::BOOL_ARRAY)];
        let rows = match self.connection.rows_long(sql::TRY_LOCK, values).await {
            Ok(rows) => rows,
            Err(failure) => {
                self.undo(&names, &shared).await;
                for asked in tries.into_iter().chain(others) {
                    let _ = asked.tell.send(Err(failure.clone()));
                }
                return;
            }
        };
        let mut taken: HashMap<i64, i64> = HashMap::new();
        for row in rows.iter().filter(|row| row.get::<_, Option<bool>>(2).unwrap_or(false)) {
            taken.insert(row.get(0), row.get(1));
        }
        for (at, asked) in (1..).zip(tries) {
            let claim = taken.get(&at).and_then(|number| self.claim(&asked.name, *number, asked.kind));
            // A claim that is not waited for any more is unlocked.
            let _ = asked.tell.send(Ok(claim));
        }
        let mut state = self.state();
        for other in others {
            if state.claims.kind_of(&other.name).is_some() {
                state.tries.push_front(other);
                self.asked.notify_one();
            }
        }
    }

    /// Shares locks that this session shares already, where no session waits for the exclusive lock: the server would not
    /// let the next reader in before it.
    async fn join_all(self: &Arc<Self>, joins: Vec<Try>) {
        let names: Vec<&str> = joins.iter().map(|asked| &*asked.name).collect();
        let values: &[Value<'_>] = &[(&names, Type::TEXT_ARRAY)];
        let awaited: HashSet<i64> = match self.connection.rows_long(sql::AWAITED, values).await {
            Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
            Err(failure) => {
                joins.into_iter().for_each(|asked| drop(asked.tell.send(Err(failure.clone()))));
                return;
            }
        };
        for (at, asked) in (1..).zip(joins) {
            if awaited.contains(&at) {
                let _ = asked.tell.send(Ok(None));
                continue;
            }
            let joined = {
                let user = self.beside.users().add();
                let mut state = self.state();
                state.claims.join(&asked.name, user)
            };
            match joined {
                Some(key) => {
                    let claim = Claim { session: Arc::clone(self), number: Some(key) };
                    let _ = asked.tell.send(Ok(Some(claim)));
                }
                // The last of the others was released meanwhile.
                None => {
                    self.state().tries.push_front(asked);
                    self.asked.notify_one();
                }
            }
        }
    }

    /// Unlocks what a failed statement may have taken: advisory locks outlive their statement's failure.
    async fn undo(&self, names: &[&str], shared: &[bool]) {
        let ours = self.state().claims.numbers();
        let values: &[Value<'_>] =
            &[(&names, Type::TEXT_ARRAY), (&shared, Type::BOOL_ARRAY), (&ours, Type::INT8_ARRAY)];
        if let Err(failure) = self.connection.rows_long(sql::UNDO_TRY, values).await {
            self.close(&format!("what a failed acquire may have taken could not be unlocked: {}", failure.detail));
        }
    }
}

/// A session's task must not end, by a panic, and leave holders that believe they hold, or a session that unlocks nothing.
struct LosesSession(Arc<Session>);

impl Drop for LosesSession {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close("the task that keeps it failed");
        }
    }
}

/// Renews the lease until the session is lost, or closed without a claim.
async fn run(session: Arc<Session>) {
    let _loses = LosesSession(Arc::clone(&session));
    let mut again: Option<BootTime> = None;
    loop {
        if let Some(why) = session.connection.over.why() {
            session.lose(&Failure::lost(&why).detail);
        }
        let (lease, lost, waits) = {
            let state = session.state();
            (state.term, state.lost.is_some(), state.waits)
        };
        let now = BootTime::now();
        if lost {
            break;
        }
        if waits {
            tokio::select! {
                _ = session.connection.over.wait() => {}
                () = session.changed.notified() => {}
            }
            continue;
        }
        if now >= lease.lost_at() {
            let trouble = session.state().trouble.clone();
            let why = "its lease could not be renewed in time";
            session.lose(&trouble.map_or(why.to_owned(), |trouble| format!("{why}: {trouble}")));
            session.beside.ran_out(session.kind);
            break;
        }
        if session.close_if_idle() {
            session.close("it was not needed");
            return;
        }
        if again.unwrap_or(lease.renew_at()) <= now {
            let limit = lease.call_limit(now);
            match session.renew(limit).await {
                Ok(()) => {
                    session.set_trouble(None);
                    if again.take().is_some() {
                        event!(INFO, backend = session.connection.backend, "the lease is renewed again");
                    }
                }
                Err(failure) if failure.is_lost() || failure.kind == ErrorKind::Unsupported => {
                    session.lose(&failure.detail);
                }
                Err(failure) => {
                    event!(WARN, backend = session.connection.backend, error = %failure.detail, "the lease was not renewed");
                    // An error of a call that the lease's end cut short says less than the one before it.
                    if limit == call_limit(lease.ttl) || session.state().trouble.is_none() {
                        session.set_trouble(Some(failure.detail));
                    }
                    again = Some(BootTime::now().after(PAUSE));
                }
            }
            continue;
        }
        let mut rest = again.unwrap_or_else(|| lease.renew_at()).from(now).min(lease.lost_at().from(now));
        if session.state().claims.are_all_left() {
            rest = rest.min(IDLE);
        }
        tokio::select! {
            _ = session.connection.over.wait() => {}
            () = session.changed.notified() => {}
            () = sleep(rest) => {}
        }
    }
    session.end_lost().await;
}

impl Session {
    /// Ends the connection of a lost session: the lease runs on at the server, so that the holders have the rest of it to
    /// stop their work. What is released meanwhile is unlocked.
    async fn end_lost(self: &Arc<Self>) {
        let free_at = self.term().free_at();
        loop {
            let left = free_at.from(BootTime::now());
            if left.is_zero() || self.connection.over.why().is_some() {
                break;
            }
            if !self.state().has_locks() {
                break;
            }
            tokio::select! {
                _ = self.connection.over.wait() => {}
                () = self.changed.notified() => {}
                () = sleep(left) => {}
            }
        }
        self.connection.close("its lease was not renewed in time");
        let permit = self.state().permit.take();
        drop(permit);
        self.asked.notify_one();
    }
}
