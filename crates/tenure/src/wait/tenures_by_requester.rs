//! How many tenures a thread or a task has.
//!
//! Each waiter asks whether it holds anything, and each tenure is counted. So threads that hold locks of their own share no
//! cache line here, unless there are more than [`SLOTS`] of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::requester::RequesterId;

const SLOTS: usize = 64;

/// The tenures of some requesters, on cache lines of their own. A processor fetches two of them at once.
#[repr(align(128))]
struct Slot(AtomicUsize);

/// The slots of all threads and tasks. They count a requester's tenures, at least: some share a slot, and a process that forked
/// includes its parent's.
static COUNTS: [Slot; SLOTS] = [const { Slot(AtomicUsize::new(0)) }; SLOTS];

/// Returns how many tenures `requester` may have. 0 is a proof that it has none, where the requester itself asks.
pub(crate) fn count(requester: RequesterId) -> usize {
    slot(requester).load(Ordering::Relaxed)
}

/// Counts a tenure that begins. An acquire by nobody that is known counts for none.
#[inline]
pub(super) fn enter(requester: Option<RequesterId>) {
    if let Some(requester) = requester {
        // The requester gets its tenure by a mutex, so that it sees this as well.
        slot(requester).fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the end of a tenure that was [entered](enter) for `requester`.
#[inline]
pub(super) fn leave(requester: Option<RequesterId>) {
    if let Some(requester) = requester {
        slot(requester).fetch_sub(1, Ordering::Relaxed);
    }
}

#[inline]
fn slot(requester: RequesterId) -> &'static AtomicUsize {
    &COUNTS[requester.number() as usize % SLOTS].0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::requester::this_thread;

    #[test]
    fn a_requester_has_what_it_entered() {
        std::thread::scope(|scope| {
            for own in [this_thread as fn() -> RequesterId, RequesterId::new_task].repeat(2) {
                scope.spawn(move || {
                    let own = own();
                    enter(Some(own));
                    enter(None);
                    assert!(count(own) > 0);
                    leave(None);
                    assert!(count(own) > 0);
                    leave(Some(own));
                });
            }
        });
    }

    /// Otherwise every waiting thread would look for locks of its own while any thread holds one.
    #[test]
    fn threads_that_start_one_after_the_other_have_slots_of_their_own() {
        let ids: Vec<_> = (0..8).map(|_| std::thread::spawn(this_thread).join().unwrap()).collect();
        let mut slots: Vec<_> = ids.into_iter().map(|id| std::ptr::from_ref(slot(id)).addr()).collect();
        slots.sort_unstable();
        slots.dedup();
        assert!(slots.len() >= 4, "{} of 8", slots.len());
    }
}
