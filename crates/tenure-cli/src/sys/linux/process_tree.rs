//! The processes that the command started, at any depth.
//!
//! This process adopts the command's orphans (`PR_SET_CHILD_SUBREAPER`), so that the command's descendants stay below it
//! until they end. A process is signalled only where it is proven to descend from the command:
//!
//! - For a child of this process the kernel proves it, and no other process has its pid until this process reaps it.
//! - For a deeper descendant its pidfd is opened first, then the chain of its parents is read twice with the same result,
//!   and then the pidfd reports that the process still lives. A parent that had ended between the two reads would have
//!   left another chain.
//!
//! Without pidfds a deeper descendant is signalled once its parents have ended, which makes it a child of this process.
//!
//! Two kinds of process are not found: those that another process started on the command's behalf (a service manager, a
//! container's daemon), and all but the direct children where `/proc` is missing or belongs to another pid namespace.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::proc::{self, Stat};
use crate::sys::unix::Child;
use crate::sys::unix::waiting::{is_child, wait_any};

/// The processes below the command.
pub(crate) struct ProcessTree {
    /// The command's orphans become children of this process.
    adopts: bool,
    /// Processes that were proven to descend from the command, kept where this process does not adopt orphans.
    known: RefCell<BTreeMap<i32, OwnedFd>>,
}

/// A process that is proven to descend from the command.
enum Proven {
    By(OwnedFd),
    /// A child of this process, where there are no pidfds.
    Child(Pid),
}

impl ProcessTree {
    /// Makes this process adopt orphans. Must be called before the command is started.
    pub(crate) fn adopt_orphans() -> ProcessTree {
        // A child that this process had before its exec is not one of the command's, and its orphans could not be
        // distinguished from the command's.
        let childless = matches!(wait_any(), Err(Errno::CHILD));
        // SAFETY: it takes numbers only.
        let adopts = childless && unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == 0;
        ProcessTree { adopts, known: RefCell::default() }
    }

    /// Reaps the command's orphans that have ended, but never the command itself.
    pub(crate) fn reap(&self, command: &Child) {
        while self.adopts
            && let Ok(Some(pid)) = wait_any()
            && pid != command.id().cast_signed()
        {
            // SAFETY: a null pointer requests no status.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
        }
    }

    /// Returns the command's descendants that still run, parents before their children, without the command itself.
    pub(crate) fn descendants(&self, command: &Child) -> Vec<i32> {
        let table = proc::processes();
        let lives = |pid: &i32| table.get(pid).is_some_and(|stat| !stat.has_ended());
        let mut pids = below(&table, self.root(command));
        pids.retain(|pid| *pid != command.id().cast_signed() && lives(pid));
        let known = self.known.borrow();
        let orphans = known.iter().filter(|(pid, pidfd)| runs(pidfd) && !pids.contains(pid)).map(|(pid, _)| *pid);
        let orphans: Vec<i32> = orphans.collect();
        pids.extend(orphans);
        pids
    }

    /// Signals the command and its descendants. Returns the processes that this user may not signal.
    pub(crate) fn signal(&self, command: &Child, signal: i32) -> Vec<i32> {
        /// Processes may be forked meanwhile, but a fork bomb must not keep this process busy.
        const ROUNDS: usize = 16;
        let Some(named) = Signal::from_named_raw(signal) else { return Vec::new() };
        let mut done = BTreeSet::new();
        let mut denied = Vec::new();
        for round in 0..ROUNDS {
            let left = self.descendants(command).into_iter().filter(|pid| !done.contains(pid));
            // All are proven before one is signalled: where orphans are not adopted, the death of a parent hides its children.
            let proven: Vec<(i32, Proven)> = left.filter_map(|pid| Some((pid, self.prove(command, pid)?))).collect();
            if round == 0 {
                // Signalled before its children, so that a script does not go on to its next line.
                command.signal(signal);
            } else if proven.is_empty() {
                break;
            }
            for (pid, proven) in proven {
                if self.send(pid, &proven, named) == Err(Errno::PERM) {
                    denied.push(pid);
                }
                done.insert(pid);
                if let (Proven::By(pidfd), false) = (proven, self.adopts) {
                    self.known.borrow_mut().insert(pid, pidfd);
                }
            }
        }
        denied
    }

    /// Sends a signal. `PERM` means that this user may not signal the process.
    fn send(&self, pid: i32, proven: &Proven, signal: Signal) -> Result<(), Errno> {
        let child = match proven {
            Proven::Child(pid) => *pid,
            Proven::By(pidfd) => match rustix::process::pidfd_send_signal(pidfd, signal) {
                Ok(()) => return Ok(()),
                Err(Errno::SRCH) => return Err(Errno::SRCH),
                // A sandbox may forbid that call altogether.
                Err(error) => match Pid::from_raw(pid).filter(|_| self.adopts && is_child(pid)) {
                    Some(pid) => pid,
                    None if Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok()) => {
                        return Err(Errno::NOSYS);
                    }
                    None => return Err(error),
                },
            },
        };
        rustix::process::kill_process(child, signal)
    }

    fn root(&self, command: &Child) -> i32 {
        if self.adopts { rustix::process::getpid().as_raw_pid() } else { command.id().cast_signed() }
    }

    /// Proves that a process descends from the command. `None` means that it has ended, or that there is no proof now.
    fn prove(&self, command: &Child, pid: i32) -> Option<Proven> {
        if let Some(pidfd) = self.known.borrow().get(&pid)
            && runs(pidfd)
        {
            return pidfd.try_clone().ok().map(Proven::By);
        }
        let number = Pid::from_raw(pid)?;
        match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => {
                let root = self.root(command);
                let chain = parents(pid, root)?;
                (chain == parents(pid, root)? && runs(&pidfd)).then_some(Proven::By(pidfd))
            }
            Err(Errno::SRCH) => None,
            Err(_) => (self.adopts && is_child(pid)).then_some(Proven::Child(number)),
        }
    }
}

fn runs(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&Timespec::default())), Ok(0))
}

/// Returns the descendants of `root`, parents before their children.
fn below(table: &HashMap<i32, Stat>, root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, stat) in table {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at) {
        // A table that is read in steps may contain a circle.
        let more = children.remove(parent).unwrap_or_default();
        found.extend(more.into_iter().filter(|child| *child != root));
        at += 1;
    }
    found.split_off(1)
}

/// Returns the parents of `pid`, from its own up to `root`; `None` where they do not lead there.
fn parents(pid: i32, root: i32) -> Option<Vec<i32>> {
    const DEEPEST: usize = 4096;
    let mut chain = Vec::new();
    let mut pid = pid;
    while chain.len() < DEEPEST {
        let parent = proc::stat(pid)?.parent;
        if parent <= 0 {
            return None;
        }
        chain.push(parent);
        if parent == root {
            return Some(chain);
        }
        pid = parent;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_table_yields_only_descendants() {
        let table = |parents: &[(i32, i32)]| {
            parents.iter().map(|&(pid, parent)| (pid, Stat { state: 'S', parent })).collect::<HashMap<_, _>>()
        };
        assert_eq!(below(&table(&[(1, 0), (7, 1), (8, 7), (9, 8), (5, 1)]), 7), [8, 9]);
        assert_eq!(below(&table(&[(7, 9), (8, 7), (9, 8)]), 7), [8, 9]);
        assert_eq!(below(&HashMap::new(), 7), [0; 0]);
    }

    #[test]
    fn the_chain_of_parents_ends_at_the_root_and_nowhere_else() {
        let (own, parent) = (std::process::id().cast_signed(), rustix::process::getppid().unwrap().as_raw_pid());
        assert_eq!(parents(own, parent), Some(vec![parent]));
        assert_eq!(parents(own, i32::MAX), None);
    }
}
