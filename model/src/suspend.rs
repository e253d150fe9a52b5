//! A suspended tenure: its release and the acquire that resumes it, which goes first and says whether others held meanwhile.
//!
//! Of the time for which a waiter gives way, only the end is modelled, which may come at any moment (`overtake`).

use crate::config::{Config, Guard};
use crate::native::{Native, NativeStep, Pc};
use crate::state::{Ino, Record, State, Suspended, Who};

/// What a watch of the lock file's name has seen since before the release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Watch {
    /// The name is not watched: in flock style.
    #[default]
    Off,
    /// Nothing.
    Nothing,
    /// It was removed, as by the own release.
    Removed,
    /// It was removed and added, as by the own release and the own acquire.
    Untouched,
    /// Anything else.
    Touched,
}

impl Watch {
    fn after(self, removed: bool, added: bool) -> Watch {
        match (self, removed, added) {
            (watch, false, false) => watch,
            (Watch::Off, ..) => Watch::Off,
            (Watch::Nothing, true, false) => Watch::Removed,
            (Watch::Removed, false, true) => Watch::Untouched,
            _ => Watch::Touched,
        }
    }
}

/// What a resumed tenure says of the time in which it was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It is proven that no other process held.
    Nobody,
    /// Another process did, or used the lock file's name.
    Others,
    /// Neither is proven.
    Unknown,
}

/// Makes a holder begin to suspend its tenure.
pub(crate) fn begin(state: &mut State, i: usize) -> Option<()> {
    let native = &mut state.natives[i];
    (native.pc == Pc::Hold && !native.never && state.left.suspends > 0).then_some(())?;
    state.left.suspends -= 1;
    native.resumes = native.fence;
    native.go(Pc::SuspendWatch)
}

/// Makes a waiter, whose time to give way is over, go before the tenures that are being resumed.
pub(crate) fn overtake(config: &Config, state: &mut State, i: usize) -> Option<()> {
    (state.natives[i].pc == Pc::CarryOn).then_some(())?;
    let mut native = state.natives[i];
    let mut step = NativeStep { config, state, me: Who::native(i), native: &mut native };
    let first = step.goes_first();
    (first != Suspended::default()).then_some(())?;
    step.native.overtakes = first;
    step.carry(first)?;
    state.natives[i] = native;
    state.left.overtakes -= 1;
    Some(())
}

/// Notes what a step did to the lock file's name, and which processes hold since.
pub(crate) fn note(last: &State, state: &mut State) {
    let (removed, added) =
        (last.lock.is_some() && last.lock != state.lock, state.lock.is_some() && last.lock != state.lock);
    for native in &mut state.natives {
        native.watch = native.watch.after(removed, added);
    }
    let granted = |i: usize| state.natives[i].held && !last.natives[i].held;
    let granted: Vec<usize> = (0..state.natives.len()).filter(|i| granted(*i)).collect();
    let foreign = state.foreign.iter().zip(&last.foreign).any(|(now, before)| now.holds() && !before.holds());
    for (i, native) in state.natives.iter_mut().enumerate() {
        if native.resumes > 0 && !native.held {
            native.others |= foreign || granted.iter().any(|other| *other != i);
        }
    }
}

impl State {
    /// Returns the native that has marked this file for its suspended tenure of this fence.
    fn mark_of(&self, fence: u8, anchor: Ino) -> Option<&Native> {
        self.natives.iter().find(|native| native.resumes == fence && native.mark == Some(anchor))
    }
}

/// Returns the list without the entries for which `keep` is false.
fn retained(list: Suspended, keep: impl Fn(u8) -> bool) -> Suspended {
    let mut kept = list.map(|fence| if fence > 0 && keep(fence) { fence } else { 0 });
    kept.sort_unstable_by(|one, other| other.cmp(one));
    kept
}

impl NativeStep<'_> {
    /// Returns the list, which is lost without the guard.
    pub(crate) fn kept(&self, guard: Guard, list: Suspended) -> Suspended {
        if self.guards(guard) { list } else { Suspended::default() }
    }

    /// Makes the steps before the release of a tenure that is suspended, and the first one of its acquire.
    pub(crate) fn suspend(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::SuspendWatch => {
                if !self.native.flock {
                    self.native.watch = Watch::Nothing;
                }
                self.go(if self.guards(Guard::MarksBeforeTheRelease) { Pc::SuspendMark } else { Pc::SuspendEnter })
            }
            Pc::SuspendMark => {
                self.native.mark = self.state.anchor.filter(|_| self.state.anchor == self.native.fd);
                self.go(if self.native.mark.is_some() { Pc::SuspendEnter } else { Pc::End })
            }
            Pc::SuspendEnter => {
                if let Record::Native { by, fence, aborted, suspended } = self.state.record(self.fd()) {
                    let mut entered = [suspended[0], self.native.resumes];
                    entered.sort_unstable_by(|one, other| other.cmp(one));
                    self.state.write(self.fd(), Record::Native { by, fence, aborted, suspended: entered });
                }
                self.go(Pc::End)
            }
            _ => {
                if !self.guards(Guard::MarksBeforeTheRelease) && self.native.mark.is_none() {
                    self.native.mark = self.state.anchor.filter(|_| self.state.anchor == self.native.fd);
                }
                self.native.resuming = self.native.mark.is_some();
                self.go(if self.native.fd.is_some() { Pc::TryLock } else { Pc::Open })
            }
        }
    }

    /// Returns the entries of the last record's list that are true.
    fn still_suspended(&self) -> Suspended {
        let list = self.native.prior.suspended();
        let asks = self.guards(Guard::AsksTheKernel);
        retained(list, |fence| !asks || self.state.mark_of(fence, self.fd()).is_some() || fence == self.native.resumes)
    }

    /// Returns those of them that are being resumed and go before this acquire.
    pub(crate) fn goes_first(&self) -> Suspended {
        let own = self.own_place(self.still_suspended());
        retained(self.still_suspended(), |fence| self.is_ahead(fence, own))
    }

    /// Returns this native's place in the list, as long as it has one.
    fn own_place(&self, list: Suspended) -> Option<u8> {
        list.into_iter().find(|fence| *fence > 0 && *fence == self.native.resumes)
    }

    fn is_ahead(&self, fence: u8, own: Option<u8>) -> bool {
        let earlier = own.is_none_or(|own| fence < own) || !self.guards(Guard::SuspendedFirstGoesFirst);
        let resumed = self.state.mark_of(fence, self.fd()).is_some_and(|native| native.resuming);
        fence != self.native.resumes && earlier && (resumed || !self.guards(Guard::AsksTheKernel))
    }

    /// Makes the steps of an acquire that found suspended tenures in the last record.
    pub(crate) fn carry_on(&mut self) -> Option<()> {
        match self.native.pc {
            Pc::CarryOn => {
                let gives_way = self.goes_first() != Suspended::default() && self.guards(Guard::GivesWay);
                // A run of `clean` does not wait, and goes first.
                if gives_way && !self.native.never {
                    return self.go(Pc::GiveWayLook);
                }
                self.carry(Suspended::default())
            }
            Pc::GiveWayLook => {
                let blocker = self.state.lock.filter(|lock| !self.native.flock && Some(*lock) != self.native.fd);
                match blocker.filter(|lock| !self.state.is_dead(*lock)) {
                    Some(blocker) => {
                        self.native.judged = Some(blocker);
                        self.blocked()
                    }
                    None => self.go(Pc::GiveWay),
                }
            }
            _ => {
                self.state.unlock(self.fd(), self.me);
                self.forget();
                self.busy()
            }
        }
    }

    /// Goes on, with a record that names the suspended tenures but for `forgotten`.
    fn carry(&mut self, forgotten: Suspended) -> Option<()> {
        let others =
            retained(self.still_suspended(), |fence| fence != self.native.resumes && !forgotten.contains(&fence));
        self.native.carried = self.kept(Guard::CarriesTheList, others);
        self.after_prior()
    }

    /// Notes which suspended tenures the record that was written leaves out, because their time was over.
    pub(crate) fn forget_overtaken(&mut self) {
        let overtaken = self.native.overtakes;
        let natives = self.state.natives.iter_mut();
        for other in natives.filter(|other| other.resumes > 0 && overtaken.contains(&other.resumes)) {
            other.forgotten = true;
        }
    }

    /// Returns the fences of the tenures that are being resumed and go before this acquire, whatever the record says.
    pub(crate) fn ahead(&self) -> Suspended {
        let own = &self.native;
        let has_place = own.resumes > 0 && own.mark.is_some() && !own.forgotten;
        let ahead = |other: &Native| {
            let place = other.mark == own.fd && other.resuming && !other.forgotten;
            place && other.resumes != own.resumes && (!has_place || other.resumes < own.resumes)
        };
        let mut fences = Suspended::default();
        if !own.never && own.fd.is_some() {
            let resumed = self.state.natives.iter().filter(|other| ahead(other)).map(|other| other.resumes);
            fences.iter_mut().zip(resumed).for_each(|(entry, fence)| *entry = fence);
        }
        retained(fences, |_| true)
    }

    /// Notes at the grant whether it overtook a resumed tenure. A tenure that is resumed itself says whether others held.
    pub(crate) fn resumed(&mut self) {
        // A tenure that began to be resumed since, or died since, was not overtaken.
        let overtaken = retained(self.ahead(), |fence| self.native.behind.contains(&fence));
        self.state.past.overtook |= overtaken != Suspended::default() && self.native.overtakes == Suspended::default();
        let suspended = self.native.resumes;
        if suspended == 0 {
            return;
        }
        let found = self.native.prior.fence();
        let other_fence = found.is_some_and(|found| found != suspended) && self.guards(Guard::ComparesTheFence);
        let touched = self.guards(Guard::ComparesTheName) && self.native.watch != Watch::Untouched;
        let answer = match self.native.watch {
            _ if self.native.crashed || other_fence => Answer::Others,
            Watch::Off => Answer::Unknown,
            _ if found.is_none() => Answer::Unknown,
            _ if touched => Answer::Others,
            _ => Answer::Nobody,
        };
        self.state.past.false_nobody |= answer == Answer::Nobody && self.native.others;
        self.state.past.answer = Some(answer);
        let native = &mut *self.native;
        (native.resumes, native.mark, native.resuming, native.watch) = (0, None, false, Watch::Off);
        (native.forgotten, native.others) = (false, false);
    }
}
