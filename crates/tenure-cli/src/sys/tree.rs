//! Linux: all that the command starts, at any depth.
//!
//! This process adopts the command's orphans (`PR_SET_CHILD_SUBREAPER`), so that whatever descends from the command stays
//! beneath it until it ends. A process is signalled only where it is proven to descend from the command:
//!
//! - A child of this process is one by the kernel's word, and its pid is nobody else's until this process reaps it.
//! - For a deeper one the pidfd is opened first, then the line of its parents is read twice alike, and then the pidfd says
//!   that the process still lives. A parent that had ended between the readings would have left another line.
//!
//! Without pidfds a deeper one has its turn when its parents have ended, which makes it a child of this process.
//!
//! Not found are: what another process started on the command's behalf (a service manager, a container's daemon), and
//! everything beyond the direct children where `/proc` is missing or counts pids of another namespace.

// This is where the command's system calls are made.
#![allow(unsafe_code, clippy::disallowed_methods)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::linux::{Child, stat};

/// The processes beneath the command.
pub(crate) struct Tree {
    /// The command's orphans become children of this process.
    adopts: bool,
    /// Those that were proven to descend from the command, where their orphans do not come here.
    known: RefCell<BTreeMap<i32, OwnedFd>>,
}

/// A process that is proven to descend from the command.
enum Proven {
    By(OwnedFd),
    /// A child of this process, where there are no pidfds.
    Child(Pid),
}

impl Tree {
    /// To be called before the command is started.
    pub(crate) fn plant() -> Tree {
        // A child that this process had before its exec is none of the command's, and its orphans could not be told from
        // the command's.
        let childless = matches!(wait_any(), Err(Errno::CHILD));
        // SAFETY: it takes numbers only.
        let adopts = childless && unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == 0;
        Tree { adopts, known: RefCell::default() }
    }

    /// Reaps what the command left and has ended since, but never the command itself.
    pub(crate) fn reap(&self, command: &Child) {
        while self.adopts
            && let Ok(Some(pid)) = wait_any()
            && pid != command.id().cast_signed()
        {
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
        }
    }

    /// What descends from the command and still runs, parents before their children; without the command.
    pub(crate) fn left(&self, command: &Child) -> Vec<i32> {
        let table = table();
        let lives = |pid: &i32| table.get(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'));
        let mut pids = beneath(&table, self.root(command));
        pids.retain(|pid| *pid != command.id().cast_signed() && lives(pid));
        let known = self.known.borrow();
        let orphans = known.iter().filter(|(pid, pidfd)| runs(pidfd) && !pids.contains(pid)).map(|(pid, _)| *pid);
        let orphans: Vec<i32> = orphans.collect();
        pids.extend(orphans);
        pids
    }

    /// Signals the command and all that descends from it; returns those that this user may not signal.
    pub(crate) fn signal(&self, command: &Child, signal: i32) -> Vec<i32> {
        /// New ones may be forked meanwhile; a fork bomb must not keep this process busy.
        const ROUNDS: usize = 16;
        let Some(named) = Signal::from_named_raw(signal) else { return Vec::new() };
        let mut done = BTreeSet::new();
        let mut denied = Vec::new();
        for round in 0..ROUNDS {
            let left = self.left(command).into_iter().filter(|pid| !done.contains(pid));
            // All are found before one is told: where orphans do not come here, the death of a parent hides its children.
            let proven: Vec<(i32, Proven)> = left.filter_map(|pid| Some((pid, self.prove(command, pid)?))).collect();
            if round == 0 {
                // Before its children: a script must not go on to its next line.
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

    /// `PERM`: this user may not signal it.
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

    /// `None`: it has ended, or cannot be proven to descend from the command now.
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
                let line = parents(pid, root)?;
                (line == parents(pid, root)? && runs(&pidfd)).then_some(Proven::By(pidfd))
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

/// A child that has ended, which stays to be reaped; `CHILD` where there is no child at all.
fn wait_any() -> Result<Option<i32>, Errno> {
    wait(libc::P_ALL, 0)
}

/// Is it a child of this process that was not reaped?
fn is_child(pid: i32) -> bool {
    wait(libc::P_PID, pid.cast_unsigned()).is_ok()
}

fn wait(which: libc::idtype_t, id: libc::id_t) -> Result<Option<i32>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is large enough, and being zeroed is valid where the kernel writes nothing, as when none has ended.
    let (code, pid) = unsafe { (libc::waitid(which, id, info.as_mut_ptr(), options), info.assume_init().si_pid()) };
    if code == 0 {
        return Ok(Some(pid).filter(|pid| *pid > 0));
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

/// State and parent of every process that `/proc` shows; empty where it counts pids as another namespace does.
fn table() -> HashMap<i32, (char, i32)> {
    let own = rustix::process::getpid().as_raw_pid();
    let counts_alike = fs::read_link("/proc/self").is_ok_and(|name| name.as_os_str() == own.to_string().as_str());
    let Some(entries) = counts_alike.then(|| fs::read_dir("/proc").ok()).flatten() else { return HashMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| Some((pid, stat(pid)?))).collect()
}

/// All beneath `root`, without it, parents before their children.
fn beneath(table: &HashMap<i32, (char, i32)>, root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, (_, parent)) in table {
        children.entry(*parent).or_default().push(*pid);
    }
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at) {
        // A table that is read in steps may show a circle.
        let more = children.remove(parent).unwrap_or_default();
        found.extend(more.into_iter().filter(|child| *child != root));
        at += 1;
    }
    found.split_off(1)
}

/// The parents of `pid`, from its own to `root`; `None` where they do not lead there.
fn parents(pid: i32, root: i32) -> Option<Vec<i32>> {
    const DEEPEST: usize = 4096;
    let mut line = Vec::new();
    let mut pid = pid;
    while line.len() < DEEPEST {
        let (_, parent) = stat(pid)?;
        if parent <= 0 {
            return None;
        }
        line.push(parent);
        if parent == root {
            return Some(line);
        }
        pid = parent;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beneath_is_found_in_a_torn_table_too() {
        let table = HashMap::from([(1, ('S', 0)), (7, ('S', 1)), (8, ('S', 7)), (9, ('Z', 8)), (5, ('S', 1))]);
        assert_eq!(beneath(&table, 7), [8, 9]);
        let circle = HashMap::from([(7, ('S', 9)), (8, ('S', 7)), (9, ('S', 8))]);
        assert_eq!(beneath(&circle, 7), [8, 9]);
        assert_eq!(beneath(&HashMap::new(), 7), [0; 0]);
    }

    #[test]
    fn a_line_ends_at_the_root_and_nowhere_else() {
        let (own, parent) = (std::process::id().cast_signed(), rustix::process::getppid().unwrap().as_raw_pid());
        assert_eq!(parents(own, parent), Some(vec![parent]));
        assert_eq!(parents(own, i32::MAX), None);
    }
}
