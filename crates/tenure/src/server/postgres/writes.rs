//! The queue of changes of rows: releases, and changed records.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::connect::Answer;

/// The maximum number of rows in one statement.
const MOST_AT_ONCE: usize = 1024;
/// The maximum number of statements under way.
const MOST_STATEMENTS: usize = 4;

/// A change of a row.
pub(super) enum Change {
    /// To the record of the holder with that fence, as others are to see it.
    Show { fence: i64, state: &'static str, record: String },
    /// The end of a shared lock: removes the word with that key.
    Unshare { key: String },
}

/// A change of the row of a name.
pub(super) struct Write {
    pub(super) name: Arc<str>,
    pub(super) change: Change,
    /// How long the server may take to answer, from when the statement is sent.
    pub(super) limit: Duration,
}

/// A change that waits for its statement.
pub(super) struct Queued {
    pub(super) write: Write,
    since: Instant,
    pub(super) tell: oneshot::Sender<Answer<bool>>,
}

/// The writes that wait for a statement, and the names of those that have one.
#[derive(Default)]
pub(super) struct Writes(Mutex<State>);

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    /// No two statements write one row, so that the later write is the one that stays.
    under_way: HashSet<Arc<str>>,
    statements: usize,
}

impl Writes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next writes, for one statement. `None` where there are none that may begin.
    pub(super) fn take(&self) -> Option<Vec<Queued>> {
        let mut state = self.state();
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for queued in std::mem::take(&mut state.queue) {
            if taken.len() < MOST_AT_ONCE && state.under_way.insert(Arc::clone(&queued.write.name)) {
                taken.push(queued);
            } else {
                left.push_back(queued);
            }
        }
        state.queue = left;
        if taken.is_empty() {
            state.statements -= 1;
            return None;
        }
        Some(taken)
    }

    /// Takes the writes out that have waited for longer than the server may take.
    pub(super) fn take_late(&self) -> Vec<Queued> {
        let mut state = self.state();
        let (late, left) = std::mem::take(&mut state.queue)
            .into_iter()
            .partition::<VecDeque<_>, _>(|queued| queued.since.elapsed() >= queued.write.limit);
        state.queue = left;
        late.into()
    }

    /// Adds a change. Returns what is told its outcome.
    pub(super) fn add(&self, write: Write) -> oneshot::Receiver<Answer<bool>> {
        let (tell, written) = oneshot::channel();
        self.state().queue.push_back(Queued { write, since: Instant::now(), tell });
        written
    }

    /// Returns whether another statement may begin, and counts it: until [`take`](Writes::take) returns `None`, or until
    /// [`end`](Writes::end).
    pub(super) fn begin(&self) -> bool {
        let mut state = self.state();
        let may_begin = state.statements < MOST_STATEMENTS && !state.queue.is_empty();
        state.statements += usize::from(may_begin);
        may_begin
    }

    /// Counts one statement less.
    pub(super) fn end(&self) {
        self.state().statements -= 1;
    }

    /// Records that the change of a name is no longer under way.
    pub(super) fn finish(&self, name: &str) {
        self.state().under_way.remove(name);
    }
}
