//! Processes that were looked at a moment ago, for who looks at very many records.
//!
//! Of each its pidfd is kept, which speaks of that process alone: while that says that it has not ended, the pid is its own
//! still, and so is what was read of it. Of what has ended nothing is remembered.

use std::cell::RefCell;

use super::{Identity, identity};
use crate::sys::{self, PidFd};

/// How many are kept open: those of one folder are few, and a process may open 1024 files.
const MOST: usize = 32;

/// What a look at a pid found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// It lives, and this is it.
    Lives(Seen),
    /// There is no such process.
    Gone,
    /// It has to be asked for in another way.
    Ask,
}

/// A process that lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pidfd_inode: Option<u64>,
    /// Absent too where another time namespace reads it differently.
    pub(crate) start_time: Option<u64>,
}

impl Seen {
    /// Is it, beyond doubt, the one with this identity?
    pub(crate) fn is(&self, identity: &Identity) -> bool {
        let other_boot = identity.boot_id.is_some() && identity.boot_id != sys::boot_id();
        let other_namespace = identity.pid_namespace.is_some() && identity.pid_namespace != sys::pid_namespace();
        let same = |recorded: Option<u64>, found: Option<u64>| recorded.zip(found).map(|(one, other)| one == other);
        let inodes = same(identity.pidfd_inode, self.pidfd_inode);
        !other_boot && !other_namespace && inodes.or(same(identity.start_time, self.start_time)) == Some(true)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Known(RefCell<Vec<(i64, PidFd, Seen)>>);

impl Known {
    /// How it stands with this pid now.
    pub(crate) fn look(&self, pid: i64) -> Look {
        if !identity::possible(pid) {
            return Look::Ask;
        }
        let mut known = self.0.borrow_mut();
        if let Some(at) = known.iter().position(|(known, ..)| *known == pid) {
            if matches!(known[at].1.exited(), Ok(false)) {
                return Look::Lives(known[at].2);
            }
            known.swap_remove(at);
        }
        let pidfd = match PidFd::open(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if sys::is_no_such_process(&error) => return Look::Gone,
            Err(_) => return Look::Ask,
        };
        let seen = Seen { pidfd_inode: pidfd.inode(), start_time: identity::comparable_start_time(pid) };
        // Asked last: what was read in `/proc` was this process's.
        if !matches!(pidfd.exited(), Ok(false)) {
            return Look::Ask;
        }
        if known.len() == MOST {
            known.remove(0);
        }
        known.push((pid, pidfd, seen));
        Look::Lives(seen)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn what_has_ended_is_not_remembered() {
        let known = Known::default();
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
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
        assert!(matches!(known.look(pid), Look::Gone));
        assert!(matches!(known.look(0), Look::Ask));
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_process_is_kept_open_once() {
        let known = Known::default();
        let own = i64::from(sys::pid());
        for _ in 0..3 {
            assert!(matches!(known.look(own), Look::Lives(_)));
        }
        assert_eq!(known.0.borrow().len(), 1);
    }
}
