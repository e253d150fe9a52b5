//! A lock that is opened once and acquired many times.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::acquire_future::{AcquireFuture, Requester};
use crate::file::paths::LockPaths;
use crate::file::status::examine;
use crate::guard::Guard;
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::options::{Options, Style, Wait};
use crate::model::request::Request;
use crate::model::status::Status;
use crate::server::{self, ServerLock};
use crate::sys;
use crate::wait::queue::TargetQueue;
use crate::wait::registry;

impl Options {
    /// Opens the lock of `target`: resolves its parent, once. Nothing is locked or made yet, but missing parents.
    ///
    /// # Errors
    ///
    /// [`is_invalid_target`](Error::is_invalid_target) for a path that cannot be one,
    /// [`is_cannot_create`](Error::is_cannot_create) or [`is_permission_denied`](Error::is_permission_denied) where
    /// the parent cannot be opened.
    pub fn open(&self, target: impl AsRef<Path>) -> Result<Lock> {
        Lock::open_with(target.as_ref(), self.clone())
    }
}

/// The lock of one target. Cheap to clone; all of a process's locks of one target share one queue.
///
/// It may be used in a forked child: it is a lock of the child's own there, not the parent's.
#[derive(Clone, Debug)]
pub struct Lock(Inner);

#[derive(Clone, Debug)]
enum Inner {
    File(FileLock),
    Server(ServerLock),
}

#[derive(Clone, Debug)]
struct FileLock {
    queue: Arc<TargetQueue>,
    exclusive: Arc<Request>,
}

impl Lock {
    /// Opens the lock of `target` with the default [`Options`]: of a path, or of a name on a server ([`server`]).
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

    /// Returns the options that a lock can be opened with.
    pub fn options() -> Options {
        Options::default()
    }

    pub(crate) fn open_with(target: &Path, options: Options) -> Result<Lock> {
        if let Some(server) = server::open(target)? {
            return Ok(Lock(Inner::Server(ServerLock::open(server, options)?)));
        }
        let paths = LockPaths::open(target, options.create_parents)?;
        let queue = registry::queue(&paths, !options.record);
        Ok(Lock(Inner::File(FileLock { queue, exclusive: registry::request(options) })))
    }

    /// Acquires the lock, waiting for as long as it takes.
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
        match self.acquire_with(Wait::Never) {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.is_busy() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Acquires the lock, waiting for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Guard> {
        self.acquire_with(Wait::For(timeout))
    }

    /// Acquires the lock, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with).
    pub fn acquire_until(&self, deadline: Instant) -> Result<Guard> {
        self.acquire_with(Wait::Until(deadline))
    }

    /// Acquires the lock, waiting as `wait` says.
    ///
    /// # Errors
    ///
    /// [`is_busy`](crate::Error::is_busy) with the holder, at the deadline;
    /// [`is_would_deadlock`](crate::Error::is_would_deadlock) at once, when this very thread holds the lock, or
    /// a holder that runs this process as its command;
    /// [`is_obstructed`](crate::Error::is_obstructed), [`is_unsupported`](crate::Error::is_unsupported),
    /// [`is_permission_denied`](crate::Error::is_permission_denied) and the system's own;
    /// [`is_unreachable`](crate::Error::is_unreachable) where no server answers.
    pub fn acquire_with(&self, wait: Wait) -> Result<Guard> {
        match &self.0 {
            Inner::File(lock) => Ok(Guard::new(lock.queue().acquire(Arc::clone(&lock.exclusive), wait)?)),
            Inner::Server(lock) => Ok(Guard::of_server(lock.acquire(wait)?)),
        }
    }

    /// Acquires a share: others may share at the same time, nobody may hold. Flock style only, because a lock file
    /// has no room for several holders.
    ///
    /// A share cannot be turned into a hold, nor the other way round: `flock(2)` converts by letting go first, so what
    /// was read under the share may be stale by the time the hold begins. Release, acquire, and read again.
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with); [`is_unsupported`](crate::Error::is_unsupported) in lock-file style.
    pub fn acquire_shared(&self, wait: Wait) -> Result<Guard> {
        match &self.0 {
            Inner::File(lock) => Ok(Guard::new(lock.queue().acquire(lock.share()?, wait)?)),
            Inner::Server(lock) => Err(lock.no_shares()),
        }
    }

    /// Begins an acquire that the caller polls: a thread that must wait for something else besides, or an event loop of
    /// another language. It tries at once, with a few system calls; where the lock is busy it has a place in the queue,
    /// until the returned future is dropped. A deadline is the caller's to watch: [`AcquireFuture::give_up`].
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
    /// [`is_would_deadlock`](crate::Error::is_would_deadlock), and what [`acquire`](Lock::acquire) fails with at once; the
    /// future itself as `acquire`.
    pub fn begin(&self, requester: Requester) -> Result<AcquireFuture> {
        match &self.0 {
            Inner::File(lock) => AcquireFuture::of_file(lock.queue(), Arc::clone(&lock.exclusive), requester),
            Inner::Server(lock) => AcquireFuture::of_server(lock, requester),
        }
    }

    /// As [`begin`](Lock::begin), for a share.
    ///
    /// # Errors
    ///
    /// As there; [`is_unsupported`](crate::Error::is_unsupported) in lock-file style.
    pub fn begin_shared(&self, requester: Requester) -> Result<AcquireFuture> {
        match &self.0 {
            Inner::File(lock) => AcquireFuture::of_file(lock.queue(), lock.share()?, requester),
            Inner::Server(lock) => Err(lock.no_shares()),
        }
    }

    /// As [`acquire_with`](Lock::acquire_with), without blocking a thread of the runtime: a waiter costs a few hundred bytes,
    /// and all those of one lock share one thread of the library.
    ///
    /// Dropping the future at any point leaves neither a lock nor a waiter. Two tasks exclude each other even on one
    /// thread, so a task that acquires twice waits for itself: give it a time, or open with
    /// [`reentrant`](Options::reentrant).
    ///
    /// # Errors
    ///
    /// As [`acquire_with`](Lock::acquire_with), but for the deadlock.
    #[cfg(feature = "tokio")]
    pub async fn acquire_async(&self, wait: Wait) -> Result<Guard> {
        match &self.0 {
            Inner::File(lock) => crate::future::acquire(lock.queue(), Arc::clone(&lock.exclusive), wait).await,
            Inner::Server(lock) => crate::future::acquire_of_server(lock, wait).await,
        }
    }

    /// As [`acquire_shared`](Lock::acquire_shared), without blocking.
    ///
    /// # Errors
    ///
    /// As there.
    #[cfg(feature = "tokio")]
    pub async fn acquire_shared_async(&self, wait: Wait) -> Result<Guard> {
        match &self.0 {
            Inner::File(lock) => crate::future::acquire(lock.queue(), lock.share()?, wait).await,
            Inner::Server(lock) => Err(lock.no_shares()),
        }
    }

    /// The path that it protects, or the name on a server.
    pub fn target(&self) -> &Path {
        match &self.0 {
            Inner::File(lock) => lock.target(),
            Inner::Server(lock) => lock.target(),
        }
    }

    /// How it stands: [`status`](crate::status()), in the folder that this lock has open.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn status(&self) -> Result<Status> {
        match &self.0 {
            Inner::File(lock) => examine(&lock.queue().paths(), &Options::default()),
            Inner::Server(lock) => lock.status(),
        }
    }
}

impl FileLock {
    fn target(&self) -> &Path {
        &self.queue.target_path
    }

    /// The queue of this process: another one after a fork.
    fn queue(&self) -> Arc<TargetQueue> {
        if self.queue.generation == sys::fork_generation() {
            return Arc::clone(&self.queue);
        }
        registry::reopened(&self.queue)
    }

    fn share(&self) -> Result<Arc<Request>> {
        let options = &self.exclusive.options;
        if options.style != Style::Flock && options.record {
            return Err(Error::new(ErrorKind::Unsupported, self.target(), "a lock file cannot be shared")
                .with_hint("shared locks exist in flock style: style(Style::Flock), --flock")
                .with_advice(Advice::UseFlockStyle));
        }
        Ok(Arc::new(Request { options: options.clone(), shared: true }))
    }
}
