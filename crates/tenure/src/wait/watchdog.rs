//! One thread a process, only while there is something to look after.
//!
//! It refreshes the date that foreign programs judge by, acts on `max_hold`, notices a loss for those who asked to be
//! told, and once a second compares what this process waits for with its path, for a break. It is a thread, so a busy
//! event loop does not stop it; each lock is looked after on its own, so one that fails does not stop the others.
//! When nothing has been held or waited for, it ends within two seconds.

mod interrupts;

pub(crate) use interrupts::{interrupt, interrupt_at};

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::model::options::{Event, Overrun};
use crate::sys::{self, ForkLocal, InterruptHandle};
use crate::util::trace::event;
use crate::wait::queue::TargetQueue;
use crate::wait::tenure::FileTenure;

/// How often breaks are looked for.
const TICK: Duration = Duration::from_secs(1);
/// How soon a recall is repeated that may have come too early to be noticed.
const AGAIN: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Watchdog {
    state: Mutex<State>,
    sooner: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    held: Vec<Held>,
    waiting: Vec<Weak<TargetQueue>>,
    /// Who is to be called back, and when.
    interrupts: Vec<(Instant, Arc<InterruptHandle>)>,
    /// When the thread will look next.
    wakes_at: Option<Instant>,
}

struct Held {
    tenure: Arc<FileTenure>,
    refresh_at: Option<Instant>,
    overrun_at: Option<Instant>,
}

static WATCHDOG: ForkLocal<Watchdog> = ForkLocal::new();

fn watchdog() -> &'static Watchdog {
    WATCHDOG.get(Watchdog::default)
}

impl Watchdog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the thread runs and looks no later than at `due`; `false` if it cannot be started.
    fn rouse(&'static self, state: &mut State, due: Instant) -> bool {
        if !state.running {
            state.running = true;
            state.wakes_at = None;
            if let Err(_error) = sys::spawn("tenure-watchdog", || self.run()) {
                // The locks hold without it; dates go stale for foreign programs and max_hold is not acted on.
                state.running = false;
                event!(ERROR, error = %_error, "the watchdog cannot be started");
            }
        } else if state.wakes_at.is_some_and(|at| at > due) {
            self.sooner.notify_one();
        }
        state.running
    }

    fn run(&self) {
        let mut state = self.state();
        let mut idle = false;
        loop {
            let now = Instant::now();
            // One that began to be listened to at the very moment of its end, or twice at once.
            state.held.retain(|held| held.tenure.is_held());
            let mut due = Vec::new();
            for held in &mut state.held {
                due.extend(held.due(now));
            }
            state.interrupts.retain_mut(|(at, interrupt)| {
                let due = *at <= now;
                let there = !due || interrupt.interrupt();
                if due {
                    *at = now + AGAIN;
                }
                there
            });
            let waiting = std::mem::take(&mut state.waiting);
            for queue in waiting.iter().filter_map(Weak::upgrade) {
                queue.watched.store(false, Ordering::SeqCst);
            }
            // It stays for a tick: who acquires in a loop would otherwise start a thread each time.
            if state.held.is_empty() && waiting.is_empty() && state.interrupts.is_empty() {
                if idle {
                    state.running = false;
                    return;
                }
                idle = true;
            } else {
                idle = false;
            }
            drop(state);
            for (tenure, duty) in due {
                look_after(&tenure, duty);
            }
            for queue in waiting.iter().filter_map(Weak::upgrade) {
                if queue.recheck() {
                    self::waiting(&queue);
                }
            }
            state = self.state();
            let interrupts = state.interrupts.iter().map(|(at, _)| *at);
            let next = state.held.iter().filter_map(Held::next).chain(interrupts).min();
            let tick = Instant::now() + TICK;
            let wake = next.map_or(tick, |next| next.min(tick));
            state.wakes_at = Some(wake);
            let timeout = wake.saturating_duration_since(Instant::now());
            (state, _) = self.sooner.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
            state.wakes_at = None;
        }
    }
}

#[derive(Clone, Copy)]
enum Duty {
    Refresh,
    Overrun,
    Loss,
}

impl Held {
    fn due(&mut self, now: Instant) -> Vec<(Arc<FileTenure>, Duty)> {
        let mut duties = Vec::new();
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = self.tenure.refresh_every().map(|every| now + every);
            duties.push((Arc::clone(&self.tenure), Duty::Refresh));
        }
        if self.overrun_at.is_some_and(|at| at <= now) {
            self.overrun_at = None;
            duties.push((Arc::clone(&self.tenure), Duty::Overrun));
        }
        if self.tenure.wants_loss() {
            duties.push((Arc::clone(&self.tenure), Duty::Loss));
        }
        duties
    }

    fn next(&self) -> Option<Instant> {
        self.refresh_at.into_iter().chain(self.overrun_at).min()
    }
}

fn look_after(tenure: &Arc<FileTenure>, duty: Duty) {
    let target = &tenure.paths().target_path;
    match duty {
        Duty::Refresh => {
            if let Err(error) = tenure.refresh()
                && tenure.is_held()
            {
                event!(WARN, target = ?target, error = %error, "the record's date cannot be refreshed");
                tenure.request.options.report(&Event::RefreshFailed { target, error: &error });
            }
        }
        Duty::Overrun => {
            let Some((_, overrun)) = tenure.overrun_after() else { return };
            if !tenure.is_held() {
                return;
            }
            let revoked = overrun == Overrun::Revoke;
            if revoked {
                let _ = tenure.queue.revoke(tenure);
            }
            tenure.request.options.report_overrun(target, tenure.fence, tenure.began.elapsed(), revoked);
        }
        Duty::Loss => {
            let Err(error) = tenure.check() else { return };
            // Only a loss is one; what cannot be told is looked at again.
            if error.is_lost() && tenure.is_held() {
                tenure.listeners.notify();
                tenure.request.options.report_loss(target, &error);
            }
        }
    }
}

/// A tenure began.
pub(crate) fn held(tenure: &Arc<FileTenure>) {
    let refresh = tenure.refresh_every();
    let overrun = tenure.overrun_after().map(|(limit, _)| limit);
    if refresh.is_none() && overrun.is_none() && tenure.request.options.on_event.is_none() {
        return;
    }
    enlist(tenure, refresh, overrun);
}

/// Someone asks to be told of the loss of a tenure that may not have needed the watchdog so far.
pub(crate) fn listen(tenure: &Arc<FileTenure>) {
    let watchdog = watchdog();
    if tenure.is_held() && !watchdog.state().held.iter().any(|held| Arc::ptr_eq(&held.tenure, tenure)) {
        enlist(tenure, None, None);
    }
}

fn enlist(tenure: &Arc<FileTenure>, refresh: Option<Duration>, overrun: Option<Duration>) {
    let now = Instant::now();
    let held = Held {
        tenure: Arc::clone(tenure),
        refresh_at: refresh.and_then(|every| now.checked_add(every)),
        overrun_at: overrun.and_then(|limit| now.checked_add(limit)),
    };
    let watchdog = watchdog();
    let mut state = watchdog.state();
    let due = held.next().unwrap_or(now + TICK);
    tenure.watched_at(state.held.len());
    state.held.push(held);
    watchdog.rouse(&mut state, due);
}

/// A tenure ended.
pub(crate) fn ended(tenure: &Arc<FileTenure>) {
    let Some(at) = tenure.watched() else { return };
    let mut state = watchdog().state();
    let at = match state.held.get(at) {
        Some(held) if Arc::ptr_eq(&held.tenure, tenure) => at,
        _ => match state.held.iter().position(|held| Arc::ptr_eq(&held.tenure, tenure)) {
            Some(at) => at,
            None => return,
        },
    };
    state.held.swap_remove(at);
    if let Some(moved) = state.held.get(at) {
        moved.tenure.watched_at(at);
    }
}

/// A helper of this queue is about to wait in a kernel queue.
pub(crate) fn waiting(queue: &Arc<TargetQueue>) {
    if !queue.watched.swap(true, Ordering::SeqCst) {
        let watchdog = watchdog();
        let mut state = watchdog.state();
        state.waiting.push(Arc::downgrade(queue));
        watchdog.rouse(&mut state, Instant::now() + TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::paths::LockPaths;
    use crate::model::options::{Options, Style, Wait};
    use crate::model::request::Request;
    use crate::wait::registry;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn what_is_enlisted_as_it_ends_does_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let queue = registry::queue(&LockPaths::open(&dir.path().join("t"), false).unwrap(), false);
        let request = Request { options: Options::default().style(Style::Flock), shared: false };
        let tenure = queue.acquire(Arc::new(request), Wait::Never).unwrap();
        // By two who ask at once to be told of its loss, and by one who asks at the moment of its release.
        enlist(&tenure, None, None);
        enlist(&tenure, None, None);
        queue.release(&tenure).unwrap();
        enlist(&tenure, None, None);
        let end = Instant::now() + Duration::from_secs(60);
        while watchdog().state().held.iter().any(|held| Arc::ptr_eq(&held.tenure, &tenure)) {
            assert!(Instant::now() < end, "it is there for ever");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
