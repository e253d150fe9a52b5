//! The reasons for which OpenClaw's protocol calls a lock stale.

/// A reason for which OpenClaw's protocol calls a lock stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleReason {
    /// The record has no valid pid.
    MissingPid,
    /// No process has the recorded pid.
    DeadPid,
    /// The process with the recorded pid has another start time than the recorded one.
    RecycledPid,
    /// The record has no creation time, or one that is no date.
    InvalidCreatedAt,
    /// The record is older than [`Options::stale_after`](crate::Options::stale_after).
    TooOld,
    /// The record is older than its own `maxHoldMs`.
    HoldExceeded,
    /// The record has this process's pid, and this process's start time or none, but this process does not hold the lock.
    OrphanSelfPid,
}

impl StaleReason {
    /// Returns the reason's name in OpenClaw's protocol: `dead-pid`, `too-old`, ..
    pub fn as_str(self) -> &'static str {
        match self {
            StaleReason::MissingPid => "missing-pid",
            StaleReason::DeadPid => "dead-pid",
            StaleReason::RecycledPid => "recycled-pid",
            StaleReason::InvalidCreatedAt => "invalid-createdAt",
            StaleReason::TooOld => "too-old",
            StaleReason::HoldExceeded => "hold-exceeded",
            StaleReason::OrphanSelfPid => "orphan-self-pid",
        }
    }
}
