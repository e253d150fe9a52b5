//! Steps 3 and 6 of an acquire: recovery, and the takeover of a dead holder's lock file.

use crate::config::Guard;
use crate::native::{After, NativeStep, Pc};
use crate::state::{Record, Uncovered};

impl NativeStep<'_> {
    /// Begins step 3.
    pub(crate) fn recover_for(&mut self, after: After) -> Option<()> {
        self.native.after = after;
        self.native.live_file_at_swap = false;
        if self.guards(Guard::Recover) { self.go(Pc::RecoverLook) } else { self.recovered() }
    }

    fn recovered(&mut self) -> Option<()> {
        match self.native.after {
            After::Show => self.begin(),
            After::Again if self.native.live_file_at_swap => self.go(Pc::Look),
            After::Again => self.go(Pc::Prepare),
            After::Retry => self.go(Pc::CompareAgain),
            After::TakeOver if self.config.removes() && (self.native.flock || self.native.marked) => {
                self.go_swap(Pc::RemoveJudged)
            }
            After::TakeOver if self.config.removes() => self.go(Pc::Mark),
            After::TakeOver if self.config.copies() => self.go_swap(Pc::Prepare),
            // The record of flock style while it holds counts as a mark of a takeover, too.
            After::TakeOver if self.native.flock || self.native.marked || !self.guards(Guard::TakeoverIsMarked) => {
                self.go_swap(Pc::LinkSwap)
            }
            After::TakeOver => self.go(Pc::Mark),
        }
    }

    /// Makes the swap, unless a live file is there.
    fn go_swap(&mut self, pc: Pc) -> Option<()> {
        if self.native.live_file_at_swap {
            self.close_judged();
            return self.next_pass();
        }
        self.go(pc)
    }

    pub(crate) fn recover(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::RecoverLook => match self.state.swap {
                None => self.recovered(),
                swap if swap == self.native.fd => self.go(Pc::RecoverUnlink),
                Some(_) => self.go(Pc::RecoverJudge),
            },
            Pc::RecoverJudge => {
                let Some(swap) = self.state.swap else { return self.recovered() };
                let dead = self.state.is_dead(swap) || !self.guards(Guard::RecoverJudges);
                self.go(if dead { Pc::RecoverUnlink } else { Pc::RecoverShown })
            }
            Pc::RecoverShown => match self.state.lock {
                None if !self.guards(Guard::RecoverKeepsLiveFiles) => self.go(Pc::RecoverUnlink),
                None => self.go(Pc::RecoverRename),
                lock if lock == self.native.fd => self.go(Pc::RecoverExchange),
                Some(lock) if self.state.is_dead(lock) => self.go(Pc::RecoverExchange),
                Some(_) if !self.guards(Guard::RecoverKeepsLiveFiles) => self.go(Pc::RecoverUnlink),
                Some(_) => {
                    self.native.live_file_at_swap = true;
                    self.recovered()
                }
            },
            Pc::RecoverRename => {
                if self.state.lock.is_some() {
                    return self.go(Pc::RecoverShown);
                }
                self.state.lock = self.state.swap.take();
                self.recovered()
            }
            Pc::RecoverExchange => {
                self.state.exchange();
                // The file at the swap is judged in its turn.
                self.go(if self.guards(Guard::RecoverKeepsLiveFiles) { Pc::RecoverLook } else { Pc::RecoverUnlink })
            }
            Pc::RecoverUnlink => {
                self.state.swap = None;
                self.recovered()
            }
            _ => None,
        }
    }

    pub(crate) fn take_over(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::Mark => {
                self.write_own(self.fd(), true);
                self.native.marked = true;
                self.go_swap(if self.config.removes() { Pc::RemoveJudged } else { Pc::LinkSwap })
            }
            Pc::RemoveJudged => {
                let judged = self.native.judged;
                if self.state.lock == judged || !self.guards(Guard::RemovesTheJudged) {
                    if self.state.lock != judged {
                        self.state.removed_by_native(self.state.lock);
                    }
                    self.state.lock = None;
                    self.native.crashed = true;
                    self.close_judged();
                    return if self.native.flock { self.settle() } else { self.next_pass() };
                }
                self.retry()
            }
            // By the anchor's name, as in `link`.
            Pc::LinkSwap if self.state.anchor.is_none() || self.state.swap.is_some() => self.changed(),
            Pc::LinkSwap => {
                self.state.swap = self.state.anchor;
                self.go(Pc::SwapSeen)
            }
            Pc::RenameSwap if self.state.new.is_none() => self.changed(),
            Pc::RenameSwap => {
                self.state.swap = self.state.new.take();
                self.go(Pc::SwapSeen)
            }
            Pc::SwapSeen if self.state.swap == self.native.puts() || !self.guards(Guard::CompareBeforeTakeover) => {
                self.go(Pc::Exchange)
            }
            // The link is to another anchor, which had got the name. Its holder will recover the swap.
            Pc::SwapSeen => {
                self.close_judged();
                self.close_copy();
                self.lost()
            }
            Pc::Exchange if self.in_place() => self.go(Pc::DropSwapAdopt),
            Pc::Exchange => {
                let exchanged = self.state.exchange();
                self.native.uncovered = Uncovered::No;
                self.go(if exchanged { Pc::Out } else { Pc::DropSwapGone })
            }
            Pc::Out => {
                let judged = self.state.swap.is_some() && self.state.swap == self.native.judged;
                let taken = judged || !self.guards(Guard::CompareAfterExchange);
                self.go(if taken { Pc::DropSwap } else { Pc::ExchangeBack })
            }
            Pc::ExchangeBack => {
                self.state.exchange();
                self.go(if self.guards(Guard::RecoverKeepsLiveFiles) { Pc::OutAgain } else { Pc::DropSwapBack })
            }
            Pc::OutAgain if self.state.swap.is_none() || self.state.swap == self.native.puts() => {
                self.go(Pc::DropSwapBack)
            }
            // The file at the swap was not judged: the recovery does that.
            Pc::OutAgain => self.retry(),
            Pc::DropSwapGone | Pc::DropSwapAdopt | Pc::DropSwap | Pc::DropSwapBack => self.drop_swap(),
            Pc::Verify if self.state.lock == self.native.lock_file() => self.shown(),
            Pc::Verify => self.retry(),
            Pc::AdoptOpen => {
                let judged = self.native.judged.expect("it was judged");
                self.state.unlock(judged, self.me);
                let same = self.state.lock == Some(judged);
                if same { self.go(Pc::AdoptLock) } else { self.retry() }
            }
            Pc::AdoptLock => {
                let judged = self.native.judged.take().expect("it was judged");
                if !self.state.try_lock(judged, self.me) {
                    return self.retry();
                }
                self.native.copy = Some(judged);
                self.go(Pc::AdoptWrite)
            }
            Pc::AdoptWrite => {
                self.write_own(self.native.copy.expect("it was adopted"), false);
                self.go(Pc::AdoptVerify)
            }
            Pc::AdoptVerify if self.state.lock == self.native.copy || !self.guards(Guard::VerifyAdoption) => {
                self.shown()
            }
            Pc::AdoptVerify => self.retry(),
            _ => None,
        }
    }

    fn drop_swap(&mut self) -> Option<()> {
        let pc = self.native.pc;
        if self.state.swap.take().is_none() && !self.guards(Guard::RetriesAfterChange) {
            return self.fail();
        }
        match pc {
            Pc::DropSwap => {
                self.native.crashed = true;
                if self.native.flock { self.shown() } else { self.go(Pc::Verify) }
            }
            Pc::DropSwapAdopt => self.adopt(),
            _ => self.retry(),
        }
    }

    fn adopt(&mut self) -> Option<()> {
        self.close_copy();
        let judged = self.state.record(self.native.judged.expect("it was judged"));
        let released = matches!(judged, Record::Native { by: None, .. });
        let same = released || judged.fence() == self.native.prior.fence();
        let adoptable = judged.is_native() && (same || self.guards(Guard::AdoptsAnyDeadNative));
        if adoptable { self.go(Pc::AdoptOpen) } else { self.fail() }
    }

    /// Another native or a person has changed a name.
    fn changed(&mut self) -> Option<()> {
        if self.guards(Guard::RetriesAfterChange) { self.retry() } else { self.fail() }
    }

    /// Begins the loop's next pass after a change in a takeover.
    fn retry(&mut self) -> Option<()> {
        self.close_judged();
        self.close_copy();
        self.native.live_file_at_swap = true;
        self.next_pass()
    }

    pub(crate) fn next_pass(&mut self) -> Option<()> {
        if self.native.live_file_at_swap && self.guards(Guard::RecoverKeepsLiveFiles) {
            return self.recover_for(After::Retry);
        }
        self.native.live_file_at_swap = false;
        self.go(Pc::CompareAgain)
    }
}
