//! Why OpenClaw's protocol calls a lock stale.

/// Why the seed's rules call a lock stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleReason {
    /// No valid pid.
    MissingPid,
    /// The pid is not alive.
    DeadPid,
    /// Alive, but with another start time than the recorded one.
    RecycledPid,
    /// No creation time, or none that is a date.
    InvalidCreatedAt,
    /// Older than `stale_after`.
    TooOld,
    /// Older than the record's own `maxHoldMs`.
    HoldExceeded,
    /// Our own pid with no start time or our own, and this process does not hold it.
    OrphanSelfPid,
}

impl StaleReason {
    /// The seed's word for it: `dead-pid`, `too-old`, ..
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
