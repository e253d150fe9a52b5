//! What happens to a lock.

use std::time::{Duration, SystemTime};

use tenure::Status;

/// The kinds of events. `docs/json.md` has their meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    State,
    Watching,
    Held,
    Released,
    Crashed,
    Broken,
    Lost,
    Ended,
    Removed,
    Waiting,
    WaitEnded,
    Missed,
    Overflow,
    FolderRemoved,
}

impl EventKind {
    /// Returns the name that `--json` prints.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EventKind::State => "state",
            EventKind::Watching => "watching",
            EventKind::Held => "held",
            EventKind::Released => "released",
            EventKind::Crashed => "crashed",
            EventKind::Broken => "broken",
            EventKind::Lost => "lost",
            EventKind::Ended => "ended",
            EventKind::Removed => "removed",
            EventKind::Waiting => "waiting",
            EventKind::WaitEnded => "wait-ended",
            EventKind::Missed => "missed",
            EventKind::Overflow => "overflow",
            EventKind::FolderRemoved => "folder-removed",
        }
    }
}

/// Something that happened to a lock, or to the watch itself.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// When it was noticed.
    pub(crate) at: SystemTime,
    /// The lock after the event. Its holder is the holder of the tenure that the event is about. `None` if the event is
    /// about no lock.
    pub(crate) lock: Option<Status>,
    /// The process that waits or waited, or the shared holder.
    pub(crate) pid: Option<i64>,
    /// Whether a wait ended with the lock; `None` if that is not known.
    pub(crate) granted: Option<bool>,
    /// How long the process has been seen to wait.
    pub(crate) waited: Option<Duration>,
    /// Whether the tenure began with the takeover of a dead holder's lock.
    pub(crate) takeover: bool,
    /// The number of tenures of this lock that began and ended since its last event, and were not seen.
    pub(crate) missed: u64,
}

impl Event {
    pub(super) fn new(kind: EventKind, lock: Option<Status>) -> Event {
        Event { kind, at: SystemTime::now(), lock, pid: None, granted: None, waited: None, takeover: false, missed: 0 }
    }
}
