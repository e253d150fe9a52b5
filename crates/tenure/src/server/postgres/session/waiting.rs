//! Waits in the server's queue.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::Type;

use super::super::connect::{Answer, Value};
use super::super::sql;
use super::{Claim, Permit, Session};
use crate::server::lease::{BootTime, call_limit};
use crate::sys::LockKind;

impl Session {
    /// Waits in the server's queue until the lock is granted, for at most `lock_timeout`. Then the caller
    /// [ends the wait](Session::end_wait). It [closes](Session::close) a session whose wait it drops.
    pub(in crate::server::postgres) async fn wait_for(
        self: &Arc<Self>,
        (name, kind): (&Arc<str>, LockKind),
        permit: impl Permit + 'static,
        lock_timeout: u128,
        limit: Duration,
    ) -> Answer<Claim> {
        {
            let mut state = self.state();
            if state.closed || state.lost.is_some() || state.has_locks() {
                drop(state);
                return Err(self.loss());
            }
            state.waits = true;
            state.permit = Some(Box::new(permit));
        }
        self.wake();
        let ttl = self.beside.address().url.ttl;
        let (third, own) = ((ttl / 3).as_millis(), call_limit(ttl).as_millis());
        // The server then notices the client's death while the client waits. Not every platform's server can.
        let check = format!("SET client_connection_check_interval = '{third}ms'");
        let times = format!("UNLISTEN *; SET lock_timeout = '{lock_timeout}ms'; SET statement_timeout = 0");
        // Where the last two are reset before the wait begins, a break of what it was granted would not be reported.
        let back =
            format!("SET statement_timeout = '{own}ms'; SET lock_timeout = '{}ms'; {}", sql::BRIEFLY_MS, sql::LISTEN);
        let begun = self.connection.run(limit, |client| async move {
            let _ = client.batch_execute(&check).await;
            client.batch_execute(&times).await
        });
        begun.await?;
        let lock = if kind == LockKind::Shared { sql::LOCK_SHARED } else { sql::LOCK };
        let values: &[Value<'_>] = &[(&&**name, Type::TEXT)];
        let locking = self.connection.run_long(|client| async move {
            // Sent together, so that resetting the timeouts costs no round trip.
            let (locked, back) = tokio::join!(client.query_typed(lock, values), client.batch_execute(&back));
            locked.and_then(|rows| back.map(|()| rows))
        });
        let rows = locking.await?;
        let number = rows.first().map(|row| row.get::<_, i64>(0));
        let claim = number.and_then(|number| self.claim(name, number, kind)).ok_or_else(|| self.loss())?;
        if let Some(permit) = &mut self.state().permit {
            permit.end_wait();
        }
        Ok(claim)
    }

    /// Returns whether the session has waited and its lease has not begun.
    pub(in crate::server::postgres) fn waits(&self) -> bool {
        self.state().waits
    }

    /// Begins the lease of a session that has waited, by a question that is asked after the wait.
    pub(in crate::server::postgres) async fn end_wait(&self) -> Answer<()> {
        let sent = BootTime::now();
        let confirmed = self.connection.check_backend(self.call_limit()).await;
        {
            let mut state = self.state();
            state.waits = false;
            if confirmed.is_ok() {
                state.term.confirmed = sent;
            }
        }
        self.wake();
        if let Err(failure) = confirmed {
            self.lose(&failure.detail);
            return Err(failure);
        }
        Ok(())
    }

    /// Cancels a wait in the server's queue, and ends the session.
    pub(in crate::server::postgres) async fn stop_waiting(&self, limit: Duration) {
        self.connection.cancel(limit).await;
        self.close("its wait was given up");
        let permit = self.state().permit.take();
        drop(permit);
    }
}
