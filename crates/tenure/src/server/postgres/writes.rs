//! The writes of releases and of changed records: many rows by one statement, so that ten thousand releases at once are some
//! ten commits. A row that another program has locked delays no other.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_postgres::types::Type;

use super::connect::{Answer, Failure, Value};
use super::pool::Pool;
use super::sql;
use crate::model::error::ErrorKind;

/// The maximum number of rows in one statement.
const MOST_AT_ONCE: usize = 1024;
/// The maximum number of statements under way.
const MOST_STATEMENTS: usize = 4;

/// The record of a holder, as its row is to show it.
pub(super) struct Write {
    pub(super) name: Arc<str>,
    pub(super) fence: i64,
    pub(super) state: &'static str,
    pub(super) record: String,
    /// How long the server may take to answer, from when the statement is sent.
    pub(super) limit: Duration,
}

struct Queued {
    write: Arc<Write>,
    since: Instant,
    tell: oneshot::Sender<Answer<bool>>,
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
    fn take(&self) -> Option<Vec<Queued>> {
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
    fn take_late(&self) -> Vec<Queued> {
        let mut state = self.state();
        let (late, left) = std::mem::take(&mut state.queue)
            .into_iter()
            .partition::<VecDeque<_>, _>(|queued| queued.since.elapsed() >= queued.write.limit);
        state.queue = left;
        late.into()
    }
}

/// The name of a write under way, until its row is written.
struct UnderWay(Arc<Pool>, Arc<str>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.writes.state().under_way.remove(&self.1);
        begin(&self.0);
    }
}

/// Begins another statement if there are writes for it.
fn begin(pool: &Arc<Pool>) {
    {
        let mut state = pool.writes.state();
        if state.statements >= MOST_STATEMENTS || state.queue.is_empty() {
            return;
        }
        state.statements += 1;
    }
    tokio::spawn(run(Arc::clone(pool)));
}

/// A statement's place, also where its task panics.
struct Place(Arc<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.writes.state().statements -= 1;
        }
    }
}

async fn run(pool: Arc<Pool>) {
    let place = Place(Arc::clone(&pool));
    while let Some(queued) = pool.writes.take() {
        write_all(&pool, queued).await;
    }
    drop(place);
}

/// Writes rows by one statement, and tells the outcome of each.
async fn write_all(pool: &Arc<Pool>, queued: Vec<Queued>) {
    let under_way: Vec<UnderWay> =
        queued.iter().map(|queued| UnderWay(Arc::clone(pool), Arc::clone(&queued.write.name))).collect();
    let names: Vec<&str> = queued.iter().map(|queued| &*queued.write.name).collect();
    let fences: Vec<i64> = queued.iter().map(|queued| queued.write.fence).collect();
    let states: Vec<&str> = queued.iter().map(|queued| queued.write.state).collect();
    let records: Vec<&str> = queued.iter().map(|queued| &*queued.write.record).collect();
    let values: &[Value<'_>] = &[
        (&names, Type::TEXT_ARRAY),
        (&fences, Type::INT8_ARRAY),
        (&states, Type::TEXT_ARRAY),
        (&records, Type::TEXT_ARRAY),
    ];
    let limit = queued.iter().map(|queued| queued.write.limit).max().unwrap_or_default();
    let sent = Instant::now();
    let first = names.first().copied().unwrap_or_default();
    let answer = pool.rows(first, sql::SHOW_ALL, values, limit).await;
    let written: HashSet<String> = match answer {
        Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
        // The table is locked.
        Err(failure) if failure.is_blocked() => HashSet::new(),
        Err(failure) => {
            let is_silent = failure.is_unanswered();
            queued.into_iter().for_each(|queued| drop(queued.tell.send(Err(failure.clone()))));
            if is_silent {
                // They waited for a server that does not answer, as long as these did.
                let late = pool.writes.take_late();
                late.into_iter().for_each(|queued| drop(queued.tell.send(Err(failure.clone()))));
            }
            return;
        }
    };
    for (queued, under_way) in queued.into_iter().zip(under_way) {
        if written.contains(&*queued.write.name) {
            let _ = queued.tell.send(Ok(true));
            continue;
        }
        // Its row is another's, or another program has locked it.
        let pool = Arc::clone(pool);
        tokio::spawn(async move {
            let left = queued.write.limit.saturating_sub(sent.elapsed());
            let _ = queued.tell.send(alone(&pool, &queued.write, left).await);
            drop(under_way);
        });
    }
}

async fn alone(pool: &Arc<Pool>, write: &Write, limit: Duration) -> Answer<bool> {
    let values: &[Value<'_>] = &[
        (&&*write.name, Type::TEXT),
        (&write.fence, Type::INT8),
        (&write.state, Type::TEXT),
        (&write.record, Type::TEXT),
    ];
    Ok(!pool.rows_patiently(sql::SHOW, values, limit, None).await?.is_empty())
}

/// Writes a row. `false` if it is another's.
pub(super) async fn write(pool: &Arc<Pool>, write: Write) -> Answer<bool> {
    let (tell, written) = oneshot::channel();
    let queued = Queued { write: Arc::new(write), since: Instant::now(), tell };
    pool.writes.state().queue.push_back(queued);
    begin(pool);
    written.await.unwrap_or_else(|_| Err(Failure::new(ErrorKind::Io, "what writes the rows failed")))
}
