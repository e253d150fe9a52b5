//! A lock that is opened once and acquired many times.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::acquire_future::{AcquireFuture, Requester};
use crate::file::paths::LockPaths;
use crate::guard::Guard;
use crate::maintenance::gate;
use crate::model::error::Result;
use crate::model::options::{Options, Wait};
use crate::model::rank::Rank;
use crate::model::status::Status;
use crate::schedule;
use crate::schedule::opened::Opened;
use crate::server::{self, ServerLock, ServerSlots};
use crate::sys::LockKind;

impl Options {
    /// Opens the lock of `target`, and resolves the folder that it is in, once. Locks nothing, and creates nothing but
    /// missing parents. On macOS and FreeBSD the first call in a folder [tries](crate::probe::trial) locks there.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = tenure::Lock::options().label("nightly job").open(&path)?;
    /// assert_eq!(lock.acquire()?.holder().label.as_deref(), Some("nightly job"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_invalid_target`](crate::Error::is_invalid_target) for a path that cannot be a target,
    /// [`is_cannot_create`](crate::Error::is_cannot_create) or
    /// [`is_permission_denied`](crate::Error::is_permission_denied) where the folder cannot be opened;
    /// [`is_unsupported`](crate::Error::is_unsupported) where it did not pass the trial.
    pub fn open(&self, target: impl AsRef<Path>) -> Result<Lock> {
        let (target, options) = (target.as_ref(), self.clone());
        Ok(Lock(match server::open(target)? {
            Some(server) if options.slots.is_some() => {
                let slots = ServerSlots::open(server, &options)?;
                schedule::open_on_server(Arc::new(slots), &options)?
            }
            Some(server) => Opened::other(Arc::new(ServerLock::open(server, options)?)),
            None => {
                let lock = schedule::open(target, options)?;
                if gate::tries_folders() {
                    gate::check(&LockPaths::open(target, false)?)?;
                }
                lock
            }
        }))
    }
}

/// The lock of one target. It is cheap to clone; all of a process's locks of one target share one queue.
///
/// In a forked child it is the child's own lock, not the parent's.
#[derive(Clone, Debug)]
pub struct Lock(Opened);

impl Lock {
    /// Opens the lock of `target` with the default [`Options`]: of a path, or of a name on a [server].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # std::env::set_current_dir(&dir)?;
    /// let lock = tenure::Lock::open("sessions/main.jsonl")?;
    /// let guard = lock.acquire()?;
    /// assert!(std::fs::exists("sessions/main.jsonl.lock")?);
    /// guard.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::open`].
    pub fn open(target: impl AsRef<Path>) -> Result<Lock> {
        Lock::options().open(target)
    }

    /// Returns the default options, to change them and [open](Options::open) a lock with them.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = tenure::Lock::options().reentrant(true).open(&path)?;
    /// let (_outer, _inner) = (lock.acquire()?, lock.acquire()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn options() -> Options {
        Options::default()
    }

    /// Acquires the lock, waiting for as long as it takes.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = tenure::Lock::open(&path)?;
    /// let guard = lock.acquire()?;
    /// // .. work on the target ..
    /// guard.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with), but for `is_busy`.
    pub fn acquire(&self) -> Result<Guard> {
        self.acquire_with(Wait::Forever)
    }

    /// Acquires the lock if it is free. `None` means that another holder has it;
    /// [`acquire_timeout`](Lock::acquire_timeout) with [`Duration::ZERO`] names that holder in its error.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = tenure::Lock::open(&path)?;
    /// if let Some(guard) = lock.try_acquire()? {
    ///     // .. the job that another process may be at ..
    ///     guard.release()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with), but for `is_busy`.
    pub fn try_acquire(&self) -> Result<Option<Guard>> {
        match self.0.acquire(LockKind::Exclusive, Wait::Never).map(Guard::new) {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.is_busy() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Acquires the lock, waiting for `timeout` at most.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// match tenure::Lock::open(&path)?.acquire_timeout(Duration::from_secs(10)) {
    ///     Ok(guard) => guard.release()?,
    ///     Err(error) if error.is_busy() => eprintln!("not now: {error}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Guard> {
        self.acquire_with(Wait::For(timeout))
    }

    /// Acquires the lock, waiting until `deadline` at most. One deadline serves several acquires.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let deadline = Instant::now() + Duration::from_secs(10);
    /// let data = tenure::Lock::open(&path)?.acquire_until(deadline)?;
    /// let index = tenure::Lock::open(path.with_extension("index"))?.acquire_until(deadline)?;
    /// # drop((data, index));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with).
    pub fn acquire_until(&self, deadline: Instant) -> Result<Guard> {
        self.acquire_with(Wait::Until(deadline))
    }

    /// Acquires the lock, waiting as `wait` says. The other acquires are short forms of this one.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::{Lock, Wait};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// // A value that a caller configures.
    /// let wait = Wait::For(Duration::from_secs(10));
    /// let guard = Lock::open(&path)?.acquire_with(wait)?;
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_busy`](crate::Error::is_busy) with the holder, at the deadline;
    /// [`is_would_deadlock`](crate::Error::is_would_deadlock) at once, when this thread holds the lock already, when
    /// its holder runs this process as its command, or when the wait would close a [circle](crate::Error::circle) of waits;
    /// [`is_obstructed`](crate::Error::is_obstructed), [`is_unsupported`](crate::Error::is_unsupported),
    /// [`is_permission_denied`](crate::Error::is_permission_denied) and the system's own;
    /// [`is_unreachable`](crate::Error::is_unreachable) where no server answers.
    pub fn acquire_with(&self, wait: Wait) -> Result<Guard> {
        self.acquire_as(LockKind::Exclusive, wait)
    }

    #[inline]
    fn acquire_as(&self, kind: LockKind, wait: Wait) -> Result<Guard> {
        match self.0.acquire(kind, wait) {
            Ok(tenure) => Ok(Guard::new(tenure)),
            Err(error) => {
                self.0.backend().note_failure(&error, kind);
                Err(error)
            }
        }
    }

    /// Acquires the lock as a share: other programs may share it at the same time, and none may hold it exclusively. In flock
    /// style, because a lock file can record one holder only; or on a server.
    ///
    /// A share cannot become exclusive, nor the other way round. `flock(2)` converts by releasing first, so what was read
    /// under the share may be stale by the time the exclusive lock is granted. Release, acquire, and read again.
    ///
    /// ```
    /// use tenure::{Lock, Style, Wait};
    ///
    /// # if cfg!(target_os = "linux") {
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = Lock::options().style(Style::Flock).open(&path)?;
    /// let (one, other) = (lock.acquire_shared(Wait::Never)?, lock.acquire_shared(Wait::Never)?);
    /// assert!(one.is_shared() && other.is_shared());
    /// # Ok(())
    /// # }
    /// # main().unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with); [`is_unsupported`](crate::Error::is_unsupported) for a file in lock-file
    /// style.
    pub fn acquire_shared(&self, wait: Wait) -> Result<Guard> {
        self.acquire_as(LockKind::Shared, wait)
    }

    /// Starts an acquire that the caller polls: for a thread that waits for other events too, or an event loop of another
    /// language. It tries at once, with a few system calls. Where the lock is busy it has a place in the queue, until the
    /// returned future is dropped.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::task::{Context, Poll, Wake, Waker};
    /// use tenure::{Requester, Lock};
    ///
    /// struct Bell(std::thread::Thread);
    /// impl Wake for Bell {
    ///     fn wake(self: Arc<Self>) {
    ///         self.0.unpark(); // Or one byte into a pipe, where a poll(2) waits for more than this.
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let mut acquiring = Box::pin(Lock::open(&path)?.begin(Requester::Thread)?);
    /// let waker = Waker::from(Arc::new(Bell(std::thread::current())));
    /// let guard = loop {
    ///     match acquiring.as_mut().poll(&mut Context::from_waker(&waker)) {
    ///         Poll::Ready(outcome) => break outcome?,
    ///         Poll::Pending => std::thread::park(),
    ///     }
    /// };
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_would_deadlock`](crate::Error::is_would_deadlock), and the errors with which [`acquire`](Lock::acquire) fails
    /// at once. The future itself fails as `acquire`.
    pub fn begin(&self, requester: Requester) -> Result<AcquireFuture> {
        self.begin_with(Wait::Forever, requester)
    }

    /// Starts an acquire that the caller polls, as [`begin`](Lock::begin) does, and that waits as `wait` says.
    ///
    /// The caller calls [`AcquireFuture::give_up`] at the [deadline](AcquireFuture::deadline). A wait for a server has none,
    /// because it ends by itself: a thread of the library distinguishes a busy lock from a server that does not answer. With
    /// [`Wait::Never`] a lock in files has its outcome at once. A server has to answer first, which may take some seconds.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::{Lock, Requester, Wait};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = Lock::open(&path)?;
    /// let held = lock.acquire()?;
    /// let waiting = lock.begin_with(Wait::For(Duration::from_millis(10)), Requester::Task)?;
    /// // .. poll it, until:
    /// if let Some(deadline) = waiting.deadline() {
    ///     std::thread::sleep(deadline.saturating_duration_since(std::time::Instant::now()));
    ///     assert!(waiting.give_up().unwrap_err().is_busy());
    /// }
    /// # drop(held);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`begin`](Lock::begin); [`is_busy`](crate::Error::is_busy) with [`Wait::Never`].
    pub fn begin_with(&self, wait: Wait, requester: Requester) -> Result<AcquireFuture> {
        AcquireFuture::begin(&self.0, LockKind::Exclusive, wait, requester)
    }

    /// Starts an acquire of a share that the caller polls, as [`begin_with`](Lock::begin_with) does for an exclusive lock.
    ///
    /// # Errors
    ///
    /// As [`begin_with`](Lock::begin_with); [`is_unsupported`](crate::Error::is_unsupported) in lock-file style.
    pub fn begin_shared(&self, wait: Wait, requester: Requester) -> Result<AcquireFuture> {
        AcquireFuture::begin(&self.0, LockKind::Shared, wait, requester)
    }

    /// Acquires the lock as [`acquire_with`](Lock::acquire_with) does, without blocking a thread of the runtime. A waiter
    /// costs a few hundred bytes, and all waiters of one lock share one thread of the library.
    ///
    /// Dropping the future at any point leaves neither a lock nor a waiter. Two tasks exclude each other even on one
    /// thread, so a task that acquires twice waits for itself: run it in a [scope](crate::task()), where that is an error at
    /// once, use a deadline, or open the lock as [`reentrant`](Options::reentrant).
    ///
    /// ```
    /// use tenure::{Lock, Wait};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = Lock::open(&path)?.acquire_async(Wait::Forever).await?;
    /// // .. across other awaits ..
    /// guard.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with). A deadlock is found only for a task in a [scope](crate::task()).
    #[cfg(feature = "tokio")]
    pub async fn acquire_async(&self, wait: Wait) -> Result<Guard> {
        crate::future::acquire(&self.0, LockKind::Exclusive, wait).await
    }

    /// Acquires the lock as a share, as [`acquire_shared`](Lock::acquire_shared) does, without blocking a thread of the
    /// runtime.
    ///
    /// # Errors
    ///
    /// As [`acquire_shared`](Lock::acquire_shared).
    #[cfg(feature = "tokio")]
    pub async fn acquire_shared_async(&self, wait: Wait) -> Result<Guard> {
        crate::future::acquire(&self.0, LockKind::Shared, wait).await
    }

    /// Returns the lock's place in the order in which several are acquired.
    pub(crate) fn rank(&self) -> Result<Rank> {
        self.0.backend().rank()
    }

    /// Returns what the lock's cluster says of itself.
    pub(crate) fn cluster(&self, answer_by: Option<Instant>) -> Result<String> {
        self.0.backend().cluster(answer_by)
    }

    /// Returns the path that the lock protects, or the name on a server.
    pub fn target(&self) -> &Path {
        self.0.backend().target()
    }

    /// Returns the status of this lock, as [`status`](crate::status()), in the folder that this lock has open.
    ///
    /// ```
    /// use tenure::{Lock, State};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = Lock::open(&path)?;
    /// assert_eq!(lock.status()?.state, State::Free);
    /// let guard = lock.acquire()?;
    /// assert_eq!(lock.status()?.holder.unwrap().fence, guard.fence());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`status`](crate::status()).
    pub fn status(&self) -> Result<Status> {
        self.0.backend().status()
    }
}
