//! A foreign program, which only knows the lock file. It makes the file exclusively, writes it, keeps it open, and removes the
//! name in the end, whatever the file is by then. It removes a file whose recorded process is dead in the same way.

use crate::state::{Ino, Record, State, Uncovered, Who};

/// The next step of a foreign program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ForeignPc {
    /// Make the lock file, or read the existing one. If its process is alive, try again later.
    #[default]
    Open,
    /// Write it.
    Write,
    /// The judged file is a dead process's: remove it.
    Remove,
    /// It holds.
    Hold,
    /// It has ended.
    Done,
    /// It died.
    Dead,
}

/// One foreign program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Foreign {
    /// What it does next.
    pub pc: ForeignPc,
    /// Its lock file, open.
    pub file: Option<Ino>,
    /// Whether its lock file was removed while it was live.
    pub uncovered: Uncovered,
}

impl Foreign {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.pc, ForeignPc::Done | ForeignPc::Dead)
    }

    pub(crate) fn holds(&self) -> bool {
        self.pc == ForeignPc::Hold
    }
}

pub(crate) fn step(state: &mut State, i: usize) -> Option<()> {
    let mut me = state.foreign[i];
    match me.pc {
        ForeignPc::Open => match state.lock {
            None => {
                let made = state.create();
                state.lock = Some(made);
                me = Foreign { pc: ForeignPc::Write, file: Some(made), ..Foreign::default() };
            }
            Some(found) => {
                let owner = match state.record(found) {
                    Record::Foreign(who) => Some(who),
                    Record::Native { by, .. } => by,
                    Record::Blank => None,
                };
                owner.filter(|owner| !state.alive(*owner))?;
                me.pc = ForeignPc::Remove;
            }
        },
        ForeignPc::Write => {
            state.write(me.file?, Record::Foreign(Who::foreign(i)));
            me.pc = ForeignPc::Hold;
        }
        // The holder keeps the name.
        ForeignPc::Remove if state.is_kept(state.lock) => me = Foreign::default(),
        ForeignPc::Remove => {
            state.removed(state.lock, Uncovered::ByForeign);
            state.lock = None;
            me = Foreign::default();
        }
        ForeignPc::Hold if state.is_kept(state.lock) => me = Foreign { pc: ForeignPc::Done, ..Foreign::default() },
        ForeignPc::Hold => {
            if state.lock != me.file {
                state.removed(state.lock, Uncovered::ByForeign);
            }
            state.lock = None;
            me = Foreign { pc: ForeignPc::Done, ..Foreign::default() };
        }
        ForeignPc::Done | ForeignPc::Dead => return None,
    }
    state.foreign[i] = me;
    Some(())
}

/// Ends the program, whose lock file stays.
pub(crate) fn crash(state: &mut State, i: usize) -> Option<()> {
    (!state.foreign[i].has_ended()).then_some(())?;
    state.foreign[i] = Foreign { pc: ForeignPc::Dead, ..Foreign::default() };
    Some(())
}
