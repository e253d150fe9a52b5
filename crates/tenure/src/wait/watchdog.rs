//! The watchdog: one thread a process, which runs only while a lock is held or waited for.
//!
//! It refreshes the date by which foreign programs judge, acts on `max_hold`, and reports losses. Once a second it
//! compares the files that this process waits for with their paths, to notice a break. It is a thread, so a busy event
//! loop does not stop it. It serves each lock independently, so one that fails does not stop the others. When no lock
//! has been held or waited for, it ends within two seconds.

pub(crate) mod interrupts;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::model::options::{Event, Overrun};
use crate::sys::{self, ForkLocal, InterruptHandle};
use crate::util::trace::event;
use crate::wait::tenure::FileTenure;

/// The interval between two checks for breaks and losses.
const TICK: Duration = Duration::from_secs(1);
/// The interval at which an interrupt is repeated: one that comes too early goes unnoticed.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(1);

/// A queue whose helper waits in the kernel.
pub(crate) trait WatchedQueue: Send + Sync {
    /// Returns whether the queue is in the watchdog's list, for the watchdog to set.
    fn is_listed(&self) -> &AtomicBool;

    /// Compares the file that the helper waits for with the file's path. Returns `false` once no helper waits in the
    /// kernel.
    fn recheck(self: Arc<Self>) -> bool;
}

#[derive(Default)]
struct Watchdog {
    state: Mutex<State>,
    /// Notified when the thread must wake up earlier than it planned.
    earlier: Condvar,
}

#[derive(Default)]
struct State {
    running: bool,
    held: Vec<Held>,
    waiting: Vec<Weak<dyn WatchedQueue>>,
    /// The threads to interrupt, and when.
    interrupts: Vec<(Instant, Arc<InterruptHandle>)>,
    /// When the thread wakes up next.
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

    /// Makes sure that the thread runs and wakes up no later than at `due`. Returns `false` if it cannot be started.
    fn ensure_awake_by(&'static self, state: &mut State, due: Instant) -> bool {
        if !state.running {
            state.running = true;
            state.wakes_at = None;
            if let Err(_error) = sys::spawn("tenure-watchdog", || self.run()) {
                // The locks hold without it, but dates go stale for foreign programs, and max_hold is not acted on.
                state.running = false;
                event!(ERROR, error = %_error, "the watchdog cannot be started");
            }
        } else if state.wakes_at.is_some_and(|at| at > due) {
            self.earlier.notify_one();
        }
        state.running
    }

    fn run(&self) {
        let mut state = self.state();
        let mut idle = false;
        loop {
            let now = Instant::now();
            // A tenure that was listened to at the very moment of its end, or twice at once.
            state.held.retain(|held| held.tenure.is_held());
            let mut due = Vec::new();
            for held in &mut state.held {
                due.extend(held.due(now));
            }
            state.interrupts.retain_mut(|(at, interrupt)| {
                let due = *at <= now;
                let still_waits = !due || interrupt.interrupt();
                if due {
                    *at = now + INTERRUPT_INTERVAL;
                }
                still_waits
            });
            let waiting = std::mem::take(&mut state.waiting);
            for queue in waiting.iter().filter_map(Weak::upgrade) {
                queue.is_listed().store(false, Ordering::SeqCst);
            }
            // The thread stays for another tick: a process that acquires in a loop would otherwise start one each time.
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
                perform(&tenure, duty);
            }
            for queue in waiting.iter().filter_map(Weak::upgrade) {
                if Arc::clone(&queue).recheck() {
                    list_queue(&queue);
                }
            }
            state = self.state();
            let interrupts = state.interrupts.iter().map(|(at, _)| *at);
            let next = state.held.iter().filter_map(Held::next).chain(interrupts).min();
            let tick = Instant::now() + TICK;
            let wake = next.map_or(tick, |next| next.min(tick));
            state.wakes_at = Some(wake);
            let timeout = wake.saturating_duration_since(Instant::now());
            (state, _) = self.earlier.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
            state.wakes_at = None;
        }
    }
}

#[derive(Clone, Copy)]
enum Duty {
    Refresh,
    Overrun,
    Loss,
    Name,
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
        if self.tenure.keeps_name() {
            duties.push((Arc::clone(&self.tenure), Duty::Name));
        }
        duties
    }

    fn next(&self) -> Option<Instant> {
        self.refresh_at.into_iter().chain(self.overrun_at).min()
    }
}

fn perform(tenure: &Arc<FileTenure>, duty: Duty) {
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
                let _ = tenure.revoke();
            }
            tenure.request.options.report_overrun(target, tenure.fence, tenure.began.elapsed(), revoked);
        }
        Duty::Name => tenure.give_up_name(),
        Duty::Loss => {
            let Err(error) = tenure.check() else { return };
            // An error that proves no loss is checked again at the next tick.
            if error.is_lost() && tenure.is_held() {
                tenure.listeners.notify();
                tenure.request.options.report_loss(target, &error);
            }
        }
    }
}

/// Records that a tenure began.
pub(crate) fn tenure_began(tenure: &Arc<FileTenure>) {
    let refresh = tenure.refresh_every();
    let overrun = tenure.overrun_after().map(|(limit, _)| limit);
    let watched = tenure.request.options.on_event.is_some() || tenure.keeps_name();
    if refresh.is_none() && overrun.is_none() && !watched {
        return;
    }
    list_tenure(tenure, refresh, overrun, tenure.began);
}

/// Watches a tenure for its loss, which may not have needed the watchdog so far.
pub(crate) fn listen(tenure: &Arc<FileTenure>) {
    let watchdog = watchdog();
    if tenure.is_held() && !watchdog.state().held.iter().any(|held| Arc::ptr_eq(&held.tenure, tenure)) {
        list_tenure(tenure, None, None, Instant::now());
    }
}

/// Adds a tenure to the list, whose duties count `from` that moment.
fn list_tenure(tenure: &Arc<FileTenure>, refresh: Option<Duration>, overrun: Option<Duration>, from: Instant) {
    let held = Held {
        tenure: Arc::clone(tenure),
        refresh_at: refresh.and_then(|every| from.checked_add(every)),
        overrun_at: overrun.and_then(|limit| from.checked_add(limit)),
    };
    let watchdog = watchdog();
    let mut state = watchdog.state();
    let due = held.next().unwrap_or(from + TICK);
    tenure.set_watchdog_index(state.held.len());
    state.held.push(held);
    watchdog.ensure_awake_by(&mut state, due);
}

/// Records that a tenure ended.
pub(crate) fn tenure_ended(tenure: &Arc<FileTenure>) {
    let Some(at) = tenure.watchdog_index() else { return };
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
        moved.tenure.set_watchdog_index(at);
    }
}

/// Records that a helper of `queue` is about to wait in the kernel.
pub(crate) fn queue_waits<Q: WatchedQueue + 'static>(queue: &Arc<Q>) {
    let queue: Arc<dyn WatchedQueue> = Arc::<Q>::clone(queue);
    list_queue(&queue);
}

fn list_queue(queue: &Arc<dyn WatchedQueue>) {
    if !queue.is_listed().swap(true, Ordering::SeqCst) {
        let watchdog = watchdog();
        let mut state = watchdog.state();
        state.waiting.push(Arc::downgrade(queue));
        watchdog.ensure_awake_by(&mut state, Instant::now() + TICK);
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
    fn a_tenure_that_is_listed_as_it_ends_does_not_stay_in_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let queue = registry::queue(&LockPaths::open(&dir.path().join("t"), false).unwrap(), false);
        let request = Request { options: Options::default().style(Style::Flock), shared: false };
        let tenure = queue.acquire(Arc::new(request), Wait::Never).unwrap();
        // Two callers listen for its loss at once, and a third one at the moment of its release.
        list_tenure(&tenure, None, None, Instant::now());
        list_tenure(&tenure, None, None, Instant::now());
        queue.release(&tenure).unwrap();
        list_tenure(&tenure, None, None, Instant::now());
        let end = Instant::now() + Duration::from_secs(60);
        while watchdog().state().held.iter().any(|held| Arc::ptr_eq(&held.tenure, &tenure)) {
            assert!(Instant::now() < end, "the ended tenure stays in the list");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
