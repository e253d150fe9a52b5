//! The heartbeat thread, which serves one acquire at a server with a [session](Session) for each: it waits in the server's
//! queue, and then renews the lease until the tenure ends. It also acts on `max_hold`, because it alone owns the session by
//! which a tenure is released.
//!
//! It is a thread, so a busy event loop does not stop it, and each tenure has its own, so that one server's silence
//! costs no other lock its lease.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acquire::{Acquire, Failed, Patience, ReturnsPlace, failed, new_record, overrun};
use super::lease::{ANSWER, BootTime, Lease, call_limit};
use super::lock_server::{Granted, QueueServer, Session};
use super::pending::PendingAcquire;
use super::registry;
use super::tenure::ServerTenure;
use crate::model::error::{Error, ErrorKind, Result};
use crate::util::thread_pool;
use crate::util::trace::event;

/// The time between two attempts to reach a server that does not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// The time until a record that could not be published is published again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);

/// An acquire, and the server that it is at.
struct Request {
    server: Arc<dyn QueueServer>,
    acquire: Acquire,
}

/// Starts the thread that serves an acquire.
pub(super) fn start(server: Arc<dyn QueueServer>, acquire: Acquire, pending: &Arc<PendingAcquire>) -> io::Result<()> {
    let theirs = Arc::clone(pending);
    thread_pool::run(move || {
        let request = Request { server, acquire };
        // After a panic the caller must not wait for ever.
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(request, &theirs)));
        if let Err(panic) = served {
            theirs.resolve(Err(failed(theirs.target())));
            std::panic::resume_unwind(panic);
        }
    })
}

/// Serves `pending` to its outcome, and then its tenure to its end.
fn serve(request: Request, pending: &PendingAcquire) {
    // Also after a panic.
    let place = ReturnsPlace(pending);
    match wait(&request, pending) {
        Ok(None) => {}
        Ok(Some((granted, mut session))) => {
            let Request { server, acquire: Acquire { options, thread, .. } } = request;
            let ttl = session.lease().ttl;
            let tenure = Arc::new(ServerTenure::new(server, options, granted, ttl, session.interrupter(), thread));
            event!(DEBUG, target = ?tenure.target(), fence = tenure.fence, "granted");
            registry::add_held(&tenure);
            tenure.options.report_takeover(tenure.target(), &tenure.previous);
            pending.set_interrupter(None);
            if !pending.resolve(Ok(Arc::clone(&tenure))) && tenure.drop_undelivered() {
                let _ = session.release(Some(&tenure.final_record()), ANSWER);
                return;
            }
            drop(place);
            let _answers = Answers(&tenure);
            keep(&tenure, &mut *session);
        }
        Err(failed) => {
            let mut error = failed.error;
            if error.is_busy() {
                let left = failed.end.saturating_duration_since(Instant::now());
                let found = if left.is_zero() { None } else { request.server.status_within(left).ok() };
                error = error
                    .with_holder(found.and_then(|found| found.holder))
                    .with_waited(request.acquire.since.elapsed());
            }
            pending.resolve(Err(error));
        }
    }
}

/// The holder must not wait for a heartbeat thread that panicked, nor believe that it still holds.
struct Answers<'a>(&'a ServerTenure);

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lose("the thread that keeps it failed");
            self.0.finish(Err(failed(self.0.target())));
        }
    }
}

/// A grant, and the session that owns it.
type GrantedSession = (Granted, Box<dyn Session>);

/// Waits until the lock is granted, in one place of the queue after the other. `None` once the caller has given up.
fn wait(request: &Request, pending: &PendingAcquire) -> std::result::Result<Option<GrantedSession>, Failed> {
    let acquire = &request.acquire;
    let mut patience = Patience::new(request.server.url().ttl);
    loop {
        if pending.is_over() {
            return Ok(None);
        }
        let record = new_record(&acquire.options);
        let mut session = match request.server.enqueue(&record, acquire.limit, acquire.answer_by()) {
            Ok(session) => session,
            Err(error) if acquire.may_enter_again(&error, &patience) => {
                pending.pause(Instant::now() + PAUSE);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        patience.answered();
        pending.set_interrupter(Some(session.interrupter()));
        match wait_in_place(request, pending, &mut *session, &mut patience) {
            Ok(Some(granted)) => return Ok(Some((granted, session))),
            Ok(None) => {
                let _ = session.release(None, ANSWER);
                return Ok(None);
            }
            // The place is lost: the next iteration takes another, at the queue's end.
            Err(error) if acquire.may_queue_again(&error) => {
                event!(WARN, target = ?request.server.url().target, error = %error, "a place in the queue was lost");
            }
            Err(error) => {
                // The waiters behind us must not wait for an abandoned place, nor the caller for a silent server.
                let failed = Failed::from(error);
                let _ = session.release(None, ANSWER);
                return Err(failed);
            }
        }
    }
}

/// Waits in one place of the queue. `None` once the caller has given up.
fn wait_in_place(
    request: &Request,
    pending: &PendingAcquire,
    session: &mut dyn Session,
    patience: &mut Patience,
) -> Result<Option<Granted>> {
    let acquire = &request.acquire;
    let mut lease = session.lease();
    loop {
        if pending.is_over() {
            return Ok(None);
        }
        let now = BootTime::now();
        if now >= lease.lost_at() {
            let error = Error::new(ErrorKind::Lost, &request.server.url().target, "the lease of its place ran out");
            return Err(error);
        }
        let next = lease.renew_at().from(now);
        let left = acquire.left();
        match session.wait(left.map_or(next, |left| left.min(next))) {
            Ok(Some(mut granted)) => {
                granted.confirmed = granted.confirmed.max(lease.confirmed);
                let lease = Lease { confirmed: granted.confirmed, ..lease };
                // A grant whose lease has run out is none.
                if BootTime::now() < lease.lost_at() {
                    return Ok(Some(granted));
                }
            }
            Ok(None) if left.is_some_and(|left| left < next) && acquire.left() == Some(Duration::ZERO) => {
                return Err(Error::busy(&request.server.url().target));
            }
            Ok(None) => {}
            Err(error) if error.takes_no_writes() => return Err(error),
            Err(error) if error.is_unreachable() && BootTime::now() < lease.lost_at() => {
                if acquire.left() == Some(Duration::ZERO) {
                    let silent = acquire.is_immediate() || !session.was_cut_short();
                    return Err(if silent { error } else { Error::busy(&request.server.url().target) });
                }
                pending.pause(Instant::now() + PAUSE);
            }
            Err(error) => return Err(error),
        }
        let sent = BootTime::now();
        if sent >= lease.renew_at() {
            let left = acquire.answer_by().map(|by| by.saturating_duration_since(Instant::now()));
            match session.renew(left.map_or(lease.call_limit(sent), |left| left.min(lease.call_limit(sent)))) {
                Ok(()) => {
                    lease.confirmed = sent;
                    patience.answered();
                }
                Err(error) if error.is_lost() => return Err(error),
                Err(_) => pending.pause(Instant::now() + PAUSE),
            }
        }
    }
}

/// Renews the lease until the tenure is released, revoked, or lost and released.
fn keep(tenure: &ServerTenure, session: &mut dyn Session) {
    let mut overrun_at = tenure.options.max_hold.and_then(|limit| tenure.began.checked_add(limit));
    let mut pause_until: Option<BootTime> = None;
    let mut publish_from = BootTime::now();
    while !tenure.is_released() {
        let lease = tenure.lease();
        let now = BootTime::now();
        if now >= lease.lost_at() || !tenure.is_held() {
            tenure.expire();
            return end_lost(tenure, session);
        }
        if overrun_at.is_some_and(|at| at <= Instant::now()) {
            overrun_at = None;
            if overrun(tenure) {
                let released = session.release(Some(&tenure.final_record()), call_limit(lease.ttl));
                return tenure.finish(released);
            }
        }
        let limit = lease.call_limit(now);
        let mut done = Ok(());
        if pause_until.unwrap_or(lease.renew_at()) <= now {
            done = session.renew(limit).map(|()| tenure.confirm(now));
            match &done {
                Ok(()) => {
                    tenure.set_renewal_error(None);
                    if pause_until.take().is_some() {
                        event!(INFO, target = ?tenure.target(), "the lease is renewed again");
                    }
                }
                Err(error) => {
                    // An error of a call that the lease's end cut short says less than the one before it.
                    if limit == call_limit(lease.ttl) || !tenure.has_renewal_error() {
                        tenure.set_renewal_error(Some(error.detail()));
                    }
                    pause_until = Some(BootTime::now().after(PAUSE));
                }
            }
        } else if publish_from <= now
            && let Some(record) = tenure.take_unpublished()
        {
            done = session.publish(&record, limit);
            if done.is_err() {
                tenure.mark_unpublished();
                publish_from = BootTime::now().after(PUBLISH_AGAIN);
            }
        }
        if let Err(error) = &done
            && !error.is_lost()
        {
            event!(WARN, target = ?tenure.target(), error = %error, "the server did not answer");
        }
        let rested = match done {
            Err(error) if error.is_lost() => Err(error),
            _ => {
                let now = BootTime::now();
                let mut rest = pause_until.unwrap_or_else(|| tenure.lease().renew_at()).from(now);
                if tenure.is_unpublished() {
                    rest = rest.min(publish_from.from(now));
                }
                if let Some(at) = overrun_at {
                    rest = rest.min(at.saturating_duration_since(Instant::now()));
                }
                session.idle(rest.min(tenure.lease().lost_at().from(now)))
            }
        };
        if let Err(error) = rested {
            tenure.lose(error.detail().to_owned());
            return end_lost(tenure, session);
        }
    }
    tenure.finish(session.release(Some(&tenure.final_record()), tenure.time_to_release()));
}

/// Ends a tenure that is lost, or was released at that moment. The lease runs on at the server, so that the holder has the
/// rest of it to stop its work. The lock is released, if it is still there, once the last guard is dropped.
fn end_lost(tenure: &ServerTenure, session: &mut dyn Session) {
    tenure.report_loss();
    tenure.await_release();
    let released = session.release(Some(&tenure.final_record()), call_limit(tenure.lease().ttl));
    tenure.finish(released);
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::model::options::Options;
    use crate::model::status::{Scheme, Status};
    use crate::record::Record;
    use crate::server::acquire::AcquireServer;
    use crate::server::lease::CALL;
    use crate::server::lock_server::{Interrupter, LockServer, WaitLimit};
    use crate::server::url::Url;

    /// The result of a wait in the queue.
    #[derive(Clone, Copy, Debug)]
    enum Comes {
        Nothing,
        Granted,
        GrantedAfterCrash,
        Silence,
        /// A call that the deadline cut short.
        CutShort,
        NoWrites,
    }

    /// A server that behaves as its test says, and reports its calls.
    struct Fake {
        url: Url,
        comes: Comes,
        called: Mutex<Sender<&'static str>>,
    }

    impl std::fmt::Debug for Fake {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.url.fmt(f)
        }
    }

    impl Fake {
        fn new(comes: Comes) -> (Arc<Fake>, Receiver<&'static str>) {
            Fake::at(comes, "etcd://fake/a?ttl=10s")
        }

        fn at(comes: Comes, target: &str) -> (Arc<Fake>, Receiver<&'static str>) {
            let url = Url::parse(Path::new(target), Scheme::Etcd).unwrap();
            let (called, calls) = channel();
            (Arc::new(Fake { url, comes, called: Mutex::new(called) }), calls)
        }
    }

    impl LockServer for Fake {
        fn lock_name(&self) -> &Path {
            Path::new("a")
        }

        fn url(&self) -> &Url {
            &self.url
        }

        fn status_within(&self, _limit: Duration) -> Result<Status> {
            Ok(Status::free(&self.url.target, self.lock_name()))
        }

        fn list(&self) -> Result<Vec<Status>> {
            Ok(Vec::new())
        }

        fn force_release(&self, _found: &Status) -> Result<bool> {
            Ok(false)
        }
    }

    impl AcquireServer for Fake {
        fn start(self: Arc<Self>, acquire: Acquire, pending: &Arc<PendingAcquire>) -> io::Result<()> {
            start(self, acquire, pending)
        }
    }

    impl QueueServer for Fake {
        fn enqueue(&self, record: &Record, _stay: WaitLimit, _answer_by: Option<Instant>) -> Result<Box<dyn Session>> {
            let called = self.called.lock().unwrap().clone();
            called.send("enqueue").unwrap();
            let (teller, notes) = channel();
            let lease = Lease { ttl: self.url.ttl, confirmed: BootTime::now() };
            let target = self.url.target.clone();
            Ok(Box::new(FakeSession {
                comes: self.comes,
                record: record.clone(),
                called,
                teller,
                notes,
                lease,
                target,
            }))
        }
    }

    struct FakeSession {
        comes: Comes,
        record: Record,
        called: Sender<&'static str>,
        teller: Sender<()>,
        notes: Receiver<()>,
        lease: Lease,
        target: PathBuf,
    }

    impl Session for FakeSession {
        fn wait(&mut self, patience: Duration) -> Result<Option<Granted>> {
            self.called.send("wait").unwrap();
            let error = |kind| Err(Error::new(kind, &self.target, "the fake server says nothing"));
            match self.comes {
                Comes::Granted | Comes::GrantedAfterCrash => {
                    let (record, confirmed) = (self.record.clone(), BootTime::now());
                    let last = matches!(self.comes, Comes::GrantedAfterCrash).then(Record::default);
                    return Ok(Some(Granted { record, last, confirmed }));
                }
                Comes::NoWrites => return error(ErrorKind::ReadOnly),
                Comes::Nothing | Comes::Silence | Comes::CutShort => {}
            }
            let _ = self.notes.recv_timeout(patience);
            match self.comes {
                Comes::Silence | Comes::CutShort => error(ErrorKind::Unreachable),
                _ => Ok(None),
            }
        }

        fn renew(&mut self, _limit: Duration) -> Result<()> {
            Ok(())
        }

        fn idle(&mut self, patience: Duration) -> Result<()> {
            let _ = self.notes.recv_timeout(patience);
            Ok(())
        }

        fn publish(&mut self, _record: &Record, _limit: Duration) -> Result<()> {
            Ok(())
        }

        fn release(&mut self, record: Option<&Record>, limit: Duration) -> Result<()> {
            assert!(limit <= CALL, "{limit:?}");
            self.called.send(if record.is_some() { "release" } else { "give back" }).unwrap();
            match record {
                Some(_) => Err(Error::new(ErrorKind::Lost, &self.target, "it was broken")),
                None => Ok(()),
            }
        }

        fn interrupter(&self) -> Interrupter {
            let teller = Mutex::new(self.teller.clone());
            Arc::new(move || {
                let _ = teller.lock().unwrap().send(());
            })
        }

        fn was_cut_short(&self) -> bool {
            matches!(self.comes, Comes::CutShort)
        }

        fn lease(&self) -> Lease {
            self.lease
        }
    }

    fn request(server: &Arc<Fake>, limit: WaitLimit) -> Request {
        let server: Arc<dyn QueueServer> = Arc::<Fake>::clone(server);
        let acquire = Acquire { options: Options::default(), limit, since: Instant::now(), thread: None };
        Request { server, acquire }
    }

    /// Returns the outcome of an acquire, and the calls that the server got.
    fn outcome(comes: Comes, limit: WaitLimit) -> (Result<Arc<ServerTenure>>, Vec<&'static str>) {
        let (server, calls) = Fake::new(comes);
        let pending = PendingAcquire::new(Path::new("a"));
        serve(request(&server, limit), &pending);
        (pending.wait(), calls.try_iter().collect())
    }

    fn soon() -> WaitLimit {
        WaitLimit::Until(Some(Instant::now() + Duration::from_millis(50)))
    }

    #[test]
    fn a_server_that_takes_no_writes_is_asked_once() {
        for limit in [WaitLimit::Never, soon(), WaitLimit::Until(None)] {
            let (outcome, calls) = outcome(Comes::NoWrites, limit);
            assert!(outcome.unwrap_err().is_unreachable());
            assert_eq!(calls, ["enqueue", "wait", "give back"]);
        }
    }

    #[test]
    fn at_the_deadline_silence_is_no_busy_lock() {
        for limit in [WaitLimit::Never, soon()] {
            let (silent, calls) = outcome(Comes::Silence, limit);
            assert!(silent.unwrap_err().is_unreachable(), "{limit:?}");
            assert_eq!(calls.last(), Some(&"give back"));
        }
        let (cut_short, _) = outcome(Comes::CutShort, soon());
        assert!(cut_short.unwrap_err().is_busy());
        let (busy, calls) = outcome(Comes::Nothing, soon());
        assert!(busy.unwrap_err().is_busy());
        assert_eq!(calls.last(), Some(&"give back"));
    }

    #[test]
    fn a_wait_that_is_given_up_gives_its_place_back() {
        let (server, calls) = Fake::new(Comes::Nothing);
        let pending = Arc::new(PendingAcquire::new(Path::new("a")));
        let there = Arc::clone(&pending);
        let served = std::thread::spawn(move || serve(request(&server, WaitLimit::Until(None)), &there));
        assert_eq!((calls.recv().unwrap(), calls.recv().unwrap()), ("enqueue", "wait"));
        assert!(pending.withdraw(Error::busy(Path::new("a"))).is_none());
        pending.await_place_returned(Instant::now() + Duration::from_secs(60));
        assert_eq!(calls.try_iter().last(), Some("give back"));
        assert!(pending.wait().unwrap_err().is_busy());
        served.join().unwrap();
    }

    #[test]
    fn a_grant_that_a_reentrant_acquire_joined_is_kept() {
        // The tests of this process share the registry, so the name is this one's.
        let (server, calls) = Fake::at(Comes::GrantedAfterCrash, "etcd://fake/joined?ttl=10s");
        let (target, pending) = (server.url.target.clone(), Arc::new(PendingAcquire::new(Path::new("a"))));
        let (joins, joined) = channel();
        let caller = Arc::clone(&pending);
        // The callback runs before the caller has the grant: another acquire joins it, and the caller gives up.
        let options = Options::default().on_event(move |_| {
            let tenure = registry::held_here(&target).unwrap();
            assert!(tenure.add_guard());
            assert!(crate::model::backend::Pending::give_up(&caller).is_none());
            joins.send(tenure).unwrap();
        });
        let mut request = request(&server, WaitLimit::Until(None));
        request.acquire.options = options;
        let there = Arc::clone(&pending);
        let served = std::thread::spawn(move || serve(request, &there));
        let tenure = joined.recv().unwrap();
        // The caller's own guard is dropped by then.
        pending.await_place_returned(Instant::now() + Duration::from_secs(60));
        assert_eq!((calls.recv().unwrap(), calls.recv().unwrap()), ("enqueue", "wait"));
        assert!(tenure.drop_guard().unwrap_err().is_lost(), "the fake server says so");
        assert_eq!(calls.try_iter().collect::<Vec<_>>(), ["release"]);
        assert!(tenure.is_released(), "by its guard");
        served.join().unwrap();
    }

    #[test]
    fn an_undelivered_grant_is_released_and_a_release_reports_a_loss() {
        let (server, calls) = Fake::new(Comes::Granted);
        let pending = Arc::new(PendingAcquire::new(Path::new("a")));
        let there = Arc::clone(&pending);
        let served = std::thread::spawn(move || serve(request(&server, WaitLimit::Until(None)), &there));
        assert_eq!((calls.recv().unwrap(), calls.recv().unwrap()), ("enqueue", "wait"));
        pending.await_place_returned(Instant::now() + Duration::from_secs(60));
        let tenure = pending.withdraw(Error::busy(Path::new("a"))).expect("it was granted");
        assert!(tenure.drop_guard().unwrap_err().is_lost(), "the fake server says so");
        assert_eq!(calls.try_iter().last(), Some("release"));
        served.join().unwrap();
    }
}
