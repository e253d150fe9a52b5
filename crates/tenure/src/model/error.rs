//! One opaque error for everything.
//!
//! It names the path, the holder where one is known, the likely cause and what to do. Callers decide by the `is_*`
//! predicates, never by the text.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::holder::{Holder, HolderKind};

/// What this crate's fallible functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a lock could not be had, kept, looked at or let go.
///
/// Ask it with the predicates; print it for people. [`holder`](Error::holder) says who is in the way where that is
/// known.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: PathBuf,
    detail: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    advice: Option<Advice>,
    holder: Option<Holder>,
    waited: Option<Duration>,
    source: Option<io::Error>,
}

/// The kind of an [`Error`]: what a caller decides by ([`Error::kind`]). Each has a predicate of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another holder had the lock until the deadline.
    Busy,
    /// The acquire would wait for its own end.
    WouldDeadlock,
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

/// What a hint advises, without the words of a language: [`Error::advice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// Look who holds the lock, and break it by force if nothing else helps.
    LookAtHolder,
    /// Use the guard that this thread has, or open both locks as reentrant.
    Reenter,
    /// Let the lock make missing parent folders, or make them.
    CreateParents,
    /// Lock in flock style, which shows no lock file.
    UseFlockStyle,
    /// Move what stands where the lock file belongs, lock another target, or use flock style.
    MoveOrUseFlockStyle,
    /// Take the bare kernel lock, which keeps no record.
    WithoutRecord,
    /// Give the lock's files a mode that all its users share.
    ShareByMode,
    /// The owner of the lock's files shares them by a mode; or take the bare kernel lock.
    ShareByModeOrWithoutRecord,
    /// Use a build that has this engine.
    BuildWithEngine,
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
            source: None,
        }))
    }

    /// Held by another.
    pub(crate) fn busy(target: &Path) -> Error {
        let word = crate::util::text::word(target);
        Error::new(ErrorKind::Busy, target, "the lock is held by another")
            .with_hint(format!("`tenure status {word}` says more; `tenure break {word}` is an operator's way out"))
            .with_advice(Advice::LookAtHolder)
    }

    /// The thread holds the lock, and would wait for its own release.
    pub(crate) fn would_deadlock(target: &Path, shared: bool) -> Error {
        let detail = "this thread holds the lock already and would wait for itself";
        let error = Error::new(ErrorKind::WouldDeadlock, target, detail);
        match shared {
            true => error.with_hint(
                "release the share first: it cannot be upgraded, and a second share would wait for those who wait for its end",
            ),
            false => {
                error.with_hint("use the first guard, or open both with reentrant(true)").with_advice(Advice::Reenter)
            }
        }
    }

    /// Held by `holder`, as far as that is known. Of a lock file that names no process, the hint says what may have made it.
    pub(crate) fn busy_with(target: &Path, lock_file: &Path, holder: Option<Holder>) -> Error {
        let error = Error::busy(target);
        let nameless = |holder: &Holder| holder.kind == HolderKind::Foreign && holder.identity.is_none();
        let error = match holder.as_ref().is_some_and(nameless) {
            true => {
                let (word, file) = (crate::util::text::word(target), crate::util::text::word(lock_file));
                error.with_hint(format!(
                    "{file} names no process: where it is the file that flock(1) locks, lock that very path with `tenure run \
                     --flock {file}` (Style::Flock); where a program died and left it, `tenure break {word}` removes it"
                ))
            }
            false => error,
        };
        error.with_holder(holder)
    }

    /// An error of the system, sorted by what it means for a lock.
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

    /// Says what the hint advises, where its text names a call of Rust or the command.
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

    /// The same error for another waiter that the same failure struck.
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
            source,
        }))
    }

    /// Returns the kind of this error. More kinds may come: a `match` needs an arm for the rest.
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

    /// Held by another within the time given (or at once, with [`Wait::Never`](crate::Wait::Never)).
    pub fn is_busy(&self) -> bool {
        self.0.kind == ErrorKind::Busy
    }

    /// The acquire would wait for its own end: the same thread holds this lock already, or the holder runs a command under
    /// it ([`Guard::set_command`](crate::Guard::set_command), `tenure run`) that this process is, or descends from.
    pub fn is_would_deadlock(&self) -> bool {
        self.0.kind == ErrorKind::WouldDeadlock
    }

    /// The lock was held and is no more: broken, revoked, its files removed, or this is a forked child.
    pub fn is_lost(&self) -> bool {
        self.0.kind == ErrorKind::Lost
    }

    /// The kernel, the file system or the platform cannot do what is needed. Nothing was locked.
    pub fn is_unsupported(&self) -> bool {
        self.0.kind == ErrorKind::Unsupported
    }

    /// Something that is no lock stands where the lock file or its anchor belongs. It was left as it is.
    pub fn is_obstructed(&self) -> bool {
        self.0.kind == ErrorKind::Obstructed
    }

    /// The path cannot be a target: empty, ends in `/` or `..`, or its name is too long.
    pub fn is_invalid_target(&self) -> bool {
        self.0.kind == ErrorKind::InvalidTarget
    }

    /// The system denied it to this user.
    pub fn is_permission_denied(&self) -> bool {
        self.0.kind == ErrorKind::PermissionDenied
    }

    /// The lock's files cannot be made here: no such folder, a read-only file system.
    pub fn is_cannot_create(&self) -> bool {
        self.0.kind == ErrorKind::CannotCreate
    }

    /// No server of an [server](crate::server) answered, or none that can do what a lock needs: the text has each
    /// one's own reason.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unreachable | ErrorKind::ReadOnly)
    }

    /// The server answers and takes no writes: waiting for it is of no use.
    pub(crate) fn takes_no_writes(&self) -> bool {
        self.0.kind == ErrorKind::ReadOnly
    }

    /// The path that this is about.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Who holds the lock, where that is known.
    pub fn holder(&self) -> Option<&Holder> {
        self.0.holder.as_ref()
    }

    /// How long was waited, the time in this process's own queue included.
    pub fn waited(&self) -> Option<Duration> {
        self.0.waited
    }

    /// What to do about it, in a sentence.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// What the [`hint`](Error::hint) advises, where its text speaks of this crate or of the command `tenure`: for a
    /// binding that says it in its own language. `None` where the hint reads the same in every language.
    pub fn advice(&self) -> Option<Advice> {
        self.0.advice
    }

    /// The error's text without its hint.
    pub fn without_hint(&self) -> impl fmt::Display + '_ {
        WithoutHint(&self.0)
    }

    /// The system's own error, where there was one.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.0.source.as_ref()
    }
}

/// Said in the holder's place, where that is not known.
const ANOTHER: &str = "another";

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

/// Keeps the whole error as the source, with the system's own kind where there was one.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match (error.io_error(), error.kind()) {
            (Some(source), _) => source.kind(),
            (None, ErrorKind::Busy) => io::ErrorKind::WouldBlock,
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
    fn a_binding_can_say_the_hint_in_its_own_words() {
        let error = Error::busy(Path::new("/d/t")).with_waited(Duration::from_secs(2));
        assert_eq!(error.advice(), Some(Advice::LookAtHolder));
        let (whole, without) = (error.to_string(), error.without_hint().to_string());
        assert!(whole.starts_with(&without), "{whole}");
        assert_eq!(whole[without.len()..].strip_prefix("; "), error.hint());
        assert!(without.ends_with("(waited 2 s)"), "{without}");
        let error = error.with_hint("the text is another one now");
        assert_eq!(error.advice(), None, "an advice is of its own hint");
        assert_eq!(Error::new(ErrorKind::Io, "/d", "it failed").to_string(), "/d: it failed");
    }
}
