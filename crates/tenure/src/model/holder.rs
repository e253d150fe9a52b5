//! Who holds, as far as the record and the kernel say.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::process::{Identity, Liveness};
use crate::record::{Record, Text};
use crate::util::text;

/// Whose protocol a lock file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderKind {
    /// Written by Tenure: a kernel lock stands behind it.
    Native,
    /// Written by a program that knows only the lock file (the seed's protocol).
    Foreign,
}

/// How the tenure before this one ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Previous {
    /// It was released, or there was none.
    Clean,
    /// Its holder died while it held: what the lock protects may be half-written. Like `EOWNERDEAD` of a robust
    /// mutex.
    Crashed(Box<Holder>),
}

impl Previous {
    /// Did the last holder die while it held?
    pub fn is_crashed(&self) -> bool {
        matches!(self, Previous::Crashed(_))
    }
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

    /// What the record says of its holder. Without one nothing is known but whether it lives.
    pub(crate) fn from_record(record: Option<&Record>, liveness: Liveness) -> Holder {
        let native = record.and_then(|record| record.native.as_ref());
        let owned = |text: &Option<Text>| text.as_deref().map(str::to_owned);
        Holder {
            kind: if native.is_some() { HolderKind::Native } else { HolderKind::Foreign },
            identity: record.and_then(Record::identity),
            liveness,
            label: native.and_then(|native| owned(&native.label)),
            command: native.and_then(|native| owned(&native.command)),
            command_identity: record.and_then(Record::command_identity),
            host: native
                .and_then(|native| owned(&native.host))
                .or_else(|| record?.marker.as_ref().map(|marker| marker.host.to_string())),
            created_at: record.and_then(|record| record.created_at),
            acquired_at: native.and_then(|native| native.acquired_at),
            fence: native.and_then(|native| native.fence),
            max_hold: record.and_then(|record| record.max_hold),
        }
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
            write!(f, " \"{}\"", text::text(command))?;
        }
        if let Some(label) = &self.label {
            write!(f, " ({})", text::text(label))?;
        }
        if let Some(age) = self.age() {
            write!(f, " for {}", text::duration(age))?;
        }
        write!(f, ", {}", self.liveness)
    }
}
