//! The queues that keep their files open from one tenure to the next: the most recently used ones.
//!
//! An acquire whose anchor is open already takes half the time of one that opens it. A process may have more locks than
//! it may have open files, so only a limited number of queues keep theirs, in two lists. The queues of the first keep all
//! that the next acquire can use: the descriptors, the paths, the last record, which together have some kilobytes. Those of
//! the second, which also has the first's, keep at least the anchor's descriptor.
//!
//! Each list is a CLOCK: an entry that was used since the hand passed last gets a second chance, and the first unused one
//! is evicted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::sys::{self, ForkLocal};

/// The number of queues that keep everything, or half of the second list's where that is fewer. Each has up to two descriptors.
const WHOLE_LIMIT: usize = 128;
/// The share of this process's open files that may be anchors of the second list: the program has files of its own.
const OPEN_SHARE: usize = 4;

/// A queue as this cache knows it.
pub(crate) trait CachesFiles: Send + Sync {
    fn recency(&self) -> &Recency;

    /// Drops what costs memory and descriptors, except the anchor's, if the queue is not in use just now. The caller may
    /// have another queue's state locked.
    fn shrink_cached(&self);

    /// As [`shrink_cached`](CachesFiles::shrink_cached), with the anchor's descriptor.
    fn drop_cached(&self);
}

/// In which lists a queue is, and whether it was used since their hands passed.
#[derive(Debug, Default)]
pub(crate) struct Recency(AtomicU8);

/// The bits of a list.
#[derive(Clone, Copy)]
struct Bits {
    listed: u8,
    used: u8,
}

const WHOLE: Bits = Bits { listed: 1, used: 2 };
const OPEN: Bits = Bits { listed: 4, used: 8 };
const LISTED: u8 = WHOLE.listed | OPEN.listed;
const ALL: u8 = LISTED | WHOLE.used | OPEN.used;

type List = VecDeque<Weak<dyn CachesFiles>>;

#[derive(Default)]
struct Lists {
    whole: List,
    open: List,
    /// The length of `open` at which the entries of queues that exist no longer are removed: twice as many as were left the
    /// last time. Each keeps its queue's memory.
    prune_at: usize,
}

static LISTS: ForkLocal<Mutex<Lists>> = ForkLocal::new();

/// Records that `queue` has become idle and keeps its files. Evicts the least recently used queues beyond the limits.
#[inline]
pub(crate) fn mark_used<Q: CachesFiles + 'static>(queue: &Arc<Q>) {
    let recency = &queue.recency().0;
    if recency.load(Ordering::Relaxed) != ALL {
        let before = recency.swap(ALL, Ordering::Relaxed);
        if before & LISTED != LISTED {
            list(queue, before);
        }
    }
}

/// Adds `queue` to the lists that it is not in, as its bits `before` say.
#[cold]
fn list<Q: CachesFiles + 'static>(queue: &Arc<Q>, before: u8) {
    let queue: Arc<dyn CachesFiles> = Arc::<Q>::clone(queue);
    let mut lists = LISTS.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let open_limit = sys::open_file_limit() / OPEN_SHARE;
    let mut dropped = Vec::new();
    if before & OPEN.listed == 0 {
        lists.open.push_back(Arc::downgrade(&queue));
        lists.prune();
        evict(&mut lists.open, OPEN, open_limit, &queue, &mut dropped);
    }
    let mut shrunk = Vec::new();
    if before & WHOLE.listed == 0 {
        lists.whole.push_back(Arc::downgrade(&queue));
        evict(&mut lists.whole, WHOLE, WHOLE_LIMIT.min(open_limit / 2), &queue, &mut shrunk);
    }
    drop(lists);
    // Outside the mutex. None of them is `queue` itself, whose state the caller has locked.
    shrunk.iter().for_each(|queue| queue.shrink_cached());
    dropped.iter().for_each(|queue| queue.drop_cached());
}

impl Lists {
    fn prune(&mut self) {
        if self.open.len() < self.prune_at {
            return;
        }
        self.open.retain(|queue| queue.strong_count() > 0);
        self.prune_at = (self.open.len() * 2).max(2 * WHOLE_LIMIT);
    }
}

/// Takes the least recently used queues beyond `limit` from a list, but not `kept`.
fn evict(
    list: &mut List,
    bits: Bits,
    limit: usize,
    kept: &Arc<dyn CachesFiles>,
    evicted: &mut Vec<Arc<dyn CachesFiles>>,
) {
    // Each entry is passed over once, and then found unused, unless it was used in the meantime.
    for _ in 0..4 * list.len() {
        if list.len() <= limit {
            break;
        }
        let Some(oldest) = list.pop_front().and_then(|queue| queue.upgrade()) else { continue };
        let was = oldest.recency().0.fetch_and(!bits.used, Ordering::Relaxed);
        if was & bits.used != 0 || Arc::ptr_eq(&oldest, kept) {
            list.push_back(Arc::downgrade(&oldest));
        } else {
            oldest.recency().0.fetch_and(!bits.listed, Ordering::Relaxed);
            evicted.push(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Queue(Recency);

    impl CachesFiles for Queue {
        fn recency(&self) -> &Recency {
            &self.0
        }

        fn shrink_cached(&self) {}

        fn drop_cached(&self) {}
    }

    /// An entry keeps its queue's memory, and a program may use a new lock for each of its files.
    #[test]
    fn queues_that_exist_no_longer_leave_the_list() {
        for _ in 0..100 * WHOLE_LIMIT {
            mark_used(&Arc::<Queue>::default());
        }
        // Other tests of this process use a few.
        let length = LISTS.get(Mutex::default).lock().unwrap().open.len();
        assert!(length < 10 * WHOLE_LIMIT, "{length} entries");
    }
}
