//! The plans of a session's statements.
//!
//! A statement that is sent with its text is parsed and planned each time, which takes the server longer than its execution.
//! A prepared one has a name and a plan, but preparing it costs a round trip, which a session that ends soon never gets
//! back. So a session prepares a statement at its third use.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

/// A value of a statement, and its type.
pub(super) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// How often a session sends a statement with its text.
const UNPREPARED_USES: u32 = 2;

/// What a session knows of a statement.
enum Plan {
    /// It was sent so often with its text.
    Sent(u32),
    Prepared(Statement),
    /// Something between this program and the server does not keep statements.
    Unavailable,
}

/// The plans of a session's statements, by their texts.
#[derive(Default)]
pub(super) struct Plans(Mutex<HashMap<&'static str, Plan>>);

impl Plans {
    fn plans(&self) -> MutexGuard<'_, HashMap<&'static str, Plan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the statement if it is prepared, and whether it should be now.
    fn find(&self, sql: &'static str) -> (Option<Statement>, bool) {
        match self.plans().entry(sql).or_insert(Plan::Sent(0)) {
            Plan::Sent(UNPREPARED_USES) => (None, true),
            Plan::Sent(uses) => {
                *uses += 1;
                (None, false)
            }
            Plan::Prepared(statement) => (Some(statement.clone()), false),
            Plan::Unavailable => (None, false),
        }
    }

    /// Runs a statement, and returns its rows.
    pub(super) async fn query(
        &self,
        client: &Client,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Error> {
        let statement = match self.find(sql) {
            (None, true) => self.prepare(client, sql, values).await,
            (statement, _) => statement,
        };
        if let Some(statement) = statement {
            let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|(value, _)| *value).collect();
            match client.query(&statement, &parameters).await {
                Err(error) if is_forgotten(&error) => drop(self.plans().insert(sql, Plan::Unavailable)),
                answer => return answer,
            }
        }
        client.query_typed(sql, values).await
    }

    /// Prepares a statement. `None` where the server does not: then executing it says why.
    async fn prepare(&self, client: &Client, sql: &'static str, values: &[Value<'_>]) -> Option<Statement> {
        let types: Vec<_> = values.iter().map(|(_, kind)| kind.clone()).collect();
        let statement = client.prepare_typed(sql, &types).await.ok()?;
        self.plans().insert(sql, Plan::Prepared(statement.clone()));
        Some(statement)
    }
}

/// Returns whether the server refused a prepared statement before it executed it: it has no such statement any more
/// (`DISCARD ALL`, a proxy), or a table has changed since.
fn is_forgotten(error: &Error) -> bool {
    error
        .code()
        .is_some_and(|code| *code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::FEATURE_NOT_SUPPORTED)
}
