//! Much work of one kind, by as many threads as there are processors: what is done at very many places of locks.

use std::cmp::Reverse;
use std::sync::{Arc, mpsc};
use std::thread;
use std::vec;

use crate::sys::sync::{Mutex, PoisonError};
use crate::util::thread_pool;

/// So many items are worth a thread.
const ENOUGH: usize = 256;
/// More threads than that wait for one another in the kernel.
const MOST: usize = 8;
/// So many are taken at a time.
const HANDFUL: usize = 32;

/// What `worker`'s worker makes of each item, in their order. Each thread has a worker of its own.
pub(crate) fn spread<T, R, W>(items: Vec<T>, worker: impl Fn() -> W + Send + Sync + 'static) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
    W: FnMut(T) -> R,
{
    let threads = match items.len() / ENOUGH {
        0 | 1 => 1,
        worth => worth.min(MOST).min(thread::available_parallelism().map_or(1, usize::from)),
    };
    by(threads, items, worker)
}

fn by<T, R, W>(threads: usize, items: Vec<T>, worker: impl Fn() -> W + Send + Sync + 'static) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
    W: FnMut(T) -> R,
{
    let count = items.len();
    let left = Arc::new((Mutex::new(items.into_iter()), worker));
    let (sender, others) = mpsc::channel();
    for _ in 1..threads {
        let (left, sender) = (Arc::clone(&left), sender.clone());
        // Where no thread can be started, those that are there do it.
        if thread_pool::run(move || drop(sender.send(work(&left.0, left.1())))).is_err() {
            break;
        }
    }
    drop(sender);
    let mut handfuls = work(&left.0, left.1());
    handfuls.extend(others.into_iter().flatten());
    handfuls.sort_unstable_by_key(|(left, _)| Reverse(*left));
    let done: Vec<R> = handfuls.into_iter().flat_map(|(_, handful)| handful).collect();
    assert_eq!(done.len(), count, "a thread that helped has panicked");
    done
}

/// Each handful that this thread took, and how many items were left then.
fn work<T, R>(left: &Mutex<vec::IntoIter<T>>, mut worker: impl FnMut(T) -> R) -> Vec<(usize, Vec<R>)> {
    let mut done = Vec::new();
    loop {
        let (handful, after) = {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            (left.by_ref().take(HANDFUL).collect::<Vec<T>>(), left.len())
        };
        if handful.is_empty() {
            return done;
        }
        done.push((after, handful.into_iter().map(&mut worker).collect()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn each_item_is_done_once_and_the_answers_are_in_order() {
        for (threads, count) in [(1, 0), (1, 5), (3, 0), (3, 1), (3, 10 * HANDFUL + 1)] {
            let done = by(threads, (0..count).collect(), || |item: usize| item + 1);
            assert_eq!(done, (1..=count).collect::<Vec<_>>(), "{threads} threads");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn threads_work_at_the_same_time_each_with_its_own_worker() {
        // Nobody goes on before three have begun.
        let (all, workers) = (Arc::new(Barrier::new(3)), Arc::new(Mutex::new(0)));
        let (seen, made) = (Arc::clone(&all), Arc::clone(&workers));
        let done = by(3, (0..3 * HANDFUL).collect(), move || {
            *made.lock().unwrap() += 1;
            let (seen, mut first) = (Arc::clone(&seen), true);
            move |item: usize| {
                if std::mem::take(&mut first) {
                    seen.wait();
                }
                item
            }
        });
        assert_eq!((done.len(), *workers.lock().unwrap()), (3 * HANDFUL, 3));
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    #[should_panic(expected = "that helped has panicked")]
    fn what_a_thread_that_panics_had_in_hand_is_not_left_out_in_silence() {
        let caller = thread::current().id();
        let both = Arc::new(Barrier::new(2));
        by(2, (0..2 * HANDFUL).collect(), move || {
            let both = Arc::clone(&both);
            move |item: usize| {
                if item.is_multiple_of(HANDFUL) {
                    both.wait();
                }
                assert_eq!(thread::current().id(), caller, "a helper's");
            }
        });
    }
}
