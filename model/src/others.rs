//! The other processes: an operator's break, `clean` at an idle anchor, a person who removes files.

use crate::config::{Config, Guard};
use crate::native::Native;
use crate::prepare::{Prepare, Prepared};
use crate::state::{Ino, Record, State, Uncovered, Who};

/// The next step of a break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum BreakPc {
    /// It has not begun, or has ended.
    #[default]
    Idle,
    /// Check the lock file.
    Look,
    /// Open the anchor and read its fence.
    Read,
    /// Make a new anchor, locked.
    Prepare,
    /// Open the anchor again, because it may have been replaced since.
    Reopen,
    /// Take the name from the old one, where a rename does not replace an open file.
    TakeName,
    /// Rename it over the old one, or to the free name.
    Rename,
    /// Read the old one's fence again.
    ReadAgain,
    /// Is there a swap of an unfinished takeover?
    Swap,
    /// Write the greater fence, or the mark for the swap.
    WriteFence,
    /// Is the lock file the checked one, or the old anchor, which was just published?
    Compare,
    /// It is neither: is it a copy of the old anchor's last tenure?
    ReadCopy,
    /// It is: remove it.
    Unlink,
    /// Release the new anchor's kernel lock.
    Unlock,
}

/// `break --force`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Breaker {
    /// The next step.
    pub pc: BreakPc,
    /// The lock file that it checked.
    pub shown: Option<Ino>,
    /// The old anchor, open.
    pub old: Option<Ino>,
    /// The new anchor.
    pub fresh: Option<Ino>,
    /// The fence of the new anchor's record.
    pub fence: u8,
    /// Whether the fence is greater than the written one.
    pub later: bool,
    /// The fence of the old anchor's last tenure.
    pub begun: u8,
    /// Whether there is a swap.
    pub cut_off: bool,
    /// The new anchor that is being made.
    pub prepare: Prepare,
}

impl Breaker {
    pub(crate) fn each_ino(&mut self, change: &mut dyn FnMut(&mut Option<Ino>)) {
        change(&mut self.shown);
        change(&mut self.old);
        change(&mut self.fresh);
        change(&mut self.prepare.file);
    }

    /// Returns whether it has taken the anchor's name, and not given it to the new anchor yet.
    pub(crate) fn replaces_in_two(&self, config: &Config) -> bool {
        config.replaces_in_two() && self.pc == BreakPc::Rename
    }

    fn go(&mut self, pc: BreakPc) {
        self.pc = pc;
    }
}

pub(crate) fn break_step(config: &Config, state: &mut State) -> Option<()> {
    let mut me = state.breaker;
    match me.pc {
        BreakPc::Idle => {
            // `status` found a live native, by its lock file's kernel lock or its anchor's.
            let held = |name: Option<Ino>| name.is_some_and(|ino| state.inode(ino).lock.is_some());
            let seen =
                held(state.anchor) || state.lock.is_some_and(|ino| state.record(ino).is_native() && held(state.lock));
            (state.left.breaks > 0 && seen).then_some(())?;
            state.left.breaks -= 1;
            me.go(BreakPc::Look);
        }
        BreakPc::Look => {
            me.shown = state.lock;
            me.fence = state.lock.and_then(|ino| state.record(ino).fence()).unwrap_or(0);
            me.go(BreakPc::Read);
        }
        BreakPc::Read => {
            me.old = state.anchor;
            me.fence = me.fence.max(me.old.and_then(|ino| state.record(ino).fence()).unwrap_or(0));
            if !config.guards(Guard::BreakCarriesTheFence) {
                me.fence = 0;
            }
            me.go(BreakPc::Prepare);
        }
        BreakPc::Prepare => {
            let record = Record::native(None, me.fence, false);
            if let Prepared::Ready(file) = me.prepare.step(config, state, Who::BREAKER, record)? {
                me.fresh = Some(file);
                me.prepare = Prepare::default();
                me.go(BreakPc::Reopen);
            }
        }
        BreakPc::Reopen => {
            if config.guards(Guard::BreakReopens) {
                me.old = state.anchor;
            }
            me.go(if config.replaces_in_two() { BreakPc::TakeName } else { BreakPc::Rename });
        }
        BreakPc::TakeName => {
            if state.anchor.is_some() && state.anchor == me.old {
                state.anchor = None;
                state.past.broken = true;
            }
            me.go(BreakPc::Rename);
        }
        // Another process has made an anchor in between, which stays.
        BreakPc::Rename if config.replaces_in_two() && state.anchor.is_some() => {
            state.new = None;
            me.go(BreakPc::ReadAgain);
        }
        BreakPc::Rename if state.new.is_none() => return end_break(state),
        BreakPc::Rename => {
            state.anchor = state.new.take();
            state.past.broken = true;
            let carries = config.guards(Guard::BreakCarriesTheFence) && config.guards(Guard::BreakReadsTheFenceAgain);
            let again = carries && me.old.is_some();
            me.go(if again { BreakPc::ReadAgain } else { BreakPc::Swap });
        }
        BreakPc::ReadAgain => {
            let later = me.old.and_then(|ino| state.record(ino).fence()).unwrap_or(0);
            me.later = later > me.fence;
            me.begun = later;
            me.fence = me.fence.max(later);
            me.go(BreakPc::Swap);
        }
        BreakPc::Swap => {
            me.cut_off = state.swap.is_some();
            me.go(if me.later || me.cut_off { BreakPc::WriteFence } else { BreakPc::Compare });
        }
        BreakPc::WriteFence => {
            state.write(me.fresh?, Record::native(None, me.fence, me.cut_off));
            me.go(BreakPc::Compare);
        }
        BreakPc::Compare => {
            let same = state.lock == me.shown || state.lock == me.old;
            me.go(match state.lock {
                None => BreakPc::Unlock,
                Some(_) if same => BreakPc::Unlink,
                Some(_) if config.guards(Guard::BreakRemovesTheCopy) => BreakPc::ReadCopy,
                Some(_) => BreakPc::Unlock,
            });
        }
        BreakPc::ReadCopy => {
            let record = state.lock.map(|ino| state.record(ino));
            let begun = record.is_some_and(|record| record.is_native() && record.fence() == Some(me.begun));
            me.go(if begun { BreakPc::Unlink } else { BreakPc::Unlock });
        }
        // The holder keeps the name: the break waits for it, or gives up.
        BreakPc::Unlink if state.is_kept(state.lock) => me.go(BreakPc::Unlock),
        BreakPc::Unlink => {
            state.removed(state.lock, Uncovered::ByPerson);
            state.lock = None;
            me.go(BreakPc::Unlock);
        }
        BreakPc::Unlock => return end_break(state),
    }
    state.breaker = me;
    Some(())
}

/// Ends the break, also by its death. Its descriptors are closed.
pub(crate) fn end_break(state: &mut State) -> Option<()> {
    (state.breaker.pc != BreakPc::Idle).then_some(())?;
    // It dies before it has carried on what was granted while it was at it.
    let carries = matches!(state.breaker.pc, BreakPc::ReadAgain | BreakPc::Swap | BreakPc::WriteFence);
    // Between the two steps, too: the prepared file may have an older fence.
    let between = state.breaker.pc == BreakPc::Rename && state.past.broken;
    state.past.forgotten |= carries || between;
    state.past.broke |= state.breaker.pc == BreakPc::Unlock;
    unlock_all(state, Who::BREAKER);
    state.breaker = Breaker::default();
    Some(())
}

fn unlock_all(state: &mut State, who: Who) {
    for inode in &mut state.inodes {
        inode.lock = inode.lock.filter(|owner| *owner != who);
    }
}

/// The next step of a pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum PrunePc {
    /// It has not begun, or has ended.
    #[default]
    Idle,
    /// Open the new file that a process has left.
    NewOpen,
    /// Try its kernel lock.
    NewLock,
    /// Does it still have its name?
    NewCompare,
    /// It does: remove it.
    NewUnlink,
    /// Open the anchor.
    Open,
    /// Is it open for writing in any process?
    Lease,
    /// Try its kernel lock.
    Lock,
    /// Is it still the anchor?
    Compare,
    /// Is there a swap?
    Swap,
    /// Is the file at the swap a live holder's?
    SwapJudge,
    /// It is. Does the lock file exist, and is its holder dead?
    SwapShown,
    /// The lock file's holder is dead: exchange back.
    SwapExchange,
    /// There is no lock file: the swap gets that name.
    SwapRename,
    /// Remove the swap.
    SwapUnlink,
    /// Does the record report a crash, or is there a lock file?
    Shown,
    /// Remove the anchor.
    Unlink,
    /// Remove `.tenure`, if it is empty.
    Folder,
}

/// `clean`, at an anchor that has been idle for long enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pruner {
    /// The next step.
    pub pc: PrunePc,
    /// The open file.
    pub file: Option<Ino>,
}

pub(crate) fn prune_step(config: &Config, state: &mut State) -> Option<()> {
    let mut me = state.pruner;
    let who = Who::PRUNER;
    let mut go = |pc| me.pc = pc;
    match state.pruner.pc {
        PrunePc::Idle => {
            (state.left.pruners > 0).then_some(())?;
            state.left.pruners -= 1;
            go(if state.new.is_some() { PrunePc::NewOpen } else { PrunePc::Open });
        }
        PrunePc::NewOpen => {
            go(if state.new.is_some() { PrunePc::NewLock } else { PrunePc::Open });
            me.file = state.new;
        }
        // Its maker is alive: it stays, and so does the anchor.
        PrunePc::NewLock => {
            if !state.try_lock(me.file?, who) {
                return end_prune(state);
            }
            go(PrunePc::NewCompare);
        }
        PrunePc::NewCompare if state.new == me.file => go(PrunePc::NewUnlink),
        PrunePc::NewUnlink | PrunePc::NewCompare => {
            if state.pruner.pc == PrunePc::NewUnlink {
                state.new = None;
            }
            go(PrunePc::Open);
            state.unlock(me.file.take()?, who);
        }
        PrunePc::Open if state.anchor.is_none() => return end_prune(state),
        PrunePc::Open => {
            go(PrunePc::Lease);
            me.file = state.anchor;
        }
        PrunePc::Lease => {
            let has = |native: &Native| native.fd == me.file || native.mark == me.file;
            let open = state.natives.iter().any(has) || state.breaker.fresh == me.file;
            if open || !config.leases() {
                return end_prune(state);
            }
            go(if config.guards(Guard::PruneLocks) { PrunePc::Lock } else { PrunePc::Compare });
        }
        PrunePc::Lock => {
            if !state.try_lock(me.file?, who) {
                return end_prune(state);
            }
            go(PrunePc::Compare);
        }
        PrunePc::Compare if state.anchor != me.file => return end_prune(state),
        PrunePc::Compare => go(PrunePc::Swap),
        PrunePc::Swap | PrunePc::SwapJudge if state.swap.is_none() => go(PrunePc::Shown),
        PrunePc::Swap if state.swap == me.file => go(PrunePc::SwapUnlink),
        PrunePc::Swap => go(PrunePc::SwapJudge),
        PrunePc::SwapJudge => {
            go(if state.is_dead(state.swap?) { PrunePc::SwapUnlink } else { PrunePc::SwapShown });
        }
        PrunePc::SwapShown => match state.lock {
            None => go(PrunePc::SwapRename),
            Some(lock) if Some(lock) == me.file || state.is_dead(lock) => go(PrunePc::SwapExchange),
            // The file at the swap has a live holder: the anchor stays, because its record marks that.
            Some(_) => return end_prune(state),
        },
        PrunePc::SwapRename if state.lock.is_some() => go(PrunePc::SwapShown),
        PrunePc::SwapRename => {
            go(PrunePc::Shown);
            state.lock = state.swap.take();
        }
        PrunePc::SwapExchange => {
            go(PrunePc::Swap);
            state.exchange();
        }
        PrunePc::SwapUnlink => {
            go(PrunePc::Shown);
            state.swap = None;
        }
        PrunePc::Shown => {
            let crashed = state.record(me.file?).is_aborted();
            if crashed || state.lock.is_some() {
                return end_prune(state);
            }
            go(PrunePc::Unlink);
        }
        PrunePc::Unlink => {
            state.anchor = None;
            state.past.forgotten = true;
            go(PrunePc::Folder);
        }
        PrunePc::Folder => {
            state.folder = [state.anchor, state.swap, state.new].iter().any(Option::is_some);
            return end_prune(state);
        }
    }
    state.pruner = me;
    Some(())
}

/// Ends the pruning, also by its death.
pub(crate) fn end_prune(state: &mut State) -> Option<()> {
    (state.pruner.pc != PrunePc::Idle).then_some(())?;
    unlock_all(state, Who::PRUNER);
    state.pruner = Pruner::default();
    Some(())
}

/// `rm -r .tenure`: it removes the names that it has read one by one, in any order, and then the folder if it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wiper {
    /// Whether it runs.
    pub on: bool,
    /// The names to remove: the anchor, the swap, the new file.
    pub names: [bool; 3],
}

/// Removes the name `nth`, or the folder for 3.
pub(crate) fn wipe_step(state: &mut State, nth: usize) -> Option<()> {
    if !state.wiper.on {
        (nth == 3 && state.left.wipes > 0).then_some(())?;
        state.left.wipes -= 1;
        let names = [state.anchor, state.swap, state.new].map(|name| name.is_some());
        state.wiper = Wiper { on: true, names };
        return Some(());
    }
    if nth == 3 {
        (state.wiper.names == [false; 3]).then_some(())?;
        state.wiper = Wiper::default();
        state.folder = [state.anchor, state.swap, state.new].iter().any(Option::is_some);
        return Some(());
    }
    state.wiper.names[nth].then_some(())?;
    state.wiper.names[nth] = false;
    let name = match nth {
        0 => &mut state.anchor,
        1 => &mut state.swap,
        _ => &mut state.new,
    };
    let removed = name.take();
    state.past.wiped |= removed.is_some();
    state.past.forgotten |= nth == 0 && removed.is_some();
    if nth == 1 {
        state.removed(removed, Uncovered::ByPerson);
    }
    Some(())
}

/// Removes the lock file, as a person.
pub(crate) fn user_rm(state: &mut State) -> Option<()> {
    (state.left.user_rm > 0 && state.lock.is_some() && !state.is_kept(state.lock)).then_some(())?;
    state.left.user_rm -= 1;
    state.removed(state.lock, Uncovered::ByPerson);
    state.lock = None;
    Some(())
}
