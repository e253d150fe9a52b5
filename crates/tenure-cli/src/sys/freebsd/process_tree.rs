//! The processes that the command started, at any depth (`procctl(2)`).
//!
//! This process adopts the command's orphans (`PROC_REAP_ACQUIRE`). The kernel knows all of its descendants from then on, and
//! signals them itself (`PROC_REAP_KILL`), so that no other process can be hit.

use std::ptr;

use rustix::io::Errno;

use crate::sys::unix::Child;
use crate::sys::unix::waiting::wait_any;

/// `struct procctl_reaper_pidinfo` (`procctl(2)`). The crate `libc` lacks these three.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Descendant {
    pid: libc::pid_t,
    subtree: libc::pid_t,
    flags: libc::c_uint,
    padding: [libc::c_uint; 15],
}

/// `REAPER_PIDINFO_VALID` and `REAPER_PIDINFO_ZOMBIE`.
const VALID: libc::c_uint = 0x1;
const ZOMBIE: libc::c_uint = 0x8;

/// `struct procctl_reaper_pids`.
#[repr(C)]
struct Descendants {
    count: libc::c_uint,
    padding: [libc::c_uint; 15],
    pids: *mut Descendant,
}

/// `struct procctl_reaper_kill`.
#[repr(C)]
struct Kill {
    signal: libc::c_int,
    flags: libc::c_uint,
    subtree: libc::pid_t,
    killed: libc::c_uint,
    failed: libc::pid_t,
    padding: [libc::c_uint; 15],
}

/// The most descendants that are listed.
const MOST: usize = 4096;

/// The processes below the command.
pub(crate) struct ProcessTree {
    /// The command's orphans become children of this process.
    adopts: bool,
}

impl ProcessTree {
    /// Makes this process adopt orphans. Must be called before the command is started.
    pub(crate) fn adopt_orphans() -> ProcessTree {
        // A child that this process had before its exec is not one of the command's, and its orphans could not be
        // distinguished from the command's.
        let childless = matches!(wait_any(), Err(Errno::CHILD));
        // SAFETY: procctl(2) takes no data for this command. The id 0 is this process.
        let adopts =
            childless && unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_REAP_ACQUIRE, ptr::null_mut()) } == 0;
        ProcessTree { adopts }
    }

    /// Reaps the command's orphans that have ended, but never the command itself.
    pub(crate) fn reap(&self, command: &Child) {
        while self.adopts
            && let Ok(Some(pid)) = wait_any()
            && pid != command.id().cast_signed()
        {
            // SAFETY: a null pointer requests no status.
            unsafe { libc::waitpid(pid, ptr::null_mut(), libc::WNOHANG) };
        }
    }

    /// Returns the command's descendants that still run, without the command itself.
    pub(crate) fn descendants(&self, command: &Child) -> Vec<i32> {
        if !self.adopts {
            return Vec::new();
        }
        let mut found = vec![Descendant::default(); MOST];
        let mut list = Descendants { count: MOST as libc::c_uint, padding: [0; 15], pids: found.as_mut_ptr() };
        // SAFETY: procctl(2) requires this structure for this command, with room for the given number of entries: `found` has
        // it. The id 0 is this process.
        if unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_REAP_GETPIDS, (&raw mut list).cast()) } != 0 {
            return Vec::new();
        }
        let runs = |found: &Descendant| found.flags & VALID != 0 && found.flags & ZOMBIE == 0;
        let own = command.id().cast_signed();
        found
            .iter()
            .take_while(|found| found.flags & VALID != 0)
            .filter(|found| runs(found))
            .map(|found| found.pid)
            .filter(|pid| *pid != own)
            .collect()
    }

    /// Signals the command and its descendants. Returns a process that this user may not signal, if there is one.
    pub(crate) fn signal(&self, command: &Child, signal: i32) -> Vec<i32> {
        if !self.adopts {
            command.signal(signal);
            return Vec::new();
        }
        let mut kill = Kill { signal, flags: 0, subtree: 0, killed: 0, failed: 0, padding: [0; 15] };
        // SAFETY: procctl(2) requires this structure for this command. The id 0 is this process.
        let failed = unsafe { libc::procctl(libc::P_PID, 0, libc::PROC_REAP_KILL, (&raw mut kill).cast()) } != 0;
        match failed && std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM) && kill.failed > 0 {
            true => vec![kill.failed],
            false => Vec::new(),
        }
    }
}
