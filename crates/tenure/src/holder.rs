//! Who holds, as far as the record and the kernel say.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::escape;
use crate::process::{Identity, Liveness};

/// Whose protocol a lock file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderKind {
    /// Written by Tenure: a kernel lock stands behind it.
    Native,
    /// Written by a program that knows only the lock file (the seed's protocol).
    Foreign,
}

/// The process that holds a lock, or held it last.
///
/// Everything but `liveness` comes from the record: absent where the record has none or a malformed one. Text
/// (`label`, `command`, `host`) is as its writer put it: escape it before you print it; `Display` here does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// Native or foreign.
    pub kind: HolderKind,
    /// The recorded identity; `None` where no valid pid is recorded.
    pub identity: Option<Identity>,
    /// Does it live, and how is that known?
    pub liveness: Liveness,
    /// What the holder calls itself ([`Options::label`](crate::Options::label)).
    pub label: Option<String>,
    /// The command line: the holder's own, or that of the command that it runs under the lock.
    pub command: Option<String>,
    /// The command that the holder runs under the lock and waits for ([`Guard::set_command`](crate::Guard::set_command)):
    /// `tenure run` records the one that it was given.
    pub command_identity: Option<Identity>,
    /// The holder's machine.
    pub host: Option<String>,
    /// When the record says that it was made, or last refreshed.
    pub created_at: Option<SystemTime>,
    /// When this tenure began (native holders only).
    pub acquired_at: Option<SystemTime>,
    /// The fence of this tenure (native holders only).
    pub fence: Option<u64>,
    /// How long the holder means to hold.
    pub max_hold: Option<Duration>,
}

impl Holder {
    /// The recorded pid.
    pub fn pid(&self) -> Option<i64> {
        self.identity.as_ref().map(|identity| identity.pid)
    }

    /// The pid of the command that the holder runs under the lock.
    pub fn command_pid(&self) -> Option<i64> {
        self.command_identity.as_ref().map(|identity| identity.pid)
    }

    /// How long it has been held: since `acquired_at`, or `created_at` where there is none. A time in the future
    /// counts as zero.
    pub fn age(&self) -> Option<Duration> {
        let since = self.acquired_at.or(self.created_at)?;
        Some(crate::sys::now().duration_since(since).unwrap_or(Duration::ZERO))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid() {
            Some(pid) => write!(f, "pid {pid}")?,
            None => f.write_str("an unknown process")?,
        }
        if let Some(pid) = self.command_pid() {
            write!(f, ", command pid {pid}")?;
        }
        if let Some(command) = &self.command {
            write!(f, " \"{}\"", escape::text(command))?;
        }
        if let Some(label) = &self.label {
            write!(f, " ({})", escape::text(label))?;
        }
        if let Some(age) = self.age() {
            write!(f, " for {}", escape::duration(age))?;
        }
        write!(f, ", {}", self.liveness)
    }
}
