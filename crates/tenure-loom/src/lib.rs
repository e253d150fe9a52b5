//! Runs the library's concurrent parts in every order of their threads' steps, with loom.
//!
//! The files are the library's own, compiled here with loom's mutexes and atomics in place of the standard library's
//! ([`sync`](../tenure/src/sys/sync.rs)). Each test is a scenario of a few threads. Loom runs it once for every order that
//! makes a difference, with every value that the memory model allows for a load, and fails on a deadlock, a data race or a
//! failed assertion. It leaves out orders with more than `PREEMPTIONS` switches from a thread that could continue.

#![cfg(test)]
#![allow(unreachable_pub, dead_code, reason = "the library uses more of these parts")]

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

/// Maximum number of switches in one run from a thread that could continue. Two suffice for nearly all known faults. The
/// time grows exponentially with it.
const PREEMPTIONS: usize = 3;

/// Runs `scenario` in every order, and prints the number of orders.
fn explore(scenario: impl Fn() + Sync + Send + 'static) {
    explore_up_to(PREEMPTIONS, scenario);
}

/// Runs a scenario of many threads as [`explore`] does, with another maximum of switches.
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
