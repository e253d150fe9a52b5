//! The rounds: their members, and what must not happen.

use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Natives of both styles; forks.
    Natives,
    /// Natives in lock-file style, foreign programs that never remove another program's lock file.
    Careful,
    /// `tenure run` beside foreign programs with OpenClaw's whole protocol; no member is killed or stopped.
    Commands,
    /// Natives of both styles, foreign programs with OpenClaw's whole protocol, a person who removes lock files, a
    /// cleaner.
    OpenClaw,
    /// Natives of both styles that reopen the lock each time, a cleaner that prunes every anchor that it may.
    Pruned,
    /// Natives in flock style, sharers, flock(1).
    Flock,
    /// Natives of both styles, and an operator that breaks.
    Broken,
    /// Natives of both styles in pid namespaces of their own.
    Apart,
    /// As careful, in pid namespaces.
    CarefulApart,
    /// Natives of both styles that do almost nothing with the lock.
    Hot,
    /// Natives with slots, of different numbers.
    Slots,
}

impl Phase {
    pub const ALL: [Phase; 11] = [
        Phase::Natives,
        Phase::Careful,
        Phase::Commands,
        Phase::OpenClaw,
        Phase::Pruned,
        Phase::Flock,
        Phase::Broken,
        Phase::Apart,
        Phase::CarefulApart,
        Phase::Hot,
        Phase::Slots,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Natives => "natives",
            Phase::Careful => "careful",
            Phase::Commands => "commands",
            Phase::OpenClaw => "openclaw",
            Phase::Pruned => "pruned",
            Phase::Flock => "flock",
            Phase::Broken => "broken",
            Phase::Apart => "apart",
            Phase::CarefulApart => "careful-apart",
            Phase::Hot => "hot",
            Phase::Slots => "slots",
        }
    }

    /// Returns whether a cleaner is a member.
    pub fn cleaned(self) -> bool {
        matches!(self, Phase::OpenClaw | Phase::Pruned)
    }

    /// Returns whether a holder that finds a torn line must have got a crash report. A cleaner may get it in place of
    /// the next native, a foreign program may acquire in between, and flock(1) gets no report and repairs the line too.
    pub fn reports_crashes(self) -> bool {
        !self.cleaned() && self != Phase::Broken
    }

    /// Returns whether foreign programs write to the transcript.
    pub fn shares_transcript(self) -> bool {
        matches!(self, Phase::Careful | Phase::CarefulApart | Phase::Flock)
    }

    /// Returns whether all members run from the round's beginning to its end. Then no pair at all may hold at once,
    /// whatever the foreign protocol does to stale locks.
    pub fn spares_all(self) -> bool {
        self == Phase::Commands
    }

    /// Returns whether members live in pid namespaces of their own.
    pub fn apart(self) -> bool {
        matches!(self, Phase::Apart | Phase::CarefulApart)
    }

    /// Returns whether it needs foreign programs whose death a pid proves, or an exchange of names. Two machines may
    /// have mounted a network file system, which rules out the former; most FUSE file systems lack the latter, and a
    /// takeover is `unsupported`.
    pub fn needs_takeover(self) -> bool {
        matches!(self, Phase::Careful | Phase::CarefulApart | Phase::Commands | Phase::OpenClaw | Phase::Broken)
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(name: &str) -> Result<Phase, String> {
        let names = || Phase::ALL.map(Phase::name).join(", ");
        Phase::ALL.into_iter().find(|phase| phase.name() == name).ok_or_else(|| format!("one of {}", names()))
    }
}
