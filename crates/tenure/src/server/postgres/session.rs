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
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::connect::{Address, Answer, Connection, Failure, Purpose, Value};
use super::sql;
use super::users::{User, Users};
use crate::model::error::{Error, ErrorKind};
use crate::record::Record;
use crate::server::io_thread::within;
use crate::server::keeps_tenures::KeepsTenures;
use crate::server::lease::{BootTime, Lease, call_limit};
use crate::server::reports;
use crate::server::tenure::ServerTenure;
use crate::util::trace::event;

/// The maximum number of locks in one statement. A renewal waits behind one statement at most.
const MOST_AT_ONCE: usize = 1024;
/// The time between two attempts to reach a server that does not answer.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// The time until a record that could not be published is published again, or a release written again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
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
    beside: Arc<dyn Beside>,
    pub(super) connection: Connection,
    kind: Kind,
    state: Mutex<State>,
    /// Wakes the session's task.
    changed: Notify,
    /// Wakes the task that takes and unlocks.
    asked: Notify,
}

struct State {
    term: Lease,
    /// Nothing more begins in this session.
    closed: bool,
    /// It does not answer, and another takes what is free.
    is_retired: bool,
    /// It is in the server's queue, where its connection's keep-alives watch it. A statement is no idle time.
    waits: bool,
    /// The reason why it is lost.
    lost: Option<String>,
    last: u64,
    claims: HashMap<u64, Claimed>,
    /// The numbers of the claims' advisory locks.
    numbers: HashSet<i64>,
    /// Their names.
    names: HashSet<Arc<str>>,
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
        !self.numbers.is_empty() || !self.unlocks.is_empty() || self.is_asking
    }
}

/// An advisory lock that the session has.
struct Claimed {
    name: Arc<str>,
    number: i64,
    /// The fence, once its row is written.
    fence: i64,
    tenure: Option<Arc<ServerTenure>>,
    is_publishing: bool,
    /// The task that acts on `max_hold`.
    timer: Option<AbortHandle>,
    /// Keeps the sessions.
    _user: User,
}

/// A lock that is to be taken if it is free.
struct Try {
    name: Arc<str>,
    tell: oneshot::Sender<Answer<Option<Claim>>>,
}

/// An advisory lock that is to be unlocked.
struct Unlock {
    number: i64,
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

    /// Unlocks it, and waits for the server's answer.
    pub(super) async fn leave(mut self) {
        if let Some(claim) = self.number.take().and_then(|number| self.session.take_claim(number)) {
            let _ = self.session.unlock(claim).await;
        }
    }

    /// Makes the claim that of a tenure; `false` if the session is lost.
    pub(super) fn hold(&mut self, fence: i64, tenure: &Arc<ServerTenure>) -> bool {
        let mut state = self.session.state();
        let Some(key) = self.number.filter(|_| state.lost.is_none()) else { return false };
        let confirmed = state.term.confirmed;
        let Some(claim) = state.claims.get_mut(&key) else { return false };
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
        if let Some(claim) = self.number.take().and_then(|number| self.session.take_claim(number)) {
            self.session.unlock_later(claim, None);
        }
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
                last: 0,
                claims: HashMap::new(),
                numbers: HashSet::new(),
                names: HashSet::new(),
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
            tokio::spawn(listen(Arc::clone(&session)));
        }
        Ok(session)
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
        if state.numbers.is_empty() {
            drop(state);
            self.close("the server did not answer in time");
            return false;
        }
        true
    }

    /// Returns whether the session has no lock but that of a name.
    pub(super) fn has_at_most(&self, name: &str) -> bool {
        self.state().names.iter().all(|ours| **ours == *name)
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

    fn call_limit(&self) -> Duration {
        call_limit(self.beside.address().url.ttl)
    }

    /// Takes a lock if it is free.
    pub(super) async fn try_lock(self: &Arc<Self>, name: &Arc<str>) -> Answer<Option<Claim>> {
        match self.ask_for(name) {
            // Without an answer the session has it.
            Some(answer) => answer.await.unwrap_or(Ok(None)),
            None => Ok(None),
        }
    }

    /// Asks for a lock if it is free. `None` where the session has it, or is closed.
    pub(super) fn ask_for(self: &Arc<Self>, name: &Arc<str>) -> Option<oneshot::Receiver<Answer<Option<Claim>>>> {
        let (tell, answer) = oneshot::channel();
        let mut state = self.state();
        if state.closed || state.lost.is_some() {
            drop(state);
            let _ = tell.send(Err(self.loss()));
            return Some(answer);
        }
        if state.names.contains(name) {
            return None;
        }
        state.tries.push_back(Try { name: Arc::clone(name), tell });
        drop(state);
        self.asked.notify_one();
        Some(answer)
    }

    /// Records an advisory lock that the server has granted. `None` where the session had it already.
    fn claim(self: &Arc<Self>, name: &Arc<str>, number: i64) -> Option<Claim> {
        let mut state = self.state();
        if !state.numbers.insert(number) {
            return None;
        }
        state.last += 1;
        let key = state.last;
        let name = Arc::clone(name);
        state.names.insert(Arc::clone(&name));
        let claimed = Claimed {
            name,
            number,
            fence: 0,
            tenure: None,
            is_publishing: false,
            timer: None,
            _user: self.beside.users().add(),
        };
        state.claims.insert(key, claimed);
        Some(Claim { session: Arc::clone(self), number: Some(key) })
    }

    /// Takes a claim out, to be unlocked.
    fn take_claim(&self, key: u64) -> Option<Claimed> {
        let mut state = self.state();
        // Its name and number stay until it is unlocked.
        state.claims.remove(&key)
    }

    /// Unlocks what was claimed. Returns whether the session had it.
    async fn unlock(&self, claim: Claimed) -> Answer<bool> {
        let (tell, answer) = oneshot::channel();
        self.unlock_later(claim, Some(tell));
        let limit = self.call_limit();
        match within(limit, answer).await {
            Some(answer) => answer.unwrap_or_else(|_| Err(self.loss())),
            None => Err(Failure::silent(limit)),
        }
    }

    fn unlock_later(&self, claim: Claimed, tell: Option<oneshot::Sender<Answer<bool>>>) {
        let Claimed { number, name, .. } = claim;
        let mut state = self.state();
        state.numbers.remove(&number);
        state.names.remove(&name);
        if self.connection.over.why().is_none() {
            state.unlocks.push_back(Unlock { number, name, tell });
        }
        drop(state);
        self.asked.notify_one();
        self.changed.notify_one();
    }

    /// Waits in the server's queue until the lock is granted, for at most `lock_timeout`. Then the caller
    /// [ends the wait](Session::end_wait). It [closes](Session::close) a session whose wait it drops.
    pub(super) async fn wait_for(
        self: &Arc<Self>,
        name: &Arc<str>,
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
        let values: &[Value<'_>] = &[(&&**name, Type::TEXT)];
        let locking = self.connection.run_long(|client| async move {
            // Sent together, so that resetting the timeouts costs no round trip.
            let (locked, back) = tokio::join!(client.query_typed(sql::LOCK, values), client.batch_execute(&back));
            locked.and_then(|rows| back.map(|()| rows))
        });
        let rows = locking.await?;
        let number = rows.first().map(|row| row.get::<_, i64>(0));
        let claim = number.and_then(|number| self.claim(name, number)).ok_or_else(|| self.loss())?;
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

    /// Unlocks a lost tenure whose guard still exists by then. Its row stays, so that the next holder waits for the lease and
    /// gets its crash report.
    async fn leave_at(&self, free_at: BootTime, key: u64) {
        loop {
            let left = free_at.from(BootTime::now());
            if left.is_zero() {
                break;
            }
            sleep(left).await;
        }
        if let Some(claim) = self.take_claim(key) {
            let tenure = claim.tenure.clone();
            let _ = self.unlock(claim).await;
            // A release that began before the loss was known waits for its result, and finds no claim.
            if let Some(tenure) = tenure {
                tenure.finish(tenure.check());
            }
        }
    }

    /// Marks the row, and then unlocks, because the next holder must read that the lock was released.
    async fn release(self: Arc<Self>, claim: Claimed, tenure: &ServerTenure, limit: Duration) {
        let target = tenure.target();
        let at = |failure: Failure| failure.at(target);
        // Where the server has ended the session, the next holder waits for the rest of our lease.
        if self.connection.over.why().is_some() {
            return tenure.finish(Err(at(self.loss())));
        }
        let record = tenure.final_record();
        let written = self.beside.show(&claim.name, claim.fence, &record, limit).await;
        if let Err(failure) = &written
            && failure.is_unanswered()
        {
            let seconds = self.beside.address().url.ttl.as_secs();
            let error = at(failure.clone()).with_hint(format!(
                "the lock is free as soon as the server answers, or when its session ends, after {seconds} s at most; \
                 later where it waits for a synchronous standby"
            ));
            tenure.finish(Err(error));
            return self.release_later(claim, &record).await;
        }
        let unlocked = self.unlock(claim).await;
        tenure.finish(match (written, unlocked) {
            (Ok(true), Ok(true)) => Ok(()),
            (Err(failure), _) | (_, Err(failure)) => Err(at(failure)),
            _ => Err(not_ours(target)),
        });
    }

    /// Repeats the writing of a release that the server has not answered, and then unlocks.
    async fn release_later(&self, claim: Claimed, record: &Record) {
        let end = Instant::now() + self.beside.address().url.ttl;
        while self.state().lost.is_none() && Instant::now() < end {
            sleep(WRITE_AGAIN).await;
            let written = self.beside.show(&claim.name, claim.fence, record, self.call_limit()).await;
            if !written.is_err_and(|failure| failure.is_unanswered()) {
                break;
            }
        }
        let _ = self.unlock(claim).await;
    }

    async fn publish(&self, key: u64, name: &Arc<str>, fence: i64, tenure: &Arc<ServerTenure>) {
        loop {
            {
                let mut state = self.state();
                let Some(claim) = state.claims.get_mut(&key) else { return };
                if !tenure.is_unpublished() || !tenure.is_held() {
                    claim.is_publishing = false;
                    return;
                }
            }
            let Some(record) = tenure.take_unpublished() else { continue };
            let limit = tenure.lease().call_limit(BootTime::now());
            match self.beside.show(name, fence, &record, limit).await {
                Ok(true) => {}
                Ok(false) => return self.give_up(key, not_ours(tenure.target()).detail()).await,
                Err(_) => {
                    event!(WARN, target = ?tenure.target(), "the record was not published: the server did not answer");
                    tenure.mark_unpublished();
                    sleep(WRITE_AGAIN).await;
                }
            }
        }
    }

    /// Acts on the report of a break: the holder of that fence gives the lock up, if its row says so.
    async fn hear(self: Arc<Self>, fence: i64) {
        let found = {
            let state = self.state();
            let with_it = state.claims.iter().find(|(_, claim)| claim.fence == fence && claim.tenure.is_some());
            with_it.map(|(key, claim)| (*key, Arc::clone(&claim.name)))
        };
        let Some((key, name)) = found else { return };
        loop {
            match self.beside.is_breaking(&name, fence, self.call_limit()).await {
                Ok(false) => return,
                Ok(true) => return self.give_up(key, "the lock was broken by an operator").await,
                Err(failure) if failure.is_unanswered() && self.state().claims.contains_key(&key) => sleep(PAUSE).await,
                Err(_) => return,
            }
        }
    }

    /// Ends one tenure whose row says that it is another's or is being broken, and unlocks it for the next holder.
    async fn give_up(&self, key: u64, why: &str) {
        let Some(claim) = self.take_claim(key) else { return };
        let Some(tenure) = claim.tenure.clone() else { return };
        if let Some(timer) = &claim.timer {
            timer.abort();
        }
        tenure.lose(why.to_owned());
        reports::report_loss(Arc::clone(&tenure));
        let record = tenure.final_record();
        let _ = self.beside.show(&claim.name, claim.fence, &record, self.call_limit()).await;
        let _ = self.unlock(claim).await;
        // A release that began before the loss was known waits for its result, and finds no claim.
        tenure.finish(Err(not_ours(tenure.target())));
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
        let tenures: Vec<Arc<ServerTenure>> = state.claims.values().filter_map(|claim| claim.tenure.clone()).collect();
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
        state.claims.values().filter_map(|claim| claim.tenure.as_ref()).for_each(|tenure| tenure.confirm(sent));
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
            state.claims.values().filter_map(|claim| claim.tenure.clone()).collect()
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

impl KeepsTenures for Session {
    async fn attend(self: Arc<Self>, key: u64) {
        enum Todo {
            Release(Claimed),
            Report,
            Publish(Arc<str>, i64),
        }
        let (tenure, todo) = {
            let mut state = self.state();
            let Some(claim) = state.claims.get_mut(&key) else { return };
            let Some(tenure) = claim.tenure.clone() else { return };
            let todo = if tenure.is_released() {
                drop(state);
                let Some(claim) = self.take_claim(key) else { return };
                if let Some(timer) = &claim.timer {
                    timer.abort();
                }
                Todo::Release(claim)
            } else if !tenure.is_held() {
                Todo::Report
            } else if tenure.is_unpublished() && !std::mem::replace(&mut claim.is_publishing, true) {
                Todo::Publish(Arc::clone(&claim.name), claim.fence)
            } else {
                return;
            };
            (tenure, todo)
        };
        match todo {
            Todo::Release(claim) => self.release(claim, &tenure, tenure.time_to_release()).await,
            Todo::Report => {
                // The holder has the rest of its own lease to stop its work. The session's may be renewed for others.
                let free_at = tenure.lease().free_at();
                reports::report_loss(tenure);
                self.leave_at(free_at, key).await;
            }
            Todo::Publish(name, fence) => self.publish(key, &name, fence, &tenure).await,
        }
    }

    async fn release_early(self: Arc<Self>, key: u64, tenure: &ServerTenure, limit: Duration) {
        if let Some(claim) = self.take_claim(key) {
            self.release(claim, tenure, limit).await;
        }
    }

    fn set_timer(&self, key: u64, timer: AbortHandle) {
        match self.state().claims.get_mut(&key) {
            Some(claim) => claim.timer = Some(timer),
            // It was released already.
            None => timer.abort(),
        }
    }
}

/// Takes and unlocks advisory locks, many by one statement, until the session is lost.
async fn take_and_unlock(session: Arc<Session>) {
    let _loses = LosesSession(Arc::clone(&session));
    loop {
        let (unlocks, tries, lost) = {
            let mut state = session.state();
            let most = state.unlocks.len().min(MOST_AT_ONCE);
            let unlocks: Vec<Unlock> = state.unlocks.drain(..most).collect();
            let most = state.tries.len().min(MOST_AT_ONCE);
            let mut tries: Vec<Try> = state.tries.drain(..most).collect();
            // A name twice in one statement would be taken twice. A dropped sender is an answer: it is not free.
            let mut names = HashSet::new();
            tries.retain(|asked| !state.names.contains(&asked.name) && names.insert(Arc::clone(&asked.name)));
            state.is_asking = !unlocks.is_empty() || !tries.is_empty();
            (unlocks, tries, state.closed && session.connection.over.why().is_some())
        };
        if unlocks.is_empty() && tries.is_empty() {
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
        if !tries.is_empty() {
            session.try_all(tries).await;
        }
    }
}

impl Session {
    async fn unlock_all(self: &Arc<Self>, unlocks: Vec<Unlock>) {
        let numbers: Vec<i64> = unlocks.iter().map(|unlock| unlock.number).collect();
        let values: &[Value<'_>] = &[(&numbers, Type::INT8_ARRAY)];
        let answer = loop {
            let work =
                |client: Arc<tokio_postgres::Client>| async move { client.query_typed(sql::UNLOCK, values).await };
            match self.connection.run_long(work).await {
                Err(failure) if !failure.is_lost() && self.may_unlock_again(&numbers) => sleep(PAUSE).await,
                answer => break answer,
            }
        };
        let answer = answer.map(|rows| {
            let failed = rows.iter().filter(|row| !row.get::<_, Option<bool>>(1).unwrap_or(false));
            failed.map(|row| row.get(0)).collect::<HashSet<i64>>()
        });
        for unlock in unlocks {
            let unlocked = answer.as_ref().map(|failed| !failed.contains(&unlock.number)).map_err(Failure::clone);
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
        state.lost.is_none() && !numbers.iter().any(|number| state.numbers.contains(number))
    }

    async fn try_all(self: &Arc<Self>, tries: Vec<Try>) {
        let names: Vec<&str> = tries.iter().map(|asked| &*asked.name).collect();
        let values: &[Value<'_>] = &[(&names, Type::TEXT_ARRAY)];
        let answer = self.connection.run_long(|client| async move { client.query_typed(sql::TRY_LOCK, values).await });
        let rows = match answer.await {
            Ok(rows) => rows,
            Err(failure) => {
                self.undo(&names).await;
                for asked in tries {
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
            let claim = taken.get(&at).and_then(|number| {
                let claim = self.claim(&asked.name, *number);
                if claim.is_none() {
                    // The session had it: another name with this number, or another acquire of this name.
                    let (number, name) = (*number, Arc::clone(&asked.name));
                    self.state().unlocks.push_back(Unlock { number, name, tell: None });
                    self.asked.notify_one();
                }
                claim
            });
            // A claim that is not waited for any more is unlocked.
            let _ = asked.tell.send(Ok(claim));
        }
    }

    /// Unlocks what a failed statement may have taken: advisory locks outlive their statement's failure.
    async fn undo(&self, names: &[&str]) {
        let ours: Vec<i64> = self.state().numbers.iter().copied().collect();
        let values: &[Value<'_>] = &[(&names, Type::TEXT_ARRAY), (&ours, Type::INT8_ARRAY)];
        let undone = self.connection.run_long(|client| async move { client.query_typed(sql::UNDO_TRY, values).await });
        if let Err(failure) = undone.await {
            self.close(&format!("what a failed acquire may have taken could not be unlocked: {}", failure.detail));
        }
    }
}

/// Hears the breaks of locks, until the connection ends.
async fn listen(session: Arc<Session>) {
    let Some(mut news) = session.connection.take_news() else { return };
    while let Some(payload) = news.recv().await {
        if let Ok(fence) = payload.parse() {
            tokio::spawn(Arc::clone(&session).hear(fence));
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
        if session.state().claims.is_empty() {
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

/// Returns the error of a row that is another's.
pub(super) fn not_ours(target: &std::path::Path) -> Error {
    let detail = "its row was changed at the server: the lock was broken, or given to another";
    Error::new(ErrorKind::Lost, target, detail)
}
