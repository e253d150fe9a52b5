//! The line of a process's waiters for one target: first come, first served.
//!
//! Joining, serving the first and giving up cost the same however long it is: who gives up stays in place as a mark,
//! and the marks are swept out when they are the most of it.

use std::collections::VecDeque;
use std::sync::Arc;

/// What stands in a line.
pub(crate) trait Waits {
    /// Does it wait still? Once `false`, for ever.
    fn waits(&self) -> bool;
}

/// Small while nobody has stood in it.
#[derive(Debug)]
pub(crate) struct WaitQueue<W>(Option<Box<Standing<W>>>);

#[derive(Debug)]
struct Standing<W> {
    places: VecDeque<Arc<W>>,
    gone: usize,
}

impl<W: Waits> WaitQueue<W> {
    pub(crate) fn new() -> WaitQueue<W> {
        WaitQueue(None)
    }

    fn standing(&mut self) -> &mut Standing<W> {
        self.0.get_or_insert_with(|| Box::new(Standing { places: VecDeque::new(), gone: 0 }))
    }

    pub(crate) fn join(&mut self, waiter: Arc<W>) {
        self.standing().places.push_back(waiter);
    }

    /// For one that came before all others.
    pub(crate) fn join_first(&mut self, waiter: Arc<W>) {
        self.standing().places.push_front(waiter);
    }

    /// The first that still waits.
    pub(crate) fn first(&mut self) -> Option<&Arc<W>> {
        let line = self.0.as_mut()?;
        while line.places.front().is_some_and(|first| !first.waits()) {
            line.places.pop_front();
            line.gone = line.gone.saturating_sub(1);
        }
        line.places.front()
    }

    /// All that still wait, first come first.
    pub(crate) fn all(&self) -> Vec<Arc<W>> {
        let places = self.0.iter().flat_map(|line| &line.places);
        places.filter(|waiter| waiter.waits()).cloned().collect()
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        self.first().is_none()
    }

    /// One of the line no longer waits: served, failed or given up.
    pub(crate) fn left(&mut self) {
        let Some(line) = &mut self.0 else { return };
        line.gone += 1;
        if line.gone * 2 > line.places.len() {
            line.places.retain(|waiter| waiter.waits());
            line.gone = 0;
        }
    }

    /// Empties the line.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Arc<W>> {
        self.0.take().map(|line| line.places).unwrap_or_default().into_iter()
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

    fn leave(line: &mut WaitQueue<Waiter>, waiter: &Waiter) {
        waiter.1.store(false, Ordering::Relaxed);
        line.left();
    }

    #[test]
    fn first_come_first_served_whoever_gives_up_in_between() {
        let mut line = WaitQueue::new();
        let all: Vec<_> = (0..100).map(|at| Arc::new(Waiter(at, AtomicBool::new(true)))).collect();
        all.iter().for_each(|waiter| line.join(Arc::clone(waiter)));
        for waiter in all.iter().filter(|waiter| waiter.0 % 3 != 0).rev() {
            leave(&mut line, waiter);
        }
        let standing = line.standing().places.len();
        assert!(standing < 60, "the marks are swept: {standing}");
        let mut served = Vec::new();
        while let Some(first) = line.first().cloned() {
            served.push(first.0);
            leave(&mut line, &first);
        }
        assert_eq!(served, (0..100).filter(|at| at % 3 == 0).collect::<Vec<_>>());
        assert!(line.is_empty() && line.standing().places.is_empty());
    }
}
