//! The options of a lock and of an acquire.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::error::Error;
use crate::model::holder::Holder;
use crate::record::Text;

/// The time that an acquire may wait, including the time in this process's own queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Fails at once if the lock is busy.
    Never,
    /// Waits for a duration, on the monotonic clock.
    For(Duration),
    /// Waits until a deadline.
    Until(Instant),
    /// Waits without limit, as `flock(1)` does.
    Forever,
}

impl Wait {
    /// Returns the deadline, or `None` without one. A deadline beyond the clock's range counts as none.
    pub(crate) fn deadline(self, now: Instant) -> Option<Instant> {
        match self {
            Wait::Never => Some(now),
            Wait::For(duration) => now.checked_add(duration),
            Wait::Until(instant) => Some(instant),
            Wait::Forever => None,
        }
    }
}

/// The appearance of a lock to foreign programs, which decides which of them it excludes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// The lock file `<target>.lock` exists while the lock is held. The lock and programs that use only lock files exclude
    /// each other.
    #[default]
    LockFile,
    /// The target itself is locked with `flock(2)`. The lock and `flock(1)`, cargo, Python's filelock and similar programs
    /// exclude each other. A missing target is created. Its content is never touched, and it may be a folder.
    Flock,
}

/// The policy for stealing a live holder's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StalePolicy {
    /// Never steals a live holder's lock. Only proof of death allows a takeover.
    #[default]
    Proof,
    /// Steals the lock once it has been held for longer than this duration, or than the holder's own `maxHoldMs`, as
    /// OpenClaw's protocol does. Then only a resource that checks the [fence](crate::Guard::fence) protects the data.
    StealAfter(Duration),
}

impl StalePolicy {
    /// Returns whether a live holder's age allows stealing its lock.
    pub(crate) fn steals(self, holder: &Holder) -> bool {
        let StalePolicy::StealAfter(limit) = self else { return false };
        let age = holder.age();
        age.is_some_and(|age| age > limit || holder.max_hold.is_some_and(|max_hold| age > max_hold))
    }
}

/// The watchdog's action when a tenure lasts longer than [`Options::max_hold`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overrun {
    /// Reports the overrun by the callback and a tracing event. The lock stays held.
    #[default]
    Report,
    /// Releases the lock. The guard's [`check`](crate::Guard::check) fails from then on, and the next holder's
    /// [`previous`](crate::Guard::previous) reports a crash, because the previous holder may still be writing.
    Revoke,
}

/// What an acquire does when the lock is busy: [`Options::if_busy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IfBusy {
    /// Waits, for as long as the acquire allows.
    #[default]
    Wait,
    /// Fails at once as busy, as [`Wait::Never`] does.
    Skip,
    /// Waits, but fails at once as [skipped](crate::Error::is_skipped) if another acquire with this option waits already.
    /// That waiter has not begun its work, so its run comes after whatever caused this acquire.
    QueueOne,
    /// Asks the holder to end, and waits. The holder's process gets SIGTERM, and after [`grace`](Options::grace) SIGKILL.
    /// Each later holder that is granted the lock before this acquire is asked as well.
    ///
    /// Only a native on this machine and in this pid namespace is asked, whose recorded start time proves that it is the
    /// process that was recorded, and only by a descriptor of that process. Otherwise the acquire fails at once.
    Replace,
}

/// An event that is reported to [`Options::on_event`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A tenure has lasted longer than its `max_hold`.
    Overrun {
        /// The lock's target.
        target: &'a Path,
        /// The tenure's fence; `None` for a tenure without one.
        fence: Option<u64>,
        /// The time for which the lock has been held.
        held_for: Duration,
        /// The tenure's [`max_hold`](Options::max_hold).
        max_hold: Duration,
        /// Whether the lock was released ([`Overrun::Revoke`]).
        revoked: bool,
    },
    /// A tenure was lost: an operator broke the lock, or its files were removed.
    Lost {
        /// The lock's target.
        target: &'a Path,
        /// The error with which [`Guard::check`](crate::Guard::check) fails.
        error: &'a Error,
    },
    /// `createdAt`, by which foreign programs detect stale locks, could not be updated.
    RefreshFailed {
        /// The lock's target.
        target: &'a Path,
        /// The reason.
        error: &'a Error,
    },
    /// A line of the lock's [`history`](Options::history) could not be written. The lock itself is not affected.
    HistoryFailed {
        /// The lock's target.
        target: &'a Path,
        /// The reason.
        error: &'a Error,
    },
    /// A tenure began after a holder that died.
    TakenOver {
        /// The lock's target.
        target: &'a Path,
        /// The dead holder.
        holder: &'a Holder,
    },
}

/// A callback for [`Event`]s. Only clones of one callback are equal.
#[derive(Clone)]
pub(crate) struct EventCallback(Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl Deref for EventCallback {
    type Target = dyn Fn(&Event<'_>) + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for EventCallback {
    fn eq(&self, other: &EventCallback) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for EventCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventCallback(..)")
    }
}

/// Declares the options of a lock, each in one place: its documentation, its field with the default value, and its setter's
/// argument with the value that it sets.
macro_rules! options {
    ($(
        $(#[$documentation:meta])*
        $option:ident: $type:ty = $default:expr, |$argument:ident: $argument_type:ty| $value:expr;
    )*) => {
        /// The options of a lock: [`Lock::options`](crate::Lock::options).
        ///
        /// ```
        /// use std::time::Duration;
        /// use tenure::{Lock, StalePolicy};
        ///
        /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// # let dir = tempfile::tempdir()?;
        /// # let path = dir.path().join("main.jsonl");
        /// let lock = Lock::options()
        ///     .label("nightly job")
        ///     .max_hold(Duration::from_secs(60))
        ///     .stale_policy(StalePolicy::StealAfter(Duration::from_secs(3600)))
        ///     .open(&path)?;
        /// # Ok(())
        /// # }
        /// ```
        #[derive(Clone, Debug)]
        pub struct Options {
            $(pub(crate) $option: $type,)*
        }

        impl Default for Options {
            fn default() -> Options {
                Options { $($option: $default,)* }
            }
        }

        impl Options {
            $(
                $(#[$documentation])*
                pub fn $option(mut self, $argument: $argument_type) -> Options {
                    self.$option = $value;
                    self
                }
            )*

            /// Returns whether all options are equal.
            pub(crate) fn is_like(&self, other: &Options) -> bool {
                $(self.$option == other.$option)&&*
            }
        }
    };
}

options! {
    /// Sets a name for the holder, which appears in the record, in errors and in `tenure status`. At most 1 KiB of it is kept.
    /// None by default.
    ///
    /// ```
    /// use tenure::Lock;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let _guard = Lock::options().label("nightly job").open(&path)?.acquire()?;
    /// let holder = tenure::status(&path)?.holder.expect("a live holder");
    /// assert_eq!(holder.label.as_deref(), Some("nightly job"));
    /// # Ok(())
    /// # }
    /// ```
    label: Option<Text> = None, |label: impl Into<String>| Some(label.into().into());

    /// Sets how the lock appears to foreign programs, and thus which of them it excludes; [`Style::LockFile`] by default.
    ///
    /// ```
    /// use tenure::{Lock, Style};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = Lock::options().style(Style::Flock).open(&path)?.acquire()?;
    /// assert!(path.exists() && !guard.lock_file().exists());
    /// # Ok(())
    /// # }
    /// ```
    style: Style = Style::LockFile, |style: Style| style;

    /// Sets whether this process may acquire the lock again while it holds it. The tenure then ends with the last guard.
    /// Holds are counted per process, as in OpenClaw's protocol, so two threads do *not* exclude each other. Off by default.
    reentrant: bool = false, |reentrant: bool| reentrant;

    /// Sets whether an acquire that would wait for its own end fails at once with
    /// [`is_would_deadlock`](Error::is_would_deadlock). This is the case for a second acquire by the thread, or the
    /// [task](crate::task()), that acquired first; for an acquire by the command that the holder runs under the lock
    /// ([`Guard::set_command`](crate::Guard::set_command)) or by a descendant of it; and for a wait that would close a
    /// [circle](Error::circle) of such threads, tasks and commands, each of which holds one lock and waits for the next. On by
    /// default; turn it off where guards are handed to other threads or tasks that release them, and where deadlocks are resolved
    /// by timeouts.
    deadlock_check: bool = true, |check: bool| check;

    /// Sets what an acquire does when the lock is busy; [`IfBusy::Wait`] by default. For files only.
    ///
    /// ```
    /// use tenure::{IfBusy, Lock};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// // Of many requests to rebuild a site during a build, one is queued.
    /// match Lock::options().if_busy(IfBusy::QueueOne).open(&path)?.acquire() {
    ///     Ok(guard) => { /* build */ guard.release()? }
    ///     Err(error) if error.is_skipped() => { /* the queued build has this change */ }
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    if_busy: IfBusy = IfBusy::Wait, |if_busy: IfBusy| if_busy;

    /// Sets the time that [`IfBusy::Replace`] leaves a holder to end before it is killed; 5 seconds by default.
    grace: Duration = Duration::from_secs(5), |grace: Duration| grace;

    /// Sets that an acquire fails as [skipped](crate::Error::is_skipped) if the last successful tenure began less than
    /// `interval` ago. A tenure is successful once its holder says so ([`Guard::mark_successful`](crate::Guard::mark_successful))
    /// and only tenures of locks with this option count. None by default. For files only.
    ///
    /// The age is measured by a clock that no user can set, while the machine runs. After a restart, and for a tenure of
    /// another machine, the time of day is used, and a tenure that began in its future does not count.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::Lock;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("report");
    /// let lock = Lock::options().not_more_often_than(Duration::from_secs(600)).open(&path)?;
    /// let guard = lock.acquire()?;
    /// // .. write the report ..
    /// guard.mark_successful()?;
    /// guard.release()?;
    /// assert!(lock.acquire().unwrap_err().is_skipped());
    /// # Ok(())
    /// # }
    /// ```
    not_more_often_than: Option<Duration> = None, |interval: Duration| Some(interval);

    /// Sets that up to `slots` may hold the lock at once, each with a slot of its own. None by default. From 1 to 1000.
    /// In lock-file style, and on servers.
    ///
    /// Each slot is a lock by itself, `<target>.slot-0`, `<target>.slot-1` and so on, with its record, its fence and its
    /// crash report. An acquire gets the lowest one that is free: [`Guard::slot`](crate::Guard::slot). At any time, at most as
    /// many hold as the *smallest* number says that any of the holders was opened with. So a lock with a smaller number waits
    /// until fewer hold, and one with a larger number does not exceed what a present holder relies on. Waiters are served in
    /// their order.
    ///
    /// A lock without slots on the same target is another lock. For one holder at a time beside slots, use `slots(1)`.
    ///
    /// ```
    /// use tenure::Lock;
    ///
    /// # if cfg!(target_os = "linux") {
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("gpu");
    /// let lock = Lock::options().slots(2).open(&path)?;
    /// let (one, other) = (lock.acquire()?, lock.acquire()?);
    /// assert_eq!((one.slot(), other.slot()), (Some(0), Some(1)));
    /// assert!(lock.try_acquire()?.is_none());
    /// # Ok(())
    /// # }
    /// # main().unwrap();
    /// # }
    /// ```
    slots: Option<u32> = None, |slots: u32| Some(slots);

    /// Sets the intended maximum duration of a tenure. [`overrun`](Options::overrun) sets what happens after it. None by
    /// default.
    max_hold: Option<Duration> = None, |max_hold: Duration| Some(max_hold);

    /// Sets what the watchdog does after [`max_hold`](Options::max_hold); [`Overrun::Report`] by default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::{Lock, Overrun};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// // After a minute the lock is released, and `check()` fails.
    /// let lock = Lock::options().max_hold(Duration::from_secs(60)).overrun(Overrun::Revoke).open(&path)?;
    /// # drop(lock);
    /// # Ok(())
    /// # }
    /// ```
    overrun: Overrun = Overrun::Report, |overrun: Overrun| overrun;

    /// Sets the age from which on reports call a record `too-old`; 30 minutes by default.
    stale_after: Duration = Duration::from_secs(30 * 60), |age: Duration| age;

    /// Sets the minimum age of a lock file without a valid pid for a takeover; 5 seconds by default.
    malformed_grace: Duration = Duration::from_secs(5), |grace: Duration| grace;

    /// Sets whether a live holder's lock may be stolen for its age; [`StalePolicy::Proof`] (never) by default.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::{Lock, StalePolicy};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let a_day = Duration::from_secs(24 * 3600);
    /// let lock = Lock::options().stale_policy(StalePolicy::StealAfter(a_day)).open(&path)?;
    /// # drop(lock);
    /// # Ok(())
    /// # }
    /// ```
    stale_policy: StalePolicy = StalePolicy::Proof, |policy: StalePolicy| policy;

    /// Sets how often `createdAt`, by which foreign programs detect stale locks, is updated while the lock is held; 10
    /// minutes by default, and at most a third of `max_hold`. With [`Duration::MAX`] only
    /// [`Guard::refresh`](crate::Guard::refresh) updates it, which saves the watchdog thread where it has no other work.
    refresh_interval: Duration = Duration::from_secs(10 * 60), |interval: Duration| interval;

    /// Sets whether missing parent folders of the target are created. On by default.
    create_parents: bool = true, |create: bool| create;

    /// Sets the permission bits of the lock's files, regardless of the umask: `0o666` shares a lock between users in `/tmp`.
    /// A target that flock style creates gets the same bits. By default the lock's files are created with `0o644` and the
    /// umask, and the target with `0o666` and the umask.
    mode: Option<u32> = None, |mode: u32| Some(mode & 0o777);

    /// Sets whether the lock keeps a record. On by default. Without a record the lock is the bare kernel lock on the target,
    /// which implies [`Style::Flock`]: it has no fence, names no holder, and writes nothing, so that it works in a read-only
    /// folder. It excludes `flock(1)` and natives in flock style, but not natives in lock-file style.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let guard = tenure::Lock::options().record(false).open(&path)?.acquire()?;
    /// assert_eq!(guard.fence(), None);
    /// # Ok(())
    /// # }
    /// ```
    record: bool = true, |record: bool| record;

    /// Sets how many tenures of this lock are kept in its history, beside as many failed waits: [`history`](crate::history())
    /// returns them. At most 10,000 are. With 0, the default, this lock writes nothing to the history, and its acquires and
    /// releases cost as much as without one.
    ///
    /// The end of a tenure is one line, which is appended to a file beside the anchor before the lock is free. Each user has
    /// such a file. A line that cannot be written is an [`Event::HistoryFailed`], and delays or fails nothing. An acquire
    /// that fails as busy or as a deadlock is a line too, except by [`try_acquire`](crate::Lock::try_acquire). The next
    /// holder writes the line of a holder that crashed.
    ///
    /// ```
    /// use tenure::{Ending, Lock};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// Lock::options().history(100).open(&path)?.acquire()?.release()?;
    /// let past = tenure::history(&path)?;
    /// assert_eq!((past.len(), past[0].ended), (1, Ending::Released));
    /// # Ok(())
    /// # }
    /// ```
    history: usize = 0, |tenures: usize| tenures.min(crate::model::history::MOST);

    #[doc(hidden)]
    // The command line that a failed wait's line shows, where it is not this process's.
    work: Option<Text> = None, |line: impl Into<String>| Some(line.into().into());

    /// Sets a function that is called for each [`Event`], by the watchdog thread, or by the acquiring thread at a takeover.
    /// It must not block. A panic in it is caught. None by default.
    ///
    /// ```
    /// use tenure::{Event, Lock};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let lock = Lock::options().on_event(|event| match event {
    ///     Event::Lost { target, error, .. } => eprintln!("{}: {error}", target.display()),
    ///     other => eprintln!("{other:?}"),
    /// });
    /// let lock = lock.open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    on_event: Option<EventCallback> = None,
        |callback: impl Fn(&Event<'_>) + Send + Sync + 'static| Some(EventCallback(Arc::new(callback)));
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::process::Liveness;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_live_holders_lock_is_stolen_for_its_age_or_its_own_limit() {
        let second = Duration::from_secs(1);
        let hour = Duration::from_secs(3600);
        // The holder has held the lock for ten seconds.
        for (policy, max_hold, stolen) in [
            (StalePolicy::Proof, Some(second), false),
            (StalePolicy::StealAfter(hour), None, false),
            (StalePolicy::StealAfter(second), None, true),
            (StalePolicy::StealAfter(hour), Some(hour), false),
            (StalePolicy::StealAfter(hour), Some(second), true),
            (StalePolicy::StealAfter(second), Some(hour), true),
        ] {
            let mut holder = Holder::from_record(None, Liveness::alive("it has the kernel lock"));
            holder.max_hold = max_hold;
            assert!(!policy.steals(&holder), "{policy:?}: its age is unknown");
            holder.acquired_at = Some(SystemTime::now() - 10 * second);
            assert_eq!(policy.steals(&holder), stolen, "{policy:?}, {max_hold:?}");
        }
    }
}
