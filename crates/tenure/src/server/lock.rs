//! The lock of a name on a server: [`Backend`] for servers.
//!
//! Two acquires of one process exclude each other as those of two processes do, which the server's own file sees to. This
//! file decides only what a process can know of itself: whether a thread would wait for its own release,
//! and whether a reentrant tenure exists.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::acquire::{Acquire, AcquireServer};
use super::lock_server::WaitLimit;
use super::open::Opened;
use super::pending::PendingAcquire;
use super::registry;
use super::tenure::ServerTenure;
use super::url::Url;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::{IfBusy, Options, StalePolicy, Style, Wait};
use crate::model::rank::Rank;
use crate::model::requester::{self, RequesterId};
use crate::model::status::Status;
use crate::model::tenure::{Backend, Begun, Tenure};
use crate::sys::LockKind;

/// The lock of a name on a server, opened with its options.
#[derive(Debug)]
pub(crate) struct ServerLock {
    server: Opened,
    options: Options,
}

/// How an acquire begins.
enum Started {
    /// It joined a tenure of this process.
    Joined(Arc<ServerTenure>),
    /// It waits.
    Waits(Arc<PendingAcquire>),
}

impl ServerLock {
    pub(crate) fn open(server: Arc<dyn AcquireServer>, options: Options) -> Result<ServerLock> {
        server.url().lock_name()?;
        ServerLock::refuse_options_of_files(server.url(), &options)?;
        Ok(ServerLock { server: Opened::new(server), options })
    }

    /// As [`open`](ServerLock::open), for one of the locks of which slots consist, whose options were examined before.
    pub(super) fn of_slots(server: Arc<dyn AcquireServer>, options: Options) -> Result<ServerLock> {
        server.url().lock_name()?;
        Ok(ServerLock { server: Opened::new(server), options })
    }

    /// Fails where an option is for files only.
    pub(super) fn refuse_options_of_files(url: &Url, options: &Options) -> Result<()> {
        let unsupported = |what: &'static str| {
            let error = Error::new(ErrorKind::Unsupported, &url.target, what);
            Err(error.with_hint("a lock that a server keeps is a name with a record, and no file"))
        };
        if options.style != Style::LockFile {
            return unsupported("flock style is for files");
        }
        if !options.record {
            return unsupported("a lock without a record is for files");
        }
        if options.mode.is_some() {
            return unsupported("permission bits are for files");
        }
        if options.history > 0 {
            return unsupported("a history is kept for files");
        }
        if options.stale_policy != StalePolicy::Proof {
            return unsupported("a live holder's lease cannot be stolen for its age: break the lock");
        }
        if options.if_busy != IfBusy::Wait {
            return unsupported("skipping, queueing one and replacing a holder are for files");
        }
        if options.not_more_often_than.is_some() {
            return unsupported("the time of the last success is kept beside files only");
        }
        Ok(())
    }

    /// Starts an acquire, without blocking. The requesters `around` cannot go on while it waits.
    fn start(
        &self,
        kind: LockKind,
        wait: Wait,
        requester: Option<RequesterId>,
        around: &[RequesterId],
    ) -> Result<Started> {
        if kind == LockKind::Shared && !self.server.has_shared_locks() {
            let detail = "a lock that this kind of server keeps cannot be shared";
            let error = Error::new(ErrorKind::Unsupported, self.target(), detail);
            return Err(error.with_hint("shared locks exist on etcd and PostgreSQL, and on files in flock style"));
        }
        let since = Instant::now();
        let limit = match wait.deadline(since) {
            Some(deadline) if deadline <= since => WaitLimit::Never,
            deadline => WaitLimit::Until(deadline),
        };
        let mut own_shares = Vec::new();
        for tenure in registry::held_here(self.target()).into_iter().rev() {
            let exclusive = kind == LockKind::Exclusive && !tenure.shared;
            if exclusive && self.options.reentrant && tenure.options.reentrant && tenure.add_guard() {
                return Ok(Started::Joined(tenure));
            }
            let is_own = |holder| requester == Some(holder) || around.contains(&holder);
            let own = self.options.deadlock_check && tenure.requester.is_some_and(is_own);
            if own && kind == LockKind::Shared && tenure.shared {
                // A further share waits only where a writer is before it, which the server knows.
                own_shares.push(Arc::downgrade(&tenure));
            } else if own && limit != WaitLimit::Never {
                return Err(Error::would_deadlock(self.target(), tenure.shared, tenure.requester));
            }
        }
        let pending = Arc::new(PendingAcquire::new(self.target()));
        let acquire = Acquire { kind, options: self.options.clone(), limit, since, requester, own_shares };
        let server = self.server.here()?;
        registry::add_waiting(&pending);
        server
            .start(acquire, &pending)
            .map_err(|error| Error::io(self.target(), "no thread could be started to wait for the lock", error))?;
        Ok(Started::Waits(pending))
    }
}

impl Backend for ServerLock {
    fn target(&self) -> &Path {
        &self.server.url().target
    }

    fn rank(&self) -> Result<Rank> {
        Ok(self.server.url().rank())
    }

    fn cluster(&self, answer_by: Option<Instant>) -> Result<String> {
        self.server.here()?.cluster_by(answer_by)
    }

    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        Ok(match self.start(kind, wait, Some(requester::current()), &requester::around())? {
            Started::Joined(tenure) => tenure,
            Started::Waits(pending) => pending.wait()?,
        })
    }

    fn begin(&self, kind: LockKind, wait: Wait, requester: Option<RequesterId>) -> Result<Begun> {
        Ok(match self.start(kind, wait, requester, &[])? {
            Started::Joined(tenure) => Begun::Granted(tenure),
            Started::Waits(pending) => Begun::Pending(Box::new(pending)),
        })
    }

    fn status(&self) -> Result<Status> {
        self.server.here()?.status()
    }

    /// A server keeps no history.
    fn note_failure(&self, _: &Error, _: LockKind) {}
}
