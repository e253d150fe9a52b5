//! The queues that keep their descriptors open from one tenure to the next: the most recently used ones.
//!
//! An acquire whose anchor is open already takes half the time of one that opens it. A process may have more locks than
//! it may have open files, so only a limited number of queues keep theirs. The list is a CLOCK: an entry that was used
//! since the hand passed last gets a second chance, and the first unused one is evicted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::sys::ForkLocal;

/// The number of queues that keep their descriptors. Each has up to two; by default a process may open 1024 files.
const LIMIT: usize = 128;

/// A queue as this cache knows it.
pub(crate) trait CachesFiles: Send + Sync {
    fn recency(&self) -> &Recency;

    /// Drops what costs memory and descriptors, if the queue is not in use just now. The caller may have another
    /// queue's state locked.
    fn drop_cached(&self);
}

/// Whether a queue is in the list, and was used.
#[derive(Debug, Default)]
pub(crate) struct Recency(AtomicU8);

/// Not in the list: keeps nothing open, as far as the list knows.
const UNLISTED: u8 = 0;
/// In the list, and not used since the hand passed.
const LISTED: u8 = 1;
/// In the list, and used since the hand passed.
const USED: u8 = 2;

static RECENT_QUEUES: ForkLocal<Mutex<VecDeque<Weak<dyn CachesFiles>>>> = ForkLocal::new();

/// Records that `queue` has become idle and keeps its descriptors. Evicts the least recently used queues beyond the
/// limit.
#[inline]
pub(crate) fn mark_used<Q: CachesFiles + 'static>(queue: &Arc<Q>) {
    let recency = &queue.recency().0;
    if recency.load(Ordering::Relaxed) != USED && recency.swap(USED, Ordering::Relaxed) == UNLISTED {
        list(queue);
    }
}

#[cold]
fn list<Q: CachesFiles + 'static>(queue: &Arc<Q>) {
    let queue: Arc<dyn CachesFiles> = Arc::<Q>::clone(queue);
    let mut recent = RECENT_QUEUES.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    recent.push_back(Arc::downgrade(&queue));
    let mut evicted = Vec::new();
    // Each entry is passed over once, and then found unused, unless it was used in the meantime.
    for _ in 0..4 * LIMIT {
        if recent.len() <= LIMIT {
            break;
        }
        let Some(oldest) = recent.pop_front().and_then(|queue| queue.upgrade()) else { continue };
        let was = oldest.recency().0.swap(LISTED, Ordering::Relaxed);
        if was == USED || Arc::ptr_eq(&oldest, &queue) {
            recent.push_back(Arc::downgrade(&oldest));
        } else {
            oldest.recency().0.store(UNLISTED, Ordering::Relaxed);
            evicted.push(oldest);
        }
    }
    drop(recent);
    // Outside the mutex. None of them is `queue` itself, whose state the caller has locked.
    evicted.iter().for_each(|queue| queue.drop_cached());
}
