//! A run of `clean` at a dead foreign program's lock file without an anchor: the file itself becomes the anchor.

use crate::config::Guard;
use crate::native::{NativeStep, Pc};
use crate::state::Record;

impl NativeStep<'_> {
    /// Returns whether this native tries that before it makes an anchor.
    pub(crate) fn reclaims(&self) -> bool {
        self.native.never && !self.native.reclaimed && self.config.reclaims() && self.state.folder
    }

    pub(crate) fn reclaim(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::ReclaimOpen => {
                self.native.reclaimed = true;
                let foreign = self.state.lock.filter(|ino| matches!(self.state.record(*ino), Record::Foreign(_)));
                match foreign {
                    Some(found) if self.state.try_lock(found, self.me) => {
                        self.native.judged = foreign;
                        self.go(Pc::ReclaimJudge)
                    }
                    _ => self.go(Pc::Open),
                }
            }
            Pc::ReclaimJudge => {
                let judged = self.native.judged.expect("it was opened");
                if self.state.foreign_lives(judged) { self.leave_to_takeover() } else { self.go(Pc::ReclaimSwap) }
            }
            Pc::ReclaimSwap if self.state.swap.is_some() => self.leave_to_takeover(),
            Pc::ReclaimSwap => self.go(Pc::ReclaimLink),
            Pc::ReclaimLink => {
                let judged = self.native.judged.expect("it was judged");
                let by_name = !self.guards(Guard::ReclaimLinksTheJudged);
                let linked = if by_name { self.state.lock } else { Some(judged) };
                let has_name = linked.is_some_and(|ino| self.state.links(ino) > 0);
                if !has_name || self.state.anchor.is_some() || !self.state.folder {
                    return self.leave_to_takeover();
                }
                self.state.anchor = linked;
                self.native.fd = self.native.judged.take();
                self.native.fence = self.state.next_fence(self.config, 0);
                self.go(if self.guards(Guard::ReclaimNamesUs) { Pc::ReclaimWrite } else { Pc::ReclaimCompare })
            }
            Pc::ReclaimWrite => {
                self.write_own(self.fd(), true);
                self.go(Pc::ReclaimCompare)
            }
            Pc::ReclaimCompare => {
                self.native.lost = self.state.lock != self.native.fd;
                self.go(if self.native.lost { Pc::ReclaimRecord } else { Pc::ReclaimUnlink })
            }
            Pc::ReclaimUnlink => {
                // As at a release: in between the file may be removed, and a foreign program may make its own.
                if self.state.lock != self.native.fd {
                    self.state.removed_by_native(self.state.lock);
                }
                self.state.lock = None;
                self.go(Pc::ReclaimRecord)
            }
            Pc::ReclaimRecord => {
                self.state.write(self.fd(), Record::native(None, self.native.fence, true));
                self.go(Pc::ReclaimUnlock)
            }
            Pc::ReclaimUnlock if !self.native.lost => self.end(Pc::Done),
            Pc::ReclaimUnlock => {
                let judged = self.native.fd.take();
                self.native.judged = judged;
                (self.native.fence, self.native.lost) = (0, false);
                self.leave_to_takeover()
            }
            _ => None,
        }
    }

    /// Continues as any other native.
    fn leave_to_takeover(&mut self) -> Option<()> {
        self.close_judged();
        self.go(Pc::Open)
    }
}
