//! Reports losses to the program's callbacks, on a few threads: a lost lease may end ten thousand tenures at once, and a
//! callback may block.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::tenure::ServerTenure;
use crate::sys::ForkLocal;
use crate::util::thread_pool;

/// The maximum number of callbacks that run at once.
const MOST: usize = 4;

#[derive(Default)]
struct Reports {
    queue: VecDeque<Arc<ServerTenure>>,
    running: usize,
}

fn reports() -> &'static Mutex<Reports> {
    static REPORTS: ForkLocal<Mutex<Reports>> = ForkLocal::new();
    REPORTS.get(Mutex::default)
}

/// Reports the loss of a tenure, once, on another thread.
pub(super) fn report_loss(tenure: Arc<ServerTenure>) {
    let mut state = reports().lock().unwrap_or_else(PoisonError::into_inner);
    state.queue.push_back(tenure);
    if state.running < MOST && thread_pool::run(run).is_ok() {
        state.running += 1;
    }
}

fn run() {
    loop {
        let next = {
            let mut state = reports().lock().unwrap_or_else(PoisonError::into_inner);
            let next = state.queue.pop_front();
            if next.is_none() {
                state.running -= 1;
            }
            next
        };
        match next {
            Some(tenure) => tenure.report_loss(),
            None => return,
        }
    }
}
