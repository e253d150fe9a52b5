//! The configuration of an exploration: the numbers of processes and faults, and the guards that are left out.

use std::fmt;

use clap::ValueEnum;

/// The kinds of lock files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// A hard link to the anchor.
    Link,
    /// A copy, renamed into place by `RENAME_NOREPLACE`.
    Copy,
    /// A copy, where two names cannot be exchanged: a dead native's copy is adopted in place.
    CopyInPlace,
}

/// The system whose means the protocol uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum System {
    /// Names are exchanged, and a lease shows who has a file open.
    #[default]
    Linux,
    /// No exchange: a dead holder's lock file is removed by its handle. Lock files are copies, whose names their holders keep.
    /// An anchor is replaced in two steps. A deny-write open shows who writes.
    Windows,
    /// No exchange: a name is removed while it is a given file's. No leases.
    #[value(name = "freebsd")]
    FreeBsd,
    /// Names are exchanged. No leases.
    #[value(name = "macos")]
    MacOs,
}

/// The wall clock, from which the fence is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// Every reading is greater than all earlier ones.
    Advances,
    /// It was set back so far that the last fence plus one is always greater.
    SetBack,
}

/// One configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Natives that wait for the lock.
    pub natives: usize,
    /// Natives in flock style beside them.
    pub flock: usize,
    /// Whether it starts after the first native has died in a takeover, right after it exchanged the live file of the first
    /// foreign program away.
    pub cut_off: bool,
    /// The number of acquires of each native, whose anchor stays open in between.
    pub rounds: u8,
    /// Whether a native may pass its tenure on within its process, instead of a release before a further acquire.
    pub pass: bool,
    /// The number of runs of `clean` at this lock. They acquire a free or dead lock, and do not wait.
    pub cleaners: usize,
    /// The number of foreign programs.
    pub foreign: usize,
    /// The number of processes that may die, each before any of its steps.
    pub crashes: u8,
    /// The number of runs of `clean` that prune the anchor.
    pub pruners: u8,
    /// The number of times that a person removes the lock file.
    pub user_rm: u8,
    /// The number of runs of `break --force`.
    pub breaks: u8,
    /// The number of times that the watchdog revokes a tenure.
    pub revokes: u8,
    /// The number of times that `.tenure` is removed with its files.
    pub wipes: u8,
    /// The number of times that a native suspends its tenure.
    pub suspends: u8,
    /// The number of times that a waiter has given way to a resumed tenure for its whole time.
    pub overtakes: u8,
    /// Whether each native belongs to another user, whose anchor the others may only read.
    pub users: bool,
    /// The kind of the lock files.
    pub way: Way,
    /// The system.
    pub system: System,
    /// The wall clock.
    pub clock: Clock,
    /// Whether processes of one kind are interchangeable: fewer states, but the numbers in a trace change from step to step.
    pub symmetry: bool,
    /// The guards that are left out.
    pub without: Vec<Guard>,
}

impl Config {
    /// Returns a configuration with these five numbers, which is otherwise the simplest.
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
            suspends: 0,
            overtakes: 0,
            users: false,
            way: Way::Link,
            system: System::Linux,
            clock: Clock::SetBack,
            symmetry: true,
            without: Vec::new(),
        }
    }

    /// Returns whether this guard is in place.
    pub(crate) fn guards(&self, guard: Guard) -> bool {
        !self.without.contains(&guard)
    }

    pub(crate) fn copies(&self) -> bool {
        self.way != Way::Link || self.system == System::Windows
    }

    /// Returns whether a takeover removes the judged file, instead of an exchange.
    pub(crate) fn removes(&self) -> bool {
        matches!(self.system, System::Windows | System::FreeBsd)
    }

    /// Returns whether an open file shows that it is open.
    pub(crate) fn leases(&self) -> bool {
        matches!(self.system, System::Linux | System::Windows)
    }

    /// Returns whether a holder keeps others from removing its lock file.
    pub(crate) fn keeps_names(&self) -> bool {
        self.system == System::Windows && self.guards(Guard::KeepsTheName)
    }

    /// Returns whether a run of `clean` makes a dead foreign program's lock file the anchor: there are links and leases, and
    /// the file is this user's.
    pub(crate) fn reclaims(&self) -> bool {
        self.system == System::Linux && self.way == Way::Link && !self.users
    }

    /// Returns whether an anchor is replaced in two steps.
    pub(crate) fn replaces_in_two(&self) -> bool {
        self.system == System::Windows
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
            (" --suspends", self.suspends.into(), 0),
            (" --overtakes", self.overtakes.into(), 0),
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
            (" --copies", self.way != Way::Link),
            (" --no-exchange", self.way == Way::CopyInPlace),
            (" --clock-advances", self.clock == Clock::Advances),
        ];
        for (name, _) in flags.iter().filter(|(_, on)| *on) {
            f.write_str(name)?;
        }
        if self.system != System::Linux {
            let name = self.system.to_possible_value().map(|value| value.get_name().to_owned());
            write!(f, " --system {}", name.unwrap_or_default())?;
        }
        for guard in &self.without {
            let name = guard.to_possible_value().map(|value| value.get_name().to_owned());
            write!(f, " --without {}", name.unwrap_or_default())?;
        }
        Ok(())
    }
}

/// The guards of the protocol. Each can be left out, and then the checker must find a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Guard {
    /// Step 2: after the lock, the anchor's path is compared.
    CompareAfterLock,
    /// Step 3: an acquire looks for a swap.
    Recover,
    /// Step 3 judges the file at the swap, and puts a live holder's file back.
    RecoverJudges,
    /// Step 3 keeps a live holder's file at the swap while the lock file belongs to another process.
    RecoverKeepsLiveFiles,
    /// A release in flock style keeps the mark for a live file at the swap.
    FlockKeepsTheMark,
    /// The next holder after a death in flock style looks for a swap.
    FlockDeathIsChecked,
    /// Flock style takes a dead native's lock file over, instead of a check and a removal.
    FlockTakesOver,
    /// Step 6: the record is marked during a takeover.
    TakeoverIsMarked,
    /// A change during a takeover leads to a retry, not to an error.
    RetriesAfterChange,
    /// A dead native's copy is adopted whatever its fence.
    AdoptsAnyDeadNative,
    /// After each pass that found a change, the anchor's path is compared.
    CompareAgain,
    /// Before a takeover the anchor's path is compared, and before its exchange the file at the swap.
    CompareBeforeTakeover,
    /// An acquire waits for a live foreign holder.
    WaitsForLiveForeign,
    /// Step 6: after the exchange, the file at the swap is compared with the judged one.
    CompareAfterExchange,
    /// Without an exchange, a takeover removes the judged file only.
    RemovesTheJudged,
    /// Where an open file can keep its name, the holder's lock file is kept.
    KeepsTheName,
    /// Where an anchor is replaced in two steps, the prepared file becomes the anchor if its maker died in between.
    PromotesTheNew,
    /// A holder that keeps its lock file's name gives it up after a break.
    GivesUpTheName,
    /// An adopted copy's path is compared after it was written.
    VerifyAdoption,
    /// Step 7: when the lock file is published, the anchor's path is compared once more, and a copy's too.
    CompareAfterPublishing,
    /// A tenure that is passed on writes its record before it checks the names.
    PassWritesFirst,
    /// The tenure ends, for every check, before anything is released.
    EndsBeforeRelease,
    /// A release removes the lock file only if it is its own.
    CompareAtRelease,
    /// A release removes the lock file before it unlocks.
    UnpublishBeforeUnlock,
    /// The anchor's kernel lock is released before a wait for the lock file's holder.
    WaitersFreeTheAnchor,
    /// The path of a file is compared from time to time during a wait in its kernel queue.
    Recheck,
    /// A new file is locked and compared before it is written.
    NewIsLockedAndCompared,
    /// Another user's anchor is replaced only if it still is the anchor.
    ReplaceCompares,
    /// A new anchor in place of another user's continues its fence.
    ReplaceCarriesTheFence,
    /// It also keeps the mark of a crash or a takeover.
    ReplaceKeepsTheMark,
    /// The lock file that becomes the anchor is the judged one, not any file that has its name by then.
    ReclaimLinksTheJudged,
    /// That file names the run of `clean` before its name is compared and removed.
    ReclaimNamesUs,
    /// A break's new anchor continues the fence.
    BreakCarriesTheFence,
    /// A break removes a copy that was published during the break.
    BreakRemovesTheCopy,
    /// A break opens the anchor again after it has made a new one, because it may have been replaced.
    BreakReopens,
    /// A break reads the fence again after the old anchor has lost its name.
    BreakReadsTheFenceAgain,
    /// An anchor is pruned under its kernel lock.
    PruneLocks,
    /// An acquire gives way to a tenure that is being resumed.
    GivesWay,
    /// An acquire asks the kernel which suspended tenures of the list are true.
    AsksTheKernel,
    /// Of several resumed tenures, the one that was suspended first goes first.
    SuspendedFirstGoesFirst,
    /// An acquire carries the list of suspended tenures on.
    CarriesTheList,
    /// A release in flock style keeps the list in its record.
    ReleaseKeepsTheList,
    /// A suspended tenure is marked and entered before its release.
    MarksBeforeTheRelease,
    /// A resumed tenure compares the last fence with its own.
    ComparesTheFence,
    /// A resumed tenure compares what happened to the lock file's name.
    ComparesTheName,
}
