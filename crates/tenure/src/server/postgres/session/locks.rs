//! Takes and unlocks advisory locks, many by one statement.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_postgres::types::Type;

use super::super::claims::Claimed;
use super::super::connect::{Answer, Failure, Value};
use super::super::{rows, sql};
use super::renewal::LosesSession;
use super::{Claim, PAUSE, Session, State, Try, Unlock};
use crate::record::Record;
use crate::server::io_thread::within;
use crate::sys::LockKind;

/// The maximum number of locks in one statement. A renewal waits behind one statement at most.
const MOST_AT_ONCE: usize = 1024;

impl Session {
    /// Takes a lock if it is free.
    pub(in crate::server::postgres) async fn try_lock(
        self: &Arc<Self>,
        name: &Arc<str>,
        kind: LockKind,
    ) -> Answer<Option<Claim>> {
        match self.ask_for(name, kind) {
            // Without an answer the session has it.
            Some(answer) => answer.await.unwrap_or(Ok(None)),
            None => Ok(None),
        }
    }

    /// Asks for a lock if it is free. `None` where the session has it, and it is not shared, or is closed.
    pub(in crate::server::postgres) fn ask_for(
        self: &Arc<Self>,
        name: &Arc<str>,
        kind: LockKind,
    ) -> Option<oneshot::Receiver<Answer<Option<Claim>>>> {
        let (tell, answer) = oneshot::channel();
        let mut state = self.state();
        if state.closed || state.lost.is_some() {
            drop(state);
            let _ = tell.send(Err(self.loss()));
            return Some(answer);
        }
        if state.claims.kind_of(name).is_some_and(|held| held != LockKind::Shared || kind != LockKind::Shared) {
            return None;
        }
        state.tries.push_back(Try { name: Arc::clone(name), kind, tell });
        drop(state);
        self.asked.notify_one();
        Some(answer)
    }

    /// Records an advisory lock that the server has granted. `None` where the session had it already, and does not share it.
    pub(super) fn claim(self: &Arc<Self>, name: &Arc<str>, number: i64, kind: LockKind) -> Option<Claim> {
        let user = self.beside.users().add();
        let mut state = self.state();
        let taken = state.claims.take(name, number, kind, user);
        if taken.is_surplus {
            // Another name with this number, or another acquire of this name.
            state.unlocks.push_back(Unlock { number, kind, name: Arc::clone(name), tell: None });
            self.asked.notify_one();
        }
        taken.key.map(|key| Claim { session: Arc::clone(self), number: Some(key) })
    }

    /// Takes a claim out, to be unlocked. Its name and number stay until then.
    pub(in crate::server::postgres) fn take_claim(&self, key: u64) -> Option<Claimed> {
        self.state().claims.remove(key)
    }

    /// Removes the word of a shared lock, if it is the last with that word. `false` if the word is not there any more.
    pub(in crate::server::postgres) async fn unshare(&self, claim: &Claimed, limit: Duration) -> Answer<bool> {
        let Some(word) = &claim.word else { return Ok(true) };
        match word.leave().await {
            Some(key) => self.beside.unshare(&claim.name, &key, limit).await,
            None => Ok(true),
        }
    }

    /// Returns whether the session itself may write the row of a claim that it releases: it has no other, whose renewal would
    /// wait where the write waits for a synchronous standby. It waits for a locked row [briefly](sql::BRIEFLY_MS).
    pub(in crate::server::postgres) fn may_write(&self, claim: &Claimed) -> bool {
        let state = self.state();
        let is_asked = state.is_asking || !state.unlocks.is_empty() || !state.tries.is_empty();
        claim.kind == LockKind::Exclusive && state.claims.are_only(claim) && !is_asked
    }

    /// Writes the row of a tenure that ends, and unlocks once that is committed, in one round trip. Returns whether the row was
    /// its own, and whether it is unlocked: after an error it is not.
    pub(in crate::server::postgres) async fn write_and_unlock(
        &self,
        claim: &Claimed,
        record: &Record,
    ) -> Answer<(bool, bool)> {
        let (state, text) = (rows::state_of(record), record.to_json());
        let row: &[Value<'_>] =
            &[(&&*claim.name, Type::TEXT), (&claim.fence, Type::INT8), (&state, Type::TEXT), (&text, Type::TEXT)];
        let number: &[Value<'_>] = &[(&claim.fence, Type::INT8), (&claim.number, Type::INT8)];
        // Sent together. Where the second comes first, or the first fails, the second does nothing.
        let (written, unlocked) = tokio::join!(
            self.connection.rows_long(sql::RELEASE, row),
            self.connection.rows_long(sql::UNLOCK_RELEASED, number)
        );
        let is_written = !written?.is_empty();
        let is_unlocked = unlocked?.first().is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true));
        if is_unlocked {
            self.state().claims.forget(claim);
            self.asked.notify_one();
            self.changed.notify_one();
            self.beside.released(&claim.name);
        }
        Ok((is_written, is_unlocked))
    }

    /// Unlocks what was claimed. Returns whether the session had it.
    pub(in crate::server::postgres) async fn unlock(&self, claim: Claimed) -> Answer<bool> {
        let (tell, answer) = oneshot::channel();
        self.unlock_later(&claim, Some(tell));
        let limit = self.call_limit();
        match within(limit, answer).await {
            Some(answer) => answer.unwrap_or_else(|_| Err(self.loss())),
            None => Err(Failure::silent(limit)),
        }
    }

    pub(super) fn unlock_later(&self, claim: &Claimed, tell: Option<oneshot::Sender<Answer<bool>>>) {
        let Claimed { number, name, kind, .. } = claim;
        let mut state = self.state();
        let is_last = state.claims.forget(claim);
        if !is_last {
            // The others of this session share it on.
            if let Some(tell) = tell {
                let _ = tell.send(Ok(true));
            }
        } else if self.connection.over.why().is_none() {
            state.unlocks.push_back(Unlock { number: *number, kind: *kind, name: Arc::clone(name), tell });
        }
        drop(state);
        self.asked.notify_one();
        self.changed.notify_one();
    }

    /// Gives the pool its place back once a session that waited holds nothing any more. The next waiter may use it.
    fn settle(self: &Arc<Self>) {
        let permit = {
            let mut state = self.state();
            if state.has_locks() || state.waits {
                return;
            }
            state.idle_since = Instant::now();
            state.permit.take()
        };
        if let Some(permit) = permit {
            if self.is_open() {
                self.beside.keep_free(self);
            }
            drop(permit);
        }
    }
}

/// Takes and unlocks advisory locks, many by one statement, until the session is lost.
pub(super) async fn take_and_unlock(session: Arc<Session>) {
    let _loses = LosesSession(Arc::clone(&session));
    loop {
        let (unlocks, asked, lost) = {
            let mut state = session.state();
            let most = state.unlocks.len().min(MOST_AT_ONCE);
            let unlocks: Vec<Unlock> = state.unlocks.drain(..most).collect();
            let asked = Asked::from(&mut state);
            state.is_asking = !unlocks.is_empty() || !asked.are_none();
            (unlocks, asked, state.closed && session.connection.over.why().is_some())
        };
        if unlocks.is_empty() && asked.are_none() {
            session.settle();
            if lost {
                return;
            }
            session.asked.notified().await;
            continue;
        }
        if !unlocks.is_empty() {
            session.unlock_all(unlocks).await;
        }
        if !asked.joins.is_empty() {
            session.join_all(asked.joins).await;
        }
        if !asked.tries.is_empty() {
            session.try_all(asked.tries, asked.others).await;
        }
    }
}

/// The tries that one statement serves.
#[derive(Default)]
struct Asked {
    tries: Vec<Try>,
    /// For locks that the session shares already.
    joins: Vec<Try>,
    /// For locks that one of `tries` is to share.
    others: Vec<Try>,
}

impl Asked {
    fn from(state: &mut State) -> Asked {
        let most = state.tries.len().min(MOST_AT_ONCE);
        let mut asked = Asked::default();
        // A name twice in one statement would be taken twice. A dropped sender is an answer: it is not free.
        let mut names: HashMap<Arc<str>, LockKind> = HashMap::new();
        for one in state.tries.drain(..most) {
            let held = state.claims.kind_of(&one.name);
            let kind = held.or_else(|| names.get(&one.name).copied());
            match kind {
                None => {
                    names.insert(Arc::clone(&one.name), one.kind);
                    asked.tries.push(one);
                }
                Some(LockKind::Shared) if one.kind == LockKind::Shared && held.is_some() => asked.joins.push(one),
                Some(LockKind::Shared) if one.kind == LockKind::Shared => asked.others.push(one),
                Some(_) => {}
            }
        }
        asked
    }

    fn are_none(&self) -> bool {
        self.tries.is_empty() && self.joins.is_empty()
    }
}

impl Session {
    async fn unlock_all(self: &Arc<Self>, unlocks: Vec<Unlock>) {
        let numbers: Vec<i64> = unlocks.iter().map(|unlock| unlock.number).collect();
        let shared: Vec<bool> = unlocks.iter().map(|unlock| unlock.kind == LockKind::Shared).collect();
        let values: &[Value<'_>] = &[(&numbers, Type::INT8_ARRAY), (&shared, Type::BOOL_ARRAY)];
        let mut is_repeated = false;
        let answer = loop {
            match self.connection.rows_long(sql::UNLOCK, values).await {
                Err(failure) if !failure.is_lost() && self.may_unlock_again(&numbers) => {
                    is_repeated = true;
                    sleep(PAUSE).await;
                }
                answer => break answer,
            }
        };
        let answer = answer.map(|rows| {
            let failed = rows.iter().filter(|row| !row.get::<_, Option<bool>>(1).unwrap_or(false));
            failed.map(|row| row.get(0)).collect::<HashSet<i64>>()
        });
        for (at, unlock) in (1..).zip(unlocks) {
            // What is not locked any more was unlocked by the statement that failed.
            let unlocked = answer.as_ref().map(|failed| is_repeated || !failed.contains(&at)).map_err(Failure::clone);
            if let Some(tell) = unlock.tell {
                let _ = tell.send(unlocked);
            }
            self.beside.released(&unlock.name);
        }
        if let Err(failure) = answer {
            self.close(&format!("a lock could not be released: {}", failure.detail));
        }
    }

    /// Returns whether a failed statement may be repeated. It may have unlocked some: again it must not unlock a claim.
    fn may_unlock_again(&self, numbers: &[i64]) -> bool {
        let state = self.state();
        state.lost.is_none() && !numbers.iter().any(|number| state.claims.has_number(*number))
    }

    /// Takes locks that are free. The others are asked again for what these share.
    async fn try_all(self: &Arc<Self>, tries: Vec<Try>, others: Vec<Try>) {
        let names: Vec<&str> = tries.iter().map(|asked| &*asked.name).collect();
        let shared: Vec<bool> = tries.iter().map(|asked| asked.kind == LockKind::Shared).collect();
        let values: &[Value<'_>] = &[(&names, Type::TEXT_ARRAY), (&shared, Type::BOOL_ARRAY)];
        let rows = match self.connection.rows_long(sql::TRY_LOCK, values).await {
            Ok(rows) => rows,
            Err(failure) => {
                self.undo(&names, &shared).await;
                for asked in tries.into_iter().chain(others) {
                    let _ = asked.tell.send(Err(failure.clone()));
                }
                return;
            }
        };
        let mut taken: HashMap<i64, i64> = HashMap::new();
        for row in rows.iter().filter(|row| row.get::<_, Option<bool>>(2).unwrap_or(false)) {
            taken.insert(row.get(0), row.get(1));
        }
        for (at, asked) in (1..).zip(tries) {
            let claim = taken.get(&at).and_then(|number| self.claim(&asked.name, *number, asked.kind));
            // A claim that is not waited for any more is unlocked.
            let _ = asked.tell.send(Ok(claim));
        }
        let mut state = self.state();
        for other in others {
            if state.claims.kind_of(&other.name).is_some() {
                state.tries.push_front(other);
                self.asked.notify_one();
            }
        }
    }

    /// Shares locks that this session shares already, where no session waits for the exclusive lock: the server would not
    /// let the next reader in before it.
    async fn join_all(self: &Arc<Self>, joins: Vec<Try>) {
        let names: Vec<&str> = joins.iter().map(|asked| &*asked.name).collect();
        let values: &[Value<'_>] = &[(&names, Type::TEXT_ARRAY)];
        let awaited: HashSet<i64> = match self.connection.rows_long(sql::AWAITED, values).await {
            Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
            Err(failure) => {
                joins.into_iter().for_each(|asked| drop(asked.tell.send(Err(failure.clone()))));
                return;
            }
        };
        for (at, asked) in (1..).zip(joins) {
            if awaited.contains(&at) {
                let _ = asked.tell.send(Ok(None));
                continue;
            }
            let joined = {
                let user = self.beside.users().add();
                let mut state = self.state();
                state.claims.join(&asked.name, user)
            };
            match joined {
                Some(key) => {
                    let claim = Claim { session: Arc::clone(self), number: Some(key) };
                    let _ = asked.tell.send(Ok(Some(claim)));
                }
                // The last of the others was released meanwhile.
                None => {
                    self.state().tries.push_front(asked);
                    self.asked.notify_one();
                }
            }
        }
    }

    /// Unlocks what a failed statement may have taken: advisory locks outlive their statement's failure.
    async fn undo(&self, names: &[&str], shared: &[bool]) {
        let ours = self.state().claims.numbers();
        let values: &[Value<'_>] =
            &[(&names, Type::TEXT_ARRAY), (&shared, Type::BOOL_ARRAY), (&ours, Type::INT8_ARRAY)];
        if let Err(failure) = self.connection.rows_long(sql::UNDO_TRY, values).await {
            self.close(&format!("locks of a failed acquire could not be unlocked: {}", failure.detail));
        }
    }
}
