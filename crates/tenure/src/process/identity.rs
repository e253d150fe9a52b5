//! What tells a process from every other.
//!
//! How a process is verified, and why in this order:
//!
//! 1. What cannot be a pid is dead without a question to the kernel: 0 and negatives name groups there.
//! 2. Another boot or another pid namespace: the pid means nothing here, so the answer is `Unknown`.
//! 3. The pidfd is opened. From here on it speaks of one process, the recorded one or a later one with its pid.
//! 4. Which of the two, say the pidfd's inode, or else the start time in `/proc`.
//! 5. The pidfd is asked *last* whether its process has ended: if not, then no pid was recycled between 3 and 5, and
//!    what was read in `/proc` was that process's.
//!
//! Without pidfds (an old kernel, a sandbox that forbids them, no descriptor left) signal 0 and `/proc` answer. They
//! see the same, but for a process that ends while they look: that one may be called alive once more.

use std::io;
use std::sync::OnceLock;

use super::Liveness;
use crate::sys::stat::{Stat, thread_group};
use crate::sys::{self, ForkLocal, PidFd};

/// A process, told from every other: each part is absent rather than wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Identity {
    /// The process id, in the pid namespace that `pid_namespace` names.
    pub pid: i64,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks from boot to its start.
    pub start_time: Option<u64>,
    /// `/proc/sys/kernel/random/boot_id`: which boot of which machine.
    pub boot_id: Option<String>,
    /// The inode of the pid namespace that `pid` is counted in: `/proc/self/ns/pid` of whoever took this identity. A
    /// process in a container is one pid to its own namespace and another to those around it.
    pub pid_namespace: Option<u64>,
    /// The inode of the process's pidfd: unique for a boot (Linux 6.9 and later).
    pub pidfd_inode: Option<u64>,
}

impl Identity {
    /// The identity of a process, as far as it can be read now; `None` where no such process can be found, it has
    /// ended (a zombie too), or the number is a thread's.
    ///
    /// Where the platform has no port, the identity is the pid alone.
    pub fn of(pid: impl Into<i64>) -> Option<Identity> {
        let pid = pid.into();
        if !possible(pid) {
            return None;
        }
        let mut identity =
            Identity { pid, boot_id: sys::boot_id(), pid_namespace: sys::pid_namespace(), ..Identity::default() };
        // The same order as in `verify`: the start time is this process's if its pidfd says afterwards that it lives.
        let lives = match PidFd::open(pid) {
            Ok(pidfd) => {
                identity.pidfd_inode = pidfd.inode();
                identity.start_time = start_time(pid);
                !pidfd.exited().unwrap_or(false)
            }
            Err(error) if sys::is_no_such_process(&error) => false,
            Err(_) => {
                identity.start_time = start_time(pid);
                !without_pidfd(&identity).is_dead()
            }
        };
        lives.then_some(identity)
    }

    /// This process's own. Read once, and again after a fork.
    pub fn current() -> Identity {
        static CACHE: ForkLocal<OnceLock<Identity>> = ForkLocal::new();

        let cache = CACHE.get(OnceLock::new);
        if let Some(identity) = cache.get() {
            return identity.clone();
        }
        let pid = i64::from(sys::pid());
        let identity = Identity::of(pid).unwrap_or(Identity { pid, ..Identity::default() });
        // What could not be read for want of a descriptor can be read later.
        if identity.start_time.is_some() && identity.boot_id.is_some() && identity.pid_namespace.is_some() {
            let _ = cache.set(identity.clone());
        }
        identity
    }

    /// Does the process with this identity live?
    ///
    /// - `Dead` is a proof: there is no such process, it has ended (a zombie has), or another has its pid now, as the
    ///   pidfd's inode or the start time shows.
    /// - `Unknown`: the identity was taken in another pid namespace, on another machine or before a reboot. Whether a
    ///   reboot proves a death is for whoever knows that no other machine can see the file it was found in.
    /// - `Alive`: it lives. *Permission denied* is alive. Where nothing recorded can be compared, so is any process
    ///   with this pid.
    pub fn verify(&self) -> Liveness {
        if !possible(self.pid) {
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

pub(super) fn alive(pid: i64) -> bool {
    possible(pid) && !examine(&Identity { pid, ..Identity::default() }).is_dead()
}

pub(super) fn start_time(pid: i64) -> Option<u64> {
    if !possible(pid) {
        return None;
    }
    Some(Stat::parse(&sys::stat_line(pid)?)?.start_time)
}

pub(super) fn parent(pid: i64) -> Option<i64> {
    if !possible(pid) {
        return None;
    }
    i64::try_from(Stat::parse(&sys::stat_line(pid)?)?.parent).ok()
}

/// The start time of a process whose clock is ours. That of one in another time namespace reads differently here than
/// it did there, which proves nothing.
pub(crate) fn comparable_start_time(pid: i64) -> Option<u64> {
    let (ours, theirs) = (sys::time_namespace(i64::from(sys::pid())), sys::time_namespace(pid));
    if ours.is_some() && theirs.is_some() && ours != theirs {
        return None;
    }
    start_time(pid)
}

/// Can a process have this pid, in any namespace? `pid_max` is no measure: it differs between namespaces, and it can
/// be lowered while processes with larger pids run.
pub(super) fn possible(pid: i64) -> bool {
    (1..=sys::PID_LIMIT).contains(&pid)
}

/// Looks at the process that has this pid, in our own namespace and boot.
fn examine(identity: &Identity) -> Liveness {
    match PidFd::open(identity.pid) {
        Ok(pidfd) => with_pidfd(identity, &pidfd),
        Err(error) if sys::is_no_such_process(&error) => no_process(identity.pid),
        // A thread's id is refused here too, but with an error that has other reasons as well.
        Err(_) => without_pidfd(identity),
    }
}

fn with_pidfd(identity: &Identity, pidfd: &PidFd) -> Liveness {
    let pid = identity.pid;
    let inodes = identity.pidfd_inode.map(|recorded| (recorded, pidfd.inode()));
    let same = match inodes {
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
    match pidfd.exited() {
        Ok(true) => ended(pid),
        Ok(false) => lives(pid, same),
        Err(_) => without_pidfd(identity),
    }
}

fn without_pidfd(identity: &Identity) -> Liveness {
    let pid = identity.pid;
    let denied = match sys::signal_zero(pid) {
        Ok(()) => false,
        Err(error) if sys::is_no_such_process(&error) => return no_process(pid),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => true,
        Err(error) => return Liveness::unknown(format!("whether pid {pid} lives cannot be asked here: {error}")),
    };
    // The kernel takes signal 0 for a thread's id as well.
    if let Some(leader) = sys::status_text(pid).and_then(|status| thread_group(&status))
        && leader != pid
    {
        return Liveness::dead(format!("pid {pid} now names a thread of process {leader}"));
    }
    let same = match compare_start_time(identity) {
        Ok(same) => same,
        Err(verdict) => return verdict,
    };
    if all_threads_ended(pid) {
        return ended(pid);
    }
    if denied {
        return Liveness::alive(format!("permission to signal pid {pid} was denied, so it lives"));
    }
    lives(pid, same)
}

/// Whether the start times agree (`false` where they cannot be compared), or the verdict where they do not.
fn compare_start_time(identity: &Identity) -> Result<bool, Liveness> {
    let pid = identity.pid;
    // Unreadable is not different: `/proc` may hide the processes of others (hidepid).
    let (Some(recorded), Some(found)) = (identity.start_time, start_time(pid)) else { return Ok(false) };
    if recorded == found {
        return Ok(true);
    }
    // The kernel shifts the start time by the *reader's* clock: a process in another time namespace may have read and
    // recorded its own differently.
    let ours = sys::time_namespace(i64::from(sys::pid()));
    let theirs = sys::time_namespace(pid);
    if ours.is_some() && theirs.is_some() && ours != theirs {
        return Err(Liveness::unknown(format!(
            "pid {pid} lives in another time namespace, where start times read differently"
        )));
    }
    Err(Liveness::dead(format!("pid {pid} was recycled: it started at tick {found}, the record says {recorded}")))
}

/// The zombie rule: the leader has ended, and `/proc` shows no thread that lives.
fn all_threads_ended(pid: i64) -> bool {
    let ended = |line: &str| Stat::parse(line).is_some_and(|stat| stat.state.ended());
    sys::stat_line(pid).is_some_and(|line| ended(&line))
        && sys::thread_stat_lines(pid).is_some_and(|lines| lines.iter().all(|line| ended(line)))
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
