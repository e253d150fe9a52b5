//! What is explored: how many of each there are, what may go wrong how often, and which guard is left out.

use std::fmt;

use clap::ValueEnum;

/// How a lock file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// A hard link to the anchor.
    Link,
    /// A copy, renamed into place by `RENAME_NOREPLACE`.
    Copy,
    /// A copy, where two names cannot be exchanged: a dead native's copy is adopted in place.
    CopyInPlace,
}

/// The wall clock, which the fence is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// Every reading is greater than all before.
    Advances,
    /// It was set back so far that the last fence plus one always wins.
    SetBack,
}

/// One configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Natives that wait for the lock.
    pub natives: usize,
    /// Natives in flock style beside them.
    pub flock: usize,
    /// Does it begin where a native has died in a takeover, right after it exchanged a live foreign program's file away? The
    /// first native and the first foreign program are those.
    pub cut_off: bool,
    /// How often each of them acquires; its anchor stays open in between.
    pub rounds: u8,
    /// Does a native pass its tenure on within its process, in place of the release before a further acquire?
    pub pass: bool,
    /// Runs of `clean` at this lock: they take what is free or dead, and do not wait.
    pub cleaners: usize,
    /// Foreign programs.
    pub foreign: usize,
    /// How many processes may die, each before any of its steps.
    pub crashes: u8,
    /// Runs of `clean` that prune the anchor.
    pub pruners: u8,
    /// How often a person removes the lock file.
    pub user_rm: u8,
    /// Runs of `break --force`.
    pub breaks: u8,
    /// How often the watchdog revokes a tenure.
    pub revokes: u8,
    /// How often `.tenure` is removed with all that is in it.
    pub wipes: u8,
    /// Is each native another user's, whose anchor the others may only read?
    pub users: bool,
    /// How a lock file is made.
    pub way: Way,
    /// The wall clock.
    pub clock: Clock,
    /// Processes of one kind are taken for one another: fewer states, but the numbers in a trace change from step to step.
    pub symmetry: bool,
    /// The guards that are left out.
    pub without: Vec<Guard>,
}

impl Config {
    /// The five numbers of the first sketch, in its order: natives, foreign programs, crashes, pruners, removals.
    pub const fn sketch(natives: usize, foreign: usize, crashes: u8, pruners: u8, user_rm: u8) -> Config {
        Config {
            natives,
            flock: 0,
            cut_off: false,
            rounds: 1,
            pass: false,
            cleaners: 0,
            foreign,
            crashes,
            pruners,
            user_rm,
            breaks: 0,
            revokes: 0,
            wipes: 0,
            users: false,
            way: Way::Link,
            clock: Clock::SetBack,
            symmetry: true,
            without: Vec::new(),
        }
    }

    /// Is this guard in place?
    pub(crate) fn guards(&self, guard: Guard) -> bool {
        !self.without.contains(&guard)
    }

    pub(crate) fn copies(&self) -> bool {
        self.way != Way::Link
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--natives {}", self.natives)?;
        let counts = [
            (" --flock", self.flock as u64, 0),
            (" --rounds", u64::from(self.rounds), 1),
            (" --cleaners", self.cleaners as u64, 0),
            (" --foreign", self.foreign as u64, 0),
            (" --crashes", self.crashes.into(), 0),
            (" --pruners", self.pruners.into(), 0),
            (" --user-rm", self.user_rm.into(), 0),
            (" --breaks", self.breaks.into(), 0),
            (" --revokes", self.revokes.into(), 0),
            (" --wipes", self.wipes.into(), 0),
        ];
        for (name, count, usual) in counts {
            if count != usual {
                write!(f, "{name} {count}")?;
            }
        }
        let flags = [
            (" --cut-off", self.cut_off),
            (" --pass", self.pass),
            (" --users", self.users),
            (" --copies", self.copies()),
            (" --no-exchange", self.way == Way::CopyInPlace),
            (" --clock-advances", self.clock == Clock::Advances),
        ];
        for (name, _) in flags.iter().filter(|(_, on)| *on) {
            f.write_str(name)?;
        }
        for guard in &self.without {
            let name = guard.to_possible_value().map(|value| value.get_name().to_owned());
            write!(f, " --without {}", name.unwrap_or_default())?;
        }
        Ok(())
    }
}

/// What keeps the protocol right. Each can be left out, and then the checker must find why it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Guard {
    /// Step 2: after the lock, the anchor's path is compared.
    CompareAfterLock,
    /// Step 3: a swap that was left is looked for.
    Recover,
    /// Step 3 judges what the swap names, and puts it back where it lives.
    RecoverJudges,
    /// Step 3 leaves a live one's file where it is as long as another has the lock file's place.
    RecoverKeepsLiveFiles,
    /// Flock style keeps the word of what is at the swap when it releases.
    FlockKeepsTheMark,
    /// Who follows one in flock style that died looks for a swap.
    FlockDeathIsChecked,
    /// Flock style takes over what a dead native left, in place of a look and a removal.
    FlockTakesOver,
    /// Step 6: the record tells that a takeover is on.
    TakeoverIsMarked,
    /// What changes in the middle of a takeover is no error.
    RetriesAfterChange,
    /// A dead native's copy is adopted whatever its fence.
    AdoptsAnyDeadNative,
    /// After each pass that found something changed, the anchor's path is compared.
    CompareAgain,
    /// Before a takeover the anchor's path is compared, and before its exchange what got the swap's name.
    CompareBeforeTakeover,
    /// A live foreign holder is waited for.
    WaitsForLiveForeign,
    /// Step 6: after the exchange, what came out is compared with what was judged.
    CompareAfterExchange,
    /// An adopted copy's path is compared after it was written.
    VerifyAdoption,
    /// Step 7: when the lock file is shown, the anchor's path is compared once more, and a copy's too.
    CompareAfterShowing,
    /// A tenure that is passed on writes its record before it looks whether it is whole.
    PassWritesFirst,
    /// The tenure ends, for whoever asks, before anything is let go.
    EndsBeforeRelease,
    /// A release removes the lock file only if it is its own.
    CompareAtRelease,
    /// A release removes the lock file before it unlocks.
    UnpublishBeforeUnlock,
    /// The anchor's kernel lock is let go before a wait for who has the lock file.
    WaitersFreeTheAnchor,
    /// Who waits in a kernel queue compares the path from time to time.
    Recheck,
    /// A file in the making is locked and compared before it is written.
    NewIsLockedAndCompared,
    /// Another user's anchor is replaced only if it still is the anchor.
    ReplaceCompares,
    /// Who replaces another user's anchor carries its fence on.
    ReplaceCarriesTheFence,
    /// And its word of a crash, or of a takeover.
    ReplaceKeepsTheMark,
    /// A break's new anchor carries the fence on.
    BreakCarriesTheFence,
    /// A break removes a copy that was shown while it was at it.
    BreakTakesTheCopyAlong,
    /// A break opens the anchor again once it has a new one: it may be another by then.
    BreakReopens,
    /// A break reads the fence again once the old anchor has no name.
    BreakReadsTheFenceAgain,
    /// An anchor is pruned under its kernel lock.
    PruneLocks,
}
