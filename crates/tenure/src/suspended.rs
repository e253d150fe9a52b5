//! A lock that its holder has given to others for a while.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use crate::acquire_future::{AcquireFuture, Requester};
use crate::guard::Guard;
use crate::model::error::Result;
use crate::model::options::Wait;
use crate::model::tenure::{Backend, Meanwhile, Suspension};
use crate::schedule::opened::Opened;
use crate::sys::LockKind;

/// A suspended lock, from [`Guard::suspend`]: others may hold it until it is [resumed](Suspended::resume).
///
/// Dropped, it gives the lock up for good. So does the end of its process, which is no crash: it held nothing. In a forked child
/// it resumes nothing.
///
/// ```
/// use tenure::{Lock, Wait};
///
/// # fn ask_a_model(_: &str) -> String { String::new() }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("main.jsonl");
/// # std::fs::write(&path, "")?;
/// let guard = Lock::open(&path)?.acquire()?;
/// let mut session = std::fs::read_to_string(&path)?;
///
/// // For the minutes that the answer takes, others may write.
/// let suspended = guard.suspend()?;
/// let answer = ask_a_model(&session);
/// let resumed = suspended.resume(Wait::Forever)?;
///
/// if resumed.changed() {
///     session = std::fs::read_to_string(&path)?;
/// }
/// std::fs::write(&path, session + &answer)?;
/// resumed.guard.release()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is given up for good as soon as this is dropped"]
#[derive(Debug)]
pub struct Suspended(Arc<dyn Suspension>);

/// A lock that was suspended and is held again: [`Suspended::resume`].
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
#[non_exhaustive]
pub struct Resumed {
    /// The guard of the new tenure, with a fence and a [`previous`](Guard::previous) of its own.
    pub guard: Guard,
    /// What is known of the time in which the lock was suspended.
    pub meanwhile: Meanwhile,
}

impl Resumed {
    /// Returns whether what was read before must be read again: `false` only where it is [proven](Meanwhile::Nobody) that no
    /// other program held the lock meanwhile.
    pub fn changed(&self) -> bool {
        self.meanwhile != Meanwhile::Nobody
    }
}

impl Guard {
    /// Lets others hold the lock for a while, as for a long network call: releases it, and returns the place by which it is
    /// [acquired again](Suspended::resume) before natives that wait already. The resumed lock says whether another program
    /// held it meanwhile, so that what was read must be read again.
    ///
    /// A suspended tenure is no holder: the time of its `max_hold` starts again when it is resumed, and the end of its process is no crash.
    /// The label stays. A [command that keeps the lock](Guard::keep_for) loses it, as by a release. Programs without
    /// Tenure are not ordered: they take the lock file whenever it is free. [`status`](crate::status()) shows the
    /// suspended holders.
    ///
    /// ```
    /// use tenure::{Lock, Wait};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = Lock::open(&path)?;
    /// let guard = lock.acquire()?;
    /// let before = guard.fence();
    /// let suspended = guard.suspend()?;
    /// // .. a long network call, while others may hold the lock ..
    /// let resumed = suspended.resume(Wait::Forever)?;
    /// assert!(resumed.guard.fence() > before);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](crate::Error::is_unsupported) for a share, a slot, a lock on a server or without a record, and where
    /// other guards of this process hold it too ([`reentrant`](crate::Options::reentrant));
    /// [`is_lost`](crate::Error::is_lost) where the lock was no longer held; the system's own. After an error the lock is
    /// released, as by a drop: [`can_suspend`](Guard::can_suspend) asks before.
    pub fn suspend(self) -> Result<Suspended> {
        self.suspend_tenure().map(Suspended)
    }
}

impl Suspended {
    fn opened(&self) -> Opened {
        Opened::other(Arc::clone(&self.0) as Arc<dyn Backend>)
    }

    /// Starts to acquire the lock again, for the packages of other languages, which wait for one kind of future.
    /// [`resumed`](Suspended::resumed) gets its guard.
    #[doc(hidden)]
    pub fn begin_acquire(&self, wait: Wait, requester: Requester) -> Result<AcquireFuture> {
        AcquireFuture::begin(&self.opened(), LockKind::Exclusive, wait, requester)
    }

    /// Returns the resumed lock, from the guard of [`begin_acquire`](Suspended::begin_acquire).
    #[doc(hidden)]
    pub fn resumed(&self, guard: Guard) -> Resumed {
        let meanwhile = self.0.meanwhile(&guard.facts());
        Resumed { guard, meanwhile }
    }

    /// Acquires the lock again, waiting as `wait` says. It goes before natives that wait already, but for those that resume
    /// a tenure which was suspended earlier. With [`Wait::Never`] it takes the lock only if it is free.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::{Lock, Meanwhile, Wait};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = Lock::open(&path)?;
    /// let suspended = lock.acquire()?.suspend()?;
    /// lock.acquire()?.release()?; // As another program may do.
    /// let resumed = suspended.resume(Wait::For(Duration::from_secs(10)))?;
    /// assert!(resumed.changed() && resumed.meanwhile == Meanwhile::Others);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Lock::acquire_with`](crate::Lock::acquire_with); [`is_lost`](crate::Error::is_lost) in a forked child. The lock is
    /// given up for good then: acquire it again, and read again what it protects.
    pub fn resume(self, wait: Wait) -> Result<Resumed> {
        match self.0.acquire(LockKind::Exclusive, wait) {
            Ok(tenure) => Ok(self.resumed(Guard::new(tenure))),
            Err(error) => {
                self.0.note_failure(&error, LockKind::Exclusive);
                Err(error)
            }
        }
    }

    /// Starts to acquire the lock again, as [`resume`](Suspended::resume) does, as a future that the caller polls: see
    /// [`Lock::begin_with`](crate::Lock::begin_with).
    ///
    /// # Errors
    ///
    /// Those with which [`resume`](Suspended::resume) fails at once.
    pub fn begin_resume(self, wait: Wait, requester: Requester) -> Result<ResumeFuture> {
        let acquiring = self.begin_acquire(wait, requester)?;
        Ok(ResumeFuture { acquiring, suspended: self })
    }

    /// Acquires the lock again as [`resume`](Suspended::resume) does, without blocking a thread of the runtime. A dropped
    /// future gives the lock up for good.
    ///
    /// # Errors
    ///
    /// As [`resume`](Suspended::resume).
    #[cfg(feature = "tokio")]
    pub async fn resume_async(self, wait: Wait) -> Result<Resumed> {
        let guard = crate::future::acquire(&self.opened(), LockKind::Exclusive, wait).await?;
        Ok(self.resumed(guard))
    }

    /// Returns the path that the lock protects.
    pub fn target(&self) -> &Path {
        self.0.target()
    }

    /// Returns the fencing token of the suspended tenure.
    pub fn fence(&self) -> u64 {
        self.0.fence()
    }

    /// Returns whether it goes before natives that wait already. `false` where the system cannot show other processes that a
    /// tenure is suspended: on macOS, on FreeBSD, and on file systems that machines share.
    pub fn goes_first(&self) -> bool {
        self.0.goes_first()
    }
}

/// A [resume](Suspended::begin_resume) under way: a future for any executor, or for none. Dropped, it gives the lock up for
/// good.
#[must_use = "the lock is given up for good when this is dropped"]
pub struct ResumeFuture {
    acquiring: AcquireFuture,
    suspended: Suspended,
}

impl ResumeFuture {
    /// Returns the moment to [give up](ResumeFuture::give_up); `None` where the wait never ends by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.acquiring.deadline()
    }

    /// Returns the path that the lock protects.
    pub fn target(&self) -> &Path {
        self.acquiring.target()
    }

    /// Ends the wait, as a deadline does. Returns the lock if it was granted by then.
    ///
    /// # Errors
    ///
    /// As [`AcquireFuture::give_up`]. The lock is given up for good then.
    pub fn give_up(self) -> Result<Resumed> {
        let guard = self.acquiring.give_up()?;
        Ok(self.suspended.resumed(guard))
    }
}

impl Future for ResumeFuture {
    type Output = Result<Resumed>;

    /// # Panics
    ///
    /// If it returned its output before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Resumed>> {
        let guard = ready!(Pin::new(&mut self.acquiring).poll(context))?;
        Poll::Ready(Ok(self.suspended.resumed(guard)))
    }
}

impl fmt::Debug for ResumeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ResumeFuture").field(&self.acquiring).finish()
    }
}
