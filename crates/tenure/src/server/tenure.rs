//! A tenure on a server, which its guards, its session and the listeners for its loss share.
//!
//! | status | set by |
//! | --- | --- |
//! | `HELD` | the grant |
//! | `LOST` | the session, by the server's word; the first that finds the lease run out by the clock |
//! | `REVOKED` | a timer, after `max_hold` |
//! | `RELEASED` | the last guard |
//!
//! A tenure never becomes `HELD` again: a renewal that is confirmed too late does not bring it back.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::lease::{BootTime, CALL, Lease, call_limit};
use super::lock_server::{Granted, Interrupter, LockServer};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, Previous};
use crate::model::options::Options;
use crate::model::requester::RequesterId;
use crate::model::tenure::{Facts, LeaseLeft, Tenure};
use crate::process::Liveness;
use crate::record::{Record, RecordState};
use crate::sys::{self, Inherited};
use crate::util::loss_listeners::LossListeners;

const HELD: u8 = 0;
const RELEASED: u8 = 1;
const REVOKED: u8 = 2;
const LOST: u8 = 3;

/// One grant of a lock on a server, from its beginning to its end.
pub(crate) struct ServerTenure {
    server: Arc<dyn LockServer>,
    pub(super) options: Options,
    pub(crate) fence: u64,
    pub(super) shared: bool,
    pub(crate) previous: Previous,
    last: Option<Box<Record>>,
    generation: u64,
    pub(super) began: Instant,
    pub(super) requester: Option<RequesterId>,
    ttl: Duration,
    /// [`BootTime`] in nanoseconds: when the last confirmed renewal was sent.
    confirmed: AtomicU64,
    status: AtomicU8,
    guards: AtomicUsize,
    /// The caller's callback knows of the loss.
    loss_reported: AtomicBool,
    /// The caller never received this grant, so the next holder gets its crash report.
    crash_unreported: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    listeners: LossListeners,
    interrupt: Interrupter,
}

struct State {
    record: Record,
    /// The server has an older record.
    unpublished: bool,
    /// The reason of a loss.
    why: Option<Cow<'static, str>>,
    /// The error of the last renewal, if that failed.
    renewal_error: Option<String>,
    /// When the last guard was dropped.
    released_at: Option<Instant>,
    /// The result of the release.
    outcome: Option<Result<()>>,
    /// Wakes the caller that polls for the result.
    releaser: Option<Waker>,
}

impl ServerTenure {
    pub(super) fn new(
        server: Arc<dyn LockServer>,
        options: Options,
        granted: Granted,
        ttl: Duration,
        interrupt: Interrupter,
        requester: Option<RequesterId>,
    ) -> ServerTenure {
        let crashed = |last: &Record| {
            let why = Liveness::dead("the server dropped it before it had released");
            Previous::Crashed(Box::new(Holder::from_record(Some(last), why)))
        };
        ServerTenure {
            server,
            options,
            fence: granted.record.previous_fence().unwrap_or(0),
            shared: granted.shared,
            previous: granted.last.as_ref().map_or(Previous::Clean, crashed),
            last: granted.last.map(Box::new),
            generation: sys::fork_generation(),
            began: Instant::now(),
            requester,
            ttl,
            confirmed: AtomicU64::new(granted.confirmed.nanos()),
            status: AtomicU8::new(HELD),
            guards: AtomicUsize::new(1),
            loss_reported: AtomicBool::new(false),
            crash_unreported: AtomicBool::new(false),
            state: Mutex::new(State {
                record: granted.record,
                unpublished: false,
                why: None,
                renewal_error: None,
                released_at: None,
                outcome: None,
                releaser: None,
            }),
            changed: Condvar::new(),
            listeners: LossListeners::default(),
            interrupt,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn target(&self) -> &Path {
        &self.server.url().target
    }

    pub(super) fn lease(&self) -> Lease {
        Lease { ttl: self.ttl, confirmed: BootTime::of_nanos(self.confirmed.load(Ordering::Acquire)) }
    }

    /// Records that a renewal was confirmed which was sent at `sent`.
    pub(super) fn confirm(&self, sent: BootTime) {
        self.confirmed.fetch_max(sent.nanos(), Ordering::AcqRel);
    }

    /// Checks that the lease is still good, by the clock. A question to the server would be answered too late to help.
    pub(crate) fn check(&self) -> Result<()> {
        if self.generation != sys::fork_generation() {
            return Err(self.error("the lock is the parent's: this is a forked child"));
        }
        if self.status.load(Ordering::Acquire) == HELD && BootTime::now() >= self.lease().lost_at() {
            self.expire();
        }
        match self.status.load(Ordering::Acquire) {
            HELD => Ok(()),
            REVOKED => Err(self.error("the lock was revoked: it was held for longer than its max_hold")),
            LOST => {
                let why = self.state().why.clone().unwrap_or(Cow::Borrowed("the server does not say why"));
                Err(self.error(format!("the lock was lost: {why}")))
            }
            _ => Err(self.error("the lock was released")),
        }
    }

    fn error(&self, detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(ErrorKind::Lost, self.target(), detail)
            .with_hint("stop: what was written since may be mixed with another holder's")
    }

    pub(super) fn is_held(&self) -> bool {
        self.generation == sys::fork_generation() && self.status.load(Ordering::Acquire) == HELD
    }

    /// Records that the tenure is lost. `true` for the first call.
    pub(super) fn lose(&self, why: impl Into<Cow<'static, str>>) -> bool {
        let mut state = self.state();
        if self.status.compare_exchange(HELD, LOST, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        state.why = Some(why.into());
        drop(state);
        self.listeners.notify();
        (self.interrupt)();
        true
    }

    /// Records that the lease ran out without a confirmed renewal. `true` for the first call.
    pub(super) fn expire(&self) -> bool {
        let trouble = self.state().renewal_error.clone();
        self.lose(match trouble {
            Some(trouble) => format!("its lease could not be renewed in time: {trouble}").into(),
            None => Cow::Borrowed("its lease could not be renewed in time"),
        })
    }

    /// Records the error of the last renewal; `None` after one that succeeded.
    pub(super) fn set_renewal_error(&self, why: Option<&str>) {
        self.state().renewal_error = why.map(str::to_owned);
    }

    /// Reports the loss to the caller's callback, once. Does nothing while the tenure is held, and after its release.
    pub(super) fn report_loss(&self) {
        if let Err(error) = self.check()
            && !self.is_released()
            && self.status.load(Ordering::Acquire) == LOST
            && !self.loss_reported.swap(true, Ordering::AcqRel)
        {
            self.options.report_loss(self.target(), &error);
        }
    }

    /// Returns whether the tenure took the lock over from a holder that died. A share leaves that to the next exclusive holder.
    pub(super) fn is_takeover(&self) -> bool {
        !self.shared && matches!(self.previous, Previous::Crashed(_))
    }

    /// Revokes the tenure. `true` if it was held until now.
    pub(super) fn revoke(&self) -> bool {
        let revoked = self.status.compare_exchange(HELD, REVOKED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if revoked {
            self.listeners.notify();
        }
        revoked
    }

    /// Returns the record if the server has an older one, and takes it for published.
    pub(super) fn take_unpublished(&self) -> Option<Record> {
        let mut state = self.state();
        std::mem::take(&mut state.unpublished).then(|| state.record.clone())
    }

    /// Returns whether the server has an older record.
    pub(super) fn is_unpublished(&self) -> bool {
        self.state().unpublished
    }

    /// Records that the record could not be published.
    pub(super) fn mark_unpublished(&self) {
        self.state().unpublished = true;
    }

    /// Returns the record that the next holder finds.
    pub(super) fn final_record(&self) -> Record {
        let mut record = self.state().record.clone();
        let crash_unreported = self.crash_unreported.load(Ordering::Relaxed);
        if let (true, Some(last)) = (crash_unreported, &self.last) {
            let fence = record.previous_fence();
            record = Record::clone(last);
            if let Some(native) = &mut record.native {
                native.fence = fence;
            }
        }
        if let Some(native) = &mut record.native {
            native.state =
                if crash_unreported && self.last.is_some() { RecordState::Aborted } else { RecordState::Released };
        }
        record
    }

    /// Marks the grant as undelivered, so that the next holder gets its crash report.
    pub(crate) fn discard_undelivered(&self) {
        self.crash_unreported.store(true, Ordering::Relaxed);
    }

    /// Marks the grant as undelivered, unless a reentrant acquire has joined it, whose caller has work to report.
    pub(super) fn discard_unless_joined(&self) {
        if self.guards.load(Ordering::Acquire) == 1 {
            self.discard_undelivered();
        }
    }

    /// Drops the guard of a caller that is no longer there. Returns whether that was the last one: then the server must be
    /// told. A reentrant acquire may have joined the tenure meanwhile, and then it is that caller's.
    pub(super) fn drop_undelivered(&self) -> bool {
        let is_last = self.guards.fetch_sub(1, Ordering::AcqRel) == 1;
        if is_last {
            self.discard_undelivered();
            let _ = self.status.compare_exchange(HELD, RELEASED, Ordering::AcqRel, Ordering::Acquire);
        }
        is_last
    }

    /// Adds a guard; `false` if the last one has just been dropped.
    pub(super) fn add_guard(&self) -> bool {
        let more = |guards: usize| (guards > 0).then_some(guards + 1);
        self.guards.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// Drops a guard, and with the last one the lock. Returns `None` if the server has to answer.
    fn start_drop(&self, began: Instant) -> Option<Result<()>> {
        if self.guards.fetch_sub(1, Ordering::AcqRel) > 1 || self.generation != sys::fork_generation() {
            return Some(Ok(()));
        }
        let kept = self.check();
        let _ = self.status.compare_exchange(HELD, RELEASED, Ordering::AcqRel, Ordering::Acquire);
        self.state().released_at = Some(began);
        self.changed.notify_all();
        (self.interrupt)();
        // The session cleans up behind a lost tenure, and the caller need not wait for that.
        kept.is_err().then_some(kept)
    }

    /// Drops a guard, and with the last one the lock. Waits for the server's answer.
    pub(crate) fn drop_guard(&self) -> Result<()> {
        let began = Instant::now();
        if let Some(outcome) = self.start_drop(began) {
            return outcome;
        }
        // The session may still be in another call. That has a limit of its own, and so has this wait.
        let end = began + CALL + CALL / 5;
        let mut state = self.state();
        loop {
            if let Some(outcome) = state.outcome.take() {
                return outcome;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let seconds = self.ttl.as_secs();
                return Err(Error::new(
                    ErrorKind::Unreachable,
                    self.target(),
                    "the server did not answer to the release",
                )
                .with_hint(format!("the lock is free when its lease is over, after {seconds} s at most")));
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns how long the release may take: the rest of the time for which `drop_guard` waits.
    pub(super) fn time_to_release(&self) -> Duration {
        let waited = self.state().released_at.map_or(Duration::ZERO, |began| began.elapsed());
        call_limit(self.ttl).min(CALL.saturating_sub(waited)).max(CALL / 5)
    }

    pub(super) fn is_released(&self) -> bool {
        self.state().released_at.is_some()
    }

    /// Records the result of the release.
    pub(super) fn finish(&self, outcome: Result<()>) {
        let mut state = self.state();
        state.outcome = Some(outcome);
        let waker = state.releaser.take();
        drop(state);
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for ServerTenure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTenure")
            .field("target", &self.target())
            .field("fence", &self.fence)
            .field("held", &self.is_held())
            .finish_non_exhaustive()
    }
}

impl Tenure for ServerTenure {
    fn facts(&self) -> Facts<'_> {
        Facts {
            target: self.target(),
            lock_file: self.server.lock_name(),
            fence: (self.fence != 0).then_some(self.fence),
            shared: self.shared,
            slot: None,
            previous: &self.previous,
        }
    }

    fn holder(&self) -> Holder {
        let liveness = match self.check() {
            Ok(()) => Liveness::alive("its lease is renewed"),
            Err(_) => Liveness::unknown("the lock was released or lost"),
        };
        Holder::from_record(Some(&self.state().record), liveness)
    }

    fn record(&self) -> Option<Record> {
        (!self.shared).then(|| self.state().record.clone())
    }

    /// Changes the record. The session publishes it as soon as it can. A shared tenure has none that others see.
    fn change(&self, change: &mut dyn FnMut(&mut Record)) -> Result<()> {
        self.check()?;
        if self.shared {
            return Ok(());
        }
        let mut state = self.state();
        change(&mut state.record);
        state.unpublished = true;
        drop(state);
        (self.interrupt)();
        Ok(())
    }

    /// A server keeps no history.
    fn note_exit_code(&self, _: i32) {}

    fn check(&self) -> Result<()> {
        ServerTenure::check(self)
    }

    fn lease(&self) -> Option<LeaseLeft> {
        let (lease, now) = (self.lease(), BootTime::now());
        let lost_in = if self.check().is_ok() { lease.lost_at().from(now) } else { Duration::ZERO };
        Some(LeaseLeft { lost_in, free_in: lease.free_at().from(now) })
    }

    fn descriptors(&self) -> Result<Vec<Inherited>> {
        let detail = "a child cannot inherit a lock that a server keeps";
        Err(Error::new(ErrorKind::Unsupported, self.target(), detail)
            .with_hint("end the child when this process ends, or when the lock is lost"))
    }

    fn poll_loss(self: Arc<Self>, waker: &Waker) -> bool {
        self.listeners.poll(waker)
    }

    fn release(self: Arc<Self>) -> Result<()> {
        self.drop_guard()
    }

    fn start_release(self: Arc<Self>) -> Option<Result<()>> {
        self.start_drop(Instant::now())
    }

    fn poll_release(&self, waker: &Waker) -> Option<Result<()>> {
        let mut state = self.state();
        let outcome = state.outcome.take();
        if outcome.is_none() {
            state.releaser = Some(waker.clone());
        }
        outcome
    }

    /// From here on no thread holds it. The session releases it at the server.
    fn abandon(self: Arc<Self>) {
        self.discard_unless_joined();
        let _ = self.start_drop(Instant::now());
    }
}
