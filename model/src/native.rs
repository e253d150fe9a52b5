//! A native: acquire, hold, release. One step is one system call that other processes can notice, in the order of the code.
//!
//! Calls that only the native's own process can see are not separate steps: a read by the holder of the file's kernel lock,
//! because only the holder writes the file; the several writes of one record; an open that follows a check of the same name.
//! Deadlines are not modelled: a waiter that gives up releases as [`ReleaseAll`](Pc::ReleaseAll) does.

use crate::config::{Clock, Config, Guard, Way};
use crate::prepare::Prepare;
use crate::state::{Ino, Record, State, Suspended, Uncovered, Who};
use crate::suspend::Watch;

/// The next step of a native. [`names`](crate::names) has the function of the code for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Pc {
    /// Step 1: open the anchor.
    #[default]
    Open,
    /// Make it.
    Make,
    /// Where an anchor is replaced in two steps: is there a prepared file?
    MakeLook,
    /// There is: try its kernel lock.
    MakeLock,
    /// Its maker is dead. Does it still have its name?
    MakeCompare,
    /// It does: rename it to the anchor.
    MakeRename,
    /// Make `.tenure`.
    MakeFolder,
    /// A run of `clean` without an anchor: open a foreign program's lock file, and try its kernel lock.
    ReclaimOpen,
    /// Is the holder alive?
    ReclaimJudge,
    /// It is dead. Is there a swap?
    ReclaimSwap,
    /// There is none: link the judged file to the anchor, unless that exists.
    ReclaimLink,
    /// Write this process's record over the foreign program's.
    ReclaimWrite,
    /// Is it still the lock file?
    ReclaimCompare,
    /// It is: remove it.
    ReclaimUnlink,
    /// Write the crash report.
    ReclaimRecord,
    /// Release its kernel lock.
    ReclaimUnlock,
    /// Try its kernel lock.
    TryLock,
    /// Refused in the first try: is this still the anchor?
    CompareRefused,
    /// Wait in the kernel's queue.
    Queue,
    /// Step 2: is the locked file still the anchor?
    Compare,
    /// The last record names suspended tenures: which of them are true, and is one being resumed?
    CarryOn,
    /// One is, and it goes first: does another holder block both?
    GiveWayLook,
    /// None does: release the anchor's kernel lock.
    GiveWay,
    /// Step 3: is there a swap?
    RecoverLook,
    /// Is the file at the swap a live holder's?
    RecoverJudge,
    /// It is. Does the lock file exist, and is its holder dead?
    RecoverShown,
    /// The lock file's holder is dead: exchange back.
    RecoverExchange,
    /// There is no lock file: the swap gets that name.
    RecoverRename,
    /// Remove the swap.
    RecoverUnlink,
    /// Another user's anchor, which may only be read: is it also the lock file, of a dead holder?
    ReplaceShown,
    /// Make a new anchor.
    ReplacePrepare,
    /// Is the old one still the anchor? No other process can replace it now.
    ReplaceSeen,
    /// It is not: remove the new one.
    ReplaceUndo,
    /// Rename the new one to the anchor.
    ReplaceRename,
    /// Is it the anchor?
    ReplaceCompare,
    /// Is the lock file already a link to the anchor?
    Visible,
    /// Step 4: write the record.
    Write,
    /// After a change: is this still the anchor?
    CompareAgain,
    /// Step 5: link the anchor to the lock file.
    Link,
    /// Make a new file, for the lock file or for the swap.
    Prepare,
    /// Rename it to the lock file, unless that exists.
    RenameNew,
    /// Keep its name, where an open file can.
    KeepName,
    /// The lock file exists: remove the new one.
    UnlinkNew,
    /// Open the lock file.
    Look,
    /// Step 6: is its holder alive?
    Judge,
    /// It is dead. Is this still the anchor?
    CompareBefore,
    /// Before a takeover: mark the record.
    Mark,
    /// Without an exchange: remove the lock file, if it is the judged one.
    RemoveJudged,
    /// Link the anchor to the swap.
    LinkSwap,
    /// Rename the copy to the swap.
    RenameSwap,
    /// Is the file at the swap this native's?
    SwapSeen,
    /// Exchange swap and lock file.
    Exchange,
    /// The lock file was missing: remove the swap.
    DropSwapGone,
    /// Names cannot be exchanged: remove the swap.
    DropSwapAdopt,
    /// Which file is at the swap after the exchange?
    Out,
    /// The judged file: remove it.
    DropSwap,
    /// Is the lock file this native's?
    Verify,
    /// Another file: exchange it back.
    ExchangeBack,
    /// Is this native's file at the swap again?
    OutAgain,
    /// It is: remove it.
    DropSwapBack,
    /// Unlock the judged copy, and open it for writing.
    AdoptOpen,
    /// Lock it again.
    AdoptLock,
    /// Overwrite it with this native's record.
    AdoptWrite,
    /// Does it still have the name?
    AdoptVerify,
    /// The lock file is published: a record that was marked for a crash or a takeover becomes `held` again.
    Unmark,
    /// Step 7: do the links prove that the names are right?
    VerifyLinks,
    /// A copy: is it the lock file?
    VerifyCopy,
    /// The links prove nothing: is this still the anchor?
    VerifyAnchor,
    /// It is not: write a record without a holder.
    RollBackWrite,
    /// Is the lock file this native's?
    RollBackCompare,
    /// It is: remove it.
    RollBackUnlink,
    /// Release the copy's kernel lock.
    RollBackUnlockCopy,
    /// Another process holds: write the previous record back.
    Restore,
    /// The anchor was lost: write the previous record back.
    RestoreLost,
    /// Unlock and close the lost anchor.
    DropAnchor,
    /// Flock style: is the lock file a dead native's, on another inode?
    DeadCopy,
    /// The same after a change in its takeover.
    DeadCopyAgain,
    /// Is the lock file this native's by now: a dead native's that was overwritten, or the file exchanged for it?
    FlockCompare,
    /// It is: remove it.
    FlockUnlink,
    /// The anchor was lost, and the previous record does not come back: write a record without a holder.
    FlockGiveUp,
    /// The lock is busy: release the anchor's kernel lock.
    ReleaseAll,
    /// Before a wait for the lock file's holder: release the anchor's kernel lock.
    FreeAnchor,
    /// Wait in the kernel queue of a native's lock file.
    WaitNative,
    /// Served by that queue: close the lock file.
    CloseWaited,
    /// Wait for a foreign holder's events.
    WaitForeign,
    /// Hold.
    Hold,
    /// A tenure is passed on within the process: write the next holder's record.
    PassWrite,
    /// The same, before the links are counted.
    PassWriteAtOnce,
    /// Count the links of the tenure that is passed on.
    PassLinks,
    /// Is this still the anchor?
    PassAnchor,
    /// Is this still the lock file?
    PassLock,
    /// Watch the lock file's name, before a suspension.
    SuspendWatch,
    /// Mark the anchor: the tenure is suspended.
    SuspendMark,
    /// Enter the tenure into its record's list.
    SuspendEnter,
    /// Suspended. Its next step shows that it is being resumed, and the acquire begins.
    Suspended,
    /// End the tenure, for every later check.
    End,
    /// Flock style: record the release.
    FlockRelease,
    /// Is this still the anchor?
    FlockEndCompare,
    /// Is the lock file still this native's?
    UnpublishCompare,
    /// It is: remove it.
    UnpublishUnlink,
    /// Release the copy's kernel lock.
    UnlockCopy,
    /// Release the anchor's kernel lock.
    Unlock,
    /// Revoked, which the holder does not know yet.
    Believe,
    /// Released, busy, or given up: the process has ended.
    Done,
    /// The acquire returned an error, and the process has ended.
    Failed,
    /// Died.
    Dead,
}

/// The step that follows a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum After {
    /// The steps that follow the lock.
    #[default]
    Show,
    /// A copy for the lock file.
    Again,
    /// A takeover.
    TakeOver,
    /// The next pass of the loop that publishes the lock file.
    Retry,
}

/// A detached helper thread, in the kernel queue of a file without a name. Only one is modelled, because it just acquires that
/// kernel lock at some time and closes the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Helper {
    /// No helper.
    #[default]
    None,
    /// It waits for the lock.
    Waits(Ino),
    /// It has the lock.
    Locked(Ino),
}

/// One native.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Native {
    /// The next step.
    pub pc: Pc,
    /// The anchor's descriptor, kept from one tenure to the next.
    pub fd: Option<Ino>,
    /// The judged lock file, open.
    pub judged: Option<Ino>,
    /// The lock file, if it is a copy.
    pub copy: Option<Ino>,
    /// Another user's anchor, which this native has replaced.
    pub replaced: Option<Ino>,
    /// The new file that is being made.
    pub prepare: Prepare,
    /// The anchor's record when it was locked.
    pub prior: Record,
    /// The native's fence.
    pub fence: u8,
    /// The anchor had more than one name.
    pub linked: bool,
    /// One of them was the lock file.
    pub visible: bool,
    /// The file at the swap may be a live holder's, and the lock file belongs to another process.
    pub live_file_at_swap: bool,
    /// The record is marked for a takeover.
    pub marked: bool,
    /// Its grant will report a crash.
    pub crashed: bool,
    /// The step after the recovery.
    pub after: After,
    /// Whether it is in flock style.
    pub flock: bool,
    /// Whether it never waits, as a run of `clean`.
    pub never: bool,
    /// Whether it waits, after a first try.
    pub waits: bool,
    /// Whether it holds: its tenure has not ended.
    pub held: bool,
    /// Whether its lock file was removed while it was live.
    pub uncovered: Uncovered,
    /// Whether it has found no prepared file in place of the missing anchor.
    pub past_new: bool,
    /// Whether it has tried to make a foreign program's lock file the anchor.
    pub reclaimed: bool,
    /// The watchdog ended the tenure.
    pub revoked: bool,
    /// The release found that the lock was lost.
    pub lost: bool,
    /// The number of further acquires.
    pub rounds: u8,
    /// A detached helper.
    pub helper: Helper,
    /// The fence of the tenure that it suspends, or resumes; 0: none.
    pub resumes: u8,
    /// The anchor that it has marked, open once more.
    pub mark: Option<Ino>,
    /// The mark also says that the tenure is being resumed.
    pub resuming: bool,
    /// The watch of the lock file's name.
    pub watch: Watch,
    /// The suspended tenures that its next record names.
    pub carried: Suspended,
    /// Its time to give way is over.
    pub overtakes: Suspended,
    /// A waiter has forgotten its suspended tenure, whose time was over.
    pub forgotten: bool,
    /// The fences of the tenures that go first, and were being resumed when it took the kernel lock.
    pub behind: Suspended,
    /// Another process has held since its suspension.
    pub others: bool,
}

impl Native {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.pc, Pc::Done | Pc::Failed | Pc::Dead)
    }

    /// Returns the inode that it publishes as its lock file.
    pub(crate) fn lock_file(&self) -> Option<Ino> {
        self.puts().filter(|_| !self.flock)
    }

    /// Returns the inode that it puts at the lock file's name: to stay, or in flock style to be removed.
    pub(crate) fn puts(&self) -> Option<Ino> {
        self.copy.or(self.fd)
    }

    pub(crate) fn each_ino(&mut self, change: &mut dyn FnMut(&mut Option<Ino>)) {
        change(&mut self.fd);
        change(&mut self.judged);
        change(&mut self.copy);
        change(&mut self.replaced);
        change(&mut self.prepare.file);
        change(&mut self.mark);
        if let Helper::Waits(ino) | Helper::Locked(ino) = &mut self.helper {
            let mut inner = Some(*ino);
            change(&mut inner);
            *ino = inner.unwrap_or(*ino);
        }
    }

    /// Returns a key for natives of one kind, without the numbers of processes and inodes.
    pub(crate) fn key(&self, look: &dyn Fn(Option<Ino>) -> u16) -> impl Ord + use<> {
        let helper = match self.helper {
            Helper::None => (0, 0),
            Helper::Waits(ino) => (1, look(Some(ino))),
            Helper::Locked(ino) => (2, look(Some(ino))),
        };
        let (marks, ends) =
            ([self.linked, self.visible, self.live_file_at_swap, self.marked, self.crashed], [self.revoked, self.lost]);
        let flags = (marks, self.waits, self.held, ends, (self.past_new, self.reclaimed));
        let files = [self.fd, self.judged, self.copy, self.replaced, self.prepare.file].map(look);
        let prior = self.prior.fence();
        (self.pc, files, flags, (self.fence, prior, self.after, self.rounds), (helper, self.prepare.pc, self.uncovered))
    }

    pub(crate) fn go(&mut self, pc: Pc) -> Option<()> {
        self.pc = pc;
        Some(())
    }
}

/// Makes native `i` take its next step. Returns `None` if it must wait or has ended.
pub(crate) fn step(config: &Config, state: &mut State, i: usize) -> Option<()> {
    let mut native = state.natives[i];
    NativeStep { config, state, me: Who::native(i), native: &mut native }.step()?;
    state.natives[i] = native;
    Some(())
}

pub(crate) struct NativeStep<'a> {
    pub(crate) config: &'a Config,
    pub(crate) state: &'a mut State,
    pub(crate) me: Who,
    pub(crate) native: &'a mut Native,
}

impl NativeStep<'_> {
    pub(crate) fn go(&mut self, pc: Pc) -> Option<()> {
        self.native.go(pc)
    }

    pub(crate) fn guards(&self, guard: Guard) -> bool {
        self.config.guards(guard)
    }

    /// Returns the anchor's descriptor, which is open from [`Pc::TryLock`] on.
    pub(crate) fn fd(&self) -> Ino {
        self.native.fd.expect("the anchor is open")
    }

    fn step(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::Open => match self.state.anchor {
                Some(anchor) => {
                    self.native.fd = Some(anchor);
                    self.go(Pc::TryLock)
                }
                None if self.reclaims() => self.go(Pc::ReclaimOpen),
                None => self.go(Pc::Make),
            },
            Pc::ReclaimOpen
            | Pc::ReclaimJudge
            | Pc::ReclaimSwap
            | Pc::ReclaimLink
            | Pc::ReclaimWrite
            | Pc::ReclaimCompare
            | Pc::ReclaimUnlink
            | Pc::ReclaimRecord
            | Pc::ReclaimUnlock => self.reclaim(),
            Pc::Make | Pc::MakeLook | Pc::MakeLock | Pc::MakeCompare | Pc::MakeRename | Pc::MakeFolder => self.make(),
            Pc::TryLock => {
                let locked = self.state.try_lock(self.fd(), self.me);
                let waits = self.native.waits;
                self.go(if locked {
                    Pc::Compare
                } else if waits {
                    Pc::Queue
                } else {
                    Pc::CompareRefused
                })
            }
            Pc::CompareRefused if self.state.anchor != self.native.fd => {
                self.native.fd = None;
                self.go(Pc::Open)
            }
            Pc::CompareRefused => self.busy(),
            Pc::Queue => {
                self.state.try_lock(self.fd(), self.me).then_some(())?;
                self.go(Pc::Compare)
            }
            Pc::Compare => self.compare(),
            Pc::CarryOn | Pc::GiveWayLook | Pc::GiveWay => self.carry_on(),
            Pc::SuspendWatch | Pc::SuspendMark | Pc::SuspendEnter | Pc::Suspended => self.suspend(),
            Pc::RecoverLook
            | Pc::RecoverJudge
            | Pc::RecoverShown
            | Pc::RecoverExchange
            | Pc::RecoverRename
            | Pc::RecoverUnlink => self.recover(),
            Pc::ReplacePrepare
            | Pc::ReplaceShown
            | Pc::ReplaceSeen
            | Pc::ReplaceUndo
            | Pc::ReplaceRename
            | Pc::ReplaceCompare => self.replace(),
            Pc::Visible => {
                self.native.visible = self.state.lock == self.native.fd;
                self.go_write()
            }
            Pc::DeadCopy | Pc::DeadCopyAgain | Pc::FlockCompare | Pc::FlockUnlink => self.take_hidden(),
            Pc::FlockGiveUp => {
                self.write_record(self.fd(), None, true);
                self.go(Pc::DropAnchor)
            }
            Pc::Write if self.native.flock => {
                self.write_own(self.fd(), self.guards(Guard::FlockDeathIsChecked));
                match self.native.judged {
                    Some(_) if self.guards(Guard::FlockTakesOver) => self.go(Pc::CompareBefore),
                    None if !self.native.visible => self.settle(),
                    _ => self.go(Pc::FlockCompare),
                }
            }
            Pc::Write => {
                // A crash that only the record reports stays recorded until the lock file exists.
                let crashed = self.native.prior.is_aborted();
                self.native.marked = crashed && !self.native.visible;
                self.write_own(self.fd(), self.native.marked);
                self.show()
            }
            Pc::CompareAgain if self.state.anchor == self.native.fd || !self.guards(Guard::CompareAgain) => self.show(),
            Pc::CompareAgain => self.lost(),
            Pc::Link => self.link(),
            Pc::Prepare => self.prepare(),
            Pc::RenameNew => self.rename_new(),
            Pc::KeepName => self.keep_name(),
            Pc::UnlinkNew => {
                self.state.new = None;
                self.close_copy();
                self.go(Pc::Look)
            }
            Pc::Look => match self.state.lock {
                None => self.next_pass(),
                Some(found) if Some(found) == self.native.fd => self.shown(),
                found => {
                    self.native.judged = found;
                    self.go(Pc::Judge)
                }
            },
            Pc::Judge => self.judge(),
            Pc::CompareBefore if self.state.anchor == self.native.fd || !self.guards(Guard::CompareBeforeTakeover) => {
                self.recover_for(After::TakeOver)
            }
            Pc::CompareBefore => {
                self.close_judged();
                self.lost()
            }
            Pc::Mark
            | Pc::RemoveJudged
            | Pc::SwapSeen
            | Pc::LinkSwap
            | Pc::RenameSwap
            | Pc::Exchange
            | Pc::DropSwapGone
            | Pc::DropSwapAdopt
            | Pc::Out
            | Pc::DropSwap
            | Pc::Verify
            | Pc::ExchangeBack
            | Pc::OutAgain
            | Pc::DropSwapBack
            | Pc::AdoptOpen
            | Pc::AdoptLock
            | Pc::AdoptWrite
            | Pc::AdoptVerify => self.take_over(),
            Pc::VerifyLinks => {
                if self.has_names() {
                    self.grant()
                } else {
                    self.go(Pc::VerifyAnchor)
                }
            }
            Pc::VerifyAnchor if self.state.anchor != self.native.fd => self.go(Pc::RollBackWrite),
            Pc::VerifyAnchor => self.grant(),
            Pc::VerifyCopy if self.state.lock == self.native.copy => self.go(Pc::VerifyAnchor),
            Pc::VerifyCopy => self.go(Pc::RollBackWrite),
            Pc::RollBackWrite => {
                // The next holder reports a crash that this one would have reported.
                let died = self.native.visible && matches!(self.native.prior, Record::Native { by: Some(_), .. });
                let aborted = died || self.native.crashed;
                let by = Some(self.me).filter(|_| aborted);
                self.write_record(self.fd(), by, aborted);
                self.go(if self.native.flock { Pc::DropAnchor } else { Pc::RollBackCompare })
            }
            Pc::RollBackCompare => {
                let ours = self.state.lock == self.native.lock_file();
                self.go(if ours { Pc::RollBackUnlink } else { Pc::RollBackUnlockCopy })
            }
            Pc::RollBackUnlink if self.config.removes() && self.state.lock != self.native.lock_file() => {
                self.go(Pc::RollBackUnlockCopy)
            }
            Pc::RollBackUnlink => {
                if self.state.lock != self.native.lock_file() {
                    self.state.removed_by_native(self.state.lock);
                }
                self.state.lock = None;
                self.go(Pc::RollBackUnlockCopy)
            }
            Pc::RollBackUnlockCopy => {
                self.close_copy();
                self.go(Pc::DropAnchor)
            }
            Pc::Unmark => {
                self.write_own(self.fd(), false);
                self.settle()
            }
            Pc::Restore => {
                self.state.write(self.fd(), self.native.prior);
                self.blocked()
            }
            Pc::RestoreLost => {
                self.state.write(self.fd(), self.native.prior);
                self.go(Pc::DropAnchor)
            }
            Pc::DropAnchor => self.drop_anchor(),
            Pc::ReleaseAll => {
                self.state.unlock(self.fd(), self.me);
                self.busy()
            }
            Pc::FreeAnchor => {
                if self.guards(Guard::WaitersFreeTheAnchor) {
                    self.state.unlock(self.fd(), self.me);
                }
                let judged = self.native.judged.expect("it was judged");
                self.go(if self.state.record(judged).is_native() { Pc::WaitNative } else { Pc::WaitForeign })
            }
            Pc::WaitNative => {
                let judged = self.native.judged.expect("what is waited for is open");
                self.state.try_lock(judged, self.me).then_some(())?;
                self.go(Pc::CloseWaited)
            }
            Pc::CloseWaited => {
                self.close_judged();
                self.go(Pc::TryLock)
            }
            Pc::WaitForeign => {
                let judged = self.native.judged.expect("what is waited for is open");
                (self.state.lock != Some(judged) || !self.state.foreign_lives(judged)).then_some(())?;
                self.native.judged = None;
                self.go(Pc::TryLock)
            }
            Pc::Hold => self.go(Pc::End),
            Pc::PassWrite
            | Pc::PassWriteAtOnce
            | Pc::PassLinks
            | Pc::PassAnchor
            | Pc::PassLock
            | Pc::End
            | Pc::FlockRelease
            | Pc::FlockEndCompare
            | Pc::UnpublishCompare
            | Pc::UnpublishUnlink
            | Pc::UnlockCopy
            | Pc::Unlock
            | Pc::Believe => self.release(),
            Pc::Done | Pc::Failed | Pc::Dead => None,
        }
    }

    fn compare(&mut self) -> Option<()> {
        if self.state.anchor != self.native.fd && self.guards(Guard::CompareAfterLock) {
            return self.drop_anchor();
        }
        self.native.prior = self.state.record(self.fd());
        self.native.linked = self.state.links(self.fd()) > 1;
        self.native.behind = self.ahead();
        if self.native.prior.suspended() != Suspended::default() {
            return self.go(Pc::CarryOn);
        }
        self.after_prior()
    }

    /// Continues an acquire that knows which suspended tenures its record names.
    pub(crate) fn after_prior(&mut self) -> Option<()> {
        let cut_off = self.native.prior.is_aborted();
        if self.native.linked || cut_off || self.config.copies() {
            return self.recover_for(After::Show);
        }
        self.begin()
    }

    pub(crate) fn go_write(&mut self) -> Option<()> {
        let released = matches!(self.native.prior, Record::Native { by: None, aborted: false, .. });
        let copy = self.native.flock && !self.native.visible && !released;
        self.go(if copy { Pc::DeadCopy } else { Pc::Write })
    }

    pub(crate) fn write_own(&mut self, ino: Ino, aborted: bool) {
        self.write_record(ino, Some(self.me), aborted);
        self.forget_overtaken();
    }

    fn write_record(&mut self, ino: Ino, by: Option<Who>, aborted: bool) {
        let (fence, suspended) = (self.native.fence, self.native.carried);
        self.state.write(ino, Record::Native { by, fence, aborted, suspended });
    }

    fn judge(&mut self) -> Option<()> {
        let judged = self.native.judged.expect("it was opened");
        let dead = if self.state.record(judged).is_native() {
            self.lock_judged(judged)
        } else {
            !self.state.foreign_lives(judged) || !self.guards(Guard::WaitsForLiveForeign)
        };
        if !dead {
            // While a live file is at the swap the record stays, because it marks the takeover.
            let restores = !self.native.visible && !self.native.live_file_at_swap;
            return if restores { self.go(Pc::Restore) } else { self.blocked() };
        }
        self.go(Pc::CompareBefore)
    }

    /// The judged lock file's holder is alive.
    pub(crate) fn blocked(&mut self) -> Option<()> {
        self.forget();
        if !self.native.waits {
            self.native.judged = None;
            return self.go(Pc::ReleaseAll);
        }
        self.go(Pc::FreeAnchor)
    }

    pub(crate) fn busy(&mut self) -> Option<()> {
        if self.native.never {
            return self.end(Pc::Done);
        }
        self.native.waits = true;
        self.go(Pc::TryLock)
    }

    /// The lock file is this native's.
    pub(crate) fn shown(&mut self) -> Option<()> {
        self.close_judged();
        if self.native.flock {
            return self.go(Pc::FlockCompare);
        }
        if self.native.marked { self.go(Pc::Unmark) } else { self.settle() }
    }

    pub(crate) fn settle(&mut self) -> Option<()> {
        match self.guards(Guard::CompareAfterPublishing) {
            true if self.native.copy.is_some() => self.go(Pc::VerifyCopy),
            true if self.native.linked => self.go(Pc::VerifyAnchor),
            true => self.go(Pc::VerifyLinks),
            false => self.grant(),
        }
    }

    /// Grants the lock: `acquire` returns.
    pub(crate) fn grant(&mut self) -> Option<()> {
        let fence = self.native.fence;
        self.resumed();
        // After the last fence was lost, only the clock makes a greater one.
        let known = !self.state.past.forgotten || self.config.clock == Clock::Advances;
        self.state.past.fence_went_back |= fence <= self.state.granted && known;
        self.state.granted = self.state.granted.max(fence);
        let live_file_at_swap = self.native.flock && self.native.live_file_at_swap;
        self.forget();
        self.native.live_file_at_swap = live_file_at_swap;
        self.native.fence = fence;
        self.native.held = true;
        self.native.waits = false;
        self.go(Pc::Hold)
    }

    /// Clears the state of this try.
    pub(crate) fn forget(&mut self) {
        if let Some(replaced) = self.native.replaced.take() {
            self.state.unlock(replaced, self.me);
        }
        let native = &mut *self.native;
        (native.prior, native.fence) = (Record::Blank, 0);
        (native.linked, native.visible, native.live_file_at_swap, native.marked) = (false, false, false, false);
        native.crashed = false;
        (native.carried, native.behind, native.overtakes) = <(Suspended, Suspended, Suspended)>::default();
        native.after = After::Show;
    }

    /// The anchor was replaced or removed during the acquire.
    pub(crate) fn lost(&mut self) -> Option<()> {
        // The previous record must not overwrite the mark of an unfinished takeover, or the text of a lock file that stays.
        let half_taken = (self.native.marked || self.native.flock) && self.state.swap.is_some();
        let stays = self.state.lock == self.native.fd;
        let restores = !(self.native.visible || self.native.live_file_at_swap || half_taken || stays);
        let ours = if self.native.flock { Pc::FlockGiveUp } else { Pc::DropAnchor };
        self.go(if restores { Pc::RestoreLost } else { ours })
    }

    fn drop_anchor(&mut self) -> Option<()> {
        self.state.unlock(self.fd(), self.me);
        self.forget();
        self.native.fd = None;
        self.go(Pc::Open)
    }

    pub(crate) fn close_judged(&mut self) {
        if let Some(judged) = self.native.judged.take() {
            self.state.unlock(judged, self.me);
        }
    }

    pub(crate) fn close_copy(&mut self) {
        if let Some(copy) = self.native.copy.take() {
            self.state.unlock(copy, self.me);
            self.state.let_go(copy, self.me);
        }
    }

    /// Ends the process with an error, and closes every descriptor.
    pub(crate) fn fail(&mut self) -> Option<()> {
        self.end(Pc::Failed)
    }

    pub(crate) fn end(&mut self, pc: Pc) -> Option<()> {
        let Native { never, flock, helper, .. } = *self.native;
        for inode in &mut self.state.inodes {
            inode.lock = inode.lock.filter(|who| *who != self.me);
            inode.keeper = inode.keeper.filter(|who| *who != self.me);
        }
        *self.native = Native { pc, never, flock, helper, ..Native::default() };
        Some(())
    }

    pub(crate) fn in_place(&self) -> bool {
        self.config.way == Way::CopyInPlace
    }
}
