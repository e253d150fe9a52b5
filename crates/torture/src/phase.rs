//! The rounds: who is in each, and what may not be.

use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Natives of both styles; forks.
    Natives,
    /// Natives in lock-file style, foreign programs that never remove another's lock file.
    Careful,
    /// `tenure run` beside foreign programs with OpenClaw's whole protocol; nobody is killed or stopped.
    Commands,
    /// Natives of both styles, foreign programs with the seed's whole protocol, a person who removes lock files, a cleaner.
    Seed,
    /// Natives of both styles that open the lock anew each time, a cleaner that prunes every anchor it may.
    Pruned,
    /// Natives in flock style, those who share, flock(1).
    Flock,
    /// Natives of both styles, and one who breaks.
    Broken,
    /// Natives of both styles in pid namespaces of their own.
    Apart,
    /// As careful, in pid namespaces.
    CarefulApart,
    /// Natives of both styles that do nearly nothing with the lock.
    Hot,
}

impl Phase {
    pub const ALL: [Phase; 10] = [
        Phase::Natives,
        Phase::Careful,
        Phase::Commands,
        Phase::Seed,
        Phase::Pruned,
        Phase::Flock,
        Phase::Broken,
        Phase::Apart,
        Phase::CarefulApart,
        Phase::Hot,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Natives => "natives",
            Phase::Careful => "careful",
            Phase::Commands => "commands",
            Phase::Seed => "seed",
            Phase::Pruned => "pruned",
            Phase::Flock => "flock",
            Phase::Broken => "broken",
            Phase::Apart => "apart",
            Phase::CarefulApart => "careful-apart",
            Phase::Hot => "hot",
        }
    }

    /// Is a cleaner at work?
    pub fn cleaned(self) -> bool {
        matches!(self, Phase::Seed | Phase::Pruned)
    }

    /// Is whoever finds a torn line certain to have been told of a crash? A cleaner may be told in place of the next
    /// native, a foreign program may come in between, and flock(1) is told nothing and repairs it too.
    pub fn tells_crashes(self) -> bool {
        !self.cleaned() && self != Phase::Broken
    }

    /// Do foreign programs write to the transcript?
    pub fn shares_transcript(self) -> bool {
        matches!(self, Phase::Careful | Phase::CarefulApart | Phase::Flock)
    }

    /// Does everybody live and run from the round's beginning to its end? Then no pair at all may hold at once, whatever
    /// the foreign protocol does to the locks of the dead.
    pub fn spares_all(self) -> bool {
        self == Phase::Commands
    }

    /// In pid namespaces of their own?
    pub fn apart(self) -> bool {
        matches!(self, Phase::Apart | Phase::CarefulApart)
    }

    /// Does it take foreign programs whose death a pid proves, or an exchange of names? The one is not to be had where two
    /// machines may have mounted a file system, the other not on most of FUSE: there a takeover is `unsupported`.
    pub fn needs_takeover(self) -> bool {
        matches!(self, Phase::Careful | Phase::CarefulApart | Phase::Commands | Phase::Seed | Phase::Broken)
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(name: &str) -> Result<Phase, String> {
        let names = || Phase::ALL.map(Phase::name).join(", ");
        Phase::ALL.into_iter().find(|phase| phase.name() == name).ok_or_else(|| format!("one of {}", names()))
    }
}
