//! The library's concurrent parts in every order of their threads' steps, by loom.
//!
//! The files are the library's own, built here a second time with loom's mutexes and atomics in place of the standard
//! library's ([`sync`](../tenure/src/sys/sync.rs)). Each test is a scenario of a few threads; loom runs it once for every order
//! that makes a difference, with what the memory model allows each load to see, and fails on a deadlock, a data race or a
//! broken assertion. The orders that a scenario leaves out are those with more than `PREEMPTIONS` interruptions of a
//! thread that could have gone on.

#![cfg(test)]
#![allow(unreachable_pub, dead_code, reason = "parts of a crate that uses more of them")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod models;
mod sync;
mod sys;
#[path = "../../tenure/src/util/thread_pool.rs"]
mod thread_pool;
#[path = "../../tenure/src/util/ticket.rs"]
mod ticket;
#[path = "../../tenure/src/util/wait_queue.rs"]
mod wait_queue;

/// How often in one run a thread is interrupted that could have gone on. Two suffice for nearly all known faults; more
/// cost time exponentially.
const PREEMPTIONS: usize = 3;

/// Runs `scenario` in every order, and says in how many.
fn explore(scenario: impl Fn() + Sync + Send + 'static) {
    explore_up_to(PREEMPTIONS, scenario);
}

/// As [`explore`], for a scenario of many threads.
fn explore_up_to(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    let runs = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&runs);
    model.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    println!("{} orders", runs.load(Ordering::Relaxed));
}
