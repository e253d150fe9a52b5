//! Step 5 of an acquire: the lock file is published as a link or as a copy; in flock style a dead native's is removed.

use crate::config::Guard;
use crate::native::{After, NativeStep, Pc};
use crate::prepare::{Prepare, Prepared};
use crate::state::{Record, Uncovered};

impl NativeStep<'_> {
    /// Makes a pass of the loop that publishes the lock file, as a link or a copy.
    pub(crate) fn show(&mut self) -> Option<()> {
        if self.native.flock {
            self.native.after = After::Retry;
            return self.go(Pc::FlockCompare);
        }
        match (self.native.live_file_at_swap, self.config.copies()) {
            // The file at the swap has a live holder, so no lock file is published.
            (true, _) => self.go(Pc::Look),
            (_, true) => self.recover_for(After::Again),
            _ => self.go(Pc::Link),
        }
    }

    pub(crate) fn link(&mut self) -> Option<()> {
        match (self.state.anchor, self.state.lock) {
            (None, _) => self.lost(),
            (_, Some(_)) => self.go(Pc::Look),
            // By the anchor's name, which may be another inode by now.
            (anchor, None) => {
                self.state.lock = anchor;
                self.native.uncovered = Uncovered::No;
                self.shown()
            }
        }
    }

    pub(crate) fn prepare(&mut self) -> Option<()> {
        let record = Record::native(Some(self.me), self.native.fence, false);
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

    pub(crate) fn rename_new(&mut self) -> Option<()> {
        if self.state.new.is_none() || self.state.lock.is_some() {
            return self.go(Pc::UnlinkNew);
        }
        self.state.lock = self.state.new.take();
        self.native.uncovered = Uncovered::No;
        if self.config.keeps_names() { self.go(Pc::KeepName) } else { self.shown() }
    }

    /// Keeps other programs from removing the copy, if it still has its name.
    pub(crate) fn keep_name(&mut self) -> Option<()> {
        let copy = self.native.copy;
        if self.state.lock != copy {
            self.close_copy();
            return self.go(Pc::Look);
        }
        self.state.keep(copy.expect("it was just published"), self.me);
        self.shown()
    }

    /// Flock style: removes a dead native's lock file.
    pub(crate) fn take_hidden(&mut self) -> Option<()> {
        // After a takeover it is this native's.
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
            _ if self.config.removes() && self.state.lock != ours => {}
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
}
