//! Examines the slots of a name.

use std::ops::Range;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::{Answer, Purpose, Value};
use super::rows::{is_proven_dead, of_text};
use super::status::{connect, tenure_of};
use super::{Postgres, lock_in_words, sql};
use crate::model::error::Result;
use crate::model::holder::Holder;
use crate::model::slots::{FoundSlot, FoundSlots, Part};
use crate::model::status::{State, Status};
use crate::process::Liveness;
use crate::record::RecordState;
use crate::server::slots::{complete, name_of, number_of, prefix_of};

/// Reads the rows and the advisory locks of all slots by one statement.
pub(super) async fn slots(postgres: &Postgres, least: Range<u32>, limit: Duration) -> Result<FoundSlots> {
    let url = &postgres.url;
    let rows = read(postgres, least.clone(), limit).await.map_err(|failure| failure.at(&url.target))?;
    let mut found = FoundSlots::default();
    for row in &rows {
        match number_of(url, row.get(0)) {
            // Several may share an advisory lock.
            Some(number) if found.slots.iter().all(|found| found.number != number) => {
                found.slots.push(slot(postgres, number, row));
            }
            Some(_) => {}
            None => found.is_awaited |= row.get::<_, Option<i32>>(1).is_some(),
        }
    }
    Ok(complete(url, least, found, lock_in_words))
}

async fn read(postgres: &Postgres, least: Range<u32>, limit: Duration) -> Answer<Vec<Row>> {
    let prefix = prefix_of(&postgres.url);
    let is_acquire = !least.is_empty();
    let slots = least.map(|number| format!("{prefix}{number}"));
    let names: Vec<String> = slots.chain([name_of(&postgres.url, Part::Next)]).collect();
    let values: &[Value<'_>] = &[(&prefix, Type::TEXT), (&names, Type::TEXT_ARRAY)];
    if is_acquire {
        return postgres.pool.rows(&postgres.url.name, sql::SLOTS, values, limit).await;
    }
    let connection = connect(postgres, Purpose::Look, limit).await?;
    match connection.rows(limit, sql::SLOTS, values).await {
        // Before the first lock there is no table.
        Err(failure) if failure.is_missing() => Ok(Vec::new()),
        answer => answer,
    }
}

fn slot(postgres: &Postgres, number: u32, row: &Row) -> FoundSlot {
    let (name, holder): (&str, Option<i32>) = (row.get(0), row.get(1));
    let mut status = Status::free(&postgres.url.sibling(name), &lock_in_words(name));
    status.server = Some(postgres.url.scheme);
    let written = row.get::<_, Option<i64>>(2).map(|fence| {
        let state: &str = row.get(3);
        let renewer: &str = row.get(6);
        (of_text(row.get(5), fence, state), state, row.get::<_, i32>(4), renewer)
    });
    let is_held = |state: RecordState| state == RecordState::Held;
    let mut is_relied_on = false;
    match (holder, &written) {
        (Some(holder), written) => {
            status.state = State::Held;
            let own = written.as_ref().filter(|(_, _, backend, _)| *backend == holder).map(|(record, ..)| record);
            let own = own.filter(|record| record.native.as_ref().is_some_and(|native| is_held(native.state)));
            let why = format!("backend {holder} of the server has the advisory lock");
            let found = Holder::from_record(own, Liveness::alive(why));
            status.server_tenures = vec![tenure_of(holder, found.fence)];
            status.holder = Some(found);
        }
        (None, Some((record, state, _, renewer))) if *state != "released" => {
            status.state = State::Stale;
            let dead = Liveness::dead("its session ended before it had released");
            status.holder = Some(Holder::from_record(Some(record), dead));
            let keeper = of_text(renewer, 0, state).identity();
            let is_dead = keeper.is_some_and(|identity| is_proven_dead(&identity));
            // A grant of this process whose answer was lost has no holder.
            is_relied_on =
                *state != "aborted" && !is_dead && postgres.pool.crashed_before_unsure(name, renewer).is_none();
        }
        (None, _) => {}
    }
    FoundSlot { number, status, is_relied_on }
}
