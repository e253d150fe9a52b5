//! Reads the status of locks, and breaks one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::{self, Answer, Connection, Failure, Purpose, Value, forbidden};
use super::rows::{Reader, of_text, readers_of};
use super::tenures::WORD;
use super::{Postgres, lock_in_words, sql};
use crate::model::error::{ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::status::{Scheme, State, Status};
use crate::process::Liveness;
use crate::record::RecordState;
use crate::server::sharers;

/// The hint of a break that failed, and could not be taken back.
const STAYS: &str = "its row says `breaking`: the holder gives the lock up as soon as it hears so; break it again";
/// What a break has done that ended no tenure, and one that may have ended some of the shares.
const UNCHANGED: &str = "nothing was changed";
const SOME_ENDED: &str = "other holders may have given it up";
/// The time between two looks at whether a holder has given a lock up.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) async fn connect(postgres: &Postgres, purpose: Purpose, limit: Duration) -> Answer<Connection> {
    let first = format!(
        "{}SET idle_session_timeout = '60s'; SET statement_timeout = '{}ms'; {}",
        sql::FIRST,
        limit.as_millis().max(1),
        sql::WHO
    );
    postgres.pool.address.connect(&first, purpose, limit).await
}

/// A session in the queue of a name.
struct Backend {
    pid: i32,
    granted: bool,
    shared: bool,
}

impl Backend {
    fn of(row: &Row) -> Backend {
        Backend { pid: row.get(0), granted: row.get(1), shared: row.get::<_, &str>(2) == "ShareLock" }
    }
}

async fn queue(connection: &Connection, name: &str, limit: Duration) -> Answer<Vec<Backend>> {
    let rows = connection.rows(limit, sql::QUEUE, &[(&name, Type::TEXT)]).await?;
    Ok(rows.iter().map(Backend::of).collect())
}

pub(super) async fn status(postgres: &Postgres, limit: Duration) -> Result<Status> {
    let (url, end) = (&postgres.url, Instant::now() + limit);
    let examined = async {
        let connection = connect(postgres, Purpose::Look, limit).await?;
        examine(&connection, end, postgres).await
    };
    examined.await.map_err(|failure| failure.at(&url.target))
}

/// Returns the system identifier, which is that of a server and of its standbys.
pub(super) async fn cluster(postgres: &Postgres, limit: Duration) -> Result<String> {
    let end = Instant::now() + limit;
    let asked = async {
        // The acquire that follows needs this session.
        let keeper = postgres.pool.keeper(limit).await?;
        let left = end.saturating_duration_since(Instant::now());
        let rows = keeper.connection.rows(left, sql::SYSTEM, &[]).await?;
        Ok::<_, connect::Failure>(rows.first().map(|row| row.get(0)).unwrap_or_default())
    };
    asked.await.map_err(|failure| failure.at(&postgres.url.target))
}

/// As [`status`], in a session that this process has.
pub(super) async fn beside(postgres: &Postgres, limit: Duration) -> Result<Status> {
    let url = &postgres.url;
    let end = Instant::now() + limit;
    let examined = async {
        let session = postgres.pool.writer(&url.name, limit).await?;
        examine(&session.connection, end, postgres).await
    };
    examined.await.map_err(|failure| failure.at(&url.target))
}

async fn examine(connection: &Connection, end: Instant, postgres: &Postgres) -> Answer<Status> {
    let left = || end.saturating_duration_since(Instant::now());
    let url = &postgres.url;
    let queue = queue(connection, &url.name, left()).await?;
    // Before the first lock there is no table.
    let row = row(connection, &url.name, left()).await?;
    status_of(&url.target, &postgres.lock, &queue, row.as_ref())
}

/// Returns the status of a lock with that queue and that [row](sql::RECORD).
fn status_of(target: &Path, lock: &Path, queue: &[Backend], row: Option<&Row>) -> Answer<Status> {
    let mut status = Status::free(target, lock);
    status.server = Some(Scheme::Postgres);
    let readers = words_of(row)?;
    let row = row.map(|row| {
        let record = of_text(row.get(3), row.get(0), row.get(1));
        (record, row.get::<_, i32>(2))
    });
    status.waiters = Some(queue.iter().filter(|backend| !backend.granted).count());
    if queue.iter().any(|backend| backend.granted && backend.shared) {
        status.state = State::Held;
        let holds = |reader: &Reader| queue.iter().any(|backend| backend.granted && backend.pid == reader.backend);
        let mut records: Vec<_> = readers.values().filter(|reader| holds(reader)).map(Reader::record).collect();
        records.sort_by_key(|record| record.native.as_ref().and_then(|native| native.acquired_at));
        status.open_by = sharers::pids(records);
        let holders = queue.iter().filter(|backend| backend.granted);
        status.server_tenures = holders.flat_map(|backend| shares_of(backend.pid, &readers)).collect();
    } else if let Some(holder) = queue.iter().find(|backend| backend.granted) {
        status.state = State::Held;
        let record = row.as_ref().filter(|(_, backend)| *backend == holder.pid).map(|(record, _)| record);
        let held = record.filter(|record| record.native.as_ref().is_some_and(|it| it.state == RecordState::Held));
        let why = match held {
            Some(_) => "its session has the advisory lock".to_owned(),
            None => format!("backend {} of the server has the advisory lock", holder.pid),
        };
        let found = Holder::from_record(held, Liveness::alive(why));
        status.server_tenures = vec![tenure_of(holder.pid, found.fence)];
        status.holder = Some(found);
    } else if let Some((record, _)) = &row
        && record.native.as_ref().is_some_and(|native| native.state != RecordState::Released)
    {
        status.state = State::Stale;
        let dead = Liveness::dead("its session ended before it had released");
        status.holder = Some(Holder::from_record(Some(record), dead));
    }
    Ok(status)
}

/// Returns the words of the readers in a [row](sql::RECORD); without a row there are none.
fn words_of(row: Option<&Row>) -> Answer<BTreeMap<String, Reader>> {
    row.map_or_else(|| Ok(BTreeMap::new()), |row| readers_of(row.get(4)))
}

/// Returns the name of a tenure: that of its session, with its fence as soon as it has one.
pub(super) fn tenure_of(backend: i32, fence: Option<u64>) -> String {
    fence.map_or_else(|| backend.to_string(), |fence| format!("{backend} {fence}"))
}

/// Returns the names of a session's shares: with its words, or without one where it has none yet.
fn shares_of(backend: i32, words: &BTreeMap<String, Reader>) -> Vec<String> {
    let keys = words.iter().filter(|(_, reader)| reader.backend == backend).map(|(key, _)| key);
    let names: Vec<String> = keys.map(|key| format!("{backend} shares {key}")).collect();
    if names.is_empty() { vec![share_without_word(backend)] } else { names }
}

fn share_without_word(backend: i32) -> String {
    format!("{backend} shares")
}

/// Returns every lock below a name that is held, or whose holder died. A lock that only another program's SQL has taken is
/// a number to the server, without a name.
pub(super) async fn list(postgres: &Postgres) -> Result<Vec<Status>> {
    list_within(postgres, postgres.limit()).await.map_err(|failure| failure.at(&postgres.url.target))
}

async fn list_within(postgres: &Postgres, limit: Duration) -> Answer<Vec<Status>> {
    let end = Instant::now() + limit;
    let left = || end.saturating_duration_since(Instant::now());
    let connection = connect(postgres, Purpose::Look, limit).await?;
    let url = &postgres.url;
    let below = match url.name.trim_end_matches('/') {
        "" => String::new(),
        name => format!("{name}/"),
    };
    // All locks by two statements, however many there are.
    let mut queues: HashMap<i64, Vec<Backend>> = HashMap::new();
    for row in &connection.rows(left(), sql::QUEUES, &[]).await? {
        queues.entry(row.get(3)).or_default().push(Backend::of(row));
    }
    let rows = match connection.rows(left(), sql::BELOW, &[(&below, Type::TEXT)]).await {
        Err(failure) if failure.is_missing() => Vec::new(),
        other => other?,
    };
    let mut found = Vec::new();
    for row in &rows {
        let name: &str = row.get(5);
        let queue = queues.get(&row.get(6)).map_or(&[][..], |queue| queue);
        let status = status_of(&url.sibling(name), &lock_in_words(name), queue, Some(row))?;
        if status.state != State::Free {
            found.push(status);
        }
    }
    Ok(found)
}

/// Returns the row of a name: its fence, state, backend, record and readers.
async fn row(connection: &Connection, name: &str, limit: Duration) -> Answer<Option<Row>> {
    match connection.rows(limit, sql::RECORD, &[(&name, Type::TEXT)]).await {
        Err(failure) if failure.is_missing() => Ok(None),
        other => Ok(other?.into_iter().next()),
    }
}

/// Takes the lock from its holder in `seen`, or from all of `seen` that share it. `false` where that tenure is over.
pub(super) async fn force_release(postgres: &Postgres, seen: &Status) -> Result<bool> {
    force(postgres, seen, postgres.limit()).await.map_err(|failure| failure.at(&postgres.url.target))
}

/// Returns whether the holder's tenure is the one in `seen`. Without a holder it is that of the row, whose holder is dead.
fn is_seen(seen: &Status, holders: &[i32], fence: Option<u64>, is_released: bool) -> bool {
    let is_named = |fence| holders.iter().any(|holder| seen.server_tenures.contains(&tenure_of(*holder, fence)));
    match holders {
        [] => fence.is_some() && fence == seen.holder.as_ref().and_then(|holder| holder.fence),
        // The session of a released row may hold the lock again, and not have written that yet.
        _ => is_named(None) || (!is_released && is_named(fence)),
    }
}

async fn force(postgres: &Postgres, seen: &Status, limit: Duration) -> Answer<bool> {
    let connection = connect(postgres, Purpose::Lock, limit).await?;
    let name = &*postgres.url.name;
    let end = Instant::now() + limit;
    let mut before: Option<Option<i64>> = None;
    loop {
        let queued = queue(&connection, name, limit).await?;
        let mut holders: Vec<i32> = queued.iter().filter(|backend| backend.granted).map(|one| one.pid).collect();
        let row = row(&connection, name, limit).await?;
        if queued.iter().any(|backend| backend.granted && backend.shared) {
            let words = words_of(row.as_ref())?;
            let is_seen = |name| seen.server_tenures.contains(&name);
            holders.retain(|pid| is_seen(share_without_word(*pid)) || shares_of(*pid, &words).into_iter().any(is_seen));
            return end_readers(postgres, &connection, &holders, limit).await;
        }
        // Not a row that another tenure has written meanwhile.
        let row = row.filter(|row| holders.is_empty() || holders.contains(&row.get::<_, i32>(2)));
        let fence = row.as_ref().map(|row| row.get::<_, i64>(0));
        let is_released = row.is_some_and(|row| row.get::<_, &str>(1) == "released");
        let is_seen = is_seen(seen, &holders, fence.and_then(|fence| u64::try_from(fence).ok()), is_released);
        if !is_seen || before.is_some_and(|before| before != fence || holders.is_empty()) {
            // The tenure that was to be broken has ended by itself. The next holder's is another.
            return Ok(false);
        }
        let session = match *holders {
            [holder] => session(&connection, holder, limit).await?.map(|session| (holder, session)),
            _ => None,
        };
        let with_others = session.filter(|(_, session)| session.locks > 1);
        if let (Some((holder, session)), None) = (&with_others, fence)
            && session.is_ours
            && session.may_end
        {
            // It is about to write its row, or waits for the lease of the last holder. Its end would end its other locks.
            if Instant::now() >= end {
                return Err(not_given_up(*holder, UNCHANGED));
            }
            sleep(LOOK_AGAIN).await;
            continue;
        }
        if let (Some((holder, session)), Some(fence)) = (with_others, fence) {
            if !session.may_end {
                return Err(forbidden(holder, "it is another role's"));
            }
            if !is_released {
                let asked = ask_to_give_up(&connection, name, fence, holder, limit).await;
                let Err(failure) = asked else { return asked };
                let is_back = take_back(postgres, &connection, fence, limit).await;
                return Err(if is_back { failure } else { failure.with_hint(STAYS) });
            }
            // Its holder unlocks it next.
        } else if let Some(broken) =
            end_holders(&connection, name, fence.filter(|_| !is_released), &holders, limit).await?
        {
            return Ok(broken);
        }
        if Instant::now() >= end {
            return Err(not_given_up(holders.first().copied().unwrap_or_default(), UNCHANGED));
        }
        before = Some(fence);
        sleep(LOOK_AGAIN).await;
    }
}

/// A session that has the lock.
struct BackendFacts {
    /// This user may end it.
    may_end: bool,
    /// The number of its advisory locks.
    locks: i64,
    /// It is a session of Tenure, and of no other program.
    is_ours: bool,
}

/// Returns the facts of a session. `None` if it has ended.
async fn session(connection: &Connection, backend: i32, limit: Duration) -> Answer<Option<BackendFacts>> {
    let values: &[Value<'_>] = &[(&backend, Type::INT4), (&connect::NAME, Type::TEXT)];
    let rows = connection.rows(limit, sql::MAY_END, values).await?;
    let is = |row: &Row, at| row.get::<_, Option<bool>>(at).unwrap_or(false);
    Ok(rows.first().map(|row| BackendFacts { may_end: is(row, 0), locks: row.get(1), is_ours: is(row, 2) }))
}

/// Takes a break back that has failed: its holder's row must not say for ever that it is being broken. Where this session
/// is lost, another does. Returns whether that succeeded.
async fn take_back(postgres: &Postgres, connection: &Connection, fence: i64, limit: Duration) -> bool {
    let values: &[Value<'_>] = &[(&&*postgres.url.name, Type::TEXT), (&fence, Type::INT8)];
    if connection.rows(limit, sql::TAKE_BREAK_BACK, values).await.is_ok() {
        return true;
    }
    let again = async {
        let connection = connect(postgres, Purpose::Lock, limit).await?;
        connection.rows(limit, sql::TAKE_BREAK_BACK, values).await
    };
    again.await.is_ok()
}

/// Has the holder give one lock up, because its session has others, which its end would end as well. The caller takes the
/// break back where this fails.
async fn ask_to_give_up(connection: &Connection, name: &str, fence: i64, holder: i32, limit: Duration) -> Answer<bool> {
    let end = Instant::now() + limit;
    let values: &[Value<'_>] = &[(&name, Type::TEXT), (&fence, Type::INT8)];
    connection.rows(limit, sql::ASK_BREAK, values).await?;
    let told = fence.to_string();
    loop {
        connection.rows(limit, sql::NOTIFY_BREAK, &[(&told, Type::TEXT)]).await?;
        sleep(LOOK_AGAIN).await;
        let holds = |backend: &Backend| backend.granted && backend.pid == holder;
        if !queue(connection, name, limit).await?.iter().any(holds) {
            // Where its session has ended meanwhile, the row does not say so.
            connection.rows(limit, sql::MARK_BROKEN, values).await?;
            return Ok(true);
        }
        if Instant::now() >= end {
            break;
        }
    }
    Err(not_given_up(holder, UNCHANGED))
}

/// Returns the error of a holder that still has the lock after the time of a break, which has done so much.
fn not_given_up(holder: i32, done: &str) -> Failure {
    let detail =
        format!("the holder's process did not give the lock up in time; its session (backend {holder}) has others");
    Failure::new(ErrorKind::Unreachable, detail).with_hint(format!(
        "{done}: its session ends by itself when the lease is over; `SELECT pg_terminate_backend({holder})` \
         ends it with all its locks"
    ))
}

/// Ends the holders' sessions, and marks the row as released. Does both or neither: with a row that says "released", the
/// next holder would not wait for the lease of a session that still holds. The row comes first, so that the next holder, which
/// reads the row, waits for the end of this. `None`, and nothing is changed, if the holder of that fence has released by
/// itself meanwhile: its session may have another lock by now.
async fn end_holders(
    connection: &Connection,
    name: &str,
    fence: Option<i64>,
    holders: &[i32],
    limit: Duration,
) -> Answer<Option<bool>> {
    connection.batch(limit, "BEGIN").await?;
    let marked = match fence {
        Some(fence) => {
            let values: &[Value<'_>] = &[(&name, Type::TEXT), (&fence, Type::INT8)];
            !connection.rows(limit, sql::MARK_BROKEN, values).await?.is_empty()
        }
        None => false,
    };
    if fence.is_some() && !marked {
        connection.batch(limit, "ROLLBACK").await?;
        return Ok(holders.is_empty().then_some(false));
    }
    let mut ended = false;
    for holder in holders {
        // The connection's end rolls back.
        ended |= connection.end(*holder, limit).await?;
    }
    connection.batch(limit, "COMMIT").await?;
    Ok(Some(ended || marked))
}

/// The sessions that share a lock, as a break ends their shares.
#[derive(Default)]
struct Sharers {
    words: BTreeMap<String, Reader>,
    /// Those that have other locks as well, and are asked to give this one up.
    asked: Vec<i32>,
    /// Those that are ended.
    ended: Vec<i32>,
    /// A session of Tenure that has other locks, and no word for this one: it is about to write or to unlock it.
    unsettled: Option<i32>,
}

impl Sharers {
    async fn of(connection: &Connection, name: &str, holders: &[i32], limit: Duration) -> Answer<Sharers> {
        let found = row(connection, name, limit).await?;
        let words = found.map_or_else(|| Ok(BTreeMap::new()), |row| readers_of(row.get(4)))?;
        let mut sharers = Sharers { words, ..Sharers::default() };
        for holder in holders.iter().copied() {
            let Some(session) = session(connection, holder, limit).await? else { continue };
            if !session.may_end {
                return Err(forbidden(holder, "it is another role's"));
            }
            let has_word = !sharers.words_of(holder).is_empty();
            match session.locks > 1 {
                true if has_word => sharers.asked.push(holder),
                true if session.is_ours => sharers.unsettled = Some(holder),
                true | false => sharers.ended.push(holder),
            }
        }
        Ok(sharers)
    }

    fn words_of(&self, backend: i32) -> Vec<&str> {
        self.words.iter().filter(|(_, reader)| reader.backend == backend).map(|(key, _)| &**key).collect()
    }
}

/// Takes a shared lock from all that have it: their sessions are ended, or asked to give it up where they have other locks.
async fn end_readers(postgres: &Postgres, connection: &Connection, holders: &[i32], limit: Duration) -> Answer<bool> {
    let name = &*postgres.url.name;
    let (end, mut holders) = (Instant::now() + limit, holders.to_vec());
    let sharers = loop {
        let sharers = Sharers::of(connection, name, &holders, limit).await?;
        let Some(unsettled) = sharers.unsettled else { break sharers };
        if Instant::now() >= end {
            // Its end would end its other locks as well.
            return Err(not_given_up(unsettled, UNCHANGED));
        }
        sleep(LOOK_AGAIN).await;
        let queued = queue(connection, name, limit).await?;
        holders.retain(|pid| queued.iter().any(|one| one.granted && one.shared && one.pid == *pid));
    };
    let keys: Vec<&str> = sharers.asked.iter().flat_map(|holder| sharers.words_of(*holder)).collect();
    let mut broken = !sharers.asked.is_empty();
    if broken {
        let given_up = ask_for_shares(connection, name, &keys, &sharers.asked, limit).await;
        if let Err(failure) = given_up {
            let taken_back = mark_shares(connection, name, &keys, false, limit).await;
            return Err(if taken_back.is_ok() { failure } else { failure.with_hint(STAYS) });
        }
    }
    for holder in &sharers.ended {
        connection.batch(limit, "BEGIN").await?;
        let values: &[Value<'_>] = &[(&name, Type::TEXT), (&sharers.words_of(*holder), Type::TEXT_ARRAY)];
        connection.rows(limit, sql::UNSHARE, values).await?;
        // The connection's end rolls back.
        broken |= connection.end(*holder, limit).await?;
        connection.batch(limit, "COMMIT").await?;
    }
    Ok(broken)
}

async fn mark_shares(
    connection: &Connection,
    name: &str,
    keys: &[&str],
    breaking: bool,
    limit: Duration,
) -> Answer<()> {
    let values: &[Value<'_>] = &[(&name, Type::TEXT), (&keys, Type::TEXT_ARRAY), (&breaking, Type::BOOL)];
    connection.rows(limit, sql::ASK_SHARES, values).await.map(drop)
}

/// Has sessions give their shares up, because they have other locks. The caller takes the break back where this fails.
async fn ask_for_shares(
    connection: &Connection,
    name: &str,
    keys: &[&str],
    holders: &[i32],
    limit: Duration,
) -> Answer<()> {
    let end = Instant::now() + limit;
    mark_shares(connection, name, keys, true, limit).await?;
    loop {
        for key in keys {
            let told = format!("{WORD}{key}");
            connection.rows(limit, sql::NOTIFY_BREAK, &[(&told, Type::TEXT)]).await?;
        }
        sleep(LOOK_AGAIN).await;
        let queued = queue(connection, name, limit).await?;
        let holds = |pid: &&i32| queued.iter().any(|backend| backend.granted && backend.shared && backend.pid == **pid);
        let Some(holder) = holders.iter().find(holds) else {
            // Where a session has ended meanwhile, its word is still there.
            let values: &[Value<'_>] = &[(&name, Type::TEXT), (&keys, Type::TEXT_ARRAY)];
            return connection.rows(limit, sql::UNSHARE, values).await.map(drop);
        };
        if Instant::now() >= end {
            return Err(not_given_up(*holder, SOME_ENDED));
        }
    }
}
