//! Whether a process lives: three values, because "unknown" is not "dead".

use std::borrow::Cow;
use std::fmt;

/// The liveness of a process, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The process lives.
    Alive(Cow<'static, str>),
    /// The process is proven dead.
    Dead(Cow<'static, str>),
    /// It cannot be determined here. No caller may treat the process as dead.
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

    /// Returns the reason, in words.
    pub fn why(&self) -> &str {
        let (Liveness::Alive(why) | Liveness::Dead(why) | Liveness::Unknown(why)) = self;
        why
    }

    /// Returns `alive`, `dead` or `unknown`: the value without its reason, as JSON has it.
    pub fn name(&self) -> &'static str {
        match self {
            Liveness::Alive(_) => "alive",
            Liveness::Dead(_) => "dead",
            Liveness::Unknown(_) => "unknown",
        }
    }

    /// Returns whether the process is known to live.
    pub fn is_alive(&self) -> bool {
        matches!(self, Liveness::Alive(_))
    }

    /// Returns whether the process is known to be dead.
    pub fn is_dead(&self) -> bool {
        matches!(self, Liveness::Dead(_))
    }

    /// Returns whether the process is known neither to live nor to be dead.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Liveness::Unknown(_))
    }
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.why())
    }
}
