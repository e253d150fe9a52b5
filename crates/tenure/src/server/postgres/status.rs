//! Reads the status of locks, and breaks one.

use std::path::Path;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::{Connection, Purpose, is_missing};
use super::session::of_text;
use super::{Postgres, lock_in_words, sql};
use crate::model::error::Result;
use crate::model::holder::Holder;
use crate::model::status::{Scheme, State, Status};
use crate::process::Liveness;
use crate::record::RecordState;

fn connect(postgres: &Postgres, purpose: Purpose, limit: Duration) -> Result<Connection> {
    let first = format!("{}SET statement_timeout = '{}ms'; {}", sql::FIRST, limit.as_millis().max(1), sql::WHO);
    postgres.address.connect(&first, purpose, limit)
}

/// A session in the queue of a name.
struct Backend {
    pid: i32,
    granted: bool,
}

fn queue(connection: &Connection, name: &str, limit: Duration) -> Result<Vec<Backend>> {
    let rows = connection.rows(limit, sql::QUEUE, &[(&name, Type::TEXT)])?;
    Ok(rows.iter().map(|row| Backend { pid: row.get(0), granted: row.get(1) }).collect())
}

pub(super) fn status(postgres: &Postgres, limit: Duration) -> Result<Status> {
    let connection = connect(postgres, Purpose::Look, limit)?;
    let url = &postgres.address.url;
    examine(&connection, limit, &url.name, &url.target, &postgres.lock)
}

fn examine(connection: &Connection, limit: Duration, name: &str, target: &Path, lock: &Path) -> Result<Status> {
    let mut status = Status::free(target, lock);
    status.server = Some(Scheme::Postgres);
    let queue = queue(connection, name, limit)?;
    // Before the first lock there is no table.
    let row = row(connection, name, limit)?;
    let row = row.as_ref().map(|row| {
        let record = of_text(row.get(3), row.get(0), row.get(1));
        (record, row.get::<_, i32>(2))
    });
    status.waiters = Some(queue.iter().filter(|backend| !backend.granted).count());
    if let Some(holder) = queue.iter().find(|backend| backend.granted) {
        status.state = State::Held;
        let record = row.as_ref().filter(|(_, backend)| *backend == holder.pid).map(|(record, _)| record);
        let held = record.filter(|record| record.native.as_ref().is_some_and(|it| it.state == RecordState::Held));
        let why = match held {
            Some(_) => "its session has the advisory lock".to_owned(),
            None => format!("backend {} of the server has the advisory lock", holder.pid),
        };
        status.holder = Some(Holder::from_record(held, Liveness::alive(why)));
    } else if let Some((record, _)) = &row
        && record.native.as_ref().is_some_and(|native| native.state != RecordState::Released)
    {
        status.state = State::Stale;
        let dead = Liveness::dead("its session ended before it had released");
        status.holder = Some(Holder::from_record(Some(record), dead));
    }
    Ok(status)
}

/// Returns every lock below a name that is held, or whose holder died. A lock that only another program's SQL has taken is
/// a number to the server, without a name.
pub(super) fn list(postgres: &Postgres) -> Result<Vec<Status>> {
    let connection = connect(postgres, Purpose::Look, postgres.limit())?;
    let url = &postgres.address.url;
    let below = match url.name.trim_end_matches('/') {
        "" => String::new(),
        name => format!("{name}/"),
    };
    let rows = match connection.rows(postgres.limit(), sql::BELOW, &[(&below, Type::TEXT)]) {
        Err(error) if is_missing(&error) => Vec::new(),
        other => other?,
    };
    let mut found = Vec::new();
    for row in &rows {
        let name: String = row.get(0);
        let status = examine(&connection, postgres.limit(), &name, &url.sibling(&name), &lock_in_words(&name))?;
        if status.state != State::Free {
            found.push(status);
        }
    }
    Ok(found)
}

/// Returns the row of a name: its fence, state, backend and record.
fn row(connection: &Connection, name: &str, limit: Duration) -> Result<Option<Row>> {
    match connection.rows(limit, sql::RECORD, &[(&name, Type::TEXT)]) {
        Err(error) if is_missing(&error) => Ok(None),
        other => Ok(other?.into_iter().next()),
    }
}

/// Ends the holder's session, and marks its row as released. Does both or neither: with a row that says "released", the
/// next holder would not wait for the lease of a session that still holds. The row comes first, so that the next holder, which
/// reads the row, waits for the end of this.
pub(super) fn force_release(postgres: &Postgres, _found: &Status) -> Result<bool> {
    let limit = postgres.limit();
    let connection = connect(postgres, Purpose::Lock, limit)?;
    let name = &*postgres.address.url.name;
    let holders: Vec<i32> =
        queue(&connection, name, limit)?.iter().filter(|backend| backend.granted).map(|backend| backend.pid).collect();
    let row = row(&connection, name, limit)?;
    // Not a row that another tenure has written meanwhile.
    let fence =
        row.filter(|row| holders.is_empty() || holders.contains(&row.get::<_, i32>(2))).map(|row| row.get::<_, i64>(0));
    connection.batch(limit, "BEGIN")?;
    let marked = match fence {
        Some(fence) => connection.changed(limit, sql::MARK_BROKEN, &[(&name, Type::TEXT), (&fence, Type::INT8)])?,
        None => 0,
    };
    let mut ended = false;
    for holder in holders {
        // The connection's end rolls back.
        ended |= connection.end(holder, limit)?;
    }
    connection.batch(limit, "COMMIT")?;
    Ok(ended || marked > 0)
}
