//! Who is that: a process told from every other, and whether it lives.
//!
//! A pid alone names nobody: it is recycled, and it means another process in another pid namespace. An [`Identity`]
//! carries what tells one process from all others, and [`Identity::verify`] answers in three values, because "cannot
//! tell" is not "dead".

mod identity;
mod known;

pub use identity::Identity;
pub(crate) use identity::comparable_start_time;
pub(crate) use known::{Known, Look};

use std::borrow::Cow;
use std::fmt;

/// Whether a holder lives, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It lives.
    Alive(Cow<'static, str>),
    /// It is proven dead.
    Dead(Cow<'static, str>),
    /// It cannot be told from here; nobody may act on it as if it were dead.
    Unknown(Cow<'static, str>),
}

impl Liveness {
    pub(crate) fn alive(why: impl Into<Cow<'static, str>>) -> Liveness {
        Liveness::Alive(why.into())
    }

    pub(crate) fn dead(why: impl Into<Cow<'static, str>>) -> Liveness {
        Liveness::Dead(why.into())
    }

    pub(crate) fn unknown(why: impl Into<Cow<'static, str>>) -> Liveness {
        Liveness::Unknown(why.into())
    }

    /// The reason, in words.
    pub fn why(&self) -> &str {
        let (Liveness::Alive(why) | Liveness::Dead(why) | Liveness::Unknown(why)) = self;
        why
    }

    /// `alive`, `dead` or `unknown`: the value without its reason, as JSON has it.
    pub fn name(&self) -> &'static str {
        match self {
            Liveness::Alive(_) => "alive",
            Liveness::Dead(_) => "dead",
            Liveness::Unknown(_) => "unknown",
        }
    }

    /// Is it [`Liveness::Alive`]?
    pub fn is_alive(&self) -> bool {
        matches!(self, Liveness::Alive(_))
    }

    /// Is it [`Liveness::Dead`]?
    pub fn is_dead(&self) -> bool {
        matches!(self, Liveness::Dead(_))
    }

    /// Is it [`Liveness::Unknown`]?
    pub fn is_unknown(&self) -> bool {
        matches!(self, Liveness::Unknown(_))
    }
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.why())
    }
}

/// Is there a process with this pid, in this process's pid namespace, that has not ended?
///
/// "Permission denied" means it lives. A zombie whose threads are all gone is dead; a zombie leader with live threads
/// is alive. 0, negatives and what no kernel gives as a pid (above 2^22 on Linux) are never alive and are never
/// signalled; a thread's id is not a process's.
///
/// A pid is recycled: a `true` may speak of another process than the one you mean. [`Identity::verify`] does not have
/// that flaw. Where the platform has no port, the answer for a possible pid is `true`: nothing may be removed on a
/// doubt.
pub fn is_alive(pid: impl Into<i64>) -> bool {
    identity::alive(pid.into())
}

/// The process that started it, or that adopted it since. 0 for the first of a pid namespace.
pub(crate) fn parent(pid: i64) -> Option<i64> {
    identity::parent(pid)
}

/// When the process started: field 22 of `/proc/<pid>/stat`, in clock ticks since boot (`proc_pid_stat(5)`).
///
/// `None` where there is no such process, it is hidden (`hidepid`), or the platform has none. Two processes with one
/// pid differ in it unless they started within the same tick (10 ms).
pub fn start_time(pid: impl Into<i64>) -> Option<u64> {
    identity::start_time(pid.into())
}
