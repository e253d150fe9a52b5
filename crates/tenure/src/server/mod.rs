//! The same lock beyond one machine: a server keeps it, and the target's name says which.
//!
//! ```text
//! etcd://etcd-1:2379,etcd-2:2379/sessions/main        feature `etcd`
//! postgres://app@db/prod?lock=sessions/main           feature `postgres`
//! ```
//!
//! [`Lock::open`](crate::Lock::open) and [`Options::open`](crate::Options::open) take such a target as they take a path,
//! and give the same [`Guard`](crate::Guard). [`status`](crate::status()), [`list`](crate::list) and
//! [`break_lock`](crate::break_lock) know them too. The server does the distributed work; there is no consensus in here.
//!
//! # What is promised
//!
//! A tenure is a *lease* of `ttl` (in the target; 10 seconds by default). A thread of the library renews it at a third.
//! Where that fails, the tenure is [`Lost`](crate::Error::is_lost) at three quarters, *before* the server may give the
//! lock to another: measured from when the last confirmed renewal was sent, on a clock that counts suspension. So no two
//! holders see [`check`](crate::Guard::check) succeed at once, but where an operator breaks the lock by force.
//!
//! A holder that is stopped right after its check still writes late. What closes that gap is a resource that refuses an
//! older [`fence`](crate::Guard::fence).
//!
//! # What is different from a file
//!
//! - There is neither a shared lock, nor flock style, nor a lock without a record, nor a lock that a child inherits.
//! - [`Guard::release`](crate::Guard::release), and dropping a guard, speak to the server and wait for its answer, for a
//!   few seconds at most. A release [fails as lost](crate::Error::is_lost) where the lock was another's by then, as after
//!   a break by an operator: the work under it may have overlapped with another's.
//! - An acquire keeps its time also where the server says nothing; but for the server's first answer it waits for a
//!   second, however short that time is, and [`Wait::Never`](crate::Wait::Never) for a few.
//! - A program that ends while one of its threads waits leaves its place in etcd's queue for `ttl`:
//!   [`give_up_waits`] first.
//! - After a crash the next one gets the lock when the dead holder's lease is over. On PostgreSQL that is at once, where
//!   the holder ran on this machine and is proven dead.

#![cfg_attr(
    not(all(feature = "etcd", feature = "postgres", target_os = "linux")),
    allow(dead_code, reason = "where an engine is left out, what it alone needs is not used")
)]

#[cfg(all(feature = "etcd", target_os = "linux"))]
mod etcd;
mod heartbeat;
mod lease;
mod lock;
#[cfg(all(any(feature = "etcd", feature = "postgres"), target_os = "linux"))]
mod names;
mod pending;
#[cfg(all(feature = "postgres", target_os = "linux"))]
mod postgres;
mod tenure;
#[cfg(all(any(feature = "etcd", feature = "postgres"), target_os = "linux"))]
mod tls;
mod url;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::lock::give_up_waits;
pub use self::url::{below, scheme};
pub use crate::model::status::Scheme;

use self::lease::BootTime;
pub(crate) use self::lock::{Begun, ServerLock};
pub(crate) use self::pending::PendingAcquire;
pub(crate) use self::tenure::ServerTenure;
use self::url::Url;
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::status::Status;
use crate::record::Record;

/// How much is left of a tenure that a server keeps, if it is not renewed: [`Guard::lease`](crate::Guard::lease).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseLeft {
    /// Until [`check`](crate::Guard::check) fails. Zero: it does.
    pub lost_in: Duration,
    /// Until the server may give the lock to another: work under the lock must have stopped by then.
    pub free_in: Duration,
}

/// A server that keeps the lock of one name. Whatever blocks here takes a few seconds at most.
pub(crate) trait LockServer: Send + Sync + std::fmt::Debug {
    /// The server's name for the lock, for people.
    fn lock_name(&self) -> &Path;

    /// Which server, and which name there.
    fn url(&self) -> &Url;

    /// Takes a place in the server's queue. `record` says who asks. Until the grant no call outlasts `answer_by`.
    fn enqueue(&self, record: &Record, limit: WaitLimit, answer_by: Option<Instant>) -> Result<Box<dyn Session>>;

    /// How the lock stands.
    fn status(&self) -> Result<Status> {
        self.status_within(lease::call_limit(self.url().ttl))
    }

    /// How the lock stands; no call takes longer than `limit`.
    fn status_within(&self, limit: Duration) -> Result<Status>;

    /// Every lock whose name is below this one's.
    fn list(&self) -> Result<Vec<Status>>;

    /// Takes the lock from whoever has it, as `found` says. `false`: nobody had it any more.
    fn force_release(&self, found: &Status) -> Result<bool>;
}

/// A place in the queue, and then a tenure: one thread has it from its beginning to its end. An error that
/// [`is_lost`](Error::is_lost) says that the server has forgotten us.
pub(crate) trait Session: Send {
    /// Waits for the grant, for so long: `None` if it did not come, or [`Interrupter`] was called.
    fn wait(&mut self, patience: Duration) -> Result<Option<Granted>>;

    /// Tells the server that we live, and finds out whether the place is still ours.
    fn renew(&mut self, limit: Duration) -> Result<()>;

    /// Sleeps, for so long or until [`Interrupter`] was called. Bad news ends it with an error.
    fn rest(&mut self, patience: Duration) -> Result<()>;

    /// Shows another record.
    fn show(&mut self, record: &Record, limit: Duration) -> Result<()>;

    /// Releases the lock, or gives the place back. `record` is for the next holder, if we held. An error that
    /// [`is_lost`](Error::is_lost) says that the lock was not ours any more.
    fn release(&mut self, record: Option<&Record>, limit: Duration) -> Result<()>;

    /// Ends a [`wait`](Session::wait) or [`rest`](Session::rest) early, from any thread.
    fn interrupter(&self) -> Interrupter;

    /// Had the last call of a [`wait`](Session::wait) so little time, because of the caller's, that its failure says nothing
    /// of the server?
    fn was_cut_short(&self) -> bool;

    /// For how long the server remembers us, and when we sent what it confirmed last.
    fn lease(&self) -> lease::Lease;
}

pub(crate) type Interrupter = Arc<dyn Fn() + Send + Sync>;

/// How long a place is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitLimit {
    /// Not at all: the lock now or nothing.
    Never,
    /// Until then, or for ever.
    Until(Option<Instant>),
}

/// Until when the calls of a wait must be answered, and whether the last one had little time.
#[derive(Debug, Default)]
pub(crate) struct AnswerBy {
    by: Option<Instant>,
    cut_short: std::cell::Cell<bool>,
}

impl AnswerBy {
    pub(crate) fn new(by: Option<Instant>) -> AnswerBy {
        AnswerBy { by, cut_short: std::cell::Cell::new(false) }
    }

    /// As `limit`, but no longer than there is time.
    pub(crate) fn within(&self, limit: Duration) -> Duration {
        let left = self.by.map(|by| by.saturating_duration_since(Instant::now()));
        self.cut_short.set(left.is_some_and(|left| left < heartbeat::ANSWER && left < limit));
        left.map_or(limit, |left| limit.min(left))
    }

    pub(crate) fn was_cut_short(&self) -> bool {
        self.cut_short.get()
    }
}

/// The lock is ours.
#[derive(Debug)]
pub(crate) struct Granted {
    /// Our record as others see it, with its fence.
    pub(crate) record: Record,
    /// That of the tenure before, where it was never released.
    pub(crate) last: Option<Record>,
    /// When we sent what the server confirmed last.
    pub(crate) confirmed: BootTime,
}

/// The engine of `target`, if its scheme names one.
pub(crate) fn open(target: &Path) -> Result<Option<Arc<dyn LockServer>>> {
    let Some(scheme) = scheme(target)? else { return Ok(None) };
    let url = Url::parse(target, scheme)?;
    match scheme {
        #[cfg(all(feature = "etcd", target_os = "linux"))]
        Scheme::Etcd => Ok(Some(Arc::new(etcd::Etcd::open(url)?))),
        #[cfg(all(feature = "postgres", target_os = "linux"))]
        Scheme::Postgres => Ok(Some(Arc::new(postgres::Postgres::open(url)?))),
        #[allow(unreachable_patterns, reason = "where all features are on, no scheme is left")]
        _ => {
            let error = Error::new(ErrorKind::Unsupported, url.target, "this program was built without that engine");
            Err(match cfg!(target_os = "linux") {
                true => {
                    let hint = format!("build it with the feature `{}` of the crate `tenure`", scheme.as_str());
                    error.with_hint(hint).with_advice(Advice::BuildWithEngine)
                }
                false => error.with_hint("engines exist on Linux only"),
            })
        }
    }
}
