//! Helper threads that wait in the kernel's queues, so that threads with a deadline or cancellation and futures need not.
//!
//! An idle thread ends after a second without a job.

use std::io;
use std::time::Duration;

use crate::sys::sync::{Condvar, Mutex, PoisonError, linger};
use crate::sys::{self, ForkLocal};

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(crate) struct Pool {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    idle: usize,
}

static POOL: ForkLocal<Pool> = ForkLocal::new();
/// How long an idle thread waits for a job.
const LINGER: Duration = Duration::from_secs(1);

/// Runs `job` on a thread of its own, which it may block without limit.
pub(crate) fn run(job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    POOL.get(Pool::default).run(job)
}

impl Pool {
    pub(crate) fn run(&'static self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.idle > state.jobs.len() {
            state.jobs.push(Box::new(job));
            drop(state);
            self.more.notify_one();
            return Ok(());
        }
        drop(state);
        sys::spawn("tenure-wait", move || {
            job();
            while let Some(job) = self.next() {
                job();
            }
        })
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.idle += 1;
        if state.jobs.is_empty() {
            state = linger(&self.more, state, LINGER);
        }
        state.idle -= 1;
        state.jobs.pop()
    }
}
