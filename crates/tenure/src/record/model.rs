//! The fields of a record, and the layout of its text.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::process::Identity;

/// The maximum length of a record in bytes. Longer texts are no records.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// The largest integer that every JSON reader represents exactly: 2^53 - 1.
pub(crate) const MAX_SAFE: u64 = (1 << 53) - 1;
/// The maximum number of suspended tenures that a record names.
pub(crate) const MAX_SUSPENDED: usize = 64;
/// The offset of the first byte of the pid's key in a native record: the `p` of `{\n  "pid"`.
pub(crate) const PID_KEY_OFFSET: u64 = 5;

/// The state of a tenure, as its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordState {
    /// Written by an acquire in lock-file style that does not hold the lock yet, where the anchor records no earlier tenure
    /// in that style. Only a record with `held` proves that a native has ever published a lock file for this lock.
    Acquiring,
    /// Held, now or when the holder died.
    Held,
    /// Released. Written in styles without a lock file, whose absence would show the release.
    Released,
    /// Ended by a signal. The lock file was removed, and the protected data may be half-written.
    Aborted,
}

/// How other programs see the tenure, as its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordStyle {
    LockFile,
    Flock,
    /// Kept by a server, without a file.
    Server,
}

/// The fields of the previous record that every acquire needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PriorState {
    pub(crate) fence: u64,
    pub(crate) state: RecordState,
    pub(crate) style: RecordStyle,
    /// Whether the record names suspended tenures.
    pub(crate) suspended: bool,
}

impl PriorState {
    /// Returns whether the record proves that a native has held this lock in lock-file style.
    pub(crate) fn was_published(self) -> bool {
        (self.style, self.state) == (RecordStyle::LockFile, RecordState::Held)
    }
}

/// The fields of a record, each absent where it is missing or malformed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) pid: Option<i64>,
    /// When the lock file was created or last refreshed. A date without an offset is taken as UTC.
    pub(crate) created_at: Option<SystemTime>,
    pub(crate) start_time: Option<u64>,
    /// Absent where it is zero, too, because such a tenure would be overdue from its first moment.
    pub(crate) max_hold: Option<Duration>,
    /// The object `tenure`, which only natives write.
    pub(crate) native: Option<Native>,
    /// The fields of a text that Python's package filelock wrote. It has no others but the pid and the start time.
    pub(crate) marker: Option<Marker>,
}

/// The fields in the file of a `SoftFileLock` of Python's package filelock, except the pid and the start time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Marker {
    pub(crate) host: Text,
    pub(crate) boot_id: Option<Text>,
}

/// A text of a record. It is shared, because the texts of one process are the same in all of its records.
pub(crate) type Text = Arc<str>;

/// A suspended tenure, which its holder means to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SuspendedTenure {
    /// The pid of its process, in that process's pid namespace.
    pub(crate) pid: u64,
    pub(crate) fence: u64,
}

/// The suspended tenures of a lock, in the order in which they were suspended. Records share them, as they carry them on.
pub(crate) type SuspendedTenures = Arc<[SuspendedTenure]>;

/// The object `tenure`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Native {
    pub(crate) fence: Option<u64>,
    pub(crate) state: RecordState,
    pub(crate) style: RecordStyle,
    pub(crate) acquired_at: Option<SystemTime>,
    pub(crate) boot_id: Option<Text>,
    pub(crate) pid_namespace: Option<u64>,
    pub(crate) pidfd_inode: Option<u64>,
    pub(crate) start_time: Option<u64>,
    pub(crate) host: Option<Text>,
    pub(crate) command: Option<Text>,
    /// The pid of the command that the holder runs under the lock, in the holder's pid namespace, and its start time.
    pub(crate) command_pid: Option<u64>,
    pub(crate) command_start_time: Option<u64>,
    /// How many may hold a slot at once, as far as this holder of a slot agrees.
    pub(crate) slots: Option<u64>,
    pub(crate) label: Option<Text>,
    /// The suspended tenures of this lock, at most [`MAX_SUSPENDED`]. `None` where there is none.
    pub(crate) suspended: Option<SuspendedTenures>,
}

impl Native {
    /// Returns the fields of a tenure in lock-file style with no process yet.
    pub(crate) fn bare(state: RecordState) -> Native {
        Native {
            fence: None,
            state,
            style: RecordStyle::LockFile,
            acquired_at: None,
            boot_id: None,
            pid_namespace: None,
            pidfd_inode: None,
            start_time: None,
            host: None,
            command: None,
            command_pid: None,
            command_start_time: None,
            slots: None,
            label: None,
            suspended: None,
        }
    }
}

/// The classified text of a lock file or an anchor.
#[derive(Clone, Debug, PartialEq)]
// Values live briefly, one at a time, so a box would cost more than the bytes.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Content {
    /// Empty, blank or zeros: a holder is between create and write, or died there.
    Blank,
    /// A JSON object that is a record.
    Record(Record),
    /// The beginning of a record.
    Torn,
    /// Something else that must stay, described in a few words.
    NotALock(String),
}

/// The bytes of a record, and the offsets of the values that change.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    pub(crate) bytes: Vec<u8>,
    /// The offset of the state's fixed-width text (`"held",     `). A record without a native part has none: its offset is
    /// `u64::MAX`, where no write succeeds.
    pub(crate) state_offset: u64,
    /// The offsets of the fence's digits and of the two dates with their quotes. `u64::MAX` where the value is missing.
    pub(crate) fence_offset: u64,
    pub(crate) created_offset: u64,
    pub(crate) acquired_offset: u64,
}

// The heads of the lines. The writer and the fast reader share them, so that they cannot diverge.
pub(super) const OPEN: &str = "{\n  \"";
pub(super) const PID_KEY: &str = "pid";
pub(super) const MASKED_KEY: &str = "_id";
pub(super) const PID_END: &str = "\": ";
pub(super) const CREATED_AT: &str = "  \"createdAt\": ";
pub(super) const FOREIGN_START_TIME: &str = "  \"starttime\": ";
pub(super) const MAX_HOLD: &str = "  \"maxHoldMs\": ";
pub(super) const NATIVE: &str = "  \"tenure\": {\n    \"version\": 1,\n";
pub(super) const FENCE: &str = "    \"fence\": ";
pub(super) const STATE: &str = "    \"state\": ";
pub(super) const SUSPENDED: &str = "    \"suspended\": ";
pub(super) const STYLE: &str = "    \"style\": ";
pub(super) const ACQUIRED_AT: &str = "    \"acquiredAt\": ";
pub(super) const BOOT_ID: &str = "    \"bootId\": ";
pub(super) const PID_NAMESPACE: &str = "    \"pidNamespace\": ";
pub(super) const PIDFD_INODE: &str = "    \"pidfdInode\": ";
pub(super) const START_TIME: &str = "    \"startTime\": ";
pub(super) const HOST: &str = "    \"host\": ";
pub(super) const COMMAND: &str = "    \"command\": ";
pub(super) const COMMAND_PID: &str = "    \"commandPid\": ";
pub(super) const COMMAND_START_TIME: &str = "    \"commandStartTime\": ";
pub(super) const SLOTS: &str = "    \"slots\": ";
pub(super) const LABEL: &str = "    \"label\": ";
pub(super) const CLOSE_NATIVE: &str = "  }\n";
pub(super) const CLOSE: &str = "}";

pub(super) const LOCK_FILE_STYLE: &str = "\"lock-file\"";
pub(super) const FLOCK_STYLE: &str = "\"flock\"";
pub(super) const SERVER_STYLE: &str = "\"server\"";

/// The widths that numbers are padded to: their maximum number of digits, so that a change moves nothing behind them.
pub(super) const PID_WIDTH: usize = 10;
pub(super) const FENCE_WIDTH: usize = 16;
pub(super) const WIDE: usize = 20;

/// The maximum length in bytes of a free text. Longer texts are cut.
pub(super) const MAX_TEXT: usize = 1024;
/// A record's length is a multiple of this, so that most records need no further padding to cover the previous one.
pub(super) const BLOCK: usize = 512;

/// Returns the state's text at its fixed width, as it is written at [`Rendered::state_offset`].
pub(crate) fn state_text(state: RecordState) -> &'static [u8; 12] {
    match state {
        RecordState::Acquiring => b"\"acquiring\",",
        RecordState::Held => b"\"held\",     ",
        RecordState::Released => b"\"released\", ",
        RecordState::Aborted => b"\"aborted\",  ",
    }
}

impl Record {
    /// Returns the identity of the recorded process, or `None` without a valid pid.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let pid = self.pid.filter(|pid| *pid > 0)?;
        let native = self.native.as_ref();
        let boot_id =
            native.map_or_else(|| self.marker.as_ref()?.boot_id.as_deref(), |native| native.boot_id.as_deref());
        Some(Identity {
            pid,
            // Outside Linux only natives record a start time, in the object `tenure`.
            start_time: native.and_then(|native| native.start_time).or(self.start_time),
            boot_id: boot_id.map(str::to_owned),
            pid_namespace: native.and_then(|native| native.pid_namespace),
            pidfd_inode: native.and_then(|native| native.pidfd_inode),
        })
    }

    /// Returns the identity of the command that the recorded process runs under its lock, if it runs one.
    pub(crate) fn command_identity(&self) -> Option<Identity> {
        let native = self.native.as_ref()?;
        Some(Identity {
            pid: native.command_pid.filter(|pid| *pid > 0).and_then(|pid| i64::try_from(pid).ok())?,
            start_time: native.command_start_time,
            boot_id: native.boot_id.as_deref().map(str::to_owned),
            pid_namespace: native.pid_namespace,
            pidfd_inode: None,
        })
    }

    /// Returns whether this record of a native and `other` have the same fields, except those that differ between two tenures
    /// of one process: the fence, the state and the dates.
    #[inline]
    pub(super) fn is_same_but_for_the_tenure(&self, other: &Record) -> bool {
        let (Some(ours), Some(theirs)) = (&self.native, &other.native) else { return false };
        // By name, so that a new field must be considered here.
        let Native {
            fence: _,
            state: _,
            style,
            acquired_at: _,
            boot_id,
            pid_namespace,
            pidfd_inode,
            start_time,
            host,
            command,
            command_pid,
            command_start_time,
            slots,
            label,
            suspended,
        } = theirs;
        self.pid == other.pid
            && self.start_time == other.start_time
            && self.max_hold == other.max_hold
            && ours.style == *style
            && ours.pid_namespace == *pid_namespace
            && ours.pidfd_inode == *pidfd_inode
            && ours.start_time == *start_time
            && is_same_text(&ours.boot_id, boot_id)
            && is_same_text(&ours.host, host)
            && is_same_text(&ours.command, command)
            && ours.command_pid == *command_pid
            && ours.command_start_time == *command_start_time
            && ours.slots == *slots
            && is_same_text(&ours.label, label)
            && match (&ours.suspended, suspended) {
                (None, None) => true,
                (ours, theirs) => ours == theirs,
            }
    }

    /// Returns the fence of the recorded tenure. The next tenure's fence must exceed it.
    pub(crate) fn previous_fence(&self) -> Option<u64> {
        self.native.as_ref()?.fence
    }
}

/// Compares two texts. Most are one text that two records share.
#[inline]
pub(crate) fn is_same_text(one: &Option<Text>, other: &Option<Text>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}
