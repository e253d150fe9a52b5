//! A first-in, first-out queue of a process's waiters for one target.
//!
//! Joining, serving the first and leaving take constant time. A waiter that leaves keeps its entry, and such entries are
//! removed when they are more than half of the queue.

use std::collections::VecDeque;
use std::sync::Arc;

/// An entry of a queue.
pub(crate) trait Waits {
    /// Returns whether the entry still waits. Once `false`, it stays `false`.
    fn waits(&self) -> bool;
}

/// A queue of waiters. It allocates nothing before its first waiter.
#[derive(Debug)]
pub(crate) struct WaitQueue<W>(Option<Box<Entries<W>>>);

#[derive(Debug)]
struct Entries<W> {
    waiters: VecDeque<Arc<W>>,
    left_count: usize,
}

impl<W: Waits> WaitQueue<W> {
    pub(crate) fn new() -> WaitQueue<W> {
        WaitQueue(None)
    }

    fn entries(&mut self) -> &mut Entries<W> {
        self.0.get_or_insert_with(|| Box::new(Entries { waiters: VecDeque::new(), left_count: 0 }))
    }

    pub(crate) fn join(&mut self, waiter: Arc<W>) {
        self.entries().waiters.push_back(waiter);
    }

    /// Adds a waiter that goes before all others but the first ones that `goes_first` says so of.
    pub(crate) fn join_behind(&mut self, waiter: Arc<W>, goes_first: impl Fn(&W) -> bool) {
        let waiters = &mut self.entries().waiters;
        let at = waiters.iter().take_while(|other| goes_first(other)).count();
        waiters.insert(at, waiter);
    }

    /// Returns the first waiter.
    pub(crate) fn first(&mut self) -> Option<&Arc<W>> {
        let queue = self.0.as_mut()?;
        while queue.waiters.front().is_some_and(|first| !first.waits()) {
            queue.waiters.pop_front();
            queue.left_count = queue.left_count.saturating_sub(1);
        }
        queue.waiters.front()
    }

    /// Returns all waiters in their order.
    pub(crate) fn all(&self) -> Vec<Arc<W>> {
        let waiters = self.0.iter().flat_map(|queue| &queue.waiters);
        waiters.filter(|waiter| waiter.waits()).cloned().collect()
    }

    #[inline]
    pub(crate) fn is_empty(&mut self) -> bool {
        self.0.as_ref().is_none_or(|queue| queue.waiters.is_empty()) || self.first().is_none()
    }

    /// Returns whether `waiter` is the first waiter.
    #[inline]
    pub(crate) fn is_first(&mut self, waiter: &Arc<W>) -> bool {
        let front = self.0.as_ref().and_then(|queue| queue.waiters.front());
        front.is_some_and(|front| Arc::ptr_eq(front, waiter) && front.waits())
            || self.first().is_some_and(|first| Arc::ptr_eq(first, waiter))
    }

    /// Records that one waiter no longer waits, because it was served, failed or gave up.
    #[inline]
    pub(crate) fn left(&mut self) {
        let Some(queue) = &mut self.0 else { return };
        // In their order, as most of them leave.
        if queue.waiters.front().is_some_and(|first| !first.waits()) {
            queue.waiters.pop_front();
            return;
        }
        queue.left_count += 1;
        if queue.left_count * 2 > queue.waiters.len() {
            queue.waiters.retain(|waiter| waiter.waits());
            queue.left_count = 0;
        }
    }

    /// Removes all entries and returns them.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Arc<W>> {
        self.0.take().map(|queue| queue.waiters).unwrap_or_default().into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Waiter(usize, AtomicBool);

    impl Waits for Waiter {
        fn waits(&self) -> bool {
            self.1.load(Ordering::Relaxed)
        }
    }

    fn leave(queue: &mut WaitQueue<Waiter>, waiter: &Waiter) {
        waiter.1.store(false, Ordering::Relaxed);
        queue.left();
    }

    #[test]
    fn waiters_are_served_in_order_although_some_give_up() {
        let mut queue = WaitQueue::new();
        let all: Vec<_> = (0..100).map(|at| Arc::new(Waiter(at, AtomicBool::new(true)))).collect();
        all.iter().for_each(|waiter| queue.join(Arc::clone(waiter)));
        for waiter in all.iter().filter(|waiter| waiter.0 % 3 != 0).rev() {
            leave(&mut queue, waiter);
        }
        let entries = queue.entries().waiters.len();
        assert!(entries < 60, "left entries are removed: {entries}");
        let mut served = Vec::new();
        while let Some(first) = queue.first().cloned() {
            served.push(first.0);
            leave(&mut queue, &first);
        }
        assert_eq!(served, (0..100).filter(|at| at % 3 == 0).collect::<Vec<_>>());
        assert!(queue.is_empty() && queue.entries().waiters.is_empty());
    }
}
