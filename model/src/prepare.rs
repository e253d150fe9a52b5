//! A new file under the name `new`, which is complete and locked before it is renamed to its final name.

use crate::config::{Config, Guard};
use crate::state::{Ino, Record, State, Who};

/// The next step of making a new file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum PreparePc {
    /// Make it.
    #[default]
    Create,
    /// Make `.tenure`.
    Folder,
    /// Take its kernel lock.
    Lock,
    /// Does it still have its name?
    Compare,
    /// Write the record.
    Write,
    /// Another process's new file exists: open it.
    DropOpen,
    /// Try its kernel lock.
    DropLock,
    /// Does it still have the name?
    DropCompare,
    /// Its maker is dead: remove it.
    DropUnlink,
}

/// The result of a step.
pub(crate) enum Prepared {
    /// It goes on.
    NotYet,
    /// The file is complete and locked.
    Ready(Ino),
}

/// The state of making a new file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prepare {
    /// The next step.
    pub pc: PreparePc,
    /// This process's own file, or another one's that is checked.
    pub file: Option<Ino>,
}

impl Prepare {
    fn go(&mut self, pc: PreparePc) -> Option<Prepared> {
        self.pc = pc;
        Some(Prepared::NotYet)
    }

    fn close(&mut self, state: &mut State, who: Who) -> Option<Prepared> {
        if let Some(file) = self.file.take() {
            state.unlock(file, who);
        }
        self.go(PreparePc::Create)
    }

    pub(crate) fn step(&mut self, config: &Config, state: &mut State, who: Who, record: Record) -> Option<Prepared> {
        let complete = config.guards(Guard::NewIsLockedAndCompared);
        match self.pc {
            PreparePc::Create if !state.folder => self.go(PreparePc::Folder),
            PreparePc::Create if state.new.is_some() => self.go(PreparePc::DropOpen),
            PreparePc::Create => {
                let made = state.create();
                state.own(config, made, who);
                state.new = Some(made);
                self.file = Some(made);
                self.go(if complete { PreparePc::Lock } else { PreparePc::Write })
            }
            PreparePc::Folder => {
                state.folder = true;
                self.go(PreparePc::Create)
            }
            PreparePc::Lock => {
                if state.try_lock(self.file?, who) {
                    return self.go(PreparePc::Compare);
                }
                self.file = None;
                self.go(PreparePc::Create)
            }
            PreparePc::Compare if state.new == self.file => self.go(PreparePc::Write),
            PreparePc::Compare => self.close(state, who),
            PreparePc::Write => {
                let file = self.file?;
                state.write(file, record);
                if !complete {
                    state.try_lock(file, who);
                }
                Some(Prepared::Ready(file))
            }
            PreparePc::DropOpen => {
                self.file = state.new;
                self.go(if self.file.is_some() { PreparePc::DropLock } else { PreparePc::Create })
            }
            PreparePc::DropLock => {
                if state.try_lock(self.file?, who) {
                    return self.go(PreparePc::DropCompare);
                }
                // Its maker is still making it: try again.
                self.file = None;
                self.go(PreparePc::Create)
            }
            PreparePc::DropCompare if state.new == self.file => self.go(PreparePc::DropUnlink),
            PreparePc::DropCompare => self.close(state, who),
            PreparePc::DropUnlink => {
                state.new = None;
                self.close(state, who)
            }
        }
    }
}
