//! A session that waits for the lock, and then holds it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::connect::{Address, Connection, Purpose};
use super::sql;
use crate::model::error::{Error, ErrorKind, Result};
use crate::process::Identity;
use crate::record::{self, Content, Record, RecordState};
use crate::server::lease::{BootTime, Lease, call_limit};
use crate::server::lock_server::{AnswerBy, Granted, Interrupter, Session, WaitLimit};

/// `lock_timeout` ran out.
const TIMED_OUT: &str = "55P03";
/// A statement was cancelled: by `statement_timeout`, or by an operator.
const CANCELLED: &str = "57014";

pub(super) struct PostgresSession {
    connection: Connection,
    record: Record,
    wait_limit: WaitLimit,
    /// The deadline of every call until the grant.
    answer_by: AnswerBy,
    step: Step,
    woken: Arc<Notify>,
    term: Lease,
}

type Locking = JoinHandle<std::result::Result<(), tokio_postgres::Error>>;

/// How far the session has come.
enum Step {
    Out,
    /// In the server's queue.
    Queued(Locking),
    /// It has the advisory lock, and has not read the row.
    Mine,
    /// It has the advisory lock, but until then the last holder may still rely on its lease.
    Locked(Option<Box<Record>>, Option<BootTime>),
    Held(i64),
}

/// The result of a sleep.
enum Woke {
    /// The time is over, or the interrupter was called.
    Up,
    Closed(String),
    Locked(std::result::Result<(), tokio_postgres::Error>),
}

impl PostgresSession {
    pub(super) fn connect(
        address: &Address,
        record: Record,
        wait_limit: WaitLimit,
        answer_by: Option<Instant>,
    ) -> Result<PostgresSession> {
        let ttl = address.url.ttl;
        let answer_by = AnswerBy::new(answer_by);
        let limit = || answer_by.within(call_limit(ttl));
        let sent = BootTime::now();
        let first = sql::begin(ttl.as_millis(), call_limit(ttl).as_millis());
        let connection = address.connect(&first, Purpose::Lock, limit())?;
        address.refuse_proxy(&connection, limit())?;
        Ok(PostgresSession {
            connection,
            record,
            wait_limit,
            answer_by,
            step: Step::Out,
            woken: Arc::default(),
            term: Lease { ttl, confirmed: sent },
        })
    }

    fn name(&self) -> &str {
        &self.connection.address.url.name
    }

    fn limit(&self) -> Duration {
        self.answer_by.within(call_limit(self.term.ttl))
    }

    /// Takes the advisory lock, or a place in its queue: step 2 of the protocol.
    fn try_lock(&self) -> Result<bool> {
        let rows = self.connection.rows(self.limit(), sql::TRY_LOCK, &[(&self.name(), Type::TEXT)])?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    fn queue(&self) -> Result<Locking> {
        let client = self.connection.client();
        let (third, own) = ((self.term.ttl / 3).as_millis(), call_limit(self.term.ttl).as_millis());
        // The server then notices the client's death while the client waits. Not every platform's server can.
        let check = format!("SET client_connection_check_interval = '{third}ms'");
        let times = format!("SET lock_timeout = '{}ms'; SET statement_timeout = 0", self.lock_timeout());
        let client_of = Arc::clone(&client);
        self.connection.within(self.limit(), async move {
            let _ = client_of.batch_execute(&check).await;
            client_of.batch_execute(&times).await
        })?;
        let name = self.name().to_owned();
        Ok(self.connection.runtime.spawn(async move {
            let values: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[(&name, Type::TEXT)];
            // Sent together, so that resetting the timeout costs no round trip.
            let back = format!("SET statement_timeout = '{own}ms'");
            let (locked, back) = tokio::join!(client.query_typed(sql::LOCK, values), client.batch_execute(&back));
            locked.map(drop).and(back)
        }))
    }

    /// In milliseconds; 0 is without an end.
    fn lock_timeout(&self) -> u128 {
        match self.wait_limit {
            WaitLimit::Until(Some(deadline)) => {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
                left.min(i32::MAX as u128)
            }
            _ => 0,
        }
    }

    fn sleep(&mut self, patience: Duration) -> Woke {
        let (woken, over) = (Arc::clone(&self.woken), Arc::clone(&self.connection.over));
        let step = &mut self.step;
        self.connection.runtime.block_on(async {
            let locked = async {
                match step {
                    Step::Queued(locking) => match locking.await {
                        Ok(result) => result,
                        // The task is not cancelled, and does not panic.
                        Err(_) => std::future::pending().await,
                    },
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                result = locked => Woke::Locked(result),
                why = over.wait() => Woke::Closed(why),
                () = woken.notified() => Woke::Up,
                () = sleep(patience) => Woke::Up,
            }
        })
    }

    /// Reads the row of the last holder: step 3 of the protocol.
    fn locked(&self) -> Result<Step> {
        let connection = &self.connection;
        let read = |sql| connection.rows(self.limit(), sql, &[(&self.name(), Type::TEXT)]);
        let mut rows = connection.with_tables(self.limit(), || read(sql::LAST))?;
        if rows.first().is_some_and(|row| row.get::<_, &str>(1) != state_word(RecordState::Released)) {
            rows = read(sql::LAST_AFTER_ALL)?;
        }
        let Some(row) = rows.first() else { return Ok(Step::Locked(None, None)) };
        // A grant of this process that the server committed too late. It had no holder.
        if connection.address.is_unsure(row.get(3)) {
            return Ok(Step::Locked(None, None));
        }
        let state: String = row.get(1);
        let last = of_text(row.get(4), row.get(0), &state);
        let unreleased = last.native.as_ref().is_some_and(|native| native.state != RecordState::Released);
        if !unreleased {
            return Ok(Step::Locked(None, None));
        }
        let renewer = of_text(row.get(3), 0, &state);
        let dead = renewer.identity().is_some_and(|identity| is_proven_dead(&identity));
        let lease = Duration::from_millis(u64::try_from(row.get::<_, i64>(2)).unwrap_or(0));
        let until = (state == "held" && !dead).then(|| BootTime::now().after(lease));
        Ok(Step::Locked(Some(Box::new(last)), until))
    }

    /// Writes the row: step 4 of the protocol.
    fn enter(&mut self, last: Option<Record>) -> Result<Granted> {
        if let Some(native) = &mut self.record.native {
            native.acquired_at = Some(SystemTime::now());
        }
        let lease = i64::try_from(self.term.ttl.as_millis()).unwrap_or(i64::MAX);
        let record = self.record.to_json();
        let values: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&self.name(), Type::TEXT), (&lease, Type::INT8), (&record, Type::TEXT)];
        let connection = &self.connection;
        let sent = BootTime::now();
        let rows = connection.rows(self.limit(), sql::GRANT, values).inspect_err(|_| {
            // The server may still commit it.
            connection.address.be_unsure(&record);
        })?;
        let Some(row) = rows.first() else { return Err(self.behind()) };
        let fence: i64 = row.get(0);
        connection.address.be_sure(&record);
        self.term.confirmed = sent;
        if let Some(native) = &mut self.record.native {
            native.fence = u64::try_from(fence).ok();
        }
        self.step = Step::Held(fence);
        self.answer_by = AnswerBy::default();
        Ok(Granted { record: self.record.clone(), last, confirmed: sent })
    }

    /// Returns the error of a fence that would not be greater than the last one: the resource would refuse every holder from
    /// now on, or accept one from the past.
    fn behind(&self) -> Error {
        let rows = self.connection.rows(self.limit(), sql::FENCES, &[(&self.name(), Type::TEXT)]).unwrap_or_default();
        let seen = rows.first().map(|row| (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1).unwrap_or(0)));
        let (last, next) = seen.unwrap_or((0, 0));
        let detail =
            format!("its fence would go back: the last holder's was {last}, the sequence tenure.fence is at {next}");
        Error::new(ErrorKind::Io, &self.connection.address.url.target, detail).with_hint(
            "the sequence was reset, or was not copied with the table: \
             SELECT setval('tenure.fence', (SELECT max(fence) FROM tenure.locks)), and more where a resource has seen more",
        )
    }

    fn not_ours(&self) -> Error {
        let detail = "its row was changed at the server: the lock was broken, or given to another";
        Error::new(ErrorKind::Lost, &self.connection.address.url.target, detail)
    }

    fn write(&self, record: &Record, fence: i64, limit: Duration) -> Result<bool> {
        let state = record.native.as_ref().map_or(RecordState::Held, |native| native.state);
        let (state, text) = (state_word(state), record.to_json());
        let values: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&self.name(), Type::TEXT), (&fence, Type::INT8), (&state, Type::TEXT), (&text, Type::TEXT)];
        Ok(self.connection.changed(limit, sql::SHOW, values)? == 1)
    }
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

impl Session for PostgresSession {
    fn wait(&mut self, patience: Duration) -> Result<Option<Granted>> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match std::mem::replace(&mut self.step, Step::Out) {
                Step::Out => {
                    self.step = match self.try_lock()? {
                        true => Step::Mine,
                        false if self.wait_limit == WaitLimit::Never => return Ok(None),
                        false => Step::Queued(self.queue()?),
                    };
                }
                Step::Mine => {
                    // Where that fails this session has the lock nevertheless.
                    self.step = Step::Mine;
                    self.step = self.locked()?;
                }
                Step::Locked(last, None) => {
                    let granted = self.enter(last.as_deref().cloned());
                    if granted.is_err() {
                        self.step = Step::Locked(last, None);
                    }
                    return granted.map(Some);
                }
                Step::Locked(last, Some(until)) => {
                    let grace = until.from(BootTime::now());
                    self.step = Step::Locked(last, if grace.is_zero() { None } else { Some(until) });
                    if !grace.is_zero() {
                        if let Woke::Closed(why) = self.sleep(grace.min(left)) {
                            return Err(self.connection.lost(&why));
                        }
                        if grace >= left {
                            return Ok(None);
                        }
                    }
                }
                queued => {
                    self.step = queued;
                    match self.sleep(left) {
                        Woke::Up => return Ok(None),
                        Woke::Closed(why) => return Err(self.connection.lost(&why)),
                        Woke::Locked(Ok(())) => self.step = Step::Mine,
                        Woke::Locked(Err(error)) if error.code().is_some_and(|code| code.code() == TIMED_OUT) => {
                            self.step = Step::Out;
                            return Ok(None);
                        }
                        Woke::Locked(Err(error)) => {
                            self.step = Step::Out;
                            return Err(match self.connection.over.why() {
                                Some(why) => self.connection.lost(&why),
                                // It has no time of its own here: an operator ended it.
                                None if error.code().is_some_and(|code| code.code() == CANCELLED) => {
                                    self.connection.address.error(&error).with_kind(ErrorKind::Io)
                                }
                                None => self.connection.address.error(&error),
                            });
                        }
                    }
                }
            }
        }
    }

    fn renew(&mut self, limit: Duration) -> Result<()> {
        // A waiting session is not idle, and its connection's keep-alives watch it.
        if matches!(self.step, Step::Queued(_)) {
            return self.connection.over.why().map_or(Ok(()), |why| Err(self.connection.lost(&why)));
        }
        let sent = BootTime::now();
        self.connection.check_backend(limit).map_err(|error| match error.is_unsupported() {
            true => error.with_kind(ErrorKind::Lost),
            false => error,
        })?;
        self.term.confirmed = sent;
        Ok(())
    }

    fn idle(&mut self, patience: Duration) -> Result<()> {
        match self.sleep(patience) {
            Woke::Closed(why) => Err(self.connection.lost(&why)),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, record: &Record, limit: Duration) -> Result<()> {
        let Step::Held(fence) = self.step else { return Ok(()) };
        match self.write(record, fence, limit)? {
            true => Ok(()),
            false => Err(self.not_ours()),
        }
    }

    fn release(&mut self, record: Option<&Record>, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        match (&self.step, record) {
            (Step::Held(fence), Some(record)) => {
                let written = self.write(record, *fence, limit);
                // After the commit, because the next holder must read that it was released.
                let left = end.saturating_duration_since(Instant::now());
                let unlocked = self.connection.rows(left, sql::UNLOCK, &[(&self.name(), Type::TEXT)]);
                let unlocked = unlocked.map(|rows| rows.first().is_some_and(|row| row.get(0)));
                match (written, unlocked) {
                    (Ok(true), Ok(true)) => Ok(()),
                    (Err(error), _) | (_, Err(error)) => {
                        let seconds = self.term.ttl.as_secs();
                        Err(error.with_hint(format!(
                            "the lock is free when its session ends, after {seconds} s at most; later where the session \
                             waits for a synchronous standby"
                        )))
                    }
                    _ => Err(self.not_ours()),
                }
            }
            (Step::Queued(_), _) => {
                self.connection.cancel(limit);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn interrupter(&self) -> Interrupter {
        let woken = Arc::clone(&self.woken);
        Arc::new(move || woken.notify_one())
    }

    fn was_cut_short(&self) -> bool {
        self.answer_by.was_cut_short()
    }

    fn lease(&self) -> Lease {
        self.term
    }
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
