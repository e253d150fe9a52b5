//! Reports losses to the program's callbacks, on a few threads: a lost lease may end ten thousand tenures at once, and a
//! callback may block. Where callbacks hang, one more thread is started each second, so that they silence no other report.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::tenure::ServerTenure;
use crate::sys::ForkLocal;
use crate::util::thread_pool;

/// The number of threads while callbacks return.
const MOST: usize = 4;
/// The time without a report after which the callbacks under way are taken to hang.
const HANGS: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Reports {
    state: Mutex<State>,
    /// Notified when the queue is empty.
    emptied: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<ServerTenure>>,
    /// The threads that take from the queue.
    running: usize,
    /// The number of reports that were begun.
    begun: u64,
    /// A thread waits to take the place of those that hang.
    has_spare: bool,
}

fn reports() -> &'static Reports {
    static REPORTS: ForkLocal<Reports> = ForkLocal::new();
    REPORTS.get(Reports::default)
}

impl Reports {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports the loss of a tenure, once, on another thread.
pub(super) fn report_loss(tenure: Arc<ServerTenure>) {
    let mut state = reports().state();
    state.queue.push_back(tenure);
    if state.running < MOST {
        state.running += usize::from(thread_pool::run(run).is_ok());
    } else {
        ensure_spare(&mut state);
    }
}

fn run() {
    loop {
        let next = {
            let mut state = reports().state();
            let next = state.queue.pop_front();
            if next.is_none() {
                state.running -= 1;
            } else {
                state.begun += 1;
            }
            if state.queue.is_empty() {
                reports().emptied.notify_all();
            }
            next
        };
        match next {
            Some(tenure) => tenure.report_loss(),
            None => return,
        }
    }
}

fn ensure_spare(state: &mut State) {
    if !state.has_spare {
        state.has_spare = thread_pool::run(stand_by).is_ok();
    }
}

/// Runs as one more thread once no report began for a while although some wait.
fn stand_by() {
    let mut state = reports().state();
    loop {
        let begun = state.begun;
        let waits = |state: &mut State| !state.queue.is_empty();
        let waited = reports().emptied.wait_timeout_while(state, HANGS, waits);
        (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.queue.is_empty() {
            state.has_spare = false;
            return;
        }
        if state.begun == begun {
            break;
        }
    }
    state.running += 1;
    state.has_spare = false;
    // The next callback may hang as well.
    ensure_spare(&mut state);
    drop(state);
    run();
}
