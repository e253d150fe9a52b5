//! A native: acquire, hold, release. One step is one system call that others can notice, in the order in which the code
//! makes them.
//!
//! What only its own process can see in between is no step of its own: a read by the holder of the file's kernel lock,
//! for only that one writes it; the several writes of one record; an open that follows a look at the same name.
//! Deadlines are not here: who gives up lets go as [`LetGo`](Pc::LetGo) does.

use crate::config::{Clock, Config, Guard, Way};
use crate::prepare::{Prepare, Prepared};
use crate::state::{Ino, Record, State, Uncovered, Who};

/// Where a native stands: what it does next. [`names`](crate::names) says in which function of the code that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Pc {
    /// Step 1: look for the anchor, and open it.
    #[default]
    Open,
    /// Make it.
    Make,
    /// Make `.tenure`.
    MakeFolder,
    /// Try its kernel lock.
    TryLock,
    /// Refused, in the first try: is this still the anchor?
    CompareRefused,
    /// Wait in the kernel's queue.
    Queue,
    /// Step 2: is what was locked still the anchor?
    Compare,
    /// Step 3: is there a swap?
    RecoverLook,
    /// Does what the swap names live?
    RecoverJudge,
    /// It does. Is the lock file's place free, or a dead one's?
    RecoverShown,
    /// A dead one's: exchange back.
    RecoverExchange,
    /// It is free: the swap gets that name.
    RecoverRename,
    /// Remove the swap.
    RecoverUnlink,
    /// Another user's anchor, that may only be read: is it a lock file too, of whoever died with it?
    ReplaceShown,
    /// Make one of our own.
    ReplacePrepare,
    /// Is the old one still the anchor? Nobody else can replace it now.
    ReplaceSeen,
    /// It is not: ours goes.
    ReplaceUndo,
    /// Ours gets the anchor's name.
    ReplaceRename,
    /// Is it the anchor?
    ReplaceCompare,
    /// Is the lock file our anchor's inode already?
    Visible,
    /// Step 4: write the record.
    Write,
    /// Something changed: is the anchor still the anchor?
    CompareAgain,
    /// Step 5: link the anchor to the lock file.
    Link,
    /// Make a file of its own, for the lock file or for the swap.
    Prepare,
    /// Rename it to the lock file, unless that is there.
    RenameNew,
    /// It is there: ours goes.
    UnlinkNew,
    /// What is at the lock file's place?
    Look,
    /// Step 6: does it live?
    Judge,
    /// It does not. Is the anchor still the anchor?
    CompareBefore,
    /// Before a takeover: the record says so.
    Mark,
    /// Link the anchor to the swap.
    LinkSwap,
    /// Rename the copy to the swap.
    RenameSwap,
    /// Is what got that name ours?
    SwapSeen,
    /// Exchange swap and lock file.
    Exchange,
    /// The lock file was gone: no swap is needed.
    DropSwapGone,
    /// It cannot be exchanged: no swap is needed.
    DropSwapAdopt,
    /// What came out?
    Out,
    /// What was judged: it goes.
    DropSwap,
    /// Is the lock file ours?
    Verify,
    /// Something else came out: back with it.
    ExchangeBack,
    /// Did our own come back for it?
    OutAgain,
    /// It did, and goes.
    DropSwapBack,
    /// Let go of the judged copy, and open it for writing.
    AdoptOpen,
    /// Lock it again.
    AdoptLock,
    /// Write our record over it.
    AdoptWrite,
    /// Does it still have the name?
    AdoptVerify,
    /// Shown: where the record told of a crash or a takeover, it says `held` again.
    Unmark,
    /// Step 7: is the anchor still the anchor?
    SettleLinks,
    /// A copy: is it the lock file?
    SettleCopy,
    /// Links do not tell: the anchor's path is compared.
    Settle,
    /// It is not: the record says that nobody holds.
    UndoWrite,
    /// Is the lock file ours?
    UndoCompare,
    /// Then it goes.
    UndoUnlink,
    /// The copy's kernel lock.
    UndoUnlockCopy,
    /// Somebody holds: the last record comes back.
    Restore,
    /// The anchor was lost: the last record comes back.
    RestoreLost,
    /// The lost anchor is let go.
    DropAnchor,
    /// Flock style: is the lock file a dead native's, on another inode?
    DeadCopy,
    /// Something changed in its takeover: once more.
    DeadCopyAgain,
    /// Is the lock file ours by now: a dead native's that was written over, or what was exchanged for it?
    FlockCompare,
    /// Then it goes.
    FlockUnlink,
    /// The anchor was lost, and our record is not to be covered: it says that nobody holds.
    FlockGiveUp,
    /// A try that found somebody: the anchor's kernel lock is let go.
    LetGo,
    /// Before a wait for who has the lock file: the anchor's kernel lock is let go.
    FreeAnchor,
    /// Wait in the kernel queue of a native's lock file.
    WaitNative,
    /// Out of that queue: close it.
    CloseWaited,
    /// Wait for a foreign holder's events.
    WaitForeign,
    /// It holds.
    Hold,
    /// Passed on within the process: the next one's record.
    PassWrite,
    /// As there, where the links are counted next.
    PassWriteAtOnce,
    /// Passed on: the file's links are counted.
    PassLinks,
    /// Is the anchor still ours?
    PassAnchor,
    /// And the lock file?
    PassLock,
    /// The tenure ends, for whoever asks.
    End,
    /// Flock style: the record says that it was released.
    FlockRelease,
    /// Is the anchor still ours?
    FlockEndCompare,
    /// Is the lock file still ours?
    HideCompare,
    /// Then it goes.
    HideUnlink,
    /// The copy's kernel lock.
    UnlockCopy,
    /// The anchor's kernel lock.
    Unlock,
    /// Revoked; the holder does not know it yet.
    Believe,
    /// Released, busy, or given up: the process has ended.
    Done,
    /// The acquire ended with an error: so has the process.
    Failed,
    /// Died.
    Dead,
}

/// What a recovery is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum After {
    /// The steps that follow the lock.
    #[default]
    Show,
    /// A copy that is the lock file.
    Again,
    /// A takeover begins.
    TakeOver,
    /// The next pass of the loop that shows the lock file.
    Retry,
}

/// A helper thread that was left behind in the kernel queue of a file without a name. One at most is followed: all it
/// does is to get that lock some day and to close it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Helper {
    /// There is none.
    #[default]
    None,
    /// It waits.
    Waits(Ino),
    /// It has the lock.
    Locked(Ino),
}

/// One native.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Native {
    /// What it does next.
    pub pc: Pc,
    /// The anchor's descriptor, kept from one tenure to the next.
    pub fd: Option<Ino>,
    /// The lock file that was judged, open.
    pub judged: Option<Ino>,
    /// The lock file that is a file of its own.
    pub copy: Option<Ino>,
    /// Another user's anchor, which ours has replaced.
    pub replaced: Option<Ino>,
    /// A file in the making.
    pub prepare: Prepare,
    /// What the anchor said when it was locked.
    pub prior: Record,
    /// Our fence.
    pub fence: u8,
    /// The anchor had more than one name.
    pub linked: bool,
    /// One of them was the lock file.
    pub visible: bool,
    /// What the swap names may live, and the lock file's place is another's.
    pub parked: bool,
    /// The record says that a takeover is on.
    pub marked: bool,
    /// It is told of a crash, if it comes to hold.
    pub crashed: bool,
    /// What the recovery is made for.
    pub after: After,
    /// It is one in flock style.
    pub flock: bool,
    /// It does not wait: a run of `clean`.
    pub never: bool,
    /// It waits, after a first try that did not.
    pub waits: bool,
    /// Its tenure has not ended.
    pub held: bool,
    /// Did somebody remove its lock file while it was live?
    pub uncovered: Uncovered,
    /// The watchdog ended the tenure.
    pub revoked: bool,
    /// The release found that it was lost.
    pub lost: bool,
    /// Acquires to come.
    pub rounds: u8,
    /// A helper that was left behind.
    pub helper: Helper,
}

impl Native {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.pc, Pc::Done | Pc::Failed | Pc::Dead)
    }

    /// The inode that it shows, or would.
    pub(crate) fn presence(&self) -> Option<Ino> {
        self.puts().filter(|_| !self.flock)
    }

    /// The inode that it puts in the lock file's place: to stay, or in flock style to be removed.
    pub(crate) fn puts(&self) -> Option<Ino> {
        self.copy.or(self.fd)
    }

    pub(crate) fn each_ino(&mut self, change: &mut dyn FnMut(&mut Option<Ino>)) {
        change(&mut self.fd);
        change(&mut self.judged);
        change(&mut self.copy);
        change(&mut self.replaced);
        change(&mut self.prepare.file);
        if let Helper::Waits(ino) | Helper::Locked(ino) = &mut self.helper {
            let mut inner = Some(*ino);
            change(&mut inner);
            *ino = inner.unwrap_or(*ino);
        }
    }

    /// What tells it from others of its kind, but for its number and those of inodes.
    pub(crate) fn key(&self, look: &dyn Fn(Option<Ino>) -> u16) -> impl Ord + use<> {
        let helper = match self.helper {
            Helper::None => (0, 0),
            Helper::Waits(ino) => (1, look(Some(ino))),
            Helper::Locked(ino) => (2, look(Some(ino))),
        };
        let (tells, ends) =
            ([self.linked, self.visible, self.parked, self.marked, self.crashed], [self.revoked, self.lost]);
        let flags = (tells, self.waits, self.held, ends);
        let files = [self.fd, self.judged, self.copy, self.replaced, self.prepare.file].map(look);
        let prior = self.prior.fence();
        (self.pc, files, flags, (self.fence, prior, self.after, self.rounds), (helper, self.prepare.pc, self.uncovered))
    }

    fn go(&mut self, pc: Pc) -> Option<()> {
        self.pc = pc;
        Some(())
    }
}

/// Makes native `i` take its step: `None` where it has to wait, or has ended.
pub(crate) fn step(config: &Config, state: &mut State, i: usize) -> Option<()> {
    let mut native = state.natives[i];
    Turn { config, state, me: Who::native(i), native: &mut native }.step()?;
    state.natives[i] = native;
    Some(())
}

/// The helper of native `i` that was left behind.
pub(crate) fn helper_step(state: &mut State, i: usize) -> Option<()> {
    let who = Who::helper(i);
    state.natives[i].helper = match state.natives[i].helper {
        Helper::None => return None,
        Helper::Waits(ino) => {
            state.try_lock(ino, who).then_some(())?;
            Helper::Locked(ino)
        }
        Helper::Locked(ino) => {
            state.unlock(ino, who);
            Helper::None
        }
    };
    Some(())
}

/// The watchdog's look at a helper in a kernel queue: where the path names another file, a new helper begins.
pub(crate) fn recheck(config: &Config, state: &mut State, i: usize) -> Option<()> {
    let native = &mut state.natives[i];
    let (waits_for, named) = match native.pc {
        Pc::Queue => (native.fd?, state.anchor),
        Pc::WaitNative => (native.judged?, state.lock),
        _ => return None,
    };
    (config.guards(Guard::Recheck) && named != Some(waits_for)).then_some(())?;
    let before = std::mem::replace(&mut native.helper, Helper::Waits(waits_for));
    if native.pc == Pc::Queue {
        native.fd = None;
        native.go(Pc::Open)?;
    } else {
        native.judged = None;
        native.go(Pc::TryLock)?;
    }
    if let Helper::Locked(ino) = before {
        state.unlock(ino, Who::helper(i));
    }
    Some(())
}

/// The watchdog revokes: the release begins, and the holder is not asked.
pub(crate) fn revoke(state: &mut State, i: usize) -> Option<()> {
    let native = &mut state.natives[i];
    (native.pc == Pc::Hold && state.left.revokes > 0).then_some(())?;
    state.left.revokes -= 1;
    native.revoked = true;
    native.go(Pc::End)
}

/// The holder passes its tenure on to the next one of its process.
///
/// `at_once`: within a moment of the last look at the names.
pub(crate) fn pass(config: &Config, state: &mut State, i: usize, at_once: bool) -> Option<()> {
    let native = &mut state.natives[i];
    (config.pass && native.pc == Pc::Hold && native.rounds > 0 && !native.flock).then_some(())?;
    native.held = false;
    native.go(match (at_once, config.guards(Guard::PassWritesFirst)) {
        (true, true) => Pc::PassWriteAtOnce,
        (true, false) => Pc::PassLinks,
        (false, true) => Pc::PassWrite,
        (false, false) => Pc::PassAnchor,
    })
}

/// The process dies: the kernel closes its descriptors.
pub(crate) fn crash(state: &mut State, i: usize) -> Option<()> {
    (!state.natives[i].has_ended()).then_some(())?;
    if state.past.wiped || state.past.broken {
        // Two natives with two anchors may both have been at the swap: what this one leaves in it nobody puts back.
        state.removed(state.swap, Uncovered::ByPerson);
    }
    let (me, helper) = (Who::native(i), Who::helper(i));
    for inode in &mut state.inodes {
        inode.lock = inode.lock.filter(|who| *who != me && *who != helper);
    }
    let Native { never, flock, .. } = state.natives[i];
    state.natives[i] = Native { pc: Pc::Dead, never, flock, ..Native::default() };
    Some(())
}

pub(crate) struct Turn<'a> {
    pub(crate) config: &'a Config,
    pub(crate) state: &'a mut State,
    pub(crate) me: Who,
    pub(crate) native: &'a mut Native,
}

impl Turn<'_> {
    pub(crate) fn go(&mut self, pc: Pc) -> Option<()> {
        self.native.go(pc)
    }

    pub(crate) fn guards(&self, guard: Guard) -> bool {
        self.config.guards(guard)
    }

    /// `place.anchor`'s descriptor: there from [`Pc::TryLock`] on.
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
                None => self.go(Pc::Make),
            },
            Pc::Make if !self.state.folder => self.go(Pc::MakeFolder),
            Pc::Make if self.state.anchor.is_some() => self.go(Pc::Open),
            Pc::Make => {
                let made = self.state.create();
                self.state.own(self.config, made, self.me);
                self.state.anchor = Some(made);
                self.native.fd = Some(made);
                self.go(Pc::TryLock)
            }
            Pc::MakeFolder => {
                self.state.folder = true;
                self.go(Pc::Open)
            }
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
                self.state.write(self.fd(), Record::Native { by: None, fence: self.native.fence, aborted: true });
                self.go(Pc::DropAnchor)
            }
            Pc::Write if self.native.flock => {
                self.write_own(self.fd(), self.guards(Guard::FlockDeathIsLookedInto));
                match self.native.judged {
                    Some(_) if self.guards(Guard::FlockTakesOver) => self.go(Pc::CompareBefore),
                    None if !self.native.visible => self.settle(),
                    _ => self.go(Pc::FlockCompare),
                }
            }
            Pc::Write => {
                // A crash that only the record tells of stays told until the lock file is there.
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
            Pc::SettleLinks => {
                if self.has_names() {
                    self.grant()
                } else {
                    self.go(Pc::Settle)
                }
            }
            Pc::Settle if self.state.anchor != self.native.fd => self.go(Pc::UndoWrite),
            Pc::Settle => self.grant(),
            Pc::SettleCopy if self.state.lock == self.native.copy => self.go(Pc::Settle),
            Pc::SettleCopy => self.go(Pc::UndoWrite),
            Pc::UndoWrite => {
                // Of a crash that it would have told of, the next one hears.
                let died = self.native.visible && matches!(self.native.prior, Record::Native { by: Some(_), .. });
                let aborted = died || self.native.crashed;
                let by = Some(self.me).filter(|_| aborted);
                self.state.write(self.fd(), Record::Native { by, fence: self.native.fence, aborted });
                self.go(if self.native.flock { Pc::DropAnchor } else { Pc::UndoCompare })
            }
            Pc::UndoCompare => {
                let ours = self.state.lock == self.native.presence();
                self.go(if ours { Pc::UndoUnlink } else { Pc::UndoUnlockCopy })
            }
            Pc::UndoUnlink => {
                if self.state.lock != self.native.presence() {
                    self.state.removed_by_native(self.state.lock);
                }
                self.state.lock = None;
                self.go(Pc::UndoUnlockCopy)
            }
            Pc::UndoUnlockCopy => {
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
            Pc::LetGo => {
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
            | Pc::HideCompare
            | Pc::HideUnlink
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
        let cut_off = self.native.prior.is_aborted();
        if self.native.linked || cut_off || self.config.copies() {
            return self.recover_for(After::Show);
        }
        self.begin()
    }

    /// Steps 4 to 7 begin, with an anchor that we may write.
    pub(crate) fn begin(&mut self) -> Option<()> {
        if self.state.is_anothers(self.fd(), self.me) {
            self.native.crashed = self.native.prior.is_aborted();
            let released = matches!(self.native.prior, Record::Native { by: None, .. });
            return self.go(if self.native.crashed || released { Pc::ReplacePrepare } else { Pc::ReplaceShown });
        }
        self.begin_record()
    }

    /// The record of this try, whose fence is taken from the clock before anything of it is written.
    fn begin_record(&mut self) -> Option<()> {
        self.native.fence = self.state.next_fence(self.config, self.native.prior.fence().unwrap_or(0));
        self.native.crashed = self.native.prior.is_aborted();
        if self.native.linked { self.go(Pc::Visible) } else { self.go_write() }
    }

    /// The anchor is another user's: ours takes its place, and goes on with what it says.
    fn replace(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::ReplaceShown => {
                self.native.crashed = self.state.lock == self.native.fd;
                self.go(Pc::ReplacePrepare)
            }
            Pc::ReplacePrepare => {
                let fence = self.native.prior.fence().filter(|_| self.guards(Guard::ReplaceCarriesTheFence));
                let aborted = self.native.crashed && self.guards(Guard::ReplaceKeepsTheWord);
                // A holder that died, or is not known to have released, is looked for at the lock file's place.
                let by = match self.native.prior {
                    Record::Native { by, .. } => by.filter(|_| !aborted),
                    _ => Some(self.me),
                };
                let record = Record::Native { by, fence: fence.unwrap_or(0), aborted };
                let mut prepare = self.native.prepare;
                let prepared = prepare.step(self.config, self.state, self.me, record)?;
                self.native.prepare = prepare;
                match prepared {
                    Prepared::Ready(_) => self.go(Pc::ReplaceSeen),
                    Prepared::NotYet => Some(()),
                }
            }
            Pc::ReplaceSeen if self.state.anchor == self.native.fd || !self.guards(Guard::ReplaceCompares) => {
                self.go(Pc::ReplaceRename)
            }
            Pc::ReplaceSeen => self.go(Pc::ReplaceUndo),
            Pc::ReplaceUndo => {
                self.state.new = None;
                self.replaced_by_another()
            }
            Pc::ReplaceRename if self.state.new.is_none() => self.replaced_by_another(),
            Pc::ReplaceRename => {
                self.state.anchor = self.state.new.take();
                self.go(Pc::ReplaceCompare)
            }
            _ if self.state.anchor != self.native.prepare.file => self.replaced_by_another(),
            _ => {
                // Our own is the one to go on with, and the old one's kernel lock stays ours.
                let own = std::mem::take(&mut self.native.prepare).file;
                self.native.replaced = std::mem::replace(&mut self.native.fd, own);
                self.native.linked = false;
                self.begin_record()
            }
        }
    }

    /// Is the holder of a native's file dead? It is, where that was the anchor that we replaced; or its kernel lock is tried.
    fn lock_judged(&mut self, ino: Ino) -> bool {
        self.native.replaced == Some(ino) || self.state.try_lock(ino, self.me)
    }

    /// Somebody was at the anchors meanwhile: once more, with the one that is there.
    fn replaced_by_another(&mut self) -> Option<()> {
        if let Some(ours) = std::mem::take(&mut self.native.prepare).file {
            self.state.unlock(ours, self.me);
        }
        self.go(Pc::DropAnchor)
    }

    fn go_write(&mut self) -> Option<()> {
        let released = matches!(self.native.prior, Record::Native { by: None, aborted: false, .. });
        let copy = self.native.flock && !self.native.visible && !released;
        self.go(if copy { Pc::DeadCopy } else { Pc::Write })
    }

    /// Flock style: a dead native's lock file goes.
    fn take_hidden(&mut self) -> Option<()> {
        // By a takeover it has become ours.
        let plain = self.native.judged.filter(|_| !self.guards(Guard::FlockTakesOver));
        let ours = plain.or(self.native.puts());
        match self.native.pc {
            Pc::DeadCopy | Pc::DeadCopyAgain => {
                let native = self.state.lock.filter(|ino| self.state.record(*ino).is_native());
                self.native.judged = native.filter(|ino| self.lock_judged(*ino));
                return match (self.native.pc, self.native.judged) {
                    (Pc::DeadCopy, _) => self.go(Pc::Write),
                    (_, Some(_)) => self.go(Pc::CompareBefore),
                    (_, None) => self.settle(),
                };
            }
            Pc::FlockCompare if self.state.lock == ours => return self.go(Pc::FlockUnlink),
            Pc::FlockCompare => {}
            _ => {
                if self.state.lock != ours {
                    self.state.removed_by_native(self.state.lock);
                }
                self.state.lock = None;
            }
        }
        self.close_judged();
        self.close_copy();
        if self.native.after == After::Retry { self.go(Pc::DeadCopyAgain) } else { self.settle() }
    }

    pub(crate) fn write_own(&mut self, ino: Ino, aborted: bool) {
        let record = Record::Native { by: Some(self.me), fence: self.native.fence, aborted };
        self.state.write(ino, record);
    }

    /// A pass of the loop that shows the lock file: by a link, or by a copy.
    fn show(&mut self) -> Option<()> {
        if self.native.flock {
            self.native.after = After::Retry;
            return self.go(Pc::FlockCompare);
        }
        match (self.native.parked, self.config.copies()) {
            // Whoever is parked lives: nothing is shown beside it.
            (true, _) => self.go(Pc::Look),
            (_, true) => self.recover_for(After::Again),
            _ => self.go(Pc::Link),
        }
    }

    fn link(&mut self) -> Option<()> {
        match (self.state.anchor, self.state.lock) {
            (None, _) => self.lost(),
            (_, Some(_)) => self.go(Pc::Look),
            // By its name: it may be another's inode.
            (anchor, None) => {
                self.state.lock = anchor;
                self.native.uncovered = Uncovered::No;
                self.shown()
            }
        }
    }

    fn prepare(&mut self) -> Option<()> {
        let record = Record::Native { by: Some(self.me), fence: self.native.fence, aborted: false };
        let mut prepare = self.native.prepare;
        let prepared = prepare.step(self.config, self.state, self.me, record)?;
        self.native.prepare = prepare;
        if let Prepared::Ready(file) = prepared {
            self.native.copy = Some(file);
            self.native.prepare = Prepare::default();
            return self.go(if self.native.after == After::TakeOver { Pc::RenameSwap } else { Pc::RenameNew });
        }
        Some(())
    }

    fn rename_new(&mut self) -> Option<()> {
        if self.state.new.is_none() || self.state.lock.is_some() {
            return self.go(Pc::UnlinkNew);
        }
        self.state.lock = self.state.new.take();
        self.native.uncovered = Uncovered::No;
        self.shown()
    }

    fn judge(&mut self) -> Option<()> {
        let judged = self.native.judged.expect("it was opened");
        let dead = if self.state.record(judged).is_native() {
            self.lock_judged(judged)
        } else {
            !self.state.foreign_lives(judged) || !self.guards(Guard::LiveForeignersAreWaitedFor)
        };
        if !dead {
            // While somebody is parked our record stays, for it tells of the takeover.
            let restores = !self.native.visible && !self.native.parked;
            return if restores { self.go(Pc::Restore) } else { self.blocked() };
        }
        self.go(Pc::CompareBefore)
    }

    /// Somebody holds by the lock file that was judged.
    fn blocked(&mut self) -> Option<()> {
        self.forget();
        if !self.native.waits {
            self.native.judged = None;
            return self.go(Pc::LetGo);
        }
        self.go(Pc::FreeAnchor)
    }

    fn busy(&mut self) -> Option<()> {
        if self.native.never {
            return self.end(Pc::Done);
        }
        self.native.waits = true;
        self.go(Pc::TryLock)
    }

    /// The lock file is there, and shows us.
    pub(crate) fn shown(&mut self) -> Option<()> {
        self.close_judged();
        if self.native.flock {
            return self.go(Pc::FlockCompare);
        }
        if self.native.marked { self.go(Pc::Unmark) } else { self.settle() }
    }

    fn settle(&mut self) -> Option<()> {
        match self.guards(Guard::CompareAfterShowing) {
            true if self.native.copy.is_some() => self.go(Pc::SettleCopy),
            true if self.native.linked => self.go(Pc::Settle),
            true => self.go(Pc::SettleLinks),
            false => self.grant(),
        }
    }

    /// `acquire` returns.
    pub(crate) fn grant(&mut self) -> Option<()> {
        let fence = self.native.fence;
        // A fence that was forgotten is known to the clock alone.
        let told = !self.state.past.forgotten || self.config.clock == Clock::Advances;
        self.state.past.fence_went_back |= fence <= self.state.granted && told;
        self.state.granted = self.state.granted.max(fence);
        let parked = self.native.flock && self.native.parked;
        self.forget();
        self.native.parked = parked;
        self.native.fence = fence;
        self.native.held = true;
        self.native.waits = false;
        self.go(Pc::Hold)
    }

    /// Nothing of this try is needed any more.
    fn forget(&mut self) {
        if let Some(replaced) = self.native.replaced.take() {
            self.state.unlock(replaced, self.me);
        }
        let native = &mut *self.native;
        (native.prior, native.fence) = (Record::Blank, 0);
        (native.linked, native.visible, native.parked, native.marked) = (false, false, false, false);
        native.crashed = false;
        native.after = After::Show;
    }

    /// The anchor went away under us.
    pub(crate) fn lost(&mut self) -> Option<()> {
        // Nor may a takeover that failed halfway be forgotten, or text be put under a lock file that stays.
        let half_taken = (self.native.marked || self.native.flock) && self.state.swap.is_some();
        let stays = self.state.lock == self.native.fd;
        let restores = !(self.native.visible || self.native.parked || half_taken || stays);
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
        }
    }

    /// The acquire returns an error, and every descriptor is closed.
    pub(crate) fn fail(&mut self) -> Option<()> {
        self.end(Pc::Failed)
    }

    pub(crate) fn end(&mut self, pc: Pc) -> Option<()> {
        let Native { never, flock, helper, .. } = *self.native;
        for inode in &mut self.state.inodes {
            inode.lock = inode.lock.filter(|who| *who != self.me);
        }
        *self.native = Native { pc, never, flock, helper, ..Native::default() };
        Some(())
    }

    pub(crate) fn in_place(&self) -> bool {
        self.config.way == Way::CopyInPlace
    }
}
