//! Maps many items by as many threads as there are processors.

use std::cmp::Reverse;
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::{thread, vec};

use crate::sys;

/// The number of items that justify one more thread.
const ITEMS_PER_THREAD: usize = 256;
/// Maximum number of threads. More would contend in the kernel.
const MAX_THREADS: usize = 8;
/// The number of items that a thread takes at a time.
const BATCH: usize = 32;

/// Maps each item and returns the answers in the items' order. `worker` is called once in each thread and returns the
/// function that maps that thread's items.
///
/// # Panics
///
/// Panics with the payload of a thread that panicked.
pub(crate) fn map<T, R, W>(items: Vec<T>, worker: impl Fn() -> W + Sync) -> Vec<R>
where
    T: Send,
    R: Send,
    W: FnMut(T) -> R,
{
    let threads = match items.len() / ITEMS_PER_THREAD {
        0 | 1 => 1,
        justified => justified.min(MAX_THREADS).min(thread::available_parallelism().map_or(1, usize::from)),
    };
    map_with(threads, items, worker)
}

fn map_with<T, R, W>(threads: usize, items: Vec<T>, worker: impl Fn() -> W + Sync) -> Vec<R>
where
    T: Send,
    R: Send,
    W: FnMut(T) -> R,
{
    let left = Mutex::new(items.into_iter());
    let work = || map_batches(&left, worker());
    let mut batches = thread::scope(|scope| {
        let start = |_| {
            let thread = thread::Builder::new().name("tenure-work".to_owned());
            sys::with_signals_blocked(|| thread.spawn_scoped(scope, work)).ok()
        };
        // If a thread cannot be started, those that were started do its share.
        let others: Vec<_> = (1..threads).map_while(start).collect();
        let mut batches = work();
        for other in others {
            batches.extend(other.join().unwrap_or_else(|payload| panic::resume_unwind(payload)));
        }
        batches
    });
    batches.sort_unstable_by_key(|(left, _)| Reverse(*left));
    batches.into_iter().flat_map(|(_, answers)| answers).collect()
}

/// Maps batch after batch until no item is left. Returns each batch's answers with the number of items that it left.
fn map_batches<T, R>(left: &Mutex<vec::IntoIter<T>>, mut map: impl FnMut(T) -> R) -> Vec<(usize, Vec<R>)> {
    let mut done = Vec::new();
    loop {
        let (batch, after) = {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            (left.by_ref().take(BATCH).collect::<Vec<T>>(), left.len())
        };
        if batch.is_empty() {
            return done;
        }
        done.push((after, batch.into_iter().map(&mut map).collect()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn each_item_is_mapped_once_and_the_answers_are_in_order() {
        for (threads, count) in [(1, 0), (1, 5), (3, 0), (3, 1), (3, 10 * BATCH + 1)] {
            let done = map_with(threads, (0..count).collect(), || |item: usize| item + 1);
            assert_eq!(done, (1..=count).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn threads_work_at_the_same_time_each_with_its_own_worker() {
        // No thread continues before three have begun.
        let (all, workers) = (Barrier::new(3), Mutex::new(0));
        let done = map_with(3, (0..3 * BATCH).collect(), || {
            *workers.lock().unwrap() += 1;
            let (all, mut first) = (&all, true);
            move |item: usize| {
                if std::mem::take(&mut first) {
                    all.wait();
                }
                item
            }
        });
        assert_eq!((done.len(), *workers.lock().unwrap()), (3 * BATCH, 3));
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    #[should_panic(expected = "a panic of another thread")]
    fn a_panic_of_another_thread_reaches_the_caller() {
        let caller = thread::current().id();
        let both = Barrier::new(2);
        map_with(2, (0..2 * BATCH).collect(), || {
            |item: usize| {
                if item.is_multiple_of(BATCH) {
                    both.wait();
                }
                assert_eq!(thread::current().id(), caller, "a panic of another thread");
            }
        });
    }
}
