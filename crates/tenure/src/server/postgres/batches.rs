//! Writes the queued changes of rows: many rows by one statement, so that ten thousand releases at once are some ten commits.
//! A row that another program has locked delays no other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use super::connect::{Answer, Failure, Value};
use super::pool::Pool;
use super::sql;
use super::writes::{Change, Queued, Write};
use crate::model::error::ErrorKind;

/// The name of a write under way, until its row is written.
struct UnderWay(Arc<Pool>, Arc<str>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.writes.finish(&self.1);
        begin(&self.0);
    }
}

/// Begins another statement if there are changes for it.
fn begin(pool: &Arc<Pool>) {
    if pool.writes.begin() {
        tokio::spawn(run(Arc::clone(pool)));
    }
}

/// A statement's place, also where its task panics.
struct StatementPlace(Arc<Pool>);

impl Drop for StatementPlace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.writes.end();
        }
    }
}

async fn run(pool: Arc<Pool>) {
    let place = StatementPlace(Arc::clone(&pool));
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
    let (mut fences, mut states, mut records, mut readers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for queued in &queued {
        let (fence, state, record, reader) = match &queued.write.change {
            Change::Show { fence, state, record } => (Some(*fence), Some(*state), Some(&**record), None),
            Change::Unshare { key } => (None, None, None, Some(&**key)),
        };
        fences.push(fence);
        states.push(state);
        records.push(record);
        readers.push(reader);
    }
    let values: &[Value<'_>] = &[
        (&names, Type::TEXT_ARRAY),
        (&fences, Type::INT8_ARRAY),
        (&states, Type::TEXT_ARRAY),
        (&records, Type::TEXT_ARRAY),
        (&readers, Type::TEXT_ARRAY),
    ];
    let limit = queued.iter().map(|queued| queued.write.limit).max().unwrap_or_default();
    let sent = Instant::now();
    let first = names.first().copied().unwrap_or_default();
    let answer = pool.rows(first, sql::WRITE_ALL, values, limit).await;
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
    let rows = match &write.change {
        Change::Show { fence, state, record } => {
            let values: &[Value<'_>] =
                &[(&&*write.name, Type::TEXT), (fence, Type::INT8), (state, Type::TEXT), (record, Type::TEXT)];
            pool.rows_patiently(sql::SHOW, values, limit, None).await?
        }
        Change::Unshare { key } => {
            let keys = vec![&**key];
            let values: &[Value<'_>] = &[(&&*write.name, Type::TEXT), (&keys, Type::TEXT_ARRAY)];
            // Mostly another reader's word is just written, which takes a moment.
            let end = Instant::now() + limit;
            match pool.rows(&write.name, sql::UNSHARE, values, limit).await {
                Err(failure) if failure.is_blocked() => {
                    let left = end.saturating_duration_since(Instant::now());
                    pool.rows_patiently(sql::UNSHARE, values, left, None).await?
                }
                answer => answer?,
            }
        }
    };
    Ok(!rows.is_empty())
}

/// Writes a row. `false` if it is another's, or the word is not there.
pub(super) async fn write(pool: &Arc<Pool>, write: Write) -> Answer<bool> {
    let written = pool.writes.add(write);
    begin(pool);
    written.await.unwrap_or_else(|_| Err(Failure::new(ErrorKind::Io, "the task that writes rows panicked")))
}
