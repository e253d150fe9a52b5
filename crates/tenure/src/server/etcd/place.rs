//! An acquire: a place in the queue of a name, until it has a tenure or is given back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, SemaphorePermit};
use tokio::time::sleep;

use super::batches::Urgency;
use super::client::Client;
use super::looks::status_since;
use super::messages::{BY_CREATION, Compare, DESCEND, KeyValue, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use super::session::{Created, GONE, PAUSE, Session, deleted, forgotten};
use super::turns::{self, Turn};
use super::watches::{News, Watch};
use super::{Etcd, keys, status};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::status::Status;
use crate::record::{self, Content, Record, RecordState};
use crate::server::acquire::{Acquire, Failed, LONG, OutagePatience, ReturnsPlace, failed, held_nothing, new_record};
use crate::server::delivery;
use crate::server::io_thread::within;
use crate::server::keeps_tenures::interrupter;
use crate::server::lease::{ANSWER, BootTime, call_limit};
use crate::server::lock_server::{AnswerBy, Granted};
use crate::server::pending::PendingAcquire;
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;
use crate::util::text;
use crate::util::trace::event;

/// The time until another watch is set after one that failed.
const WATCH_AGAIN: Duration = Duration::from_millis(500);
/// The number of keys that the transaction which creates a place's own reads: that one, and the one before it.
const LAST_TWO: i64 = 2;

/// A key below a name. If the place was not left before, it is given back when this is dropped.
struct Place {
    etcd: Arc<Etcd>,
    session: Arc<Session>,
    /// The number in the session; `None` once it was left, or has a tenure.
    number: Option<u64>,
    kind: LockKind,
    key: String,
    /// The create revision of the key; 0 until that is known.
    created: i64,
    /// Whether the server may still create the key.
    certainty: Created,
    record: Record,
    /// The record of the last holder, if it did not release, as the first read found it.
    last: Option<Option<Box<Record>>>,
    answer_by: AnswerBy,
}

/// The result of one read of the queue.
struct Seen {
    /// The cluster's revision at that read.
    revision: i64,
    before: Option<Before>,
    /// The record of the last holder.
    kept: Option<Box<Record>>,
}

/// The last key for which this place waits.
struct Before {
    key: String,
    created: i64,
    lease: i64,
}

impl Before {
    fn of(pair: &KeyValue) -> Before {
        let key = String::from_utf8_lossy(&pair.key).into_owned();
        Before { key, created: pair.create_revision, lease: pair.lease }
    }
}

fn is_unreleased(record: &Record) -> bool {
    record.native.as_ref().is_some_and(|native| native.state != RecordState::Released)
}

fn kept_in(answer: &TxnResponse, at: usize) -> Option<Box<Record>> {
    match record::read(answer.pairs(at).first().map_or(&[][..], |pair| &pair.value)) {
        Content::Record(record) => Some(Box::new(record)),
        _ => None,
    }
}

impl Place {
    /// Takes a place in the queue, and reads who is before it: steps 2 and 3 of the protocol.
    async fn enter(etcd: &Arc<Etcd>, acquire: &Acquire, wakes: &Arc<Notify>) -> Result<(Box<Place>, Result<Seen>)> {
        let (kind, record) = (acquire.kind, new_record(&acquire.options));
        let answer_by = AnswerBy::new(acquire.answer_by());
        let (target, name, ttl) = (&etcd.url.target, &etcd.url.name, etcd.url.ttl);
        let limit = answer_by.within(call_limit(ttl));
        let session = etcd.cluster.session(ttl, target, limit).await?;
        let closed = || Error::new(ErrorKind::Lost, target, "its session was closed");
        let (number, key) = session.reserve(name, kind, wakes).ok_or_else(closed)?;
        let mut place = Box::new(Place {
            etcd: Arc::clone(etcd),
            session,
            number: Some(number),
            kind,
            key,
            created: 0,
            certainty: Created::Answered,
            record,
            last: None,
            answer_by,
        });
        let reads: Vec<RequestOp> = place.reads(LAST_TWO, 0).collect();
        let put = RequestOp::put(&place.key, &place.record.to_json(), place.session.lease);
        // A call that was repeated at another member finds the key that the first one put.
        let request = TxnRequest {
            compare: vec![Compare::created(place.key.as_bytes(), 0)],
            success: std::iter::once(put).chain(reads.clone()).collect(),
            failure: std::iter::once(RangeRequest::one(&place.key).into()).chain(reads).collect(),
        };
        let limit = place.limit();
        place.certainty = Created::InDoubt;
        let outcome = place.session.batches().txn(Urgency::Usual, name, request, limit, place.answer_by.by()).await;
        if !outcome.is_sent {
            place.certainty = Created::Answered;
            if let Some(number) = place.number.take() {
                place.session.withdraw(number);
            }
        }
        let answer = match outcome.and_count(target) {
            Ok((Some(answer), repeated)) => {
                if !repeated {
                    place.certainty = Created::Answered;
                }
                answer
            }
            Ok((None, _)) => {
                // Without its lease the key cannot appear.
                place.certainty = Created::Answered;
                place.session.lose(GONE);
                return Err(forgotten(target));
            }
            Err(error) => {
                if !error.is_unreachable() || error.takes_no_writes() {
                    place.certainty = Created::Answered;
                }
                place.leave().await;
                return Err(error);
            }
        };
        place.created = match answer.succeeded {
            true => answer.revision(),
            false => answer.pairs(0).first().map_or(0, |pair| pair.create_revision),
        };
        place.session.set_created(number, place.created, place.certainty);
        let seen = match place.seen_in(&answer, 1) {
            Some(seen) => Ok(seen),
            // Where this fails, there is a place nevertheless.
            None => place.look().await,
        };
        Ok((place, seen))
    }

    /// Returns the requests for the last keys for which this place waits, of those that existed before the revision `before`
    /// (0: at any), and for the last holder's record.
    fn reads(&self, limit: i64, before: i64) -> impl Iterator<Item = RequestOp> {
        let last = move |range: RangeRequest| {
            RequestOp::from(RangeRequest {
                keys_only: true,
                limit,
                max_create_revision: before,
                sort_order: DESCEND,
                sort_target: BY_CREATION,
                ..range
            })
        };
        let record = RangeRequest::one(&self.kept()).into();
        keys::rivals(&self.etcd.url.name, self.kind).into_iter().map(last).chain(std::iter::once(record))
    }

    /// Returns what the [reads](Place::reads) of a transaction found, from its operation `at` on. `None` if a key that began
    /// later hides those before this place's own.
    fn seen_in(&self, answer: &TxnResponse, at: usize) -> Option<Seen> {
        let record = at + keys::rivals(&self.etcd.url.name, self.kind).len();
        let others = (at..record).flat_map(|at| answer.pairs(at)).filter(|pair| pair.key != self.key.as_bytes());
        let before = others.max_by_key(|pair| pair.create_revision);
        if self.created == 0 || before.is_some_and(|before| before.create_revision >= self.created) {
            return None;
        }
        Some(Seen { revision: answer.revision(), before: before.map(Before::of), kept: kept_in(answer, record) })
    }

    fn client(&self) -> &Arc<Client> {
        self.session.client()
    }

    /// Returns the key at which the record outlives its lease.
    fn kept(&self) -> String {
        keys::record(&self.etcd.url.name)
    }

    fn limit(&self) -> Duration {
        self.answer_by.within(self.session.term().call_limit(BootTime::now()))
    }

    /// Reads this place's key and the last one for which it waits in one transaction, which is the majority's answer at one
    /// revision; and the last holder's record.
    async fn look(&self) -> Result<Seen> {
        let target = &self.etcd.url.target;
        let limit = self.limit();
        let request = TxnRequest {
            compare: vec![Compare::created(self.key.as_bytes(), self.created)],
            success: self.reads(1, self.created - 1).collect(),
            failure: Vec::new(),
        };
        let (name, by) = (&self.etcd.url.name, self.answer_by.by());
        let answer =
            self.session.batches().txn(Urgency::Usual, name, request, limit, by).await.of(target)?.unwrap_or_default();
        if self.session.is_lost() {
            return Err(forgotten(target));
        }
        if !answer.succeeded {
            return Err(deleted(target));
        }
        // No later key was read.
        self.seen_in(&answer, 0).ok_or_else(|| deleted(target))
    }

    /// Refuses a key without a lease. It is data below the lock's name, no lock's key, and would never be deleted.
    fn refuse_data(&self, before: &Before) -> Result<()> {
        if before.lease != 0 {
            return Ok(());
        }
        let detail =
            format!("the key {} below its name is no lock's: it has no lease", text::path(before.key.as_ref()));
        Err(Error::new(ErrorKind::Obstructed, &self.etcd.url.target, detail)
            .with_hint("all that begins with NAME/ is the lock's queue, for `etcdctl lock` too: lock another name"))
    }

    /// Takes the lock, for which no key before this one has to be waited for any more.
    async fn take(&mut self, seen: &Seen) -> Result<Box<Granted>> {
        // As the first read found it: a later one may find this place's own write, whose answer was lost.
        let last = self.last.get_or_insert_with(|| seen.kept.clone().filter(|last| is_unreleased(last))).clone();
        let shared = self.kind == LockKind::Shared;
        match shared {
            true => self.acquired_now(),
            false => self.publish(seen).await?,
        }
        let confirmed = self.session.term().confirmed;
        Ok(Box::new(Granted { record: self.record.clone(), last: last.map(|last| *last), confirmed, shared }))
    }

    fn acquired_now(&mut self) {
        if let Some(native) = &mut self.record.native {
            native.acquired_at = Some(SystemTime::now());
        }
    }

    /// Publishes the record, with the revision of that read as its fence.
    async fn publish(&mut self, seen: &Seen) -> Result<()> {
        let target = &self.etcd.url.target;
        let fence = u64::try_from(seen.revision).ok();
        let last = seen.kept.as_deref().and_then(Record::previous_fence).unwrap_or(0);
        if fence <= Some(last) {
            let detail =
                format!("its fence would go back: the last holder's was {last}, the cluster is at {}", seen.revision);
            return Err(Error::new(ErrorKind::Io, target, detail).with_hint(format!(
                "this is a new cluster, and the records were copied into it. Restore with `etcdutl snapshot restore \
                 --bump-revision`; or, where no resource knows the older fences, `etcdctl del {}`",
                text::word(self.kept().as_ref())
            )));
        }
        if let Some(native) = &mut self.record.native {
            native.fence = fence;
            native.acquired_at = Some(SystemTime::now());
        }
        let (key, name) = (self.key.as_bytes(), &self.etcd.url.name);
        self.session.write(key, self.created, name, &self.record, target, self.limit()).await
    }

    fn set_before(&self, before: Option<&Before>) {
        if let Some(number) = self.number {
            self.session.set_before(number, before.map(|before| (&*before.key, before.created)));
        }
    }

    /// Gives the place back, and waits for the server's answer for a moment.
    async fn leave(&mut self) {
        if let Some(number) = self.number.take() {
            let left = tokio::spawn(Arc::clone(&self.session).leave(number, self.certainty));
            within(ANSWER, left).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            tokio::spawn(Arc::clone(&self.session).leave(number, self.certainty));
        }
    }
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
///
/// A process may have thousands of waiters. So what a waiter does before and after its rest has memory of its own (`Box::pin`),
/// and does not make the task larger that rests.
pub(super) async fn serve(etcd: Arc<Etcd>, acquire: Acquire, pending: Arc<PendingAcquire>) {
    // Also after a panic.
    let _place = ReturnsPlace(&pending);
    let _answers = Answers(&pending);
    let wakes = Arc::new(Notify::new());
    let caller = Arc::clone(&wakes);
    pending.set_interrupter(Some(Arc::new(move || caller.notify_one())));
    match wait(&etcd, &acquire, &pending, &wakes).await {
        Ok(None) => {}
        Ok(Some((granted, place))) => {
            if let Err(error) = Box::pin(deliver(acquire, &pending, *granted, place)).await {
                pending.resolve(Err(held_nothing(error)));
            }
        }
        Err(failed) => {
            let mut error = failed.error;
            if error.is_busy() {
                let left = failed.end.saturating_duration_since(Instant::now());
                let found = if left.is_zero() { None } else { Box::pin(holding(&etcd, &acquire, left)).await };
                error = delivery::late(error, &acquire, found, &etcd.client().answers);
            }
            pending.resolve(Err(error));
        }
    }
}

/// Returns the status of the lock at the deadline of an acquire.
async fn holding(etcd: &Etcd, acquire: &Acquire, limit: Duration) -> Option<Status> {
    let read = async { status::status(etcd, limit).await.ok() };
    status_since(&etcd.cluster.looks, &etcd.url.name, acquire.needs_word_since(), limit, read).await
}

/// Makes a tenure of a grant and hands it to the caller.
async fn deliver(acquire: Acquire, pending: &PendingAcquire, granted: Granted, mut place: Box<Place>) -> Result<()> {
    let lost = || forgotten(&place.etcd.url.target);
    let number = place.number.ok_or_else(lost)?;
    let Acquire { options, requester, .. } = acquire;
    let (session, ttl) = (Arc::clone(&place.session), place.session.term().ttl);
    let server: Arc<Etcd> = Arc::clone(&place.etcd);
    let tenure = Arc::new(ServerTenure::new(server, options, granted, ttl, interrupter(&session, number), requester));
    if !session.hold(number, &tenure) {
        return Err(lost());
    }
    place.number = None;
    delivery::hand_over(session, number, tenure, ttl, pending).await;
    Ok(())
}

/// Waits until the lock is granted, in one place of the queue after the other. `None` once the caller has given up.
async fn wait(
    etcd: &Arc<Etcd>,
    acquire: &Acquire,
    pending: &PendingAcquire,
    wakes: &Arc<Notify>,
) -> std::result::Result<Option<(Box<Granted>, Box<Place>)>, Failed> {
    let mut patience = OutagePatience::new(etcd.url.ttl);
    // Until the grant, or the end of the wait.
    let mut turn: Option<Turn> = match acquire.is_immediate() || acquire.kind == LockKind::Shared {
        true => None,
        false => {
            let (turns, answers) = (&etcd.cluster.turns, &etcd.client().answers);
            match Box::pin(turns::wait(turns, &etcd.url, answers, acquire, pending, wakes, &mut patience)).await? {
                None => return Ok(None),
                turn => turn,
            }
        }
    };
    loop {
        if pending.is_over() {
            return Ok(None);
        }
        // The time before its turn leaves an acquire less than a server needs to answer.
        let is_short = acquire.answer_by().is_some_and(|by| by < Instant::now() + ANSWER);
        let entered = {
            let Some(_entering) = Box::pin(admitted(etcd, acquire, pending, wakes)).await? else { return Ok(None) };
            Box::pin(Place::enter(etcd, acquire, wakes)).await
        };
        turn.iter_mut().for_each(Turn::entered);
        let (mut place, seen) = match entered {
            Ok(entered) => entered,
            Err(error) if acquire.may_enter_again(&error, &patience) => {
                sleep(PAUSE).await;
                continue;
            }
            // Nothing of this acquire is lost: the lease that it was to share was gone. The next iteration begins another.
            Err(error) if error.is_lost() && acquire.answer_by().is_none_or(|by| Instant::now() < by) => {
                sleep(PAUSE).await;
                continue;
            }
            Err(error) if is_short && error.is_unreachable() && !error.takes_no_writes() => {
                return Err(Error::busy(&etcd.url.target).into());
            }
            Err(error) => return Err(error.into()),
        };
        patience.answered();
        match wait_in_place(acquire, pending, wakes, &mut place, seen, &mut patience).await {
            Ok(Some(granted)) => return Ok(Some((granted, place))),
            Ok(None) => {
                place.leave().await;
                return Ok(None);
            }
            // The place is lost: the next iteration takes another, at the queue's end.
            Err(error) if acquire.may_queue_again(&error) => {
                patience.answered_since(place.session.term().confirmed);
                event!(WARN, target = ?etcd.url.target, error = %error, "a place in the queue was lost");
            }
            Err(error) => {
                // The waiters behind us must not wait for an abandoned place, nor the caller for a silent server.
                let failed = Failed::from(error);
                place.leave().await;
                return Err(failed);
            }
        }
    }
}

/// Waits until few enough acquires of this process enter their queues: what that takes is more than a waiter needs afterwards, and
/// the memory would stay with the process. `None` once the caller has given up.
async fn admitted<'a>(
    etcd: &'a Etcd,
    acquire: &Acquire,
    pending: &PendingAcquire,
    wakes: &Notify,
) -> Result<Option<SemaphorePermit<'a>>> {
    let entering = etcd.cluster.entering.acquire();
    tokio::pin!(entering);
    loop {
        let now = Instant::now();
        let left = acquire.answer_by().map_or(LONG, |by| by.saturating_duration_since(now));
        // Those before it ask the cluster.
        let silent_in = match etcd.client().answers.is_since(acquire.since) {
            true => LONG,
            false => (acquire.since + etcd.limit()).saturating_duration_since(now),
        };
        tokio::select! {
            biased;
            admitted = &mut entering => return Ok(admitted.ok()),
            () = wakes.notified(), if !pending.is_over() => {}
            () = sleep(left.min(silent_in)) => {}
        }
        if pending.is_over() {
            return Ok(None);
        }
        if left.min(silent_in).is_zero() {
            let detail = "too many acquires of this process wait for the cluster's answers";
            return Err(Error::new(ErrorKind::Unreachable, &etcd.url.target, detail));
        }
    }
}

/// Waits in one place of the queue. `None` once the caller has given up.
async fn wait_in_place(
    acquire: &Acquire,
    pending: &PendingAcquire,
    wakes: &Arc<Notify>,
    place: &mut Place,
    seen: Result<Seen>,
    patience: &mut OutagePatience,
) -> Result<Option<Box<Granted>>> {
    let target = place.etcd.url.target.clone();
    let mut next = seen;
    let mut watching: Option<(i64, Watch)> = None;
    let mut watch_from = Instant::now();
    loop {
        if pending.is_over() {
            return Ok(None);
        }
        if place.session.is_lost() {
            return Err(Error::new(ErrorKind::Lost, &target, "the lease of its place ran out"));
        }
        let step = match next {
            Ok(seen) => {
                patience.answered();
                match seen.before {
                    None => Box::pin(place.take(&seen)).await.map(Some),
                    Some(before) => {
                        place.refuse_data(&before)?;
                        if acquire.left() == Some(Duration::ZERO) {
                            return Err(Error::busy(&target));
                        }
                        if acquire.would_wait_for_itself() {
                            return Err(Error::would_deadlock(&target, true, acquire.requester));
                        }
                        place.set_before(Some(&before));
                        let watched = watching.as_ref().is_some_and(|(created, _)| *created == before.created);
                        if !watched && watch_from <= Instant::now() {
                            let watch = Watch::new(
                                &place.etcd.cluster.watches,
                                place.client(),
                                (&before.key, before.created),
                                seen.revision + 1,
                                wakes,
                            );
                            watching = Some((before.created, watch));
                        }
                        rest(acquire, wakes, watching.is_some(), watch_from).await;
                        if acquire.left() == Some(Duration::ZERO) {
                            return Err(Error::busy(&target));
                        }
                        Ok(None)
                    }
                }
            }
            Err(error) => Err(error),
        };
        match step {
            // A grant whose lease has run out is none.
            Ok(Some(granted)) if !place.session.is_lost() => {
                place.set_before(None);
                return Ok(Some(granted));
            }
            Ok(_) => {}
            Err(error) if error.takes_no_writes() => return Err(error),
            Err(error) if error.is_unreachable() && !place.session.is_lost() => {
                if acquire.left() == Some(Duration::ZERO) {
                    let silent = acquire.is_immediate() || !place.answer_by.was_cut_short();
                    return Err(if silent { error } else { Error::busy(&target) });
                }
                within(PAUSE, wakes.notified()).await;
            }
            Err(error) => return Err(error),
        }
        match watching.as_ref().and_then(|(_, watch)| watch.news()) {
            Some(News::Gone) => watching = None,
            Some(News::Blind) => {
                watching = None;
                watch_from = Instant::now() + WATCH_AGAIN;
            }
            None => {}
        }
        if pending.is_over() {
            return Ok(None);
        }
        next = Box::pin(place.look()).await;
    }
}

/// Sleeps until something changes, or until the queue has to be read.
async fn rest(acquire: &Acquire, wakes: &Notify, is_watching: bool, watch_from: Instant) {
    let mut limit = acquire.left().unwrap_or(LONG).min(LONG);
    if !is_watching {
        limit = limit.min(watch_from.saturating_duration_since(Instant::now()));
    }
    within(limit, wakes.notified()).await;
}
