//! A native's release, a revoke, and a tenure that is passed on within its process.

use crate::config::Guard;
use crate::native::{Native, NativeStep, Pc};
use crate::state::Record;

impl NativeStep<'_> {
    pub(crate) fn release(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::PassWrite | Pc::PassWriteAtOnce => {
                let looks = if self.native.pc == Pc::PassWrite { Pc::PassAnchor } else { Pc::PassLinks };
                self.native.fence = self.state.next_fence(self.config, self.native.fence);
                self.write_own(self.fd(), false);
                if let Some(copy) = self.native.copy {
                    self.write_own(copy, false);
                }
                if self.guards(Guard::PassWritesFirst) { self.go(looks) } else { self.passed() }
            }
            Pc::PassLinks => match (self.has_names(), self.guards(Guard::PassWritesFirst)) {
                (false, _) => self.go(Pc::End),
                (true, true) => self.passed(),
                (true, false) => self.go(Pc::PassWriteAtOnce),
            },
            Pc::PassAnchor => {
                let ours = self.state.anchor == self.native.fd;
                self.go(if ours { Pc::PassLock } else { Pc::End })
            }
            Pc::PassLock if self.state.lock != self.native.lock_file() => self.go(Pc::End),
            Pc::PassLock if self.guards(Guard::PassWritesFirst) => self.passed(),
            Pc::PassLock => self.go(Pc::PassWrite),
            Pc::End => {
                self.native.held = !self.guards(Guard::EndsBeforeRelease);
                self.native.fence = 0;
                if self.native.flock {
                    return self.go(Pc::FlockRelease);
                }
                self.go(if self.guards(Guard::UnpublishBeforeUnlock) { Pc::UnpublishCompare } else { Pc::UnlockCopy })
            }
            Pc::FlockRelease => {
                let aborted = self.native.live_file_at_swap && self.guards(Guard::FlockKeepsTheMark);
                let record = self.state.record(self.fd());
                let suspended = self.kept(Guard::ReleaseKeepsTheList, record.suspended());
                let fence = record.fence().unwrap_or(0);
                self.state.write(self.fd(), Record::Native { by: None, fence, aborted, suspended });
                self.go(Pc::FlockEndCompare)
            }
            Pc::FlockEndCompare => {
                // Right after the grant the code counts the links instead of checking the path.
                assert!(!self.has_names() || self.state.anchor == self.native.fd, "a link that is not the anchor's");
                self.native.lost = self.state.anchor != self.native.fd;
                self.go(Pc::Unlock)
            }
            Pc::UnpublishCompare => {
                let ours = self.state.lock == self.native.lock_file();
                self.native.lost = !ours;
                let hides = ours || !self.guards(Guard::CompareAtRelease);
                self.go(if hides { Pc::UnpublishUnlink } else { self.after_unpublish() })
            }
            Pc::UnpublishUnlink => {
                // Between the check and the removal the file may be removed, and a foreign program may make its own.
                // Where the system can, the removal compares once more.
                if self.config.removes() && self.state.lock != self.native.lock_file() {
                    self.let_go_of_copy();
                    return self.go(self.after_unpublish());
                }
                if self.state.lock != self.native.lock_file() && self.guards(Guard::CompareAtRelease) {
                    self.state.removed_by_native(self.state.lock);
                }
                self.let_go_of_copy();
                self.state.lock = None;
                self.go(self.after_unpublish())
            }
            Pc::UnlockCopy => {
                // Its descriptor stays open a little longer, which no process notices.
                if let Some(copy) = self.native.copy {
                    self.state.unlock(copy, self.me);
                }
                self.go(Pc::Unlock)
            }
            Pc::Unlock => {
                self.state.unlock(self.fd(), self.me);
                if self.guards(Guard::UnpublishBeforeUnlock) { self.released() } else { self.go(Pc::UnpublishCompare) }
            }
            Pc::Believe => self.next(),
            _ => None,
        }
    }

    /// Returns whether the numbers of links prove that the anchor and the lock file have their names.
    pub(crate) fn has_names(&self) -> bool {
        let copy = self.native.copy;
        let names = if self.native.flock || copy.is_some() { 1 } else { 2 };
        self.state.links(self.fd()) == names && copy.is_none_or(|copy| self.state.links(copy) == 1)
    }

    pub(crate) fn let_go_of_copy(&mut self) {
        if let Some(copy) = self.native.copy {
            self.state.let_go(copy, self.me);
        }
    }

    fn passed(&mut self) -> Option<()> {
        self.native.rounds -= 1;
        self.grant()
    }

    fn after_unpublish(&self) -> Pc {
        if self.guards(Guard::UnpublishBeforeUnlock) { Pc::UnlockCopy } else { Pc::Believe }
    }

    fn released(&mut self) -> Option<()> {
        self.close_copy();
        let ended = self.guards(Guard::EndsBeforeRelease);
        self.native.held &= !ended;
        if self.native.lost {
            self.native.fd = None;
        }
        if self.native.resumes > 0 && !self.native.lost && ended {
            let Native { fd, rounds, flock, helper, resumes, mark, watch, others, .. } = *self.native;
            let kept = Native { fd, rounds, flock, helper, resumes, mark, watch, others, ..Native::default() };
            *self.native = Native { pc: Pc::Suspended, ..kept };
            return Some(());
        }
        if self.native.revoked || !ended { self.go(Pc::Believe) } else { self.next() }
    }

    /// Begins the next acquire, if there is one.
    fn next(&mut self) -> Option<()> {
        let Native { fd, rounds, never, flock, helper, .. } = *self.native;
        if rounds == 0 {
            return self.end(Pc::Done);
        }
        let pc = if fd.is_some() { Pc::TryLock } else { Pc::Open };
        *self.native = Native { pc, fd, rounds: rounds - 1, never, flock, helper, ..Native::default() };
        Some(())
    }
}
