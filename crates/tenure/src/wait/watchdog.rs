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

/// A queue that holds or waits, as the watchdog sees it.
pub(crate) trait WatchedQueue: Send + Sync {
    /// Returns whether the queue is in the watchdog's list, for the watchdog to set.
    fn is_listed(&self) -> &AtomicBool;

    /// Returns the tenures that hold the lock now.
    fn tenures(&self) -> Vec<Arc<FileTenure>>;

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
    /// The queues that hold or wait, or did so at the last tick. A queue stays in the list from one tenure to the next,
    /// so a tenure that follows another within a tick costs nothing here.
    queues: Vec<Weak<dyn WatchedQueue>>,
    /// The threads to interrupt, and when.
    interrupts: Vec<(Instant, Arc<InterruptHandle>)>,
    /// The earliest moment that was asked for since the thread looked at the queues last.
    due: Option<Instant>,
    /// When the thread wakes up next.
    wakes_at: Option<Instant>,
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
        state.due = Some(state.due.map_or(due, |known| known.min(due)));
        if !state.running {
            state.running = true;
            state.wakes_at = None;
            if let Err(_error) = sys::spawn("tenure-watchdog", || self.run()) {
                // The locks hold without it, but dates go stale for foreign programs, and max_hold is not acted on.
                state.running = false;
                event!(ERROR, error = %_error, "the watchdog cannot be started");
            } else {
                // A failed start cleared the flags of the queues that it left in the list.
                for queue in state.queues.iter().filter_map(Weak::upgrade) {
                    queue.is_listed().store(true, Ordering::SeqCst);
                }
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
            state.interrupts.retain_mut(|(at, interrupt)| {
                let due = *at <= now;
                let still_waits = !due || interrupt.interrupt();
                if due {
                    *at = now + INTERRUPT_INTERVAL;
                }
                still_waits
            });
            let queues = std::mem::take(&mut state.queues);
            // The thread stays for another tick: a process that acquires in a loop would otherwise start one each time.
            if idle && queues.is_empty() && state.interrupts.is_empty() {
                state.running = false;
                return;
            }
            state.due = None;
            drop(state);
            let mut next = None;
            let mut kept = Vec::with_capacity(queues.len());
            for queue in queues {
                let Some(listed) = queue.upgrade() else { continue };
                // Before the look at the queue: what begins after it lists the queue again.
                listed.is_listed().store(false, Ordering::SeqCst);
                let mut in_use = false;
                for tenure in listed.tenures() {
                    in_use |= look_after(&tenure);
                    let due = tenure.next_duty().and_then(|left| Instant::now().checked_add(left));
                    next = due.into_iter().chain(next).min();
                }
                in_use |= Arc::clone(&listed).recheck();
                if in_use && !listed.is_listed().swap(true, Ordering::SeqCst) {
                    kept.push(queue);
                }
            }
            state = self.state();
            state.queues.append(&mut kept);
            idle = state.queues.is_empty() && state.interrupts.is_empty();
            let interrupts = state.interrupts.iter().map(|(at, _)| *at);
            let next = interrupts.chain(next).chain(state.due).min();
            let tick = Instant::now() + TICK;
            let wake = next.map_or(tick, |next| next.min(tick));
            state.wakes_at = Some(wake);
            let timeout = wake.saturating_duration_since(Instant::now());
            (state, _) = self.earlier.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner);
            state.wakes_at = None;
        }
    }
}

/// Performs the duties that are due for a tenure. Returns whether it needs the watchdog further on.
fn look_after(tenure: &Arc<FileTenure>) -> bool {
    let target = &tenure.paths().target_path;
    if tenure.refresh_is_due()
        && let Err(error) = tenure.refresh()
        && tenure.is_held()
    {
        event!(WARN, target = ?target, error = %error, "the record's date cannot be refreshed");
        tenure.request.options.report(&Event::RefreshFailed { target, error: &error });
    }
    if let Some(overrun) = tenure.overrun_is_due()
        && tenure.is_held()
    {
        let revoked = overrun == Overrun::Revoke;
        if revoked {
            let _ = tenure.revoke();
        }
        tenure.request.options.report_overrun(target, tenure.fence, tenure.age(), revoked);
    }
    if tenure.keeps_name() {
        tenure.give_up_name();
    }
    // An error that proves no loss is checked again at the next tick.
    if tenure.wants_loss()
        && let Err(error) = tenure.check()
        && error.is_lost()
        && tenure.is_held()
    {
        tenure.listeners.notify();
        tenure.request.options.report_loss(target, &error);
    }
    tenure.is_held() && (tenure.next_duty().is_some() || tenure.wants_loss() || tenure.keeps_name())
}

/// Records that a tenure of `queue` began. The queue's state is locked, and has the tenure already.
#[inline]
pub(crate) fn tenure_began<Q: WatchedQueue + 'static>(queue: &Arc<Q>, tenure: &FileTenure) {
    if !tenure.needs_watchdog() {
        return;
    }
    // A listed queue is looked at within a tick: its flag is cleared before the look at its state, for which the thread
    // waits until this one has unlocked it.
    let listed = queue.is_listed().load(Ordering::SeqCst);
    let options = &tenure.request.options;
    if listed && options.max_hold.is_none() && options.refresh_interval >= TICK {
        return;
    }
    let left = tenure.next_duty().unwrap_or(TICK);
    if !listed || left < TICK {
        watch(queue, left);
    }
}

/// Puts a queue into the list, if it is not there, and has the thread look at it within `left`, and within a tick.
#[cold]
fn watch<Q: WatchedQueue + 'static>(queue: &Arc<Q>, left: Duration) {
    let due = Instant::now() + left.min(TICK);
    let watchdog = watchdog();
    let mut state = watchdog.state();
    if !queue.is_listed().swap(true, Ordering::SeqCst) {
        let listed: Arc<dyn WatchedQueue> = Arc::<Q>::clone(queue);
        let listed = Arc::downgrade(&listed);
        // Without the thread, the list has the queues of a failed start.
        if state.running || !state.queues.iter().any(|known| Weak::ptr_eq(known, &listed)) {
            state.queues.push(listed);
        }
    }
    if !watchdog.ensure_awake_by(&mut state, due) {
        // The next tenure, or wait, of any queue tries to start the thread again, which then looks at all of them.
        for queue in state.queues.iter().filter_map(Weak::upgrade) {
            queue.is_listed().store(false, Ordering::SeqCst);
        }
    }
}

/// Records that a helper of `queue` is about to wait in the kernel, or that a caller listens for a tenure's loss.
pub(crate) fn queue_waits<Q: WatchedQueue + 'static>(queue: &Arc<Q>) {
    if !queue.is_listed().load(Ordering::SeqCst) {
        watch(queue, TICK);
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
    fn a_queue_stays_in_the_list_from_one_tenure_to_the_next_and_leaves_it_when_it_is_idle() {
        let dir = tempfile::tempdir().unwrap();
        let queue = registry::queue(&LockPaths::open(&dir.path().join("t"), false).unwrap(), false);
        let options = Options::default().style(Style::Flock).max_hold(Duration::from_secs(3600));
        let request = Arc::new(Request::new(options, false));
        let entries = || {
            let same = |listed: &Weak<dyn WatchedQueue>| {
                listed.upgrade().is_some_and(|listed| Arc::as_ptr(&listed).addr() == Arc::as_ptr(&queue).addr())
            };
            watchdog().state().queues.iter().filter(|listed| same(listed)).count()
        };
        for _ in 0..3 {
            let tenure = queue.acquire(Arc::clone(&request), Wait::Never).unwrap();
            // Two callers listen for its loss as well.
            queue_waits(&queue);
            queue_waits(&queue);
            assert!(queue.is_listed().load(Ordering::SeqCst));
            assert!(entries() <= 1, "it is listed once, unless the thread looks at it just now");
            queue.release(&tenure).unwrap();
        }
        let end = Instant::now() + Duration::from_secs(60);
        while queue.is_listed().load(Ordering::SeqCst) || entries() > 0 {
            assert!(Instant::now() < end, "the idle queue stays in the list");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
