//! The row of a name: the last holder, and the grant of the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::{Address, Answer, Connection, Failure, Value};
use super::pool::Pool;
use super::session::{Beside, Coming, Kind, Session};
use super::sql;
use super::users::Users;
use super::writes::{self, Write};
use crate::model::error::ErrorKind;
use crate::process::Identity;
use crate::record::{self, Content, Record, RecordState};
use crate::server::lease::BootTime;

/// The row of a name that was not released, as the next holder finds it.
pub(super) struct Found {
    pub(super) fence: i64,
    /// Its record, if it was not released.
    pub(super) unreleased: Option<Record>,
    /// Until when its holder may still rely on its lease.
    pub(super) until: Option<BootTime>,
}

/// Reads the row of the last holder: step 4 of the protocol. `None` where there is none.
pub(super) async fn last(pool: &Arc<Pool>, name: &str, limit: Duration) -> Answer<Option<Found>> {
    let values: &[Value<'_>] = &[(&name, Type::TEXT)];
    let mut rows = patiently(pool, name, [sql::LAST, sql::LAST], values, limit).await?;
    if rows.first().is_some_and(|row| row.get::<_, &str>(1) != state_word(RecordState::Released)) {
        rows = patiently(pool, name, [sql::LAST_AT_ONCE, sql::LAST_AFTER_ALL], values, limit).await?;
    }
    let Some(row) = rows.first() else { return Ok(None) };
    let fence: i64 = row.get(0);
    let free = Found { fence, unreleased: None, until: None };
    if let Some(crashed) = pool.crashed_before_unsure(name, row.get(3)) {
        return Ok(Some(Found { unreleased: crashed, ..free }));
    }
    let state: String = row.get(1);
    let last = of_text(row.get(4), fence, &state);
    if last.native.as_ref().is_none_or(|native| native.state == RecordState::Released) {
        return Ok(Some(free));
    }
    let renewer = of_text(row.get(3), 0, &state);
    let dead = renewer.identity().is_some_and(|identity| is_proven_dead(&identity));
    let lease = Duration::from_millis(u64::try_from(row.get::<_, i64>(2)).unwrap_or(0));
    let until = (state != "aborted" && !dead).then(|| BootTime::now().after(lease));
    Ok(Some(Found { unreleased: Some(last), until, ..free }))
}

/// A grant that is to be written.
pub(super) struct Grant<'a> {
    pub(super) name: &'a str,
    pub(super) record: &'a str,
    /// The session that has the lock, at whose server the row must be written.
    pub(super) holder: &'a Connection,
    /// The fence of the last holder, where it did not release and its lease is over.
    pub(super) expected: Option<i64>,
    /// That holder.
    pub(super) crashed: Option<&'a Record>,
}

/// Writes the row of a grant: step 5 of the protocol. Returns its fence; `None` if the last holder did not release, and its
/// fence is not the expected one, or if the fence would not grow. Without an expected one it does not wait for a row or a
/// table that another program has locked. Sets `was_blocked` where it was, and then does not try again whether it is.
pub(super) async fn grant(
    pool: &Arc<Pool>,
    grant: &Grant<'_>,
    was_blocked: &mut bool,
    limit: Duration,
) -> Answer<Option<i64>> {
    let Grant { name, record, holder, expected, crashed } = *grant;
    let lease = i64::try_from(pool.address.url.ttl.as_millis()).unwrap_or(i64::MAX);
    let values: &[Value<'_>] = &[
        (&name, Type::TEXT),
        (&lease, Type::INT8),
        (&record, Type::TEXT),
        (&holder.backend, Type::INT4),
        (&expected, Type::INT8),
    ];
    let end = Instant::now() + limit;
    let mut sent = true;
    let mut rows = Err(Failure::blocked());
    if !*was_blocked || expected.is_none() {
        sent = false;
        rows = pool.rows_once(name, sql::GRANT, values, limit, &mut sent, Some(holder)).await;
        *was_blocked = is_blocked(&rows);
    }
    if expected.is_some() && is_blocked(&rows) {
        let left = end.saturating_duration_since(Instant::now());
        rows = pool.rows_patiently(sql::GRANT, values, left, Some(holder)).await;
    }
    let rows = rows.inspect_err(|failure| {
        // A proxy's own errors, of a server that it has lost, have codes as well.
        let is_doubtful = failure.is_unanswered() || failure.kind == ErrorKind::Io;
        if sent && is_doubtful && !failure.is_blocked() {
            // The server may still commit it.
            pool.be_unsure(name, record, crashed);
        }
    })?;
    let fence = rows.first().map(|row| row.get(0));
    if fence.is_some() {
        pool.be_sure(name, record);
    }
    Ok(fence)
}

fn is_blocked(answer: &Answer<Vec<Row>>) -> bool {
    answer.as_ref().is_err_and(Failure::is_blocked)
}

/// Runs the first statement, which waits for no other program; then the second, where another program has locked the row
/// or the table.
async fn patiently(
    pool: &Arc<Pool>,
    name: &str,
    [at_once, after_all]: [&str; 2],
    values: &[Value<'_>],
    limit: Duration,
) -> Answer<Vec<Row>> {
    let end = Instant::now() + limit;
    let rows = pool.rows(name, at_once, values, limit).await;
    match is_blocked(&rows) {
        true => pool.rows_patiently(after_all, values, end.saturating_duration_since(Instant::now()), None).await,
        false => rows,
    }
}

impl Beside for Arc<Pool> {
    fn address(&self) -> &Address {
        &self.address
    }

    fn users(&self) -> &Arc<Users> {
        &self.users
    }

    fn show<'a>(&'a self, name: &'a Arc<str>, fence: i64, record: &'a Record, limit: Duration) -> Coming<'a, bool> {
        let state = record.native.as_ref().map_or(RecordState::Held, |native| native.state);
        let (name, state, record) = (Arc::clone(name), state_word(state), record.to_json());
        Box::pin(writes::write(self, Write { name, fence, state, record, limit }))
    }

    fn is_breaking<'a>(&'a self, name: &'a str, fence: i64, limit: Duration) -> Coming<'a, bool> {
        Box::pin(async move {
            let values: &[Value<'_>] = &[(&name, Type::TEXT), (&fence, Type::INT8)];
            Ok(!self.rows(name, sql::IS_BREAKING, values, limit).await?.is_empty())
        })
    }

    fn released(&self, name: &Arc<str>) {
        Pool::released(self, name);
    }

    fn ran_out(&self, kind: Kind) {
        if kind == Kind::Writer {
            self.writer_ran_out();
        }
    }

    fn keep_free(&self, session: &Arc<Session>) {
        Pool::keep_free(self, session);
    }
}

/// Returns the error of a fence that would not be greater than the last one: the resource would refuse every holder from
/// now on, or accept one from the past.
pub(super) async fn behind(pool: &Arc<Pool>, name: &str, limit: Duration) -> Failure {
    let rows = pool.rows(name, sql::FENCES, &[(&name, Type::TEXT)], limit).await.unwrap_or_default();
    let seen = rows.first().map(|row: &Row| (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1).unwrap_or(0)));
    let (last, next) = seen.unwrap_or((0, 0));
    let detail =
        format!("its fence would go back: the last holder's was {last}, the sequence tenure.fence is at {next}");
    Failure::new(ErrorKind::Io, detail).with_hint(
        "the sequence was reset, or was not copied with the table: \
         SELECT setval('tenure.fence', (SELECT max(fence) FROM tenure.locks)), and more where a resource has seen more",
    )
}

/// Returns whether the process is proven dead. A record without a boot id and a pid namespace may be of another machine, as
/// those of every system but Linux are, so its pid proves nothing here.
fn is_proven_dead(keeper: &Identity) -> bool {
    keeper.boot_id.is_some() && keeper.pid_namespace.is_some() && keeper.verify().is_dead()
}

fn state_word(state: RecordState) -> &'static str {
    match state {
        RecordState::Held | RecordState::Acquiring => "held",
        RecordState::Released => "released",
        RecordState::Aborted => "aborted",
    }
}

/// Returns the record of a row. The row's own columns override its fence and state.
pub(super) fn of_text(text: &str, fence: i64, state: &str) -> Record {
    let mut record = match record::read(text.as_bytes()) {
        Content::Record(record) => record,
        _ => Record::default(),
    };
    let native = record.native.get_or_insert_with(|| record::Native::bare(RecordState::Held));
    native.fence = u64::try_from(fence).ok().filter(|fence| *fence > 0);
    native.state = match state {
        "released" => RecordState::Released,
        "aborted" => RecordState::Aborted,
        _ => RecordState::Held,
    };
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_pid_of_an_unknown_machine_proves_nothing() {
        // No kernel gives this pid.
        let nowhere = Identity { pid: i64::MAX, ..Identity::default() };
        assert!(nowhere.verify().is_dead() && !is_proven_dead(&nowhere));
        let here = Identity { boot_id: Some("x".to_owned()), ..nowhere };
        assert!(!is_proven_dead(&here), "in a pid namespace that is not known");
        assert!(is_proven_dead(&Identity { pid_namespace: Some(1), ..here }));
    }
}
