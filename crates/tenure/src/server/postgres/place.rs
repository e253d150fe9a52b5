//! An acquire: it takes what is free, or waits for it, until it has a tenure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::connect::{Answer, CANCELLED, Failure, LOCK_TIMED_OUT};
use super::pool::{Chance, SessionPermit, TRY_AGAIN};
use super::session::{Claim, PAUSE};
use super::{Postgres, rows, status};
use crate::model::error::{Error, ErrorKind, Result};
use crate::process::Identity;
use crate::record::Record;
use crate::server::acquire::{Acquire, Failed, LONG, OutagePatience, ReturnsPlace, failed, held_nothing, new_record};
use crate::server::delivery;
use crate::server::io_thread::within;
use crate::server::keeps_tenures::interrupter;
use crate::server::lease::{ANSWER, BootTime, call_limit};
use crate::server::lock_server::{AnswerBy, Granted};
use crate::server::pending::PendingAcquire;
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;
use crate::util::trace::event;

/// The interval at which an acquire that waits out a lease looks whether the lease's process has died.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An acquire under way.
struct AcquireUnderWay<'a> {
    postgres: &'a Arc<Postgres>,
    acquire: &'a Acquire,
    pending: &'a PendingAcquire,
    /// Notified when the caller gives up.
    wakes: &'a Notify,
    name: Arc<str>,
    answer_by: AnswerBy,
    record: Record,
    /// The record as the last grant has written it, which the server may still commit.
    sent: String,
    /// The row of the last holder, where the lock was not just taken.
    last: Option<Last>,
    /// Until when the readers that the row named may rely on their leases, by their keys.
    readers: HashMap<String, Option<BootTime>>,
    /// Another program had locked the row.
    was_blocked: bool,
}

/// The last holder, and the readers since.
struct Last {
    /// The holder's record, if it did not release.
    record: Option<Record>,
    fence: i64,
    /// Until when it may still rely on its lease.
    holds_until: Option<BootTime>,
    /// The process that renewed that lease.
    renewer: Option<Identity>,
    /// The readers, as the row has them.
    readers: String,
    /// Until when one of all may still rely on its lease.
    until: Option<BootTime>,
}

/// A grant, and the claim that it is for.
struct Taken {
    granted: Granted,
    claim: Claim,
    fence: i64,
    /// The record as the grant has written it.
    sent: String,
}

/// The caller must not wait for a task that panicked.
struct Answers<'a>(&'a PendingAcquire);

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.resolve(Err(failed(self.0.target())));
        }
    }
}

/// Serves an acquire to its outcome.
pub(super) async fn serve(postgres: Arc<Postgres>, acquire: Acquire, pending: Arc<PendingAcquire>) {
    // Also after a panic.
    let _place = ReturnsPlace(&pending);
    let _answers = Answers(&pending);
    let _user = postgres.pool.users.add();
    let wakes = Arc::new(Notify::new());
    let caller = Arc::clone(&wakes);
    pending.set_interrupter(Some(Arc::new(move || caller.notify_one())));
    match wait(&postgres, &acquire, &pending, &wakes).await {
        Ok(None) => {}
        Ok(Some(taken)) => {
            if let Err(error) = deliver(&postgres, acquire, &pending, taken).await {
                pending.resolve(Err(held_nothing(error)));
            }
        }
        Err(failed) => {
            let mut error = failed.error;
            if error.is_busy() {
                let left = failed.end.saturating_duration_since(Instant::now());
                let found = if left.is_zero() { None } else { status::beside(&postgres, left).await.ok() };
                error = delivery::late(error, &acquire, found, &postgres.pool.address.answers);
            }
            pending.resolve(Err(error));
        }
    }
}

/// Makes a tenure of a grant and hands it to the caller.
async fn deliver(postgres: &Arc<Postgres>, acquire: Acquire, pending: &PendingAcquire, taken: Taken) -> Result<()> {
    let Taken { granted, mut claim, fence, sent } = taken;
    let session = Arc::clone(&claim.session);
    let (crashed, shared) = (granted.last.clone(), granted.shared);
    let lost = || {
        if !shared {
            // The row of this grant has no holder. The word of a shared lock is removed with the claim.
            postgres.pool.be_unsure(&postgres.url.name, &sent, crashed.as_ref());
        }
        session.loss().at(&postgres.url.target)
    };
    let key = claim.key().ok_or_else(lost)?;
    let Acquire { options, requester, .. } = acquire;
    let ttl = postgres.url.ttl;
    let server: Arc<Postgres> = Arc::clone(postgres);
    let tenure = Arc::new(ServerTenure::new(server, options, granted, ttl, interrupter(&session, key), requester));
    if !claim.hold(fence, &tenure) {
        return Err(lost());
    }
    delivery::hand_over(session, key, tenure, ttl, pending).await;
    Ok(())
}

/// Waits until the lock is granted, in one place after the other. `None` once the caller has given up.
async fn wait(
    postgres: &Arc<Postgres>,
    acquire: &Acquire,
    pending: &PendingAcquire,
    wakes: &Notify,
) -> std::result::Result<Option<Taken>, Failed> {
    let mut patience = OutagePatience::new(postgres.url.ttl);
    loop {
        if pending.is_over() {
            return Ok(None);
        }
        let mut under_way = AcquireUnderWay {
            postgres,
            acquire,
            pending,
            wakes,
            name: Arc::from(&*postgres.url.name),
            answer_by: AnswerBy::new(acquire.answer_by()),
            record: new_record(&acquire.options),
            sent: String::new(),
            last: None,
            readers: HashMap::new(),
            was_blocked: false,
        };
        match postgres.pool.keeper(under_way.limit()).await {
            Ok(_) => patience.answered(),
            Err(failure) => {
                let error = failure.at(&postgres.url.target);
                // Nothing of this acquire is lost: the session that it was to share has ended.
                let again = error.is_lost() && acquire.answer_by().is_none_or(|by| Instant::now() < by);
                if again || acquire.may_enter_again(&error, &patience) {
                    within(PAUSE, wakes.notified()).await;
                    continue;
                }
                return Err(error.into());
            }
        }
        let error = match under_way.acquire().await {
            Ok(taken) => return Ok(taken),
            Err(error) => error,
        };
        // The next iteration takes another place, at the queue's end.
        if acquire.may_queue_again(&error) {
            // The wait may have taken hours. The time for the server's return begins with the loss of the place.
            patience.answered();
            event!(WARN, target = ?postgres.url.target, error = %error, "a place in the queue was lost");
            within(PAUSE, wakes.notified()).await;
            continue;
        }
        return Err(error.into());
    }
}

impl AcquireUnderWay<'_> {
    fn limit(&self) -> Duration {
        self.answer_by.within(call_limit(self.postgres.url.ttl))
    }

    fn at(&self, failure: Failure) -> Error {
        failure.at(&self.postgres.url.target)
    }

    fn busy(&self) -> Error {
        Error::busy(&self.postgres.url.target)
    }

    fn is_late(&self) -> bool {
        self.acquire.left() == Some(Duration::ZERO)
    }

    /// Returns the error of a server that did not answer, after the deadline.
    fn silence(&self, error: Error) -> Error {
        match self.acquire.is_immediate() || !self.answer_by.was_cut_short() {
            true => error,
            false => self.busy(),
        }
    }

    /// Returns the error of a call that failed. After the deadline, a server that does not answer may just be slow.
    fn outcome(&self, failure: Failure) -> Error {
        let error = self.at(failure);
        match (error.is_unreachable() || error.is_lost()) && !error.takes_no_writes() && self.is_late() {
            true => self.silence(error),
            false => error,
        }
    }

    /// Takes the lock, or waits for it. `None` once the caller has given up.
    async fn acquire(&mut self) -> Result<Option<Taken>> {
        let mut claim = self.try_once().await?;
        while claim.is_none() {
            if self.acquire.is_immediate() {
                return Err(self.busy());
            }
            if self.acquire.would_wait_for_itself() {
                return Err(Error::would_deadlock(&self.postgres.url.target, true, self.acquire.requester));
            }
            claim = self.wait_for_claim().await?;
            if claim.is_none() && self.pending.is_over() {
                return Ok(None);
            }
        }
        let Some(claim) = claim else { return Ok(None) };
        let taken = self.take(&claim).await;
        match taken {
            Ok(Some((granted, fence))) => {
                Ok(Some(Taken { granted, claim, fence, sent: std::mem::take(&mut self.sent) }))
            }
            // The waiters behind us must not wait for an abandoned claim, nor the caller for a silent server.
            other => {
                if claim.session.waits() {
                    claim.session.close("its wait was given up");
                }
                within(ANSWER, claim.leave()).await;
                other.map(|_| None)
            }
        }
    }

    /// Takes the lock if it is free: step 2 of the protocol.
    async fn try_once(&mut self) -> Result<Option<Claim>> {
        let limit = self.limit();
        let (name, kind) = (Arc::clone(&self.name), self.acquire.kind);
        let pool = &self.postgres.pool;
        let asked = async {
            let keeper = pool.keeper(limit).await?;
            keeper.try_lock(&name, kind).await
        };
        let answer: Answer<Option<Claim>> = within(limit, asked).await.unwrap_or_else(|| Err(Failure::silent(limit)));
        answer.map_err(|failure| self.outcome(failure))
    }

    /// Waits for the lock: step 3 of the protocol. `None` once the caller has given up.
    async fn wait_for_claim(&mut self) -> Result<Option<Claim>> {
        let mut waiting = self.postgres.pool.enter(&self.name, self.acquire.kind);
        let chance = loop {
            if self.pending.is_over() {
                return Ok(None);
            }
            if self.is_late() {
                return Err(self.busy());
            }
            tokio::select! {
                chance = &mut waiting.chance => break chance,
                () = self.wakes.notified() => {}
                () = sleep(self.acquire.left().unwrap_or(LONG)) => {}
            }
        };
        match chance {
            Ok(Chance::Claim(claim)) => Ok(Some(claim)),
            Ok(Chance::Failed(failure)) => Err(self.outcome(failure)),
            Ok(Chance::Turn(turn)) => self.wait_in_queue(turn).await,
            // Its sender is dropped with the pool, which this acquire keeps.
            Err(_) => Err(self.busy()),
        }
    }

    /// Waits in the server's queue, in a session of its own.
    async fn wait_in_queue(&mut self, turn: SessionPermit) -> Result<Option<Claim>> {
        let pool = &self.postgres.pool;
        let session = match pool.waiter(self.limit()).await {
            Ok(session) => session,
            Err(failure) if failure.is_connection_limit() => {
                within(TRY_AGAIN, self.wakes.notified()).await;
                drop(turn);
                return self.try_once().await;
            }
            Err(failure) => return Err(self.outcome(failure)),
        };
        let limit = self.limit();
        let answer = {
            let waits = session.wait_for((&self.name, self.acquire.kind), turn, self.lock_timeout(), limit);
            tokio::pin!(waits);
            loop {
                if self.pending.is_over() || self.is_late() {
                    break None;
                }
                tokio::select! {
                    answer = &mut waits => break Some(answer),
                    () = self.wakes.notified() => {}
                    () = sleep(self.acquire.left().unwrap_or(LONG)) => {}
                }
            }
        };
        let failure = match answer {
            Some(Ok(claim)) => return Ok(Some(claim)),
            Some(Err(failure)) => failure,
            None => {
                session.stop_waiting(ANSWER).await;
                return if self.pending.is_over() { Ok(None) } else { Err(self.busy()) };
            }
        };
        session.close(&failure.detail);
        if failure.has_code(LOCK_TIMED_OUT) {
            return Err(self.busy());
        }
        if failure.has_code(CANCELLED) {
            // It has no time of its own there: an operator ended it.
            return Err(self.at(failure).with_kind(ErrorKind::Io));
        }
        Err(self.outcome(failure))
    }

    /// In milliseconds; 0 is without an end.
    fn lock_timeout(&self) -> u128 {
        self.acquire.left().map_or(0, |left| (left.as_millis() + 1).min(i32::MAX as u128))
    }

    /// Makes a grant of a claim: steps 4 and 5 of the protocol. `None` once the caller has given up.
    async fn take(&mut self, claim: &Claim) -> Result<Option<(Granted, i64)>> {
        loop {
            if self.pending.is_over() {
                return Ok(None);
            }
            if claim.session.is_lost() {
                return Err(self.at(claim.session.loss()));
            }
            let step = if claim.session.waits() {
                // At once, which saves a round trip: a grant without the session is none.
                let (ended, step) = tokio::join!(claim.session.end_wait(), self.try_take(claim));
                if ended.is_err() && matches!(step, Ok(Some(_))) {
                    self.disown();
                }
                ended.and(step)
            } else {
                self.try_take(claim).await
            };
            let step = step.map_err(|failure| self.at(failure));
            match step {
                Ok(Some(taken)) if !claim.session.is_lost() => return Ok(Some(taken)),
                // A grant whose session is lost is none.
                Ok(Some(_)) => self.disown(),
                Ok(None) => {
                    let grace = self.last.as_ref().and_then(|last| last.until);
                    let grace = grace.map_or(Duration::ZERO, |until| until.from(BootTime::now()));
                    if grace.is_zero() {
                        continue;
                    }
                    if self.is_late() {
                        return Err(self.busy());
                    }
                    let grace = grace.min(LOOK_AGAIN);
                    let rest = self.acquire.left().map_or(grace, |left| left.min(grace));
                    tokio::select! {
                        _ = claim.session.connection.over.wait() => {}
                        () = self.wakes.notified() => {}
                        () = sleep(rest) => {}
                    }
                }
                Err(error) if error.takes_no_writes() => return Err(error),
                // The session that writes rows may be lost, which is not the claim's.
                Err(error) if error.is_unreachable() || error.is_lost() => {
                    if self.is_late() {
                        return Err(self.silence(error));
                    }
                    within(PAUSE, self.wakes.notified()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Records that the row of the last grant has no holder: the next acquire of this process does not wait for its lease,
    /// and reports the crash that this one would have reported.
    fn disown(&self) {
        if self.acquire.kind == LockKind::Shared {
            // Its word is removed with the claim.
            return;
        }
        let crashed = self.last.as_ref().and_then(|last| last.record.as_ref());
        self.postgres.pool.be_unsure(&self.name, &self.sent, crashed);
    }

    /// Tries once to write the row. `None` where the last holder did not release: then its row was read.
    async fn try_take(&mut self, claim: &Claim) -> Answer<Option<(Granted, i64)>> {
        if self.must_wait()? {
            return Ok(None);
        }
        if self.last.is_some() {
            // The row was read while this session had the lock, so it is no present holder's. Its session may have ended
            // before that unnoticed, and then a holder has written the row since.
            claim.session.connection.check_backend(self.limit()).await?;
        }
        if let Some(native) = &mut self.record.native {
            native.acquired_at = Some(SystemTime::now());
        }
        match self.acquire.kind {
            LockKind::Exclusive => self.grant(claim).await,
            LockKind::Shared => self.share(claim).await,
        }
    }

    /// Writes the row of an exclusive lock.
    async fn grant(&mut self, claim: &Claim) -> Answer<Option<(Granted, i64)>> {
        let (pool, holder) = (&self.postgres.pool, &claim.session.connection);
        let (record, expected) = (self.record.to_json(), self.last.as_ref().map(|last| last.fence));
        let crashed = self.last.as_ref().and_then(|last| last.record.as_ref());
        let readers = self.last.as_ref().map(|last| &*last.readers);
        let grant = rows::Grant { name: &self.name, record: &record, holder, expected, readers, crashed };
        let limit = self.limit();
        let granted = rows::grant(pool, &grant, &mut self.was_blocked, limit).await;
        self.sent = record;
        let fence = match granted {
            Ok(fence) => fence,
            // It is read, and waited for.
            Err(failure) if expected.is_none() && failure.is_blocked() => None,
            Err(failure) => return Err(failure),
        };
        let Some(fence) = fence else {
            if !self.read_last().await? {
                return Err(rows::behind(&self.postgres.pool, &self.name, self.limit()).await);
            }
            return Ok(None);
        };
        if let Some(native) = &mut self.record.native {
            native.fence = u64::try_from(fence).ok();
        }
        let last = self.last.as_ref().and_then(|last| last.record.clone());
        let confirmed = claim.session.term().confirmed;
        Ok(Some((Granted { record: self.record.clone(), last, confirmed, shared: false }, fence)))
    }

    /// Writes the word of a shared lock, if no other one of the session has.
    async fn share(&mut self, claim: &Claim) -> Answer<Option<(Granted, i64)>> {
        let (pool, holder) = (&self.postgres.pool, &claim.session.connection);
        let (record, expected) = (self.record.to_json(), self.last.as_ref().map(|last| last.fence));
        // Its limit is that of the moment at which it begins.
        let write = || rows::share(pool, &self.name, &record, holder, expected, self.limit());
        let Some(last) = claim.share(&self.name, self.limit(), write).await? else {
            self.read_last().await?;
            return Ok(None);
        };
        let confirmed = claim.session.term().confirmed;
        Ok(Some((Granted { record: self.record.clone(), last, confirmed, shared: true }, 0)))
    }

    /// Reads the row of a lock that could not be granted. `false` if it is as it was read before.
    async fn read_last(&mut self) -> Answer<bool> {
        let Some(found) = rows::last(&self.postgres.pool, &self.name, self.limit()).await? else {
            // Another program's transaction has inserted it.
            within(PAUSE, self.wakes.notified()).await;
            return Ok(true);
        };
        let before = self.last.take().filter(|last| last.fence == found.fence);
        let is_new = before.as_ref().is_none_or(|last| last.readers != found.readers);
        let holds_until = before.map_or(found.until, |last| last.holds_until);
        let (record, fence, renewer, readers) = (found.unreleased, found.fence, found.renewer, found.readers);
        self.last = Some(Last { record, fence, holds_until, renewer, readers, until: None });
        self.decide_until()?;
        Ok(is_new)
    }

    /// Returns whether a lease of the last holder or of a reader has to be waited out. Those of processes that are proven dead by
    /// now are not: the server may end a session, and grant its locks, while its process still ends.
    fn must_wait(&mut self) -> Answer<bool> {
        let lasts = |last: &Last| last.until.is_some_and(|until| BootTime::now() < until);
        if !self.last.as_ref().is_some_and(lasts) {
            return Ok(false);
        }
        self.decide_until()?;
        Ok(self.last.as_ref().is_some_and(lasts))
    }

    /// Decides until when one of the last holder and the readers may still rely on its lease.
    fn decide_until(&mut self) -> Answer<()> {
        let Some(last) = &mut self.last else { return Ok(()) };
        if last.renewer.as_ref().is_some_and(rows::is_proven_dead) {
            last.holds_until = None;
        }
        last.until = last.holds_until;
        if self.acquire.kind == LockKind::Exclusive {
            for (key, reader) in rows::readers_of(&last.readers)? {
                let until = reader.until();
                // Not longer for each reader that comes or goes.
                let first = self.readers.entry(key).or_insert(until);
                if until.is_none() {
                    *first = None;
                }
                last.until = last.until.max(*first);
            }
        }
        Ok(())
    }
}
