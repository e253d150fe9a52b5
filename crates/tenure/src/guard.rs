//! The guard of a held lock.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::task::Poll;

use crate::model::error::Result;
use crate::model::holder::{Holder, Previous};
use crate::model::tenure::{Facts, LeaseLeft, Suspension, Tenure};
use crate::process::{self, Identity};
use crate::sys;

/// A held lock. Dropping the guard releases it; [`release`](Guard::release) does so too, and returns the error.
///
/// A guard owns what it needs, may be sent to another thread and may be stored. Leaked ([`std::mem::forget`]), it holds the
/// lock until the process ends. In a forked child it holds nothing and releases nothing.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("main.jsonl");
/// let guard = tenure::Lock::open(&path)?.acquire()?;
/// if guard.previous().is_crashed() {
///     // The last holder died while it held the lock: repair what it left half-written.
/// }
/// // .. write, and hand guard.fence() to whatever can refuse an older one ..
/// guard.check()?;
/// guard.release()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is released as soon as the guard is dropped"]
#[derive(Debug)]
pub struct Guard {
    tenure: Arc<dyn Tenure>,
    released: bool,
}

impl Guard {
    pub(crate) fn new(tenure: Arc<dyn Tenure>) -> Guard {
        Guard { tenure, released: false }
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        self.tenure.facts()
    }

    /// Returns the fencing token of this tenure, which is greater than that of every tenure before. Hand it to the resource,
    /// so that the resource can refuse a token smaller than the greatest that it has seen. `None` for a shared lock and for one
    /// without a record: such a tenure has no token.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = tenure::Lock::open(&path)?;
    /// let first = lock.acquire()?.fence();
    /// let second = lock.acquire()?.fence();
    /// assert!(second > first, "a resource that has seen the second token refuses the first");
    /// # Ok(())
    /// # }
    /// ```
    pub fn fence(&self) -> Option<u64> {
        self.facts().fence
    }

    /// Checks that the lock is still held. Takes one or two system calls. For a lock on a server it compares the clock with
    /// the server's last answer, and does not ask the server.
    ///
    /// ```
    /// # use tenure::{BreakOptions, Lock, break_lock};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = Lock::open(&path)?.acquire()?;
    /// guard.check()?;
    /// break_lock(&path, &BreakOptions::default().force(true))?; // As an operator may do.
    /// assert!(guard.check().unwrap_err().is_lost());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`is_lost`](crate::Error::is_lost): the lock was broken or revoked, its anchor or its lock file was removed, in flock style
    /// the target was removed or replaced (as `sed -i` and editors do), or this is a forked child. The system's own where
    /// the check itself fails.
    pub fn check(&self) -> Result<()> {
        self.tenure.check()
    }

    /// Returns whether other natives are still excluded, whatever happened to the lock file. `false` once the lock was
    /// broken or revoked, or its anchor removed. `true` where only the lock file was removed, by a foreign program.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::open(&path)?.acquire()?;
    /// std::fs::remove_file(guard.lock_file())?; // As a foreign program may do.
    /// assert!(guard.check().unwrap_err().is_lost());
    /// assert!(guard.excludes_natives());
    /// # Ok(())
    /// # }
    /// ```
    pub fn excludes_natives(&self) -> bool {
        !self.tenure.check_natives().is_err_and(|error| error.is_lost())
    }

    /// Returns how the tenure before this one ended. Every sharer gets the report of a crash, until an exclusive holder has
    /// had the chance to repair what the crash left.
    ///
    /// ```
    /// use tenure::{Lock, Previous};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = Lock::open(&path)?.acquire()?;
    /// match guard.previous() {
    ///     Previous::Clean => {}
    ///     Previous::Crashed(holder) => println!("{holder} crashed: repairing its data"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn previous(&self) -> &Previous {
        self.facts().previous
    }

    /// Returns this holder, as other programs see it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::open(&path)?.acquire()?;
    /// assert_eq!(guard.holder().pid(), Some(std::process::id().into()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn holder(&self) -> Holder {
        self.tenure.holder()
    }

    /// Returns the path that the lock protects, or the name on a server.
    pub fn target(&self) -> &Path {
        self.facts().target
    }

    /// Returns `<target>.lock`, which is visible in lock-file style only. On a server: the server's name for the lock.
    pub fn lock_file(&self) -> &Path {
        self.facts().lock_file
    }

    /// Returns the number of the slot that is held, from 0 ([`Options::slots`](crate::Options::slots)). `None` for a lock without
    /// slots.
    pub fn slot(&self) -> Option<u32> {
        self.facts().slot
    }

    /// Returns whether this is a share ([`Lock::acquire_shared`](crate::Lock::acquire_shared)).
    pub fn is_shared(&self) -> bool {
        self.facts().shared
    }

    /// Returns the record as other programs can read it, as JSON; `{}` where the lock keeps none.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::open(&path)?.acquire()?;
    /// let record: serde_json::Value = serde_json::from_str(&guard.record_json())?;
    /// assert_eq!(record["pid"], std::process::id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn record_json(&self) -> String {
        self.tenure.record().map_or_else(|| "{}".to_owned(), |record| record.to_json())
    }

    /// Changes the label that other programs see; on a server a moment later.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::open(&path)?.acquire()?;
    /// guard.set_label("step 2 of 5")?;
    /// assert_eq!(tenure::status(&path)?.holder.unwrap().label.as_deref(), Some("step 2 of 5"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The system's own; [`is_lost`](crate::Error::is_lost) after a revoke and in a forked child.
    pub fn set_label(&self, label: &str) -> Result<()> {
        self.tenure.change(&mut |record| {
            if let Some(native) = &mut record.native {
                native.label = Some(label.into());
            }
        })
    }

    /// Sets the exit code of the work under the lock, which the lock's [history](crate::Options::history) shows once the
    /// tenure has ended. Does nothing where no history is kept.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::options().history(100).open(&path)?.acquire()?;
    /// guard.set_exit_code(3);
    /// guard.release()?;
    /// assert_eq!(tenure::history(&path)?[0].exit_code, Some(3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_exit_code(&self, code: i32) {
        self.tenure.note_exit_code(code);
    }

    /// Updates the date by which foreign programs detect stale locks. The watchdog does so by itself, unless
    /// [`refresh_interval`](crate::Options::refresh_interval) says otherwise: call it then at least every 10 minutes,
    /// and three times within `max_hold`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::Lock;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = Lock::options().refresh_interval(Duration::MAX).open(&path)?;
    /// let guard = lock.acquire()?;
    /// for _part in 0..3 {
    ///     // .. some minutes of work ..
    ///     guard.refresh()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The system's own; [`is_lost`](crate::Error::is_lost) after a revoke and in a forked child.
    pub fn refresh(&self) -> Result<()> {
        self.tenure.refresh()
    }

    /// Records that the work of this tenure succeeded, by which later acquires with
    /// [`not_more_often_than`](crate::Options::not_more_often_than) decide. Call it before the release.
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](crate::Error::is_unsupported) where the lock was opened without that option;
    /// [`is_lost`](crate::Error::is_lost) where the lock is no longer held; the system's own.
    pub fn mark_successful(&self) -> Result<()> {
        self.tenure.mark_successful()
    }

    /// Records the command that this holder runs under the lock, and whose end it waits for. Natives see both processes,
    /// and an acquire by that command, or by a process that it starts, fails at once instead of waiting for itself
    /// ([`is_would_deadlock`](crate::Error::is_would_deadlock)). The recorded holder stays this process, because it removes the
    /// lock file: programs that know only the lock file take over when the recorded process has ended.
    ///
    /// ```
    /// use std::process::Command;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::open(&path)?.acquire()?;
    /// let mut child = Command::new("true").spawn()?;
    /// guard.set_command(child.id(), Some("true"))?;
    /// child.wait()?;
    /// guard.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The system's own; [`is_lost`](crate::Error::is_lost) after a revoke and in a forked child.
    pub fn set_command(&self, pid: impl Into<i64>, line: Option<&str>) -> Result<()> {
        let pid = pid.into();
        // A pid without its start time proves nothing. This process's own is read once.
        let start_time = match pid == i64::from(sys::pid()) {
            true => Identity::current().start_time,
            false => process::start_time(pid),
        };
        self.tenure.change(&mut |record| {
            if let Some(native) = &mut record.native {
                native.command_pid = u64::try_from(pid).ok();
                native.command_start_time = start_time;
                if let Some(line) = line {
                    native.command = Some(line.into());
                }
            }
        })
    }

    /// Returns what is left of the lease of a lock on a server; `None` for a file, which needs no lease.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::open(&path)?.acquire()?;
    /// if let Some(left) = guard.lease() {
    ///     println!("stop within {:?}", left.free_in);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn lease(&self) -> Option<LeaseLeft> {
        self.tenure.lease()
    }

    /// Makes `command` inherit the kernel lock: it stays held while the child, or a process that inherits from it, lives,
    /// even if this process is killed. [`release`](Guard::release) here still frees it at once.
    ///
    /// Drop `command` once the child runs: as long as it lives, a child that is forked without exec inherits the kernel
    /// lock as well.
    ///
    /// ```
    /// use std::process::Command;
    ///
    /// # if cfg!(target_os = "linux") {
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::open(&path)?.acquire()?;
    /// let mut command = Command::new("true");
    /// guard.keep_for(&mut command)?;
    /// let mut child = command.spawn()?;
    /// drop(command);
    /// child.wait()?;
    /// # Ok(())
    /// # }
    /// # main().unwrap();
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The system's own, where the descriptor cannot be duplicated; [`is_lost`](crate::Error::is_lost) in a forked child;
    /// [`is_unsupported`](crate::Error::is_unsupported) for a lock on a server, which no child can hold, and on Windows,
    /// where a lock ends with its process.
    pub fn keep_for(&self, command: &mut Command) -> Result<()> {
        for file in self.descriptors()? {
            sys::inherit(command, file);
        }
        Ok(())
    }

    /// Duplicates the descriptors that carry the lock.
    pub(crate) fn descriptors(&self) -> Result<Vec<sys::Inherited>> {
        self.tenure.descriptors()
    }

    /// Returns a future that ends once the watchdog has revoked the tenure ([`Overrun::Revoke`](crate::Overrun::Revoke)) or,
    /// within about a second, found it lost. Runs on any executor.
    ///
    /// ```no_run
    /// # async fn work() {}
    /// # async fn example(guard: tenure::Guard) {
    /// tokio::select! {
    ///     () = work() => {}
    ///     () = guard.revoked() => eprintln!("the lock is lost: the work was stopped"),
    /// }
    /// # }
    /// ```
    pub fn revoked(&self) -> impl Future<Output = ()> + Send + 'static {
        let tenure = Arc::clone(&self.tenure);
        poll_fn(move |context| match Arc::clone(&tenure).poll_loss(context.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    /// Releases the lock, and returns whether that succeeded. The kernel lock is free in any case.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::open(&path)?.acquire()?;
    /// if let Err(error) = guard.release() {
    ///     eprintln!("the lock is free, but: {error}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The system's own, where the lock file could not be removed; [`is_lost`](crate::Error::is_lost) where the lock was no
    /// longer held; [`is_unreachable`](crate::Error::is_unreachable) where the server does not answer: the lock is free when its
    /// lease is over.
    pub fn release(mut self) -> Result<()> {
        self.released = true;
        Arc::clone(&self.tenure).release()
    }

    /// Releases the lock as [`release`](Guard::release) does, without blocking the calling thread: a future for any executor,
    /// with the result. The release starts at once, and the future may be dropped. Only a server has to be waited for, for a
    /// few seconds at most; a lock in files is free when this returns.
    ///
    /// ```no_run
    /// # async fn example() -> tenure::Result<()> {
    /// let guard = tenure::Lock::open("etcd://etcd-1:2379/sessions/main")?.acquire()?;
    /// guard.release_async().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`release`](Guard::release).
    pub fn release_async(mut self) -> impl Future<Output = Result<()>> + Send + 'static {
        self.released = true;
        let tenure = Arc::clone(&self.tenure);
        let mut outcome = Arc::clone(&tenure).start_release();
        poll_fn(move |context| match outcome.take().or_else(|| tenure.poll_release(context.waker())) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        })
    }

    /// Checks that the lock is held and can be [suspended](Guard::suspend).
    ///
    /// # Errors
    ///
    /// Those of [`suspend`](Guard::suspend) that come before its release.
    pub fn can_suspend(&self) -> Result<()> {
        self.tenure.check_suspendable()
    }

    /// Suspends the tenure. After an error it is released.
    pub(crate) fn suspend_tenure(mut self) -> Result<Arc<dyn Suspension>> {
        let suspension = Arc::clone(&self.tenure).suspend()?;
        self.released = true;
        Ok(suspension)
    }

    /// Drops a guard that its caller never received.
    pub(crate) fn abandon(mut self) {
        self.released = true;
        Arc::clone(&self.tenure).abandon();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.released
            && let Err(_error) = Arc::clone(&self.tenure).release()
        {
            crate::util::trace::event!(WARN, error = %_error, "a guard was dropped and its release failed");
        }
    }
}
