//! The clock thread, which notices by the clock alone that a lease has run out: the I/O thread, which renews it, may be
//! stopped or busy. `check()` reads the clock itself, but a listener for a loss has to be woken.
//!
//! It runs while tenures are held, and sleeps until the earliest of their leases ends.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lease::BootTime;
use super::registry;
use super::reports;
use crate::sys::ForkLocal;
use crate::util::thread_pool;

/// The longest sleep, which does not count the machine's suspension.
const SLEEP: Duration = Duration::from_secs(1);
/// How long the thread stays without a tenure.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Clock {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    runs: bool,
    /// When the thread looks next; while it looks, what it has to add to its result.
    next: Option<BootTime>,
}

fn clock() -> &'static Clock {
    static CLOCK: ForkLocal<Clock> = ForkLocal::new();
    CLOCK.get(Clock::default)
}

impl Clock {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the clock thread know of a tenure in the [registry] whose lease ends at `lost_at`.
pub(super) fn watch(lost_at: BootTime) {
    let clock = clock();
    let mut state = clock.state();
    if !state.runs {
        // Without a thread `check()` still reads the clock.
        state.runs = thread_pool::run(run).is_ok();
    } else if state.next.is_none_or(|next| lost_at < next) {
        state.next = Some(lost_at);
        clock.changed.notify_all();
    }
}

fn run() {
    let clock = clock();
    let mut linger = true;
    loop {
        clock.state().next = None;
        let found = expire_late();
        let mut state = clock.state();
        state.next = [state.next, found].into_iter().flatten().min();
        if state.next.is_some() {
            linger = true;
        } else if std::mem::take(&mut linger) {
            state.next = Some(BootTime::now().after(LINGER));
        } else {
            state.runs = false;
            return;
        }
        while let Some(left) = state.next.map(|next| next.from(BootTime::now())).filter(|left| !left.is_zero()) {
            (state, _) = clock.changed.wait_timeout(state, left.min(SLEEP)).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends the tenures whose lease has run out. Returns when the next one does.
fn expire_late() -> Option<BootTime> {
    let mut next: Option<BootTime> = None;
    for tenure in registry::all_held() {
        let lost_at = tenure.lease().lost_at();
        if lost_at > BootTime::now() {
            next = Some(next.map_or(lost_at, |next| next.min(lost_at)));
        } else {
            tenure.expire();
            reports::report_loss(tenure);
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::model::options::{Event, Options};
    use crate::model::tenure::Tenure as _;
    use crate::server::fake;

    struct Tells(Sender<&'static str>);

    impl Wake for Tells {
        fn wake(self: Arc<Self>) {
            self.0.send("woken").unwrap();
        }
    }

    #[test]
    fn a_loss_is_known_without_the_io_thread() {
        // No I/O thread serves this tenure, as if it were stopped.
        let (sender, said) = channel();
        let tell = sender.clone();
        let options = Options::default().on_event(move |event| {
            if let Event::Lost { .. } = event {
                tell.send("reported").unwrap();
            }
        });
        let tenure = fake::tenure("etcd://clock/a", options, Duration::from_secs(2));
        registry::add_held(&tenure);
        watch(tenure.lease().lost_at());
        // On a machine that has not run this for a second and a half, it is lost already, which wakes nobody.
        let is_lost = Arc::clone(&tenure).poll_loss(&Waker::from(Arc::new(Tells(sender))));
        let mut heard: Vec<_> = said.iter().take(if is_lost { 1 } else { 2 }).collect();
        heard.sort_unstable();
        assert_eq!(heard, ["reported", "woken"][..heard.len()]);
        let lease = tenure.lease();
        assert!((lease.lost_at()..lease.free_at().after(Duration::from_secs(60))).contains(&BootTime::now()));
        assert!(!tenure.is_held() && registry::held_here(tenure.target()).is_empty());
    }
}
