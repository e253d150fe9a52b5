//! One acquire at a server: its parameters, its deadlines, and when it tries again.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::lease::{ANSWER, BootTime, CALL};
use super::lock_server::{LockServer, WaitLimit};
use super::pending::PendingAcquire;
use super::tenure::ServerTenure;
use super::url::Url;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::{Options, Overrun};
use crate::model::requester::RequesterId;
use crate::model::this_process::this_process;
use crate::record::{Native, Record, RecordStyle};
use crate::sys::LockKind;
use crate::util::thread_pool;

/// How long a waiter keeps trying to reach a server that has gone: it may be restarted, or replaced by another.
const RETURN: Duration = Duration::from_secs(30);

/// The longest sleep of a wait without a deadline, after which it looks again.
pub(super) const LONG: Duration = Duration::from_secs(60 * 60);

/// A server at which locks can be acquired.
pub(crate) trait AcquireServer: LockServer {
    /// Starts to serve an acquire, to its outcome, and then its tenure, to its end. Does not block.
    fn start(self: Arc<Self>, acquire: Acquire, pending: &Arc<PendingAcquire>) -> io::Result<()>;

    /// Returns another name on the same server, which uses the connections of this one.
    fn sibling(&self, url: Url) -> Result<Arc<dyn AcquireServer>>;

    /// Returns whether several acquires may share a lock of this server.
    fn has_shared_locks(&self) -> bool {
        false
    }
}

/// The parameters of one acquire.
pub(crate) struct Acquire {
    pub(super) kind: LockKind,
    pub(super) options: Options,
    pub(super) limit: WaitLimit,
    pub(super) since: Instant,
    /// The thread or task that would wait for itself if it acquired again.
    pub(super) requester: Option<RequesterId>,
    /// The shares of the lock that this requester, or one around it, has already, if a further one must not wait for their end.
    pub(super) own_shares: Vec<Weak<ServerTenure>>,
}

impl Acquire {
    /// Returns how long the acquire may still wait; `None` where it has no deadline.
    pub(super) fn left(&self) -> Option<Duration> {
        match self.limit {
            WaitLimit::Never => Some(Duration::ZERO),
            WaitLimit::Until(deadline) => deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())),
        }
    }

    /// Returns when every call of the wait must have its answer; `None` where the acquire has no deadline.
    pub(super) fn answer_by(&self) -> Option<Instant> {
        match self.limit {
            WaitLimit::Never => Some(self.since + CALL),
            WaitLimit::Until(deadline) => deadline.map(|deadline| deadline.max(self.since + ANSWER)),
        }
    }

    /// Returns the moment since which the server must have answered if the lock is to be called busy: the deadline, or the
    /// begin of an acquire that does not wait.
    pub(super) fn needs_word_since(&self) -> Instant {
        match self.limit {
            WaitLimit::Never | WaitLimit::Until(None) => self.since,
            WaitLimit::Until(Some(deadline)) => deadline,
        }
    }

    /// Returns whether the acquire does not wait at all.
    pub(super) fn is_immediate(&self) -> bool {
        self.limit == WaitLimit::Never
    }

    /// Returns whether the requester has a share already, so that a wait would be for waiters that wait for its end.
    pub(super) fn would_wait_for_itself(&self) -> bool {
        self.own_shares.iter().filter_map(Weak::upgrade).any(|share| share.is_held())
    }

    /// Returns whether an acquire that got no place for this reason tries again.
    pub(super) fn may_enter_again(&self, error: &Error, patience: &OutagePatience) -> bool {
        error.is_unreachable() && !error.takes_no_writes() && self.left() != Some(Duration::ZERO) && patience.is_left()
    }

    /// Returns whether an acquire that lost its place for this reason takes another.
    pub(super) fn may_queue_again(&self, error: &Error) -> bool {
        (error.is_lost() || error.is_unreachable()) && !error.takes_no_writes() && self.left() != Some(Duration::ZERO)
    }
}

/// The maximum wait for a server that is gone. A waiter that has had an answer does not fail at the server's first silence.
pub(super) struct OutagePatience {
    limit: Duration,
    /// When the server answered last.
    answered: Option<Instant>,
}

impl OutagePatience {
    pub(super) fn new(ttl: Duration) -> OutagePatience {
        OutagePatience { limit: ttl.max(RETURN), answered: None }
    }

    /// Records that the server answers.
    pub(super) fn answered(&mut self) {
        self.answered = Some(Instant::now());
    }

    /// Records that the server answered a renewal that was sent then.
    pub(super) fn answered_since(&mut self, sent: BootTime) {
        let then = Instant::now().checked_sub(BootTime::now().from(sent));
        self.answered = self.answered.max(then);
    }

    /// Records that the server answered then, to another acquire.
    pub(super) fn answered_at(&mut self, then: Instant) {
        self.answered = self.answered.max(Some(then));
    }

    /// Returns for how long a server may be silent.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    fn is_left(&self) -> bool {
        self.answered.is_some_and(|then| then.elapsed() < self.limit)
    }
}

/// An acquire that failed.
pub(super) struct Failed {
    pub(super) error: Error,
    /// The end of the calls that the server may still get.
    pub(super) end: Instant,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { error: held_nothing(error), end: Instant::now() + ANSWER }
    }
}

/// Returns the error of an acquire whose place was lost. Only a holder loses a lock.
pub(super) fn held_nothing(error: Error) -> Error {
    match error.is_lost() {
        true => error.with_kind(ErrorKind::Unreachable),
        false => error,
    }
}

/// The acquire has a place at the server, or may have. Dropped when it has none any more.
pub(super) struct ReturnsPlace<'a>(pub(super) &'a PendingAcquire);

impl Drop for ReturnsPlace<'_> {
    fn drop(&mut self) {
        self.0.mark_place_returned();
    }
}

/// Returns the error of an acquire whose task panicked.
pub(super) fn failed(target: &Path) -> Error {
    Error::new(ErrorKind::Io, target, "the task that keeps the lock panicked")
}

/// Returns the record of an acquire that begins now. The server gives it its fence.
pub(super) fn new_record(options: &Options) -> Record {
    let own = this_process();
    Record {
        pid: Some(own.identity.pid),
        created_at: Some(SystemTime::now()),
        start_time: None,
        max_hold: options.max_hold,
        native: Some(Native { style: RecordStyle::Server, ..own.native(options) }),
        marker: None,
    }
}

/// Acts on `max_hold`. Returns whether the tenure was revoked. The callback runs on another thread, because it may hang,
/// and a lock that was revoked must not wait for it.
pub(super) fn overrun(tenure: &Arc<ServerTenure>) -> bool {
    let revoked = tenure.options.overrun == Overrun::Revoke && tenure.revoke();
    let (told, held_for) = (Arc::clone(tenure), tenure.began.elapsed());
    // Without a thread nothing reports it, and it is revoked nevertheless.
    let _ = thread_pool::run(move || told.options.report_overrun(told.target(), told.fence, held_for, revoked));
    revoked
}
