//! Looking at locks, and taking one away.

use std::path::Path;

use tokio_postgres::types::Type;

use super::connect::Connection;
use super::session::of_text;
use super::{Postgres, lock_in_words, sql};
use crate::engine::Scheme;
use crate::error::Result;
use crate::inspect::{Inspection, State};
use crate::presence::holder_of;
use crate::process::Liveness;
use crate::record::RecordState;

fn connect(postgres: &Postgres) -> Result<Connection> {
    postgres.address.connect(sql::WHO, postgres.limit())
}

/// A session in the queue of a name.
struct Backend {
    pid: i32,
    granted: bool,
}

fn queue(connection: &Connection, postgres: &Postgres, name: &str) -> Result<Vec<Backend>> {
    let rows = connection.rows(postgres.limit(), sql::QUEUE, &[(&name, Type::TEXT)])?;
    Ok(rows.iter().map(|row| Backend { pid: row.get(0), granted: row.get(1) }).collect())
}

pub(super) fn inspect(postgres: &Postgres) -> Result<Inspection> {
    let connection = connect(postgres)?;
    let url = &postgres.address.url;
    examine(&connection, postgres, &url.name, &url.target, &postgres.lock)
}

fn examine(connection: &Connection, postgres: &Postgres, name: &str, target: &Path, lock: &Path) -> Result<Inspection> {
    let mut inspection = Inspection::free(target, lock);
    inspection.engine = Some(Scheme::Postgres);
    let queue = queue(connection, postgres, name)?;
    // Where nobody has locked anything yet, there is no table.
    let rows = match connection.rows(postgres.limit(), sql::RECORD, &[(&name, Type::TEXT)]) {
        Err(error) if error.is_permission_denied() && error.detail().contains("does not exist") => Vec::new(),
        other => other?,
    };
    let row = rows.first().map(|row| {
        let record = of_text(row.get(3), row.get(0), row.get(1));
        (record, row.get::<_, i32>(2))
    });
    inspection.waiters = Some(queue.iter().filter(|backend| !backend.granted).count());
    if let Some(holder) = queue.iter().find(|backend| backend.granted) {
        inspection.state = State::Held;
        let record = row.as_ref().filter(|(_, backend)| *backend == holder.pid).map(|(record, _)| record);
        let held = record.filter(|record| record.native.as_ref().is_some_and(|it| it.state == RecordState::Held));
        let why = match held {
            Some(_) => "its session has the advisory lock".to_owned(),
            None => format!("backend {} of the server has the advisory lock", holder.pid),
        };
        inspection.holder = Some(holder_of(held, Liveness::alive(why)));
    } else if let Some((record, _)) = &row
        && record.native.as_ref().is_some_and(|native| native.state != RecordState::Released)
    {
        inspection.state = State::Stale;
        let dead = Liveness::dead("its session ended before it had released");
        inspection.holder = Some(holder_of(Some(record), dead));
    }
    Ok(inspection)
}

/// Every lock below a name that is held, or whose holder died. One that only others' SQL has locked is a number to the
/// server, without a name.
pub(super) fn list(postgres: &Postgres) -> Result<Vec<Inspection>> {
    let connection = connect(postgres)?;
    let url = &postgres.address.url;
    let below = match url.name.trim_end_matches('/') {
        "" => String::new(),
        name => format!("{name}/"),
    };
    let rows = match connection.rows(postgres.limit(), sql::BELOW, &[(&below, Type::TEXT)]) {
        Err(error) if error.is_permission_denied() && error.detail().contains("does not exist") => Vec::new(),
        other => other?,
    };
    let mut found = Vec::new();
    for row in &rows {
        let name: String = row.get(0);
        let inspection = examine(&connection, postgres, &name, &url.sibling(&name), &lock_in_words(&name))?;
        if inspection.state != State::Free {
            found.push(inspection);
        }
    }
    Ok(found)
}

/// Ends the holder's session. The row says that nobody crashed.
pub(super) fn take_away(postgres: &Postgres, _found: &Inspection) -> Result<bool> {
    let connection = connect(postgres)?;
    let name = &*postgres.address.url.name;
    let queue = queue(&connection, postgres, name)?;
    let marked = connection.changed(postgres.limit(), sql::MARK_BROKEN, &[(&name, Type::TEXT)]);
    let marked = match marked {
        Err(error) if error.is_permission_denied() && error.detail().contains("does not exist") => 0,
        other => other?,
    };
    let mut ended = false;
    for holder in queue.iter().filter(|backend| backend.granted) {
        let rows = connection.rows(postgres.limit(), sql::END_BACKEND, &[(&holder.pid, Type::INT4)])?;
        ended |= rows.first().is_some_and(|row| row.get(0));
    }
    Ok(ended || marked > 0)
}
