//! The operations that need no open lock: status, list, clean and break. They choose between files and servers, once.

use std::path::Path;

use crate::maintenance;
use crate::maintenance::clean::{CleanOptions, CleanReport};
use crate::maintenance::walk::ListOptions;
use crate::model::circle::Circle;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::history::PastTenure;
use crate::model::status::{State, Status};
use crate::server;

/// Returns the status of the lock of `target`, without touching it. A target whose folder does not exist is free.
///
/// A lock on the target that was taken with `flock(2)` by a program that is no native is reported too (flock style, a
/// foreign holder): it does not exclude a native in lock-file style.
///
/// ```
/// use tenure::{Lock, State, status};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("main.jsonl");
/// assert_eq!(status(&path)?.state, State::Free);
/// let _guard = Lock::open(&path)?.acquire()?;
/// let holder = status(&path)?.holder.expect("a native records itself");
/// println!("held by {holder}");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`is_obstructed`](crate::Error::is_obstructed) where a file that is no lock has the lock file's name;
/// the system's own where it cannot be read.
pub fn status(target: impl AsRef<Path>) -> Result<Status> {
    let target = target.as_ref();
    match server::open_lock(target)? {
        Some(server) => server.status(),
        None => maintenance::list::status(target),
    }
}

/// Returns the last tenures of the lock of `target`, and its last failed waits, oldest first: as many of each as the
/// [`history`](crate::Options::history) of its holders keeps. Empty for a lock that no holder kept a history of.
///
/// Each user's holders write a file of their own, and a file that this user may not read is an error. Lines that are torn,
/// or no lines of a history, are passed over. The present holder is not in it: [`status`](status()) shows it. Neither is a
/// holder that crashed, until the next one acquires the lock.
///
/// ```
/// use tenure::{Ending, Lock};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("main.jsonl");
/// let lock = Lock::options().label("nightly job").history(100).open(&path)?;
/// lock.acquire()?.release()?;
/// for past in tenure::history(&path)? {
///     println!("{:?} for {:?}: {}", past.label, past.lasted(), past.ended.as_str());
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The system's own, where a file of the history cannot be read; [`is_unsupported`](Error::is_unsupported) for a server.
pub fn history(target: impl AsRef<Path>) -> Result<Vec<PastTenure>> {
    let target = target.as_ref();
    if server::scheme(target)?.is_some() {
        return Err(Error::new(ErrorKind::Unsupported, target, "the lock of a server keeps no history")
            .with_hint("the history of a lock on a file is kept: history(..), --history"));
    }
    maintenance::list::history(target)
}

/// Returns every lock in `dir` that is held or stale, sorted by path. With [`ListOptions::recursive`] also below it, without
/// following links or crossing to another file system. A missing folder has no locks. Files that are no locks are skipped.
/// If there are more than some hundreds of locks, threads of the library help.
///
/// ```
/// use tenure::{ListOptions, Lock, list};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let _guard = Lock::open(dir.join("sessions/main.jsonl"))?.acquire()?;
/// assert!(list(dir, &ListOptions::default())?.is_empty());
/// for lock in list(dir, &ListOptions::default().recursive(true))? {
///     println!("{}: {}", lock.target.display(), lock.state.as_str());
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The system's own, where `dir` itself cannot be read. A folder below that cannot be read is skipped.
pub fn list(dir: impl AsRef<Path>, options: &ListOptions) -> Result<Vec<Status>> {
    let dir = dir.as_ref();
    let mut found = match server::open(dir)? {
        // Names on a server have no folders: it lists all that are below.
        Some(server) => server.list()?,
        None => maintenance::list::list(dir, *options)?,
    };
    found.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(found)
}

/// Returns the circles of waits in which a lock in `dir` has a part: each program in one holds a lock and waits for the next
/// one's, so that none of them goes on. With [`ListOptions::recursive`] also for the locks below `dir`.
///
/// An acquire that would close a circle fails at once ([`Error::circle`]), so what this finds are the circles of programs that
/// turned that check off for the wait (`deadlock_check(false)`). A circle is reported only if it is proven: the waits of tasks
/// without a [scope](crate::task()), of other languages' tools, and of locks that another thread may release, are part of none.
///
/// ```
/// use tenure::{ListOptions, deadlocks};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// for circle in deadlocks(dir, &ListOptions::default().recursive(true))? {
///     println!("{circle}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The system's own, where `dir` cannot be read; [`is_unsupported`](Error::is_unsupported) for a server.
pub fn deadlocks(dir: impl AsRef<Path>, options: &ListOptions) -> Result<Vec<Circle>> {
    let dir = dir.as_ref();
    if server::scheme(dir)?.is_some() {
        return Err(Error::new(ErrorKind::Unsupported, dir, "circles of waits are found among files only"));
    }
    maintenance::deadlocks::deadlocks(dir, *options)
}

/// Removes what dead holders left in `dir`, and prunes anchors that no process has open and that are older than a day, but
/// for those whose record still has to report a crash to the next holder.
///
/// It removes only what is proven dead, each under its own kernel lock and compared with its names: safe beside live
/// traffic. Age is no proof: a lock file that names no process stays, unless [`CleanOptions::aged`] says otherwise.
/// A file that is no lock (a `Cargo.lock`, a `yarn.lock`) is never touched. A missing folder has no locks. If there are
/// more than some hundreds of locks, threads of the library help.
///
/// ```
/// use tenure::{CleanOptions, clean};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let report = clean(dir, &CleanOptions::default().recursive(true))?;
/// for lock in report.locks.iter().filter(|lock| lock.removed) {
///     println!("removed {}", lock.found.lock_file.display());
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The system's own, where `dir` cannot be read; [`is_unsupported`](Error::is_unsupported) for a server.
pub fn clean(dir: impl AsRef<Path>, options: &CleanOptions) -> Result<CleanReport> {
    let dir = dir.as_ref();
    if server::scheme(dir)?.is_some() {
        return Err(Error::new(ErrorKind::Unsupported, dir, "a server has nothing to clean")
            .with_hint("it releases the locks of dead holders by itself"));
    }
    maintenance::clean::clean(dir, options)
}

/// The options of [`break_lock`].
#[derive(Clone, Debug, Default)]
pub struct BreakOptions {
    force: bool,
    only: Option<Status>,
}

impl BreakOptions {
    /// Sets whether to break the lock of a live holder too, and of one whose liveness is unknown. Two holders may then work
    /// at once. Off by default.
    pub fn force(mut self, force: bool) -> BreakOptions {
        self.force = force;
        self
    }

    /// Restricts the break to the tenure that [`status`](status()) reported, and that an operator agreed to break. A later
    /// tenure is not broken. By default [`break_lock`] breaks the tenure that it finds.
    pub fn only(mut self, found: Status) -> BreakOptions {
        self.only = Some(found);
        self
    }
}

/// The result of [`break_lock`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Broken {
    /// The lock's status before.
    pub found: Status,
    /// Whether there was anything to break: `false` when it was free.
    pub broken: bool,
}

/// Breaks the lock of `target` on an operator's decision, whatever its holder does.
///
/// A dead holder's lock is removed as [`clean`] does. A live or unknown holder is refused without
/// [`force`](BreakOptions::force). With it, the holder's `check()` fails as lost from then on, and the waiters go on within
/// about a second. In flock style they go on once the holder has released the target itself, which no other process can
/// take from it. The fence keeps growing.
///
/// ```
/// use tenure::{BreakOptions, Lock, break_lock};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("main.jsonl");
/// let guard = Lock::open(&path)?.acquire()?;
/// assert!(break_lock(&path, &BreakOptions::default()).unwrap_err().is_busy());
/// assert!(break_lock(&path, &BreakOptions::default().force(true))?.broken);
/// assert!(guard.check().unwrap_err().is_lost());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`is_busy`](Error::is_busy) with the holder, where it lives or may live and `force` is not given, or where another
/// process acquired the lock meanwhile;
/// [`is_unsupported`](Error::is_unsupported) where the holder is a program that has locked the target itself with
/// `flock(2)`: only the end of that program releases it.
pub fn break_lock(target: impl AsRef<Path>, options: &BreakOptions) -> Result<Broken> {
    let target = target.as_ref();
    let server = server::open_lock(target)?;
    let found = match (&options.only, &server) {
        (Some(found), _) => found.clone(),
        (None, Some(server)) => server.status()?,
        (None, None) => maintenance::list::status(target)?,
    };
    if matches!(found.state, State::Held | State::Unknown) && !options.force {
        let error = Error::busy(target).with_holder(found.holder);
        return Err(error.with_hint(
            "breaking the lock of a live holder needs force (--force): two processes may then work at the same time",
        ));
    }
    let broken = match (found.state, server) {
        (State::Free, _) => false,
        (_, Some(server)) => server.force_release(&found)?,
        (_, None) => maintenance::clean::break_lock(target, &found)?,
    };
    Ok(Broken { found, broken })
}
