//! The thread that serves one acquire: it waits in the server's queue, and then keeps the tenure alive until its end.
//!
//! It is a thread, so a busy event loop does not stop it, and each tenure has its own, so that one server's silence
//! costs no other lock its lease.

use std::path::Path;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::hold::Hold;
use super::lease::{BootTime, Lease};
use super::{Ask, Engine, Session, Stay};
use crate::error::{Error, Kind, Result};
use crate::options::{Event, Options, Overrun};
use crate::trace::event;

/// Between two tries to reach a server that did not answer at once.
const PAUSE: Duration = Duration::from_millis(100);

/// For how long who waits already tries to reach a server that has gone: it may be restarted, or another takes its part.
const RETURN: Duration = Duration::from_secs(30);

/// What one acquire asks for.
pub(super) struct Request {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) options: Options,
    pub(super) stay: Stay,
    pub(super) since: Instant,
    /// Who asks, where a second acquire by it would wait for itself.
    pub(super) thread: Option<ThreadId>,
}

/// Serves `ask` to its end, and then its tenure to its own.
pub(super) fn serve(request: Request, ask: &Ask) {
    match wait(&request, ask) {
        Ok(None) => {}
        Ok(Some((granted, mut session))) => {
            let Request { engine, options, thread, .. } = request;
            let ttl = session.lease().ttl;
            let hold = Arc::new(Hold::new(engine, options, granted, ttl, session.interrupter(), thread));
            event!(DEBUG, target = ?hold.target(), fence = hold.fence, "granted");
            super::lock::remember(&hold);
            tell_takeover(&hold);
            ask.interrupt_by(None);
            if ask.settle(Ok(Arc::clone(&hold))).is_err() {
                hold.abandon();
                let _ = session.release(Some(&hold.last_words()), ttl / 3);
                return;
            }
            let _answer = Answer(&hold);
            keep(&hold, &mut *session);
        }
        Err(error) if error.is_busy() => {
            let holder = request.engine.inspect().ok().and_then(|found| found.holder);
            let _ = ask.settle(Err(error.with_holder(holder).with_waited(request.since.elapsed())));
        }
        Err(error) => {
            let _ = ask.settle(Err(error));
        }
    }
}

/// Whoever holds must not wait for a keeper that panicked, nor believe that it still holds.
struct Answer<'a>(&'a Hold);

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lose("its keeper failed");
            self.0.end(Err(failed(self.0.target())));
        }
    }
}

/// The keeper itself is at fault.
pub(super) fn failed(target: &Path) -> Error {
    Error::new(Kind::Io, target, "the thread that keeps the lock failed")
}

impl Request {
    /// How long it may still wait; `None` for ever.
    fn left(&self) -> Option<Duration> {
        match self.stay {
            Stay::Never => Some(Duration::ZERO),
            Stay::Until(deadline) => deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
        }
    }
}

fn tell_takeover(hold: &Hold) {
    if let crate::Previous::Crashed(holder) = &hold.previous {
        hold.tell(&Event::TakenOver { target: hold.target(), holder });
        event!(WARN, target = ?hold.target(), "taken over from a holder that died");
    }
}

/// Until it is granted; `None` once whoever asked has gone.
fn wait(request: &Request, ask: &Ask) -> Result<Option<(super::Granted, Box<dyn Session>)>> {
    let patience = request.engine.url().ttl.max(RETURN);
    // When the server answered last: who waits already does not give up at its first silence.
    let mut answered: Option<Instant> = None;
    loop {
        if ask.is_over() {
            return Ok(None);
        }
        let record = super::lock::new_record(&request.options);
        let mut session = match request.engine.join(&record, request.stay) {
            Ok(session) => session,
            Err(error)
                if error.is_unreachable()
                    && request.left() != Some(Duration::ZERO)
                    && answered.is_some_and(|then| then.elapsed() < patience) =>
            {
                ask.pause(Instant::now() + PAUSE);
                continue;
            }
            Err(error) => return Err(error),
        };
        answered = Some(Instant::now());
        ask.interrupt_by(Some(session.interrupter()));
        match stay(request, ask, &mut *session, &mut answered) {
            Ok(Some(granted)) => return Ok(Some((granted, session))),
            Ok(None) => {
                let limit = session.lease().ttl / 3;
                let _ = session.release(None, limit);
                return Ok(None);
            }
            // The place is gone: another is taken, at the queue's end.
            Err(error) if error.is_lost() || error.is_unreachable() => {
                event!(WARN, target = ?request.engine.url().target, error = %error, "a place in the queue was lost");
            }
            Err(error) => {
                let limit = session.lease().ttl / 3;
                let _ = session.release(None, limit);
                return Err(error);
            }
        }
    }
}

/// In one place of the queue; `None` once whoever asked has gone.
fn stay(
    request: &Request,
    ask: &Ask,
    session: &mut dyn Session,
    answered: &mut Option<Instant>,
) -> Result<Option<super::Granted>> {
    let mut lease = session.lease();
    loop {
        if ask.is_over() {
            return Ok(None);
        }
        let now = BootTime::now();
        if now >= lease.lost_at() {
            let error = Error::new(Kind::Lost, &request.engine.url().target, "the lease of its place ran out");
            return Err(error);
        }
        let next = lease.renew_at().from(now);
        let left = request.left();
        match session.wait(left.map_or(next, |left| left.min(next))) {
            Ok(Some(mut granted)) => {
                granted.confirmed = granted.confirmed.max(lease.confirmed);
                let lease = Lease { confirmed: granted.confirmed, ..lease };
                // One that was had too late is none.
                if BootTime::now() < lease.lost_at() {
                    return Ok(Some(granted));
                }
            }
            Ok(None) if left.is_some_and(|left| left < next) && request.left() == Some(Duration::ZERO) => {
                return Err(Error::busy(&request.engine.url().target));
            }
            Ok(None) => {}
            Err(error) if error.is_unreachable() && BootTime::now() < lease.lost_at() => {
                ask.pause(Instant::now() + PAUSE);
            }
            Err(error) => return Err(error),
        }
        let sent = BootTime::now();
        if sent >= lease.renew_at() {
            match session.renew(lease.call_limit(sent)) {
                Ok(()) => {
                    lease.confirmed = sent;
                    *answered = Some(Instant::now());
                }
                Err(error) if error.is_lost() => return Err(error),
                Err(_) => ask.pause(Instant::now() + PAUSE),
            }
        }
    }
}

/// Until it is released, revoked, or lost and let go.
fn keep(hold: &Hold, session: &mut dyn Session) {
    let mut overrun_at = hold.options.max_hold.and_then(|limit| hold.began.checked_add(limit));
    let mut pause_until: Option<BootTime> = None;
    while !hold.is_let_go() {
        let lease = hold.lease();
        let now = BootTime::now();
        if now >= lease.lost_at() || !hold.is_held() {
            hold.lose("its lease could not be renewed in time");
            return end_lost(hold, session);
        }
        if overrun_at.is_some_and(|at| at <= Instant::now()) {
            overrun_at = None;
            if overrun(hold) {
                let released = session.release(Some(&hold.last_words()), lease.ttl / 3);
                return hold.end(released);
            }
        }
        let limit = lease.call_limit(now);
        let due = pause_until.unwrap_or(lease.renew_at()) <= now;
        let done = match hold.unseen() {
            _ if due => session.renew(limit).map(|()| hold.confirm(now)),
            Some(record) => session.show(&record, limit).inspect_err(|_| hold.still_unseen()),
            None => Ok(()),
        };
        if due && done.is_ok() && pause_until.take().is_some() {
            event!(INFO, target = ?hold.target(), "the lease is renewed again");
        }
        let rested = match done {
            Err(error) if error.is_lost() => Err(error),
            Err(_error) => {
                event!(WARN, target = ?hold.target(), error = %_error, "the server did not answer");
                pause_until = Some(BootTime::now().after(PAUSE));
                session.rest(PAUSE.min(lease.lost_at().from(BootTime::now())))
            }
            Ok(()) => {
                let now = BootTime::now();
                let next = hold.lease().renew_at().from(now);
                let overrun = overrun_at.map(|at| at.saturating_duration_since(Instant::now()));
                session.rest(overrun.map_or(next, |overrun| overrun.min(next)))
            }
        };
        if let Err(error) = rested {
            hold.lose(error.detail().to_owned());
            return end_lost(hold, session);
        }
    }
    let released = session.release(Some(&hold.last_words()), hold.lease().ttl / 3);
    hold.end(released);
}

/// Acts on `max_hold`. `true`: it was revoked.
fn overrun(hold: &Hold) -> bool {
    let revoked = hold.options.overrun == Overrun::Revoke && hold.revoke();
    let (held_for, max_hold) = (hold.began.elapsed(), hold.options.max_hold.unwrap_or_default());
    event!(WARN, target = ?hold.target(), ?held_for, ?max_hold, revoked, "held for longer than max_hold");
    hold.tell(&Event::Overrun { target: hold.target(), fence: hold.fence, held_for, max_hold, revoked });
    revoked
}

/// It is lost, or was let go at that moment. The lease runs on at the server, so that the holder has what is left of it
/// to stop; only once nobody works under it any more is the lock let go, if it still is there.
fn end_lost(hold: &Hold, session: &mut dyn Session) {
    if let Err(error) = hold.check()
        && !hold.is_let_go()
    {
        event!(ERROR, target = ?hold.target(), error = %error, "lost");
        hold.tell(&Event::Lost { target: hold.target(), error: &error });
    }
    hold.await_let_go();
    let released = session.release(Some(&hold.last_words()), hold.lease().ttl / 3);
    hold.end(released);
}
