//! Making the anchor, which is step 1 of an acquire, and replacing another user's.

use crate::config::Guard;
use crate::native::{NativeStep, Pc};
use crate::prepare::Prepared;
use crate::state::{Ino, Record};

impl NativeStep<'_> {
    /// Makes the anchor, or gives its name to the one that an unfinished replacement left.
    pub(crate) fn make(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::Make if !self.state.folder => self.go(Pc::MakeFolder),
            Pc::Make if self.state.anchor.is_some() => {
                self.native.past_new = false;
                self.go(Pc::Open)
            }
            // Between the two steps of a replacement, the prepared file is the next anchor.
            Pc::Make if self.config.replaces_in_two() && !self.native.past_new => self.go(Pc::MakeLook),
            Pc::MakeLook => match self.state.new {
                Some(new) if self.guards(Guard::PromotesTheNew) => {
                    self.native.judged = Some(new);
                    self.go(Pc::MakeLock)
                }
                _ => {
                    self.native.past_new = true;
                    self.go(Pc::Make)
                }
            },
            Pc::MakeLock => {
                let new = self.native.judged.expect("it was opened");
                if !self.state.try_lock(new, self.me) {
                    // Its maker lives: look again.
                    self.native.judged = None;
                    return self.go(Pc::Open);
                }
                self.go(Pc::MakeCompare)
            }
            Pc::MakeCompare if self.state.new == self.native.judged => self.go(Pc::MakeRename),
            Pc::MakeCompare => {
                self.close_judged();
                self.go(Pc::Open)
            }
            Pc::MakeRename => {
                if self.state.anchor.is_none() && self.state.new.is_some() {
                    self.state.anchor = self.state.new.take();
                }
                self.close_judged();
                self.go(Pc::Open)
            }
            Pc::Make => {
                self.native.past_new = false;
                // Only a process that had looked before the break began makes an anchor between its two steps.
                let between = self.state.breaker.replaces_in_two(self.config);
                self.state.past.forgotten |= between && self.guards(Guard::PromotesTheNew);
                let made = self.state.create();
                self.state.own(self.config, made, self.me);
                self.state.anchor = Some(made);
                self.native.fd = Some(made);
                self.go(Pc::TryLock)
            }
            _ => {
                self.state.folder = true;
                self.go(Pc::Open)
            }
        }
    }

    /// Begins steps 4 to 7, with an anchor that the native may write.
    pub(crate) fn begin(&mut self) -> Option<()> {
        if self.state.is_anothers(self.fd(), self.me) {
            self.native.crashed = self.native.prior.is_aborted();
            let released = matches!(self.native.prior, Record::Native { by: None, .. });
            return self.go(if self.native.crashed || released { Pc::ReplacePrepare } else { Pc::ReplaceShown });
        }
        self.begin_record()
    }

    /// Begins the record of this try, whose fence is taken from the clock before any write.
    fn begin_record(&mut self) -> Option<()> {
        self.native.fence = self.state.next_fence(self.config, self.native.prior.fence().unwrap_or(0));
        self.native.crashed = self.native.prior.is_aborted();
        if self.native.linked { self.go(Pc::Visible) } else { self.go_write() }
    }

    /// Replaces another user's anchor with a new one, which continues its record.
    pub(crate) fn replace(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::ReplaceShown => {
                self.native.crashed = self.state.lock == self.native.fd;
                self.go(Pc::ReplacePrepare)
            }
            Pc::ReplacePrepare => {
                let fence = self.native.prior.fence().filter(|_| self.guards(Guard::ReplaceCarriesTheFence));
                let aborted = self.native.crashed && self.guards(Guard::ReplaceKeepsTheMark);
                // A holder that died, or may not have released, is found by its lock file.
                let by = match self.native.prior {
                    Record::Native { by, .. } => by.filter(|_| !aborted),
                    _ => Some(self.me),
                };
                let record = Record::native(by, fence.unwrap_or(0), aborted);
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
                // The acquire continues with the new anchor, and keeps the old one's kernel lock.
                let own = std::mem::take(&mut self.native.prepare).file;
                self.native.replaced = std::mem::replace(&mut self.native.fd, own);
                self.native.linked = false;
                self.begin_record()
            }
        }
    }

    /// Returns whether the holder of a native's file is dead: it is the replaced anchor, or its kernel lock is free.
    pub(crate) fn lock_judged(&mut self, ino: Ino) -> bool {
        self.native.replaced == Some(ino) || self.state.try_lock(ino, self.me)
    }

    /// Starts again, because another process changed the anchor.
    fn replaced_by_another(&mut self) -> Option<()> {
        if let Some(ours) = std::mem::take(&mut self.native.prepare).file {
            self.state.unlock(ours, self.me);
        }
        self.go(Pc::DropAnchor)
    }
}
