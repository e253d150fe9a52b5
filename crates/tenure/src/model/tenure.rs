//! The traits by which the face uses a lock and a grant, whatever keeps the lock: files implement them in `wait/`, servers in
//! `server/`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, Previous};
use crate::model::options::Wait;
use crate::model::rank::Rank;
use crate::model::requester::RequesterId;
use crate::model::status::Status;
use crate::record::Record;
use crate::sys::{Inherited, LockKind};

/// One grant, from its beginning to its end. Its guards share it.
pub(crate) trait Tenure: fmt::Debug + Send + Sync {
    /// Returns what does not change while the tenure lasts.
    fn facts(&self) -> Facts<'_>;

    /// Returns this holder, as other programs see it.
    fn holder(&self) -> Holder;

    /// Returns the record as other programs can read it; `None` where the lock keeps none.
    fn record(&self) -> Option<Record>;

    /// Changes the record. Other programs may see the change a moment later.
    ///
    /// # Errors
    ///
    /// [`is_lost`](crate::Error::is_lost) where the lock is no longer held.
    fn change(&self, change: &mut dyn FnMut(&mut Record)) -> Result<()>;

    /// Records that the work of this tenure succeeded.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](crate::Error::is_unsupported) where the lock's options do not keep that.
    fn mark_successful(&self) -> Result<()> {
        let error = Error::new(ErrorKind::Unsupported, self.facts().target, "no success is recorded for this lock");
        Err(error.with_hint("open the lock with not_more_often_than"))
    }

    /// Updates the date by which foreign programs detect stale locks. Does nothing where there is none.
    fn refresh(&self) -> Result<()> {
        Ok(())
    }

    /// Notes the exit code of the work under the lock, for the history. Does nothing where there is none.
    fn note_exit_code(&self, code: i32);

    /// Checks that the lock is still held, and that other programs can see so.
    ///
    /// # Errors
    ///
    /// [`is_lost`](crate::Error::is_lost) where it is not.
    fn check(&self) -> Result<()>;

    /// Checks that natives are still excluded, whether or not foreign programs are.
    fn check_natives(&self) -> Result<()> {
        self.check()
    }

    /// Returns what is left of the lease; `None` where the lock needs no lease.
    fn lease(&self) -> Option<LeaseLeft> {
        None
    }

    /// Duplicates the descriptors that carry the lock, for a child to inherit.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](crate::Error::is_unsupported) where no descriptor carries it.
    fn descriptors(&self) -> Result<Vec<Inherited>>;

    /// Returns whether the tenure was lost or revoked; if not, `waker` is woken when it is.
    fn poll_loss(self: Arc<Self>, waker: &Waker) -> bool;

    /// Drops one guard, and with the last one the lock.
    fn release(self: Arc<Self>) -> Result<()>;

    /// Drops one guard, as [`release`](Tenure::release), without blocking where that waits for a server. Returns `None` if
    /// the result has to be polled for.
    fn start_release(self: Arc<Self>) -> Option<Result<()>> {
        Some(self.release())
    }

    /// Returns the result of a release that [`start_release`](Tenure::start_release) started; if there is none yet, `waker`
    /// is woken when there is.
    fn poll_release(&self, waker: &Waker) -> Option<Result<()>> {
        let _ = waker;
        Some(Ok(()))
    }

    /// Fails where the lock cannot be [suspended](Tenure::suspend).
    fn check_suspendable(&self) -> Result<()> {
        Err(unsuspendable(self.facts().target))
    }

    /// Releases the lock for a while, with a place before those that wait, where the lock has such places.
    ///
    /// # Errors
    ///
    /// Those of [`check_suspendable`](Tenure::check_suspendable) and of a release.
    fn suspend(self: Arc<Self>) -> Result<Arc<dyn Suspension>> {
        Err(unsuspendable(self.facts().target))
    }

    /// Releases a grant that its caller never received: the next holder gets its crash report. Does not block.
    fn abandon(self: Arc<Self>);
}

#[cold]
fn unsuspendable(target: &Path) -> Error {
    Error::new(ErrorKind::Unsupported, target, "a lock on a server cannot be suspended")
        .with_hint("release it, acquire it again, and read again what it protects")
}

/// A suspended tenure. An acquire by this backend resumes it.
pub(crate) trait Suspension: Backend {
    /// Returns the fence that the tenure had.
    fn fence(&self) -> u64;

    /// Returns whether the acquire goes before natives that wait already.
    fn goes_first(&self) -> bool;

    /// Returns what is known of the time between the suspended tenure and `resumed`.
    fn meanwhile(&self, resumed: &Facts<'_>) -> Meanwhile;
}

/// What is known of the time in which a tenure was suspended: [`Resumed::meanwhile`](crate::Resumed::meanwhile).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Meanwhile {
    /// It is proven that no other program held the lock.
    Nobody,
    /// Another program held the lock, or at least began to.
    Others,
    /// No native held the lock exclusively. Nothing proves that no program without Tenure did.
    Unknown,
}

impl Meanwhile {
    /// Returns `nobody`, `others` or `unknown`, as in the command's JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Meanwhile::Nobody => "nobody",
            Meanwhile::Others => "others",
            Meanwhile::Unknown => "unknown",
        }
    }
}

/// The facts that do not change while a tenure lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The path that the lock protects, or the name on a server.
    pub(crate) target: &'a Path,
    /// `<target>.lock`; on a server, the server's name for the lock.
    pub(crate) lock_file: &'a Path,
    /// `None` for a shared lock and for one without a record.
    pub(crate) fence: Option<u64>,
    pub(crate) shared: bool,
    /// The number of the slot, from 0; `None` for a lock without slots.
    pub(crate) slot: Option<u32>,
    /// How the tenure before this one ended.
    pub(crate) previous: &'a Previous,
}

/// The rest of a tenure on a server, if its lease is not renewed: [`Guard::lease`](crate::Guard::lease).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseLeft {
    /// The time until [`check`](crate::Guard::check) fails; zero once it fails.
    pub lost_in: Duration,
    /// The time until the server may grant the lock to another holder. Work under the lock must have stopped by then.
    pub free_in: Duration,
}

/// The lock of one target, opened with its options.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// The path that the lock protects, or the name on a server.
    fn target(&self) -> &Path;

    /// Returns the lock's place in the order in which several are acquired.
    #[allow(dead_code, reason = "the simulation acquires one lock at a time")]
    fn rank(&self) -> Result<Rank>;

    /// Returns what the lock's cluster says of itself, which differs from other clusters. It must answer by `answer_by`, or within a
    /// time of its own. Empty for a file.
    #[allow(dead_code, reason = "the simulation acquires one lock at a time")]
    fn cluster(&self, answer_by: Option<Instant>) -> Result<String> {
        let _ = answer_by;
        Ok(String::new())
    }

    /// Acquires the lock, blocking this thread for as long as `wait` allows.
    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>>;

    /// Starts an acquire without blocking. `requester` would wait for itself if it holds the lock already.
    fn begin(&self, kind: LockKind, wait: Wait, requester: Option<RequesterId>) -> Result<Begun>;

    /// Returns the lock's status.
    fn status(&self) -> Result<Status>;

    /// Enters an acquire that failed into the lock's history, if it keeps one.
    fn note_failure(&self, error: &Error, kind: LockKind);
}

/// The first answer to an acquire.
pub(crate) enum Begun {
    Granted(Arc<dyn Tenure>),
    Pending(Box<dyn Pending>),
}

/// A place in a queue. Its owner polls it to its outcome, or gives it up.
pub(crate) trait Pending: Send + Sync {
    /// Returns when the owner gives up; `None` where the wait ends by itself, or never.
    fn deadline(&self) -> Option<Instant>;

    /// Returns the outcome; if there is none yet, `waker` is woken when there is.
    fn poll(&self, waker: &Waker) -> Option<Result<Arc<dyn Tenure>>>;

    /// Leaves the queue, and returns an outcome that had come by then. Not after [`poll`](Pending::poll) returned one.
    fn give_up(&self) -> Option<Result<Arc<dyn Tenure>>>;

    /// Waits until a place that was given up is no longer in the queue, or until `end`. Where leaving takes no time, there is nothing
    /// to wait for.
    fn await_left(&self, end: Instant) {
        let _ = end;
    }

    /// Returns the error of a wait that ended at its deadline, with the holder where that is known.
    fn busy(&self) -> Error;
}
