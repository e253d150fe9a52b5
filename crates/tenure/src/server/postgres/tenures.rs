//! The tenures of a session: their releases, their records and their breaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::claims::Claimed;
use super::connect::{Answer, Failure};
use super::session::{PAUSE, Session, WRITE_AGAIN};
use crate::model::error::{Error, ErrorKind};
use crate::record::Record;
use crate::server::io_thread::within;
use crate::server::keeps_tenures::KeepsTenures;
use crate::server::lease::BootTime;
use crate::server::reports;
use crate::server::tenure::ServerTenure;
use crate::sys::LockKind;
use crate::util::trace::event;

impl KeepsTenures for Session {
    async fn attend(self: Arc<Self>, key: u64) {
        enum Todo {
            Release(Claimed),
            Report,
            Publish(Arc<str>, i64),
        }
        let (tenure, todo) = {
            let mut state = self.state();
            let Some(claim) = state.claims.get_mut(key) else { return };
            let Some(tenure) = claim.tenure.clone() else { return };
            let todo = if tenure.is_released() {
                drop(state);
                let Some(claim) = self.take_claim(key) else { return };
                if let Some(timer) = &claim.timer {
                    timer.abort();
                }
                Todo::Release(claim)
            } else if !tenure.is_held() {
                Todo::Report
            } else if tenure.is_unpublished() && !std::mem::replace(&mut claim.is_publishing, true) {
                Todo::Publish(Arc::clone(&claim.name), claim.fence)
            } else {
                return;
            };
            (tenure, todo)
        };
        match todo {
            Todo::Release(claim) => self.release(claim, &tenure, tenure.time_to_release()).await,
            Todo::Report => {
                // The holder has the rest of its own lease to stop its work. The session's may be renewed for others.
                let free_at = tenure.lease().free_at();
                reports::report_loss(tenure);
                self.leave_at(free_at, key).await;
            }
            Todo::Publish(name, fence) => self.publish(key, &name, fence, &tenure).await,
        }
    }

    async fn release_early(self: Arc<Self>, key: u64, tenure: &ServerTenure, limit: Duration) {
        if let Some(claim) = self.take_claim(key) {
            self.release(claim, tenure, limit).await;
        }
    }

    fn set_timer(&self, key: u64, timer: AbortHandle) {
        match self.state().claims.get_mut(key) {
            Some(claim) => claim.timer = Some(timer),
            // It was released already.
            None => timer.abort(),
        }
    }
}

/// What the row is to say of the end of a tenure.
enum End {
    Exclusive(Box<Record>),
    /// The word that is to be removed.
    Shared(Option<String>),
}

impl End {
    /// Returns the end of a tenure. The last shared lock with a word takes it away.
    async fn of(claim: &Claimed, tenure: &ServerTenure) -> End {
        match &claim.word {
            Some(word) => End::Shared(word.leave().await),
            None => End::Exclusive(Box::new(tenure.final_record())),
        }
    }
}

impl Session {
    /// Unlocks a lost tenure whose guard still exists by then. Its row stays, so that the next holder waits for the lease and
    /// gets its crash report.
    async fn leave_at(&self, free_at: BootTime, key: u64) {
        loop {
            let left = free_at.from(BootTime::now());
            if left.is_zero() {
                break;
            }
            sleep(left).await;
        }
        if let Some(claim) = self.take_claim(key) {
            let tenure = claim.tenure.clone();
            // A word is of use no more: its lease is over.
            let _ = self.unshare(&claim, self.call_limit()).await;
            let _ = self.unlock(claim).await;
            // A release that began before the loss was known waits for its result, and finds no claim.
            if let Some(tenure) = tenure {
                tenure.finish(tenure.check());
            }
        }
    }

    /// Marks the row, or removes the word, and then unlocks, because the next holder must read that the lock was released.
    async fn release(self: Arc<Self>, claim: Claimed, tenure: &ServerTenure, limit: Duration) {
        let target = tenure.target();
        let at = |failure: Failure| failure.at(target);
        // Where the server has ended the session, the next holder waits for the rest of our lease.
        if self.connection.over.why().is_some() {
            return tenure.finish(Err(at(self.loss())));
        }
        let end = End::of(&claim, tenure).await;
        let written = match &end {
            End::Exclusive(record) if self.may_write(&claim) => {
                let (answer, is_late) = {
                    let writes = self.write_and_unlock(&claim, record);
                    tokio::pin!(writes);
                    match within(limit, &mut writes).await {
                        Some(answer) => (answer, false),
                        None => {
                            tenure.finish(Err(self.unanswered_release(at(Failure::silent(limit)))));
                            (writes.await, true)
                        }
                    }
                };
                match answer {
                    Ok((_, true)) if is_late => return,
                    _ if is_late => return self.release_later(claim, &end).await,
                    Ok((true, true)) => return tenure.finish(Ok(())),
                    Ok((is_ours, _)) => Ok(is_ours),
                    Err(failure) if failure.is_unanswered() => Err(failure),
                    // Another program has locked the row or the table.
                    Err(_) => self.write_end(&claim, &end, limit).await,
                }
            }
            _ => self.write_end(&claim, &end, limit).await,
        };
        if let Err(failure) = &written
            && failure.is_unanswered()
        {
            tenure.finish(Err(self.unanswered_release(at(failure.clone()))));
            return self.release_later(claim, &end).await;
        }
        let unlocked = self.unlock(claim).await;
        // A word may be missing because the writing was repeated. The session has shared the lock until it unlocked.
        let is_shared = matches!(end, End::Shared(_));
        tenure.finish(match (written, unlocked) {
            (Ok(is_ours), Ok(true)) if is_ours || is_shared => Ok(()),
            (Err(failure), _) | (_, Err(failure)) => Err(at(failure)),
            _ => Err(not_ours(target)),
        });
    }

    /// Returns the error of a release that the server has not answered.
    fn unanswered_release(&self, error: Error) -> Error {
        let seconds = self.beside.address().url.ttl.as_secs();
        error.with_hint(format!(
            "the lock is free as soon as the server answers, or when its session ends, after {seconds} s at most; \
             later where it waits for a synchronous standby"
        ))
    }

    /// Writes the end of a tenure. `false` if its row is another's.
    async fn write_end(&self, claim: &Claimed, end: &End, limit: Duration) -> Answer<bool> {
        match end {
            End::Exclusive(record) => self.beside.show(&claim.name, claim.fence, record, limit).await,
            End::Shared(Some(key)) => self.beside.unshare(&claim.name, key, limit).await,
            // Other locks of this session have the word.
            End::Shared(None) => Ok(true),
        }
    }

    /// Repeats the writing of a release that the server has not answered, and then unlocks.
    async fn release_later(&self, claim: Claimed, tenure_end: &End) {
        let end = Instant::now() + self.beside.address().url.ttl;
        while self.state().lost.is_none() && Instant::now() < end {
            sleep(WRITE_AGAIN).await;
            let written = self.write_end(&claim, tenure_end, self.call_limit()).await;
            if !written.is_err_and(|failure| failure.is_unanswered()) {
                break;
            }
        }
        let _ = self.unlock(claim).await;
    }

    async fn publish(&self, key: u64, name: &Arc<str>, fence: i64, tenure: &Arc<ServerTenure>) {
        loop {
            {
                let mut state = self.state();
                let Some(claim) = state.claims.get_mut(key) else { return };
                if !tenure.is_unpublished() || !tenure.is_held() {
                    claim.is_publishing = false;
                    return;
                }
            }
            let Some(record) = tenure.take_unpublished() else { continue };
            let limit = tenure.lease().call_limit(BootTime::now());
            match self.beside.show(name, fence, &record, limit).await {
                Ok(true) => {}
                Ok(false) => return self.give_up(key, not_ours(tenure.target()).detail()).await,
                Err(_) => {
                    event!(WARN, target = ?tenure.target(), "the record was not published: the server did not answer");
                    tenure.mark_unpublished();
                    sleep(WRITE_AGAIN).await;
                }
            }
        }
    }

    /// Acts on the report of a break: the holder of that fence gives the lock up, if its row says so.
    async fn hear(self: Arc<Self>, fence: i64) {
        let found = {
            let state = self.state();
            let is_it =
                |claim: &Claimed| claim.fence == fence && claim.kind == LockKind::Exclusive && claim.tenure.is_some();
            let with_it = state.claims.iter().find(|(_, claim)| is_it(claim));
            with_it.map(|(key, claim)| (key, Arc::clone(&claim.name)))
        };
        let Some((key, name)) = found else { return };
        loop {
            match self.beside.is_breaking(&name, fence, self.call_limit()).await {
                Ok(false) => return,
                Ok(true) => return self.give_up(key, "the lock was broken by an operator").await,
                Err(failure) if failure.is_unanswered() && self.state().claims.contains(key) => sleep(PAUSE).await,
                Err(_) => return,
            }
        }
    }

    /// Acts on the report of a break: the shared locks with that word are given up, if the row says so.
    async fn hear_of_word(self: Arc<Self>, key: String) {
        let mut words: Vec<_> = {
            let state = self.state();
            state.claims.iter().filter_map(|(_, claim)| Some((Arc::clone(&claim.name), claim.word.clone()?))).collect()
        };
        words.dedup_by(|(_, one), (_, other)| Arc::ptr_eq(one, other));
        for (name, word) in words {
            if !word.is(&key).await {
                continue;
            }
            if !self.beside.is_breaking_share(&name, &key, self.call_limit()).await.is_ok_and(|is_breaking| is_breaking)
            {
                // The operator asks again.
                return;
            }
            let with_it: Vec<u64> = {
                let state = self.state();
                let is_it = |claim: &Claimed| claim.word.as_ref().is_some_and(|theirs| Arc::ptr_eq(theirs, &word));
                let with_it = state.claims.iter().filter(|(_, claim)| is_it(claim) && claim.tenure.is_some());
                with_it.map(|(key, _)| key).collect()
            };
            for claim in with_it {
                tokio::spawn({
                    let session = Arc::clone(&self);
                    async move { session.give_up(claim, "the lock was broken by an operator").await }
                });
            }
            return;
        }
    }

    /// Ends one tenure whose row says that it is another's or is being broken, and unlocks it for the next holder.
    async fn give_up(&self, key: u64, why: &str) {
        let Some(claim) = self.take_claim(key) else { return };
        let Some(tenure) = claim.tenure.clone() else { return };
        if let Some(timer) = &claim.timer {
            timer.abort();
        }
        tenure.lose(why.to_owned());
        reports::report_loss(Arc::clone(&tenure));
        let end = End::of(&claim, &tenure).await;
        let _ = self.write_end(&claim, &end, self.call_limit()).await;
        let _ = self.unlock(claim).await;
        // A release that began before the loss was known waits for its result, and finds no claim.
        tenure.finish(Err(not_ours(tenure.target())));
    }
}

/// The beginning of the report that concerns a word. Another report is a fence.
pub(super) const WORD: &str = "word ";

/// Hears the breaks of locks, until the connection ends.
pub(super) async fn listen(session: Arc<Session>) {
    let Some(mut news) = session.connection.take_news() else { return };
    while let Some(payload) = news.recv().await {
        let session = Arc::clone(&session);
        match (payload.strip_prefix(WORD), payload.parse()) {
            (Some(key), _) => drop(tokio::spawn(session.hear_of_word(key.to_owned()))),
            (None, Ok(fence)) => drop(tokio::spawn(session.hear(fence))),
            (None, Err(_)) => {}
        }
    }
}

/// Returns the error of a row that is another's.
fn not_ours(target: &std::path::Path) -> Error {
    let detail = "its row was changed at the server: the lock was broken, or given to another";
    Error::new(ErrorKind::Lost, target, detail)
}
