//! The turns of this process in the queue of a name: a few of its exclusive acquires have places there, and the others wait for
//! a turn here, in the order of their arrival.
//!
//! A place is a key, a watch, and reads, so a thousand waiters of one process cost the cluster as much as a few. Each process has
//! places of its own in the order of the server's queue, with `etcdctl lock` and others between them, so a process with a
//! thousand waiters is not granted the lock a thousand times before the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::model::error::{Error, ErrorKind, Result};
use crate::server::acquire::{Acquire, LONG, OutagePatience};
use crate::server::last_answer::LastAnswer;
use crate::server::lease::call_limit;
use crate::server::pending::PendingAcquire;
use crate::server::url::Url;

/// How many waiters of a name have a place in its queue. While one works under the lock, the next ones have been in the queue for
/// a while, so that no hand-off waits for a place.
pub(super) const MOST_PLACES: usize = 8;

/// The names of a cluster for which acquires of this process wait.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Box<str>, Places>>);

struct Places {
    open: Open,
    /// The number of turns, taken or waited for.
    turns: usize,
}

/// What the acquires of a name wait for, in their order.
#[derive(Clone)]
struct Open {
    places: Arc<Semaphore>,
    /// One enters the cluster's queue at a time, so that the order there is that of their arrival here.
    door: Arc<Semaphore>,
}

impl Open {
    fn try_take(&self) -> Option<Taken> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some((place, Arc::clone(&self.door).try_acquire_owned().ok()?))
    }

    async fn take(self) -> Option<Taken> {
        let place = self.places.acquire_owned().await.ok()?;
        Some((place, self.door.acquire_owned().await.ok()?))
    }
}

/// A place, and the right to enter it.
type Taken = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Turns {
    fn names(&self) -> MutexGuard<'_, HashMap<Box<str>, Places>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more turn of a name.
    fn enter(&self, name: &str) -> Open {
        let mut names = self.names();
        if let Some(found) = names.get_mut(name) {
            found.turns += 1;
            return found.open.clone();
        }
        let open = Open { places: Arc::new(Semaphore::new(MOST_PLACES)), door: Arc::new(Semaphore::new(1)) };
        names.insert(name.into(), Places { open: open.clone(), turns: 1 });
        open
    }

    fn leave(&self, name: &str) {
        let mut names = self.names();
        if let Some(found) = names.get_mut(name) {
            found.turns -= 1;
            if found.turns == 0 {
                names.remove(name);
            }
        }
    }
}

/// A turn that an acquire has, or waits for. It ends when this is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    url: Arc<Url>,
    place: Option<OwnedSemaphorePermit>,
    /// Until it has entered.
    door: Option<OwnedSemaphorePermit>,
}

impl Turn {
    fn take(&mut self, (place, door): Taken) {
        (self.place, self.door) = (Some(place), Some(door));
    }

    /// Records that the acquire has its place in the cluster's queue, or got none.
    pub(super) fn entered(&mut self) {
        self.door = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        (self.place, self.door) = (None, None);
        self.turns.leave(&self.url.name);
    }
}

/// Waits for the turn of an acquire. `None` once the caller has given up.
///
/// A waiter without a place learns from those that have one whether the cluster answers.
pub(super) async fn wait(
    turns: &Arc<Turns>,
    url: &Arc<Url>,
    answers: &LastAnswer,
    acquire: &Acquire,
    pending: &PendingAcquire,
    wakes: &Notify,
    patience: &mut OutagePatience,
) -> Result<Option<Turn>> {
    let open = turns.enter(&url.name);
    let mut turn = Turn { turns: Arc::clone(turns), url: Arc::clone(url), place: None, door: None };
    if let Some(taken) = open.try_take() {
        turn.take(taken);
        return Ok(Some(turn));
    }
    let taking = open.take();
    tokio::pin!(taking);
    loop {
        if pending.is_over() {
            return Ok(None);
        }
        if acquire.left() == Some(Duration::ZERO) {
            return Err(Error::busy(&url.target));
        }
        let answered = answers.when().filter(|when| *when >= acquire.since);
        let silent_at =
            answered.map_or_else(|| acquire.since + call_limit(url.ttl), |answered| answered + patience.limit());
        let silent_in = silent_at.saturating_duration_since(Instant::now());
        if silent_in.is_zero() {
            let detail = "no member of the cluster has answered to the waiters before this one";
            return Err(Error::new(ErrorKind::Unreachable, &url.target, detail)
                .with_hint("is it running, and is a majority of it reachable from here?"));
        }
        tokio::select! {
            taken = &mut taking => {
                // The semaphores are never closed.
                taken.into_iter().for_each(|taken| turn.take(taken));
                if let Some(answered) = answered {
                    patience.answered_at(answered);
                }
                return Ok(Some(turn));
            }
            () = wakes.notified() => {}
            () = sleep(acquire.left().unwrap_or(LONG).min(silent_in)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_as_long_as_it_has_a_turn() {
        let turns = Turns::default();
        let (one, other) = (turns.enter("a"), turns.enter("a"));
        assert!(Arc::ptr_eq(&one.places, &other.places) && one.places.available_permits() == MOST_PLACES);
        turns.leave("a");
        assert!(Arc::ptr_eq(&one.places, &turns.enter("a").places));
        turns.leave("a");
        turns.leave("a");
        assert!(turns.names().is_empty());
    }
}
