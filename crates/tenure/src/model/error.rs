//! The error type of the crate.
//!
//! An error names the path, the holder if it is known, the likely cause and a remedy. Callers decide by its kind, never by its
//! text.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::circle::Circle;
use crate::model::holder::Holder;
use crate::model::requester::RequesterId;

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of acquiring, checking, inspecting or releasing a lock.
///
/// Decide by [`kind`](Error::kind) or the predicates. `Display` writes a sentence for people, with the
/// [`holder`](Error::holder) if it is known and the [`hint`](Error::hint). The error converts into an [`io::Error`].
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: PathBuf,
    detail: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    advice: Option<Advice>,
    holder: Option<Holder>,
    waited: Option<Duration>,
    circle: Option<Circle>,
    source: Option<io::Error>,
}

/// The kind of an [`Error`], by which a caller decides: [`Error::kind`]. Most kinds have a predicate of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another holder had the lock until the deadline.
    Busy,
    /// The acquire would wait for its own end.
    WouldDeadlock,
    /// The run is not needed: another waits already, or the last successful one is recent.
    Skipped,
    /// The lock was held and is held no longer.
    Lost,
    /// The kernel, the file system, the server or this build lacks what the lock needs.
    Unsupported,
    /// A file or folder that is no lock has the name of the lock file or of its anchor.
    Obstructed,
    /// The path cannot be a target.
    InvalidTarget,
    /// The system denies the access to this user.
    PermissionDenied,
    /// The lock's files cannot be created.
    CannotCreate,
    /// No server answers that can keep the lock.
    Unreachable,
    /// A server answers and accepts no writes. Waiting for it is of no use.
    ReadOnly,
    /// An error of the system that is none of these: [`Error::io_error`].
    Io,
}

/// The remedy that a hint names, for a translation into another language: [`Error::advice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// Inspect the holder, and break the lock by force if nothing else helps.
    LookAtHolder,
    /// Use the guard that this thread has, or open both locks as reentrant.
    Reenter,
    /// Create the missing parent folders, or let the lock create them.
    CreateParents,
    /// Lock in flock style, which has no lock file.
    UseFlockStyle,
    /// Move the file that has the lock file's name, lock another target, or use flock style.
    MoveOrUseFlockStyle,
    /// Take the bare kernel lock, which keeps no record.
    WithoutRecord,
    /// Give the lock's files a mode that all its users share.
    ShareByMode,
    /// Let the owner of the lock's files share them by a mode, or take the bare kernel lock.
    ShareByModeOrWithoutRecord,
    /// Use a build that has this kind of server.
    BuildWithServer,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, path: impl Into<PathBuf>, detail: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner {
            kind,
            path: path.into(),
            detail: detail.into(),
            hint: None,
            advice: None,
            holder: None,
            waited: None,
            circle: None,
            source: None,
        }))
    }

    /// Returns the error for a lock that another process holds.
    pub(crate) fn busy(target: &Path) -> Error {
        let word = crate::util::text::word(target);
        Error::new(ErrorKind::Busy, target, "the lock is held by another process")
            .with_hint(format!("`tenure status {word}` says more; to take it by force: `tenure break --force {word}`"))
            .with_advice(Advice::LookAtHolder)
    }

    /// Returns the error for a thread or task that holds the lock and would wait for its own release.
    pub(crate) fn would_deadlock(target: &Path, shared: bool, holder: Option<RequesterId>) -> Error {
        let detail = match holder.and_then(RequesterId::task) {
            Some(_) => "this task holds the lock already and would wait for itself",
            None => "this thread holds the lock already and would wait for itself",
        };
        let error = Error::new(ErrorKind::WouldDeadlock, target, detail);
        match shared {
            true => error.with_hint(
                "release the share first: it cannot be upgraded, and a second share would wait for waiters that wait for its end",
            ),
            false => {
                error.with_hint("use the first guard, or open both with reentrant(true)").with_advice(Advice::Reenter)
            }
        }
    }

    /// Returns the error for a wait that would close a circle of waits.
    pub(crate) fn would_close(target: &Path, circle: Circle) -> Error {
        let mut error = Error::new(ErrorKind::WouldDeadlock, target, format!("the wait would never end: {circle}"))
            .with_hint("release what is held before this wait, or acquire all locks in one order everywhere");
        error.0.circle = Some(circle);
        error
    }

    /// Returns the error for a lock that a foreign program has by `flock(2)` on the target itself, as `flock(1)` does.
    pub(crate) fn busy_by_flock(target: &Path, holder: Option<Holder>) -> Error {
        let end = match holder.as_ref().and_then(Holder::pid) {
            Some(pid) => format!("end pid {pid}"),
            None => "end that program".to_owned(),
        };
        let word = crate::util::text::word(target);
        Error::busy(target)
            .with_hint(format!("`tenure status {word}` says more; a flock(2) cannot be broken: {end}"))
            .with_holder(holder)
    }

    /// Returns the error for a lock that `holder` holds. If the lock file names no process, the hint explains how it may have
    /// been created.
    pub(crate) fn busy_with(target: &Path, lock_file: &Path, holder: Option<Holder>) -> Error {
        let error = Error::busy(target);
        let error = match holder.as_ref().is_some_and(Holder::is_nameless) {
            true => {
                let (word, file) = (crate::util::text::word(target), crate::util::text::word(lock_file));
                error.with_hint(format!(
                    "{file} names no process: if flock(1) locks this file, lock the same path with `tenure run --flock {file}` \
                     (Style::Flock); if the program that created it is dead, `tenure break --force {word}` removes it"
                ))
            }
            false => error,
        };
        error.with_holder(holder)
    }

    /// Returns an error of the system, with its kind for a lock.
    pub(crate) fn io(path: impl Into<PathBuf>, action: impl Into<Cow<'static, str>>, source: io::Error) -> Error {
        let kind = match source.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::CannotCreate
            }
            _ => ErrorKind::Io,
        };
        let mut error = Error::new(kind, path, action);
        error.0.source = Some(source);
        error
    }

    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Error {
        self.0.hint = Some(hint.into());
        self.0.advice = None;
        self
    }

    /// Adds the remedy of the hint, where its text names a function of this crate or the command.
    pub(crate) fn with_advice(mut self, advice: Advice) -> Error {
        self.0.advice = Some(advice);
        self
    }

    pub(crate) fn with_holder(mut self, holder: Option<Holder>) -> Error {
        self.0.holder = holder;
        self
    }

    pub(crate) fn with_waited(mut self, waited: Duration) -> Error {
        self.0.waited = Some(waited);
        self
    }

    /// Returns a copy of the error for another waiter of the same failed operation.
    pub(crate) fn again(&self) -> Error {
        let inner = &self.0;
        let source = inner.source.as_ref().map(|source| match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(source.kind(), source.to_string()),
        });
        Error(Box::new(Inner {
            kind: inner.kind,
            path: inner.path.clone(),
            detail: inner.detail.clone(),
            hint: inner.hint.clone(),
            advice: inner.advice,
            holder: inner.holder.clone(),
            waited: inner.waited,
            circle: inner.circle.clone(),
            source,
        }))
    }

    /// Returns the kind of this error. A `match` needs an arm for kinds that are added later.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::{ErrorKind, Lock};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("main.jsonl");
    /// let _guard = Lock::open(&path)?.acquire()?;
    /// let lock = Lock::options().deadlock_check(false).open(&path)?;
    /// let error = lock.acquire_timeout(Duration::ZERO).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Busy);
    /// # Ok(())
    /// # }
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether another process held the lock until the deadline, or at once with
    /// [`Wait::Never`](crate::Wait::Never).
    pub fn is_busy(&self) -> bool {
        self.0.kind == ErrorKind::Busy
    }

    /// Returns whether the acquire would wait for its own end: the same thread holds the lock already; or the holder runs a
    /// command under it ([`Guard::set_command`](crate::Guard::set_command), `tenure run`) that is this process or its
    /// ancestor; or the wait would close a [circle](Error::circle).
    pub fn is_would_deadlock(&self) -> bool {
        self.0.kind == ErrorKind::WouldDeadlock
    }

    /// Returns whether the run is not needed: another waiter's run covers it ([`IfBusy::QueueOne`](crate::IfBusy::QueueOne)),
    /// or the last successful tenure is recent ([`not_more_often_than`](crate::Options::not_more_often_than)).
    pub fn is_skipped(&self) -> bool {
        self.0.kind == ErrorKind::Skipped
    }

    /// Returns whether the lock was held and is held no longer: it was broken or revoked, its files were removed, or this is a
    /// forked child.
    pub fn is_lost(&self) -> bool {
        self.0.kind == ErrorKind::Lost
    }

    /// Returns whether the kernel, the file system, the server or this build lacks what the lock needs. Nothing was locked.
    pub fn is_unsupported(&self) -> bool {
        self.0.kind == ErrorKind::Unsupported
    }

    /// Returns whether a file or folder that is no lock has the name of the lock file or of its anchor. It is left unchanged.
    pub fn is_obstructed(&self) -> bool {
        self.0.kind == ErrorKind::Obstructed
    }

    /// Returns whether the path cannot be a target: it is empty, ends in `/` or `..`, or its name is too long.
    pub fn is_invalid_target(&self) -> bool {
        self.0.kind == ErrorKind::InvalidTarget
    }

    /// Returns whether the system denied the access to this user.
    pub fn is_permission_denied(&self) -> bool {
        self.0.kind == ErrorKind::PermissionDenied
    }

    /// Returns whether the lock's files cannot be created: the folder is missing, or the file system is read-only.
    pub fn is_cannot_create(&self) -> bool {
        self.0.kind == ErrorKind::CannotCreate
    }

    /// Returns whether no [`server`](crate::server) answered, or none that can keep a lock. The text has the reason of each
    /// server.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unreachable | ErrorKind::ReadOnly)
    }

    /// Returns whether the server answers but accepts no writes, so that waiting for it is of no use.
    pub(crate) fn takes_no_writes(&self) -> bool {
        self.0.kind == ErrorKind::ReadOnly
    }

    /// Returns the path of the lock, or of the file that the error is about.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the holder of the lock, if it is known.
    pub fn holder(&self) -> Option<&Holder> {
        self.0.holder.as_ref()
    }

    /// Returns how long the acquire waited, including the time in this process's own queue.
    pub fn waited(&self) -> Option<Duration> {
        self.0.waited
    }

    /// Returns the circle of waits that the acquire would have closed, if that is the reason of
    /// [`is_would_deadlock`](Error::is_would_deadlock): each program holds one lock and waits for the next one's. The last
    /// wait is the one that failed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tenure::Lock;
    ///
    /// # if cfg!(target_os = "linux") {
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let [x, y] = ["x", "y"].map(|name| dir.path().join(name));
    /// let _x = Lock::open(&x)?.acquire()?;
    /// std::thread::scope(|scope| {
    ///     let (held, is_held) = std::sync::mpsc::channel();
    ///     let other = scope.spawn({
    ///         let (x, y) = (&x, &y);
    ///         move || {
    ///             let _y = Lock::open(y)?.acquire()?;
    ///             held.send(()).unwrap();
    ///             Lock::open(x)?.acquire().map(drop)
    ///         }
    ///     });
    ///     is_held.recv().unwrap();
    ///     // Whichever of the two waits second gets the error, and the other one its lock.
    ///     let ours = Lock::open(&y).and_then(|y| y.acquire()).map(drop);
    ///     drop(_x);
    ///     let theirs: Result<(), tenure::Error> = other.join().unwrap();
    ///     let error = ours.err().or(theirs.err()).expect("a deadlock");
    ///     let circle = error.circle().expect("each waits for the other");
    ///     assert_eq!(circle.waits.len(), 2);
    ///     eprintln!("{circle}");
    ///     Ok::<_, tenure::Error>(())
    /// })?;
    /// # Ok(())
    /// # }
    /// # main().unwrap();
    /// # }
    /// ```
    pub fn circle(&self) -> Option<&Circle> {
        self.0.circle.as_ref()
    }

    /// Returns a remedy, in a sentence.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns the remedy of the [`hint`](Error::hint), where its text names a function of this crate or the command `tenure`.
    /// A binding translates it into its own language. `None` where the hint is the same in every language.
    pub fn advice(&self) -> Option<Advice> {
        self.0.advice
    }

    /// Returns the error's text without its hint.
    pub fn without_hint(&self) -> impl fmt::Display + '_ {
        WithoutHint(&self.0)
    }

    /// Returns the system's own error, if there was one.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.0.source.as_ref()
    }
}

/// The end of a detail that is replaced by the holder, if it is known.
const ANOTHER: &str = "another process";

struct WithoutHint<'a>(&'a Inner);

impl fmt::Display for WithoutHint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0;
        let path = crate::util::text::path(&inner.path);
        match (&inner.holder, inner.detail.strip_suffix(ANOTHER)) {
            (Some(holder), Some(held)) => write!(f, "{path}: {held}{holder}")?,
            (Some(holder), None) => write!(f, "{path}: {}: held by {holder}", inner.detail)?,
            (None, _) => write!(f, "{path}: {}", inner.detail)?,
        }
        if let Some(waited) = inner.waited {
            write!(f, " (waited {})", crate::util::text::duration(waited))?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.without_hint())?;
        match &self.0.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("path", &self.0.path)
            .field("detail", &self.0.detail)
            .field("holder", &self.0.holder)
            .field("waited", &self.0.waited)
            .field("source", &self.0.source)
            .field("hint", &self.0.hint)
            .finish()
    }
}

/// Wraps the whole error, with the kind of the system's own error if there was one.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match (error.io_error(), error.kind()) {
            (Some(source), _) => source.kind(),
            (None, ErrorKind::Busy | ErrorKind::Skipped) => io::ErrorKind::WouldBlock,
            (None, ErrorKind::WouldDeadlock) => io::ErrorKind::Deadlock,
            (None, ErrorKind::Unsupported) => io::ErrorKind::Unsupported,
            (None, ErrorKind::Obstructed) => io::ErrorKind::AlreadyExists,
            (None, ErrorKind::InvalidTarget) => io::ErrorKind::InvalidInput,
            (None, ErrorKind::PermissionDenied) => io::ErrorKind::PermissionDenied,
            (None, ErrorKind::CannotCreate) => io::ErrorKind::NotFound,
            (None, ErrorKind::Unreachable) => io::ErrorKind::HostUnreachable,
            (None, ErrorKind::ReadOnly) => io::ErrorKind::ReadOnlyFilesystem,
            (None, ErrorKind::Lost | ErrorKind::Io) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_can_replace_the_hint() {
        let error = Error::busy(Path::new("/d/t")).with_waited(Duration::from_secs(2));
        assert_eq!(error.advice(), Some(Advice::LookAtHolder));
        let (whole, without) = (error.to_string(), error.without_hint().to_string());
        assert!(whole.starts_with(&without), "{whole}");
        assert_eq!(whole[without.len()..].strip_prefix("; "), error.hint());
        assert!(without.ends_with("(waited 2 s)"), "{without}");
        let error = error.with_hint("the text is another one now");
        assert_eq!(error.advice(), None, "the advice belongs to the previous hint");
        assert_eq!(Error::new(ErrorKind::Io, "/d", "it failed").to_string(), "/d: it failed");
    }

    #[test]
    fn an_error_becomes_an_io_error_that_keeps_it() {
        let error = io::Error::from(Error::busy(Path::new("/d/t")));
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("the error itself");
        assert!(inner.is_busy() && inner.kind() == ErrorKind::Busy);
        let source = io::Error::from_raw_os_error(28);
        let kind = source.kind();
        let error = io::Error::from(Error::io("/d", "it cannot be written", source));
        assert_eq!(error.kind(), kind, "the system's own kind");
        assert!(error.to_string().starts_with("/d: it cannot be written"), "{error}");
    }
}
