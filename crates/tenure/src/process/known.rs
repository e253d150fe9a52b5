//! A cache of processes, for callers that examine very many records.
//!
//! It keeps a handle of each process, which names that process alone: until the handle reports that the process has
//! ended, the pid is still its own, and all that was read about it stays true. A process that has ended is forgotten.

use std::cell::RefCell;
use std::time::Duration;

use super::identity::Identity;
use super::pid::{comparable_start_time, is_possible};
use crate::sys::{self, Moment, ProcessHandle};

/// The number of handles that are kept: one folder's holders are few, and a process may open 1024 files.
const MOST: usize = 32;

/// The result of a look at a pid.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// The process lives.
    Lives(Seen),
    /// There is no such process.
    Gone,
    /// No handle is available: the caller has to ask in another way.
    Ask,
}

/// A process that lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pidfd_inode: Option<u64>,
    /// Also absent where the process reads it differently than this process does.
    pub(crate) start_time: Option<u64>,
}

impl Seen {
    /// Returns whether it is, beyond doubt, the process with this identity.
    pub(crate) fn is(&self, identity: &Identity) -> bool {
        let other_boot = identity.boot_id.is_some() && identity.boot_id != sys::boot_id();
        let other_namespace = identity.pid_namespace.is_some() && identity.pid_namespace != sys::pid_namespace();
        let same = |recorded: Option<u64>, found: Option<u64>| recorded.zip(found).map(|(one, other)| one == other);
        let inodes = same(identity.pidfd_inode, self.pidfd_inode);
        !other_boot && !other_namespace && inodes.or(same(identity.start_time, self.start_time)) == Some(true)
    }
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Known {
    processes: RefCell<Vec<Process>>,
    /// How long the answer that a process lives stays valid.
    ttl: Duration,
}

/// A process of the cache.
#[derive(Debug)]
struct Process {
    pid: i64,
    handle: ProcessHandle,
    seen: Seen,
    /// When the handle was asked last.
    asked: Moment,
}

impl Known {
    /// Creates a cache that answers that a process lives for `ttl` after it did. By default each look asks.
    pub(crate) fn with_ttl(ttl: Duration) -> Known {
        Known { ttl, ..Known::default() }
    }

    /// Looks at the process that has this pid now.
    pub(crate) fn look(&self, pid: i64) -> Look {
        if !is_possible(pid) {
            return Look::Ask;
        }
        let mut known = self.processes.borrow_mut();
        if let Some(at) = known.iter().position(|known| known.pid == pid) {
            let (process, now) = (&mut known[at], sys::moment());
            if now.since(process.asked) < self.ttl {
                return Look::Lives(process.seen);
            }
            if matches!(process.handle.exited(), Ok(false)) {
                process.asked = now;
                return Look::Lives(process.seen);
            }
            known.swap_remove(at);
        }
        let handle = match ProcessHandle::open(pid) {
            Ok(handle) => handle,
            Err(error) if sys::is_no_such_process(&error) => return Look::Gone,
            Err(_) => return Look::Ask,
        };
        let asked = sys::moment();
        let seen = Seen { pidfd_inode: handle.unique_id(), start_time: comparable_start_time(pid) };
        // Asked last, so that the start time is this process's.
        if !matches!(handle.exited(), Ok(false)) {
            return Look::Ask;
        }
        if known.len() == MOST {
            known.remove(0);
        }
        known.push(Process { pid, handle, seen, asked });
        Look::Lives(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_process_that_has_ended_is_forgotten() {
        let known = Known::default();
        // Both wait for their input.
        let waits = if cfg!(windows) { "cmd" } else { "cat" };
        let pipe = std::process::Stdio::piped;
        let mut child = std::process::Command::new(waits).stdin(pipe()).stdout(pipe()).spawn().unwrap();
        let pid = i64::from(child.id());
        let identity = Identity::of(pid).unwrap();
        for _ in 0..2 {
            assert!(matches!(known.look(pid), Look::Lives(seen) if seen.is(&identity)));
        }
        let other = Identity { start_time: Some(1), pidfd_inode: Some(1), ..identity.clone() };
        let elsewhere = Identity { pid_namespace: Some(1), ..identity.clone() };
        let bare = Identity { pid, ..Identity::default() };
        for not in [other, elsewhere, bare] {
            assert!(matches!(known.look(pid), Look::Lives(seen) if !seen.is(&not)), "{not:?}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // Windows opens an ended process for as long as another program has a handle of it, as `child` does.
        assert!(matches!(known.look(pid), Look::Gone) || cfg!(windows) && matches!(known.look(pid), Look::Ask));
        assert!(identity.verify().is_dead());
        assert!(matches!(known.look(0), Look::Ask));
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_process_has_one_handle() {
        let known = Known::default();
        let own = i64::from(sys::pid());
        for _ in 0..3 {
            assert!(matches!(known.look(own), Look::Lives(_)));
        }
        assert_eq!(known.processes.borrow().len(), 1);
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn an_answer_stays_valid_for_its_time() {
        let known = Known::with_ttl(Duration::from_secs(3600));
        let waits = if cfg!(windows) { "cmd" } else { "cat" };
        let pipe = std::process::Stdio::piped;
        let mut child = std::process::Command::new(waits).stdin(pipe()).stdout(pipe()).spawn().unwrap();
        let pid = i64::from(child.id());
        assert!(matches!(known.look(pid), Look::Lives(_)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(known.look(pid), Look::Lives(_)), "within the time");
        assert!(!matches!(Known::default().look(pid), Look::Lives(_)));
    }
}
