//! Which slots keep their descriptors open from one tenure to the next: those that were used last.
//!
//! An acquire whose anchor is kept open takes half the time of one that opens it. A process may have more locks than it may have open
//! files, so only so many are kept; which of them goes is found as by the hands of a clock: the oldest that was not used
//! since it was looked at last.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::sys::ForkLocal;
use crate::wait::queue::TargetQueue;

/// Each has up to two descriptors; a process may open 1024 files, where nobody has raised that.
const LIMIT: usize = 128;

/// Where a queue stands.
#[derive(Debug, Default)]
pub(crate) struct Recency(AtomicU8);

/// Keeps nothing open, as far as this list knows.
const COLD: u8 = 0;
/// In the list.
const LISTED: u8 = 1;
/// In the list, and used since it was looked at.
const USED: u8 = 2;

static RECENT_QUEUES: ForkLocal<Mutex<VecDeque<Weak<TargetQueue>>>> = ForkLocal::new();

/// The queue has become idle, and keeps what it used.
pub(crate) fn used(queue: &Arc<TargetQueue>) {
    if queue.recency.0.load(Ordering::Relaxed) == USED || queue.recency.0.swap(USED, Ordering::Relaxed) != COLD {
        return;
    }
    let mut warm = RECENT_QUEUES.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    warm.push_back(Arc::downgrade(queue));
    let mut cold = Vec::new();
    // Each is passed over once, and then found unused, unless it was used in the meantime.
    for _ in 0..4 * LIMIT {
        if warm.len() <= LIMIT {
            break;
        }
        let Some(first) = warm.pop_front().and_then(|queue| queue.upgrade()) else { continue };
        let was = first.recency.0.swap(LISTED, Ordering::Relaxed);
        if was == USED || Arc::ptr_eq(&first, queue) {
            warm.push_back(Arc::downgrade(&first));
        } else {
            first.recency.0.store(COLD, Ordering::Relaxed);
            cold.push(first);
        }
    }
    drop(warm);
    // Outside the mutex. None is the queue itself, whose state the caller has locked.
    cold.iter().for_each(|queue| queue.release_cached());
}
