//! The history of a lock: how its last tenures ended, and which waits failed.

use std::time::{Duration, SystemTime};

/// The largest number of tenures that a history keeps.
pub(crate) const MOST: usize = 10_000;

/// The end of a tenure, or of a wait: [`PastTenure::ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// The holder released the lock.
    Released,
    /// The holder died while it held the lock.
    Crashed,
    /// The holder lost the lock, or its lock file was removed, before it released.
    Lost,
    /// The tenure lasted longer than its `max_hold`, and was revoked ([`Overrun::Revoke`](crate::Overrun::Revoke)).
    Revoked,
    /// An operator broke the lock, or another acquire stole it for its age.
    Broken,
    /// The lock was never held: another holder had it until the deadline.
    Busy,
    /// The lock was never held: the acquire would have waited for its own end.
    Deadlock,
    /// The lock was never held, because that was not needed: another acquire waited already
    /// ([`IfBusy::QueueOne`](crate::IfBusy::QueueOne)), or a success was recent
    /// ([`Options::not_more_often_than`](crate::Options::not_more_often_than)).
    Skipped,
}

impl Ending {
    /// All of them.
    pub(crate) const ALL: [Ending; 8] = [
        Ending::Released,
        Ending::Lost,
        Ending::Crashed,
        Ending::Revoked,
        Ending::Broken,
        Ending::Busy,
        Ending::Deadlock,
        Ending::Skipped,
    ];

    /// Returns `released`, `crashed`, `lost`, `revoked`, `broken`, `busy`, `deadlock` or `skipped`, as in the command's JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Released => "released",
            Ending::Crashed => "crashed",
            Ending::Lost => "lost",
            Ending::Revoked => "revoked",
            Ending::Broken => "broken",
            Ending::Busy => "busy",
            Ending::Deadlock => "deadlock",
            Ending::Skipped => "skipped",
        }
    }

    /// Returns whether the lock was held: not after a wait that failed.
    pub fn was_held(self) -> bool {
        !matches!(self, Ending::Busy | Ending::Deadlock | Ending::Skipped)
    }

    /// Returns how well the teller knew the end. Of two lines about one tenure the one that knows more counts: a holder
    /// may write that it released, and die before it does; and it notices a break later than the operator.
    pub(crate) fn rank(self) -> usize {
        Ending::ALL.iter().position(|&ending| ending == self).unwrap_or(0)
    }
}

/// A past tenure, or a wait that failed: a line of a lock's [`history`](crate::history()).
///
/// Texts (`command`, `label`, `host`, `why`, `blocked_by`) are as their writer recorded them, cut where they are long.
/// Escape them before you print them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PastTenure {
    /// How it ended.
    pub ended: Ending,
    /// The pid of the holder; of the process that waited, where the lock was never held.
    pub pid: Option<i64>,
    /// The command line of the holder, or of the command that it ran under the lock.
    pub command: Option<String>,
    /// The holder's name for itself ([`Options::label`](crate::Options::label)).
    pub label: Option<String>,
    /// The holder's machine.
    pub host: Option<String>,
    /// When the tenure began; when the wait began, where the lock was never held.
    pub from: SystemTime,
    /// When it ended. After a crash: when the next holder found out. The holder lived at `last_sign` and died in between.
    pub until: SystemTime,
    /// After a crash: the last time at which the holder updated its record.
    pub last_sign: Option<SystemTime>,
    /// How long the holder had waited for the lock; `None` where that is not known.
    pub waited: Option<Duration>,
    /// The exit code of the work under the lock ([`Guard::set_exit_code`](crate::Guard::set_exit_code)).
    pub exit_code: Option<i32>,
    /// The tenure's fence; `None` for a shared lock and for a wait that failed.
    pub fence: Option<u64>,
    /// Whether the lock was shared.
    pub shared: bool,
    /// The evidence of a crash.
    pub why: Option<String>,
    /// The pid of the holder that was waited for, where the lock was never held.
    pub blocked_by_pid: Option<i64>,
    /// That holder's label, or its command line.
    pub blocked_by: Option<String>,
    /// The number of the line among its process's. Two lines that are equal but for this are about two tenures.
    pub(crate) nth: Option<u64>,
}

impl PastTenure {
    pub(crate) fn new(ended: Ending, from: SystemTime, until: SystemTime) -> PastTenure {
        PastTenure {
            ended,
            pid: None,
            command: None,
            label: None,
            host: None,
            from,
            until,
            last_sign: None,
            waited: None,
            exit_code: None,
            fence: None,
            shared: false,
            why: None,
            blocked_by_pid: None,
            blocked_by: None,
            nth: None,
        }
    }

    /// Returns how long the lock was held, or the failed wait lasted. After a crash: for how long the holder showed that it
    /// held.
    pub fn lasted(&self) -> Duration {
        let until = if self.ended == Ending::Crashed { self.last_sign.unwrap_or(self.from) } else { self.until };
        until.duration_since(self.from).unwrap_or(Duration::ZERO)
    }
}
