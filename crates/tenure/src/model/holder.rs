//! The holder of a lock, as the record and the kernel show it.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::process::{Identity, Liveness};
use crate::record::{Record, Text};
use crate::util::text;

/// The protocol that a holder uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderKind {
    /// The holder uses Tenure, so a kernel lock proves that it lives.
    Native,
    /// The holder is a program that uses only the lock file, as in OpenClaw's protocol.
    Foreign,
}

/// The end of the previous tenure: [`Guard::previous`](crate::Guard::previous).
///
/// ```
/// use tenure::{Lock, Previous};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("main.jsonl");
/// let guard = Lock::open(&path)?.acquire()?;
/// if let Previous::Crashed(holder) = guard.previous() {
///     eprintln!("{holder} crashed: the last line may be incomplete");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Previous {
    /// The lock was released, or there was no previous tenure.
    Clean,
    /// The holder died while it held the lock, so the protected data may be half-written. `EOWNERDEAD` of a robust mutex
    /// means the same.
    Crashed(Box<Holder>),
}

impl Previous {
    /// Returns whether the previous holder died while it held the lock.
    pub fn is_crashed(&self) -> bool {
        matches!(self, Previous::Crashed(_))
    }
}

/// The process that holds a lock, or held it last.
///
/// All fields but `liveness` come from the record, and are absent where the record lacks them or they are malformed. Texts
/// (`label`, `command`, `host`) are as their writer recorded them, so escape them before you print them, as `Display` does.
///
/// ```
/// use tenure::{HolderKind, Lock};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("main.jsonl");
/// let _guard = Lock::open(&path)?.acquire()?;
/// let holder = tenure::status(&path)?.holder.expect("a live holder");
/// assert_eq!(holder.kind, HolderKind::Native);
/// assert_eq!(holder.pid(), Some(std::process::id().into()));
/// println!("{holder}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// Whether the holder is native or foreign.
    pub kind: HolderKind,
    /// The recorded identity; `None` without a valid pid.
    pub identity: Option<Identity>,
    /// Whether the holder lives, and the evidence.
    pub liveness: Liveness,
    /// The holder's name for itself ([`Options::label`](crate::Options::label)).
    pub label: Option<String>,
    /// The command line of the holder, or of the command that it runs under the lock.
    pub command: Option<String>,
    /// The identity of the command that the holder runs under the lock
    /// ([`Guard::set_command`](crate::Guard::set_command)), as `tenure run` does.
    pub command_identity: Option<Identity>,
    /// The holder's machine.
    pub host: Option<String>,
    /// When the record was created or last refreshed.
    pub created_at: Option<SystemTime>,
    /// When this tenure began (native holders only).
    pub acquired_at: Option<SystemTime>,
    /// The fence of this tenure (native holders only).
    pub fence: Option<u64>,
    /// The intended maximum duration of this tenure.
    pub max_hold: Option<Duration>,
    /// How many may hold a slot at once, as far as this holder of a slot agrees ([`Options::slots`](crate::Options::slots)).
    pub slots: Option<u32>,
}

impl Holder {
    /// Returns the recorded pid.
    pub fn pid(&self) -> Option<i64> {
        self.identity.as_ref().map(|identity| identity.pid)
    }

    pub(crate) fn is_foreign(&self) -> bool {
        self.kind == HolderKind::Foreign
    }

    /// Returns whether it is a foreign program whose lock file names no process.
    pub(crate) fn is_nameless(&self) -> bool {
        self.is_foreign() && self.identity.is_none()
    }

    /// Returns the pid of the command that the holder runs under the lock.
    pub fn command_pid(&self) -> Option<i64> {
        self.command_identity.as_ref().map(|identity| identity.pid)
    }

    /// Returns the holder that `record` names. Without a record only its liveness is known.
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
            slots: native.and_then(|native| native.slots).and_then(|slots| u32::try_from(slots).ok()),
        }
    }

    /// Returns the age of this tenure: the time since `acquired_at`, or since `created_at` where that is absent. It is zero
    /// if that time is in the future.
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
        match self.pid() {
            // "Unknown" is said already.
            None if self.liveness.is_unknown() => write!(f, " ({})", self.liveness.why()),
            _ => write!(f, ", {}", self.liveness),
        }
    }
}
