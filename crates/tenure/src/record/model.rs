//! What a record says, and how its text is laid out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::process::Identity;

/// No record is read or written beyond this.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// The largest integer that JSON's other readers hold exactly: 2^53 - 1.
pub(crate) const MAX_SAFE: u64 = (1 << 53) - 1;
/// Where the first byte of the pid's key stands in what we write: the `p` of `{\n  "pid"`.
pub(crate) const PID_KEY_OFFSET: u64 = 5;

/// How a tenure stands, by its own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordState {
    /// An acquire in lock-file style has written it, and has not held yet: at an anchor that does not tell of an earlier
    /// tenure in that style. Only a record that says `held` proves that this lock has ever had a lock file of a native's.
    Acquiring,
    /// Held, or was when its holder died.
    Held,
    /// Released: written where no lock file's absence shows it.
    Released,
    /// Ended by a signal: the lock file was removed, and what it protected may be half-written.
    Aborted,
}

/// Whose protocol shows the tenure, by the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordStyle {
    LockFile,
    Flock,
    /// Kept by a server: no file shows it.
    Engine,
}

/// What every acquire needs of the record before its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PriorState {
    pub(crate) fence: u64,
    pub(crate) state: RecordState,
    pub(crate) style: RecordStyle,
}

impl PriorState {
    /// Does it prove that a native has held this lock in lock-file style?
    pub(crate) fn was_shown(self) -> bool {
        (self.style, self.state) == (RecordStyle::LockFile, RecordState::Held)
    }
}

/// The fields of a lock file, each absent where it is missing or malformed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) pid: Option<i64>,
    /// When the lock file was made, or last refreshed: a string that is a date. Without an offset it is taken as UTC.
    pub(crate) created_at: Option<SystemTime>,
    pub(crate) start_time: Option<u64>,
    /// Absent where it is zero, too: a holder that means to hold for no time would be overdue from its first moment.
    pub(crate) max_hold: Option<Duration>,
    /// What only a native writes.
    pub(crate) native: Option<Native>,
    /// What only the package filelock writes, instead of all that but the pid and the start time.
    pub(crate) marker: Option<Marker>,
}

/// What stands in the file of a `SoftFileLock` of Python's package filelock beside the pid.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Marker {
    pub(crate) host: Text,
    pub(crate) boot_id: Option<Text>,
}

/// A text of a record. Those of one process stand in all of its records, and are not copied for each.
pub(crate) type Text = Arc<str>;

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
    /// Under a command that the holder runs: its pid, in the holder's own pid namespace, and when it started.
    pub(crate) command_pid: Option<u64>,
    pub(crate) command_start_time: Option<u64>,
    pub(crate) label: Option<Text>,
}

impl Native {
    /// Of nobody yet, in lock-file style.
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
            label: None,
        }
    }
}

/// What the bytes at a lock file's place are.
#[derive(Clone, Debug, PartialEq)]
// Short-lived, one at a time: a box would cost more than the bytes.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Content {
    /// Empty, blank or zeros: a holder between create and write, or one that died there.
    Blank,
    /// A JSON object that is a record.
    Record(Record),
    /// A record cut short: begins as one does.
    Torn,
    /// Something else that must stay, and what it looks like in a few words.
    NotALock(String),
}

/// A record as bytes to write, and where in them the parts stand that change.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    pub(crate) bytes: Vec<u8>,
    /// Where the state's fixed-width text (`"held",     `) begins. `u64::MAX`, where no write succeeds, if the record
    /// has no native part.
    pub(crate) state_offset: u64,
    /// As there, for the number of the fence and for the two dates with their quotes; `u64::MAX` where one is missing.
    pub(crate) fence_offset: u64,
    pub(crate) created_offset: u64,
    pub(crate) acquired_offset: u64,
}

// The line heads, for the writer and the fast reader alike, so that the two cannot drift apart.
pub(super) const OPEN: &str = "{\n  \"";
pub(super) const PID_KEY: &str = "pid";
pub(super) const MASKED_KEY: &str = "_id";
pub(super) const PID_END: &str = "\": ";
pub(super) const CREATED_AT: &str = "  \"createdAt\": ";
pub(super) const SEED_START_TIME: &str = "  \"starttime\": ";
pub(super) const MAX_HOLD: &str = "  \"maxHoldMs\": ";
pub(super) const NATIVE: &str = "  \"tenure\": {\n    \"version\": 1,\n";
pub(super) const FENCE: &str = "    \"fence\": ";
pub(super) const STATE: &str = "    \"state\": ";
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
pub(super) const LABEL: &str = "    \"label\": ";
pub(super) const CLOSE_NATIVE: &str = "  }\n";
pub(super) const CLOSE: &str = "}";

pub(super) const LOCK_FILE_STYLE: &str = "\"lock-file\"";
pub(super) const FLOCK_STYLE: &str = "\"flock\"";
pub(super) const ENGINE_STYLE: &str = "\"engine\"";

/// Digits that each number is padded to: the widest that it can be, so that a change moves nothing behind it.
pub(super) const PID_WIDTH: usize = 10;
pub(super) const FENCE_WIDTH: usize = 16;
pub(super) const WIDE: usize = 20;

/// Free text beyond this is cut.
pub(super) const MAX_TEXT: usize = 1024;
/// A record's length is a multiple of this, so that most records need no padding for the sake of the one before.
pub(super) const BLOCK: usize = 512;

/// The state's text at its fixed width, as it stands at [`Rendered::state_offset`].
pub(crate) fn state_text(state: RecordState) -> &'static [u8] {
    match state {
        RecordState::Acquiring => b"\"acquiring\",",
        RecordState::Held => b"\"held\",     ",
        RecordState::Released => b"\"released\", ",
        RecordState::Aborted => b"\"aborted\",  ",
    }
}

impl Record {
    /// The identity of the recorded process; `None` without a valid pid.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let pid = self.pid.filter(|pid| *pid > 0)?;
        let native = self.native.as_ref();
        let boot_id =
            native.map_or_else(|| self.marker.as_ref()?.boot_id.as_deref(), |native| native.boot_id.as_deref());
        Some(Identity {
            pid,
            // Off Linux only a native records one, in its own object.
            start_time: native.and_then(|native| native.start_time).or(self.start_time),
            boot_id: boot_id.map(str::to_owned),
            pid_namespace: native.and_then(|native| native.pid_namespace),
            pidfd_inode: native.and_then(|native| native.pidfd_inode),
        })
    }

    /// The identity of the command that the recorded process runs under its lock, where it runs one.
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

    /// The fence of the tenure that this record speaks of, for the next one to exceed.
    pub(crate) fn previous_fence(&self) -> Option<u64> {
        self.native.as_ref()?.fence
    }
}
