//! Reading a process's identity, and verifying that the process with an identity lives.
//!
//! The steps, and the reason for their order:
//!
//! 1. A number that cannot be a pid is dead without a system call: to the kernel, 0 and negatives name groups of
//!    processes.
//! 2. Of another boot or another pid namespace, the pid means nothing here, so the answer is `Unknown`.
//! 3. The process is opened. From here on, the handle names one process: the recorded one, or a later one with its pid.
//! 4. The handle's unique number, or else the start time, tells which of the two it is.
//! 5. The handle is asked *last* whether its process has ended. If it has not, no pid was recycled between 3 and 5, so
//!    all that was read by pid was of that process.
//!
//! Without handles (an old kernel, a sandbox that forbids them, no descriptor left), signal 0 and the facts read by pid
//! answer. They give the same answers, except that a process that ends meanwhile may be reported alive once more.

use std::io;
use std::sync::OnceLock;

use super::identity::Identity;
use super::liveness::Liveness;
use super::pid::{is_possible, start_time_of};
use crate::sys::{self, ForkLocal, ProcessHandle};

impl Identity {
    /// Reads the identity of a process, as far as possible. `None` where no such process is found, it has ended (a
    /// zombie too), or the number is a thread's.
    ///
    /// Where the system has no port, the identity is the pid alone.
    pub fn of(pid: impl Into<i64>) -> Option<Identity> {
        let pid = pid.into();
        if !is_possible(pid) {
            return None;
        }
        let mut identity =
            Identity { pid, boot_id: sys::boot_id(), pid_namespace: sys::pid_namespace(), ..Identity::default() };
        // The same order as in `verify`: the start time is this process's if its handle reports afterwards that it lives.
        let lives = match ProcessHandle::open(pid) {
            Ok(handle) => {
                identity.pidfd_inode = handle.unique_id();
                identity.start_time = start_time_of(pid);
                !handle.exited().unwrap_or(false)
            }
            Err(error) if sys::is_no_such_process(&error) => false,
            Err(_) => {
                identity.start_time = start_time_of(pid);
                !without_handle(&identity).is_dead()
            }
        };
        lives.then_some(identity)
    }

    /// Returns this process's own identity, read once and again after a fork.
    pub fn current() -> Identity {
        static CACHE: ForkLocal<OnceLock<Identity>> = ForkLocal::new();

        let cache = CACHE.get(OnceLock::new);
        if let Some(identity) = cache.get() {
            return identity.clone();
        }
        let pid = i64::from(sys::pid());
        let identity = Identity::of(pid).unwrap_or(Identity { pid, ..Identity::default() });
        // What could not be read without a free descriptor may be readable later.
        if identity.start_time.is_some() && identity.boot_id.is_some() && identity.pid_namespace.is_some() {
            let _ = cache.set(identity.clone());
        }
        identity
    }

    /// Determines whether the process with this identity lives.
    ///
    /// - `Dead` is a proof: there is no such process, it has ended (a zombie has), or another process has its pid now,
    ///   as the pidfd's inode or the start time shows.
    /// - `Unknown`: the identity is from another pid namespace, another machine or before a reboot. A caller may take a
    ///   reboot for a death only if no other machine can see the file that the identity was read from.
    /// - `Alive`: it lives. *Permission denied* is alive. Where nothing recorded can be compared, so is any process with
    ///   this pid.
    pub fn verify(&self) -> Liveness {
        if !is_possible(self.pid) {
            return Liveness::dead(format!("no process can have pid {}", self.pid));
        }
        if let Some(recorded) = &self.boot_id {
            match sys::boot_id() {
                Some(ours) if ours == *recorded => {}
                Some(_) => return Liveness::unknown("it ran on another machine or before a reboot"),
                None => return Liveness::unknown("which boot of which machine this is cannot be read here"),
            }
        }
        if let Some(recorded) = self.pid_namespace {
            match sys::pid_namespace() {
                Some(ours) if ours == recorded => {}
                Some(_) => return Liveness::unknown(format!("pid {} is of another pid namespace", self.pid)),
                None => return Liveness::unknown("which pid namespace this is cannot be read here"),
            }
        }
        examine(self)
    }
}

/// Returns whether a process with this pid, in this process's pid namespace, exists and has not ended.
///
/// "Permission denied" means that it lives. A zombie whose threads have all ended is dead; a zombie leader with live
/// threads is alive. 0, negatives and numbers that no kernel gives as a pid (above 2^22 on Linux) are never alive and
/// never signalled. A thread's id is not a process's.
///
/// A pid is recycled: `true` may be about another process than the recorded one. [`Identity::verify`] does not have that
/// flaw. Where the system has no port, the answer for a possible pid is `true`, because nothing may be removed on a
/// doubt.
pub fn is_alive(pid: impl Into<i64>) -> bool {
    let pid = pid.into();
    is_possible(pid) && !examine(&Identity { pid, ..Identity::default() }).is_dead()
}

/// Examines the process that has this pid, in this process's pid namespace and boot.
fn examine(identity: &Identity) -> Liveness {
    match ProcessHandle::open(identity.pid) {
        Ok(handle) => with_handle(identity, &handle),
        Err(error) if sys::is_no_such_process(&error) => no_process(identity.pid),
        // A thread's id is refused here too, but with an error that has other reasons as well.
        Err(_) => without_handle(identity),
    }
}

fn with_handle(identity: &Identity, handle: &ProcessHandle) -> Liveness {
    let pid = identity.pid;
    let ids = identity.pidfd_inode.map(|recorded| (recorded, handle.unique_id()));
    let same = match ids {
        Some((recorded, Some(found))) if recorded != found => {
            return Liveness::dead(format!(
                "pid {pid} was recycled: its pidfd has inode {found}, the record says {recorded}"
            ));
        }
        Some((_, Some(_))) => true,
        _ => match compare_start_time(identity) {
            Ok(same) => same,
            Err(verdict) => return verdict,
        },
    };
    match handle.exited() {
        Ok(true) => ended(pid),
        Ok(false) => lives(pid, same),
        Err(_) => without_handle(identity),
    }
}

fn without_handle(identity: &Identity) -> Liveness {
    let pid = identity.pid;
    let denied = match sys::signal_zero(pid) {
        Ok(()) => false,
        Err(error) if sys::is_no_such_process(&error) => return no_process(pid),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => true,
        Err(error) => return Liveness::unknown(format!("whether pid {pid} lives cannot be asked here: {error}")),
    };
    // Signal 0 is accepted for a thread's id as well.
    if let Some(leader) = sys::process_of_thread(pid)
        && leader != pid
    {
        return Liveness::dead(format!("pid {pid} now names a thread of process {leader}"));
    }
    let same = match compare_start_time(identity) {
        Ok(same) => same,
        Err(verdict) => return verdict,
    };
    if sys::all_threads_ended(pid) {
        return ended(pid);
    }
    if denied {
        return Liveness::alive(format!("permission to signal pid {pid} was denied, so it lives"));
    }
    lives(pid, same)
}

/// Compares the start times: `Ok(true)` if they agree, `Ok(false)` if they cannot be compared, otherwise the verdict.
fn compare_start_time(identity: &Identity) -> Result<bool, Liveness> {
    let pid = identity.pid;
    // Unreadable is not different: the system may hide other users' processes.
    let (Some(recorded), Some(found)) = (identity.start_time, start_time_of(pid)) else { return Ok(false) };
    if recorded == found {
        return Ok(true);
    }
    // The process may have recorded its start time as it reads it itself.
    if !sys::reads_start_times_alike(pid) {
        return Err(Liveness::unknown(format!(
            "pid {pid} lives in another time namespace, where start times read differently"
        )));
    }
    Err(Liveness::dead(format!("pid {pid} was recycled: it started at tick {found}, the record says {recorded}")))
}

fn no_process(pid: i64) -> Liveness {
    Liveness::dead(format!("no process with pid {pid}"))
}

fn ended(pid: i64) -> Liveness {
    Liveness::dead(format!("pid {pid} has ended"))
}

fn lives(pid: i64, same: bool) -> Liveness {
    if same {
        Liveness::alive(format!("pid {pid} is running"))
    } else {
        Liveness::alive(format!("a process with pid {pid} is running; nothing else could be compared"))
    }
}
