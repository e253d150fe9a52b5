//! Renews the lease of a session, and ends one that was not renewed in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::super::connect::{Answer, Failure};
use super::{IDLE, Kind, PAUSE, Session};
use crate::model::error::ErrorKind;
use crate::server::lease::{BootTime, call_limit};
use crate::server::tenure::ServerTenure;
use crate::util::trace::event;

impl Session {
    /// Renews the lease.
    async fn renew(&self, limit: Duration) -> Answer<()> {
        let sent = BootTime::now();
        self.connection.check_backend(limit).await?;
        let mut state = self.state();
        state.term.confirmed = sent;
        state.claims.tenures().for_each(|tenure| tenure.confirm(sent));
        Ok(())
    }

    /// Records the error of the last renewal, for all tenures; `None` after one that succeeded.
    fn set_trouble(&self, trouble: Option<String>) {
        let tenures: Vec<Arc<ServerTenure>> = {
            let mut state = self.state();
            if state.trouble == trouble {
                return;
            }
            state.trouble.clone_from(&trouble);
            state.claims.tenures().cloned().collect()
        };
        tenures.iter().for_each(|tenure| tenure.set_renewal_error(trouble.as_deref()));
    }

    /// Closes the session if it has had nothing to do for a while. Returns whether it did.
    fn close_if_idle(&self) -> bool {
        // The writers serve all sessions, and the keeper all acquires.
        let mut state = self.state();
        let idle = match self.kind {
            Kind::Waiter | Kind::Patient => true,
            Kind::Keeper | Kind::Writer => state.is_retired || self.beside.users().are_idle(IDLE),
        };
        let close = idle
            && !state.waits
            && state.permit.is_none()
            && !state.has_locks()
            && state.tries.is_empty()
            && state.idle_since.elapsed() >= IDLE;
        state.closed |= close;
        close
    }

    /// Records that the session is in use.
    pub(in crate::server::postgres) fn touch(&self) {
        self.state().idle_since = Instant::now();
    }
}

/// A session's task must not end, by a panic, and leave holders that believe they hold, or a session that unlocks nothing.
pub(super) struct LosesSession(pub(super) Arc<Session>);

impl Drop for LosesSession {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close("the task that keeps it failed");
        }
    }
}

/// Renews the lease until the session is lost, or closed without a claim.
pub(super) async fn run(session: Arc<Session>) {
    let _loses = LosesSession(Arc::clone(&session));
    let mut again: Option<BootTime> = None;
    loop {
        if let Some(why) = session.connection.over.why() {
            session.lose(&Failure::lost(&why).detail);
        }
        let (lease, lost, waits) = {
            let state = session.state();
            (state.term, state.lost.is_some(), state.waits)
        };
        let now = BootTime::now();
        if lost {
            break;
        }
        if waits {
            tokio::select! {
                _ = session.connection.over.wait() => {}
                () = session.changed.notified() => {}
            }
            continue;
        }
        if now >= lease.lost_at() {
            let trouble = session.state().trouble.clone();
            let why = "its lease could not be renewed in time";
            session.lose(&trouble.map_or(why.to_owned(), |trouble| format!("{why}: {trouble}")));
            session.beside.ran_out(session.kind);
            break;
        }
        if session.close_if_idle() {
            session.close("it was not needed");
            return;
        }
        if again.unwrap_or(lease.renew_at()) <= now {
            let limit = lease.call_limit(now);
            match session.renew(limit).await {
                Ok(()) => {
                    session.set_trouble(None);
                    if again.take().is_some() {
                        event!(INFO, backend = session.connection.backend, "the lease is renewed again");
                    }
                }
                Err(failure) if failure.is_lost() || failure.kind == ErrorKind::Unsupported => {
                    session.lose(&failure.detail);
                }
                Err(failure) => {
                    event!(WARN, backend = session.connection.backend, error = %failure.detail, "the lease was not renewed");
                    // An error of a call that the lease's end cut short says less than the one before it.
                    if limit == call_limit(lease.ttl) || session.state().trouble.is_none() {
                        session.set_trouble(Some(failure.detail));
                    }
                    again = Some(BootTime::now().after(PAUSE));
                }
            }
            continue;
        }
        let mut rest = again.unwrap_or_else(|| lease.renew_at()).from(now).min(lease.lost_at().from(now));
        if session.state().claims.are_all_left() {
            rest = rest.min(IDLE);
        }
        tokio::select! {
            _ = session.connection.over.wait() => {}
            () = session.changed.notified() => {}
            () = sleep(rest) => {}
        }
    }
    session.end_lost().await;
}

impl Session {
    /// Ends the connection of a lost session: the lease runs on at the server, so that the holders have the rest of it to
    /// stop their work. What is released meanwhile is unlocked.
    async fn end_lost(self: &Arc<Self>) {
        let free_at = self.term().free_at();
        loop {
            let left = free_at.from(BootTime::now());
            if left.is_zero() || self.connection.over.why().is_some() {
                break;
            }
            if !self.state().has_locks() {
                break;
            }
            tokio::select! {
                _ = self.connection.over.wait() => {}
                () = self.changed.notified() => {}
                () = sleep(left) => {}
            }
        }
        self.connection.close("its lease was not renewed in time");
        let permit = self.state().permit.take();
        drop(permit);
        self.asked.notify_one();
    }
}
