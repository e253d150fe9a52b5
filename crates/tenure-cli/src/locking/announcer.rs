//! Announces which holder this process waits for.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tenure::server::Scheme;
use tenure::{State, Status};

use crate::output::terminal::LiveLine;
use crate::output::{describe, stream};
use crate::sys::{self, Signals, Stamp};

/// Waits shorter than this are not announced.
const QUIET_FOR: Duration = Duration::from_secs(1);
/// The interval at which a change of the holder is checked for.
const CHECK_AGAIN: Duration = Duration::from_secs(5);
/// The same interval for the line on a terminal, which also shows the age of the hold.
const DRAW_AGAIN: Duration = Duration::from_secs(1);

/// Announces the holder. On a terminal in whose foreground this process is, the announcement is one line that is updated in
/// place and erased at the end. Elsewhere it is printed once, and again when the holder changes.
pub(crate) struct Announcer<'a> {
    live: Option<LiveLine>,
    target: &'a Path,
    /// The server that keeps the lock; `None` for a lock in files.
    server: Option<Scheme>,
    /// The number of slots, where the lock has slots.
    slots: Option<u32>,
    signals: &'a Signals,
    next: Instant,
    announced: Option<Announced>,
    /// The answer of the thread that asks the server.
    answer: Option<Answer<Status>>,
    /// The same for the slots.
    slots_answer: Option<Answer<Vec<Status>>>,
}

type Answer<T> = Arc<Mutex<Option<tenure::Result<T>>>>;

/// Asks a server on a thread of its own, which wakes this one: a server that does not answer must not delay the outcome of the
/// wait. `None` if no thread can be started.
fn ask<T: Send + 'static>(
    signals: &Signals,
    question: impl FnOnce() -> tenure::Result<T> + Send + 'static,
) -> Option<Answer<T>> {
    let (answer, waker) = (Answer::default(), signals.waker());
    let shared = Arc::clone(&answer);
    let ask = move || {
        let found = question();
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        waker.wake();
    };
    thread::Builder::new().name("tenure-status".to_owned()).spawn(ask).ok().map(|_| answer)
}

/// Takes an answer that has arrived.
fn take<T>(answer: &mut Option<Answer<T>>) -> Option<tenure::Result<T>> {
    let arrived = answer.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    *answer = None;
    Some(arrived)
}

fn has_arrived<T>(answer: &Option<Answer<T>>) -> bool {
    let arrived = |answer: &Answer<T>| answer.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    answer.as_ref().is_some_and(arrived)
}

/// The last announcement: the lock file at that time, and the holder.
struct Announced {
    stamp: Option<Stamp>,
    tenure: TenureId,
}

/// Distinguishes one tenure from the next. A native's pid and `createdAt` may change while it holds; its fence does not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TenureId {
    Native(u64),
    Foreign(Option<i64>, Option<SystemTime>),
    Sharers(Vec<i64>),
}

impl TenureId {
    pub(crate) fn of(found: &Status) -> TenureId {
        match &found.holder {
            Some(holder) => match holder.fence {
                Some(fence) => TenureId::Native(fence),
                None => TenureId::Foreign(holder.pid(), holder.created_at),
            },
            None => TenureId::Sharers(found.open_by.clone()),
        }
    }
}

/// Returns whether the holder is this process. In another pid namespace, or on another machine, a process may have the same pid.
fn is_own(found: &Status) -> bool {
    let identity = found.holder.as_ref().and_then(|holder| holder.identity.as_ref());
    identity.is_some_and(|identity| identity.pid == i64::from(std::process::id()) && identity.verify().is_alive())
}

impl<'a> Announcer<'a> {
    pub(crate) fn new(
        target: &'a Path,
        server: Option<Scheme>,
        slots: Option<u32>,
        signals: &'a Signals,
    ) -> Announcer<'a> {
        let next = Instant::now() + QUIET_FOR;
        Announcer {
            live: LiveLine::new(),
            target,
            server,
            slots,
            signals,
            next,
            announced: None,
            answer: None,
            slots_answer: None,
        }
    }

    /// Announces how many slots are held, once, or on each update of a terminal's line.
    fn update_slots(&mut self, slots: u32, now: Instant) {
        self.next = now + CHECK_AGAIN;
        let is_drawn = self.live.is_some() && sys::in_foreground();
        if !is_drawn && self.announced.is_some() {
            return;
        }
        let Some(found) = self.inspect_slots() else { return };
        let held: Vec<i64> = found.iter().filter_map(|slot| slot.holder.as_ref()?.pid()).collect();
        let line = format!(
            "waiting for {}: {} of {slots} slots held, by {}",
            describe::path(self.target),
            held.len(),
            describe::pids(&held)
        );
        match &mut self.live {
            Some(live) if is_drawn => {
                self.next = now + DRAW_AGAIN;
                live.draw(&format!("tenure: {line}"));
            }
            _ => {
                stream::message(&line);
                self.announced = Some(Announced { stamp: None, tenure: TenureId::Sharers(held) });
            }
        }
    }

    /// Returns the slots that are held, if they are known yet.
    fn inspect_slots(&mut self) -> Option<Vec<Status>> {
        if self.server.is_none() {
            return tenure::slots(self.target).ok();
        }
        if self.slots_answer.is_some() {
            return take(&mut self.slots_answer)?.ok();
        }
        let target = self.target.to_owned();
        self.slots_answer = ask(self.signals, move || tenure::slots(&target));
        None
    }

    /// Returns the state of the lock, if it is known yet, and if the holder is not this process, which is about to be granted the
    /// lock.
    ///
    /// A thread of its own asks a server and wakes this one, because a server that does not answer must not delay the
    /// outcome of the wait.
    fn inspect(&mut self) -> Option<Status> {
        if self.server.is_none() {
            return tenure::status(self.target).ok().filter(|found| !is_own(found));
        }
        if self.answer.is_some() {
            let found = take(&mut self.answer)?.ok()?;
            // Of shared holders, a server's answer has the pids alone.
            let own = i64::from(std::process::id());
            return (!is_own(&found) && !found.open_by.contains(&own)).then_some(found);
        }
        let target = self.target.to_owned();
        self.answer = ask(self.signals, move || tenure::status(&target));
        None
    }

    fn has_answer(&self) -> bool {
        has_arrived(&self.answer) || has_arrived(&self.slots_answer)
    }

    /// Returns the time until the next update.
    pub(crate) fn next_update(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Updates the announcement, if it is time to.
    pub(crate) fn update(&mut self) {
        let now = Instant::now();
        if now < self.next && !self.has_answer() {
            return;
        }
        if let Some(slots) = self.slots {
            self.update_slots(slots, now);
            return;
        }
        if self.live.is_some() && sys::in_foreground() {
            self.next = now + DRAW_AGAIN;
            // A free lock is changing hands at this moment.
            if let Some(found) = self.inspect()
                && found.state != State::Free
                && let Some(line) = &mut self.live
            {
                line.draw(&format!("tenure: {}", describe::waiting(self.target, &found)));
            }
            return;
        }
        self.next = now + CHECK_AGAIN;
        let mut lock_file = self.target.as_os_str().to_owned();
        lock_file.push(".lock");
        // The stamp is read before the inspection, so that the next check sees a change in between.
        let stamp = sys::stamp(Path::new(&lock_file));
        if let Some(announced) = &self.announced
            && stamp.is_some()
            && announced.stamp == stamp
        {
            return;
        }
        let Some(found) = self.inspect() else { return };
        if found.state == State::Free {
            return;
        }
        let tenure = TenureId::of(&found);
        if self.announced.as_ref().is_none_or(|announced| announced.tenure != tenure) {
            stream::message(&describe::waiting(self.target, &found));
        }
        self.announced = Some(Announced { stamp, tenure });
    }
}
