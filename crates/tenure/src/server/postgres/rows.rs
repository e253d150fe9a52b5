//! The row of a name: the last holder, and the grant of the next.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::batches;
use super::connect::{Address, Answer, Connection, Failure, Value};
use super::pool::Pool;
use super::session::{Beside, Coming, Kind, Session, WRITE_AGAIN};
use super::sql;
use super::users::Users;
use super::word::Written;
use super::writes::{Change, Write};
use crate::model::error::ErrorKind;
use crate::process::Identity;
use crate::record::{self, Content, Record, RecordState};
use crate::server::lease::{BootTime, call_limit};

/// The number of words in a row beyond which those of dead readers are removed.
const MANY_WORDS: i64 = 16;
/// The maximum time until a statement whose answer was lost is executed, or never.
const LATE: Duration = Duration::from_secs(30);

/// The row of a name that was not released, as the next holder finds it.
pub(super) struct Found {
    pub(super) fence: i64,
    /// Its record, if it was not released.
    pub(super) unreleased: Option<Record>,
    /// Until when its holder may still rely on its lease.
    pub(super) until: Option<BootTime>,
    /// The process that renewed the lease, where that lasts.
    pub(super) renewer: Option<Identity>,
    /// The words of shared locks, as the row has them.
    pub(super) readers: String,
}

/// The word of the shared locks of a name in one session.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reader {
    pub(super) backend: i32,
    lease_ms: u64,
    record: String,
}

impl Reader {
    /// Returns its record.
    pub(super) fn record(&self) -> Record {
        of_text(&self.record, 0, "held")
    }

    /// Returns whether its lease is so short that this process can wait for its end.
    fn is_short(&self) -> bool {
        self.lease_ms <= 60_000
    }

    /// Returns until when its locks may still be relied on, counted from now; `None` where their process is proven dead.
    pub(super) fn until(&self) -> Option<BootTime> {
        let dead = self.record().identity().is_some_and(|identity| is_proven_dead(&identity));
        (!dead).then(|| BootTime::now().after(Duration::from_millis(self.lease_ms)))
    }
}

/// Returns the words of a row, by their keys.
pub(super) fn readers_of(text: &str) -> Answer<BTreeMap<String, Reader>> {
    let detail = |error| {
        Failure::new(ErrorKind::Unsupported, format!("the readers in its row are not those of this version: {error}"))
    };
    serde_json::from_str(text).map_err(detail)
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
    let free = Found { fence, unreleased: None, until: None, renewer: None, readers: row.get(5) };
    if let Some(crashed) = pool.crashed_before_unsure(name, row.get(3)) {
        return Ok(Some(Found { unreleased: crashed, ..free }));
    }
    let state: String = row.get(1);
    let last = of_text(row.get(4), fence, &state);
    if last.native.as_ref().is_none_or(|native| native.state == RecordState::Released) {
        return Ok(Some(free));
    }
    let renewer = of_text(row.get(3), 0, &state).identity();
    let dead = renewer.as_ref().is_some_and(is_proven_dead);
    let lease = Duration::from_millis(u64::try_from(row.get::<_, i64>(2)).unwrap_or(0));
    let until = (state != "aborted" && !dead).then(|| BootTime::now().after(lease));
    Ok(Some(Found { unreleased: Some(last), until, renewer, ..free }))
}

/// A grant that is to be written.
pub(super) struct Grant<'a> {
    pub(super) name: &'a str,
    pub(super) record: &'a str,
    /// The session that has the lock, at whose server the row must be written.
    pub(super) holder: &'a Connection,
    /// The fence of the last holder, where it did not release and its lease is over.
    pub(super) expected: Option<i64>,
    /// The readers whose leases are over, as the row had them.
    pub(super) readers: Option<&'a str>,
    /// That holder.
    pub(super) crashed: Option<&'a Record>,
}

/// Writes the row of a grant: step 5 of the protocol. Returns its fence; `None` if the last holder did not release, and its
/// fence is not the expected one, or if there are other readers, or if the fence would not grow. Without an expected one it does not wait for a row or a
/// table that another program has locked. Sets `was_blocked` where it was, and then does not try again whether it is.
pub(super) async fn grant(
    pool: &Arc<Pool>,
    grant: &Grant<'_>,
    was_blocked: &mut bool,
    limit: Duration,
) -> Answer<Option<i64>> {
    let Grant { name, record, holder, expected, readers, crashed } = *grant;
    let lease = i64::try_from(pool.address.url.ttl.as_millis()).unwrap_or(i64::MAX);
    let values: &[Value<'_>] = &[
        (&name, Type::TEXT),
        (&lease, Type::INT8),
        (&record, Type::TEXT),
        (&holder.backend, Type::INT4),
        (&expected, Type::INT8),
        (&readers, Type::TEXT),
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

/// Writes the word of a shared lock for the session `holder`: step 5 of the protocol. Returns the word; `None` if the last
/// exclusive holder did not release, and its fence is not `expected`.
pub(super) async fn share(
    pool: &Arc<Pool>,
    name: &Arc<str>,
    record: &str,
    holder: &Connection,
    expected: Option<i64>,
    limit: Duration,
) -> Answer<Option<Written>> {
    let key = pool.next_key();
    let lease_ms = u64::try_from(pool.address.url.ttl.as_millis()).unwrap_or(u64::MAX);
    let reader = Reader { backend: holder.backend, lease_ms, record: record.to_owned() };
    let reader = serde_json::to_string(&reader).map_err(|error| Failure::new(ErrorKind::Io, error.to_string()))?;
    let values: &[Value<'_>] =
        &[(&&**name, Type::TEXT), (&key, Type::TEXT), (&reader, Type::TEXT), (&expected, Type::INT8)];
    let end = Instant::now() + limit;
    let mut sent = false;
    let mut rows = pool.rows_once(name, sql::SHARE, values, limit, &mut sent, Some(holder)).await;
    if is_blocked(&rows) {
        // By another reader's word, or by another program.
        let left = end.saturating_duration_since(Instant::now());
        rows = pool.rows_patiently(sql::SHARE, values, left, Some(holder)).await;
    }
    let rows = rows.inspect_err(|failure| {
        let is_doubtful = failure.is_unanswered() || failure.kind == ErrorKind::Io;
        if sent && is_doubtful && !failure.is_blocked() {
            // The server may still commit it, and the next exclusive holder would wait for nothing.
            unshare_later(pool, name, &key);
        }
    })?;
    let Some(row) = rows.first() else { return Ok(None) };
    if row.get::<_, i64>(3) > MANY_WORDS
        && let Some(sweeping) = pool.sweep()
    {
        let (pool, name) = (Arc::clone(pool), Arc::clone(name));
        tokio::spawn(async move {
            let _ = remove_dead_words(&pool, &name).await;
            drop(sweeping);
        });
    }
    let state: &str = row.get(1);
    let last = (state != state_word(RecordState::Released)).then(|| of_text(row.get(2), row.get(0), state));
    Ok(Some(Written { key, last }))
}

/// Removes the words of readers that died, when their leases are over: an exclusive holder, which would remove them, may
/// never come.
async fn remove_dead_words(pool: &Arc<Pool>, name: &Arc<str>) -> Answer<()> {
    let limit = call_limit(pool.address.url.ttl);
    let values: &[Value<'_>] = &[(&&**name, Type::TEXT)];
    let found = pool.rows(name, sql::LAST, values, limit).await?;
    let words = found.first().map_or_else(|| Ok(BTreeMap::new()), |row| readers_of(row.get(5)))?;
    // A session that has the lock no more has given it back by itself since, or was dropped.
    let queue = pool.rows(name, sql::QUEUE, values, limit).await?;
    let backends: HashSet<i32> = queue.iter().filter(|row| row.get(1)).map(|row| row.get(0)).collect();
    let is_dead = |(_, reader): &(String, Reader)| !backends.contains(&reader.backend) && reader.is_short();
    let (dead, leases): (Vec<String>, Vec<_>) =
        words.into_iter().filter(is_dead).map(|(key, reader)| (key, reader.until())).unzip();
    while let Some(until) = leases.iter().copied().max().flatten()
        && BootTime::now() < until
    {
        sleep(until.from(BootTime::now())).await;
    }
    let values: &[Value<'_>] = &[(&&**name, Type::TEXT), (&dead, Type::TEXT_ARRAY)];
    pool.rows(name, sql::UNSHARE, values, limit).await.map(drop)
}

/// Removes a word that may not be there yet.
fn unshare_later(pool: &Arc<Pool>, name: &Arc<str>, key: &str) {
    let (pool, name, key) = (Arc::clone(pool), Arc::clone(name), key.to_owned());
    tokio::spawn(async move {
        let ttl = pool.address.url.ttl;
        let end = Instant::now() + ttl.min(LATE);
        while Instant::now() < end {
            sleep(WRITE_AGAIN).await;
            if pool.unshare(&name, &key, call_limit(ttl)).await.is_ok_and(|was_there| was_there) {
                return;
            }
        }
    });
}

fn is_blocked(answer: &Answer<Vec<Row>>) -> bool {
    answer.as_ref().is_err_and(Failure::is_blocked)
}

/// Runs the first statement, which waits for no other program; then the second, where another program has locked the row
/// or the table.
async fn patiently(
    pool: &Arc<Pool>,
    name: &str,
    [at_once, after_all]: [&'static str; 2],
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
        let (name, state, record) = (Arc::clone(name), state_of(record), record.to_json());
        Box::pin(batches::write(self, Write { name, change: Change::Show { fence, state, record }, limit }))
    }

    fn unshare<'a>(&'a self, name: &'a Arc<str>, key: &'a str, limit: Duration) -> Coming<'a, bool> {
        let change = Change::Unshare { key: key.to_owned() };
        Box::pin(batches::write(self, Write { name: Arc::clone(name), change, limit }))
    }

    fn is_breaking<'a>(&'a self, name: &'a str, fence: i64, limit: Duration) -> Coming<'a, bool> {
        Box::pin(async move {
            let values: &[Value<'_>] = &[(&name, Type::TEXT), (&fence, Type::INT8)];
            Ok(!self.rows(name, sql::IS_BREAKING, values, limit).await?.is_empty())
        })
    }

    fn is_breaking_share<'a>(&'a self, name: &'a str, key: &'a str, limit: Duration) -> Coming<'a, bool> {
        Box::pin(async move {
            let values: &[Value<'_>] = &[(&name, Type::TEXT), (&key, Type::TEXT)];
            Ok(!self.rows(name, sql::IS_BREAKING_SHARE, values, limit).await?.is_empty())
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
    if next > last {
        return Failure::new(ErrorKind::Unreachable, "its row was changed by others while it was granted");
    }
    let detail =
        format!("its fence would go back: the last holder's was {last}, the sequence tenure.fence is at {next}");
    Failure::new(ErrorKind::Io, detail).with_hint(
        "the sequence was reset, or was not copied with the table: \
         SELECT setval('tenure.fence', (SELECT max(fence) FROM tenure.locks)), and more where a resource has seen more",
    )
}

/// Returns whether the process is proven dead. A record without a boot id and a pid namespace may be of another machine, as
/// those of every system but Linux are, so its pid proves nothing here.
pub(super) fn is_proven_dead(keeper: &Identity) -> bool {
    keeper.boot_id.is_some() && keeper.pid_namespace.is_some() && keeper.verify().is_dead()
}

/// Returns the state of a record, as its row has it.
pub(super) fn state_of(record: &Record) -> &'static str {
    state_word(record.native.as_ref().map_or(RecordState::Held, |native| native.state))
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
