//! Simulated processes: start, pid and end.

use std::io;

use super::call::Call;
use super::world::{self, perform, point};

pub(crate) const PID_LIMIT: i64 = 4_194_304;
pub(crate) const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;
/// `PROC_TIME_INIT_INO`.
const FIRST_TIME_NAMESPACE: u64 = 0xefff_fffa;

pub(crate) fn clock_is_steered() -> Option<bool> {
    None
}

pub(crate) fn pid() -> u32 {
    world::with(|world| world.kernel.processes[world.process()].pid)
}

pub(crate) fn boot_id() -> Option<String> {
    Some("00000000-0000-4000-8000-000000000001".to_owned())
}

pub(crate) fn pid_namespace() -> Option<u64> {
    Some(FIRST_PID_NAMESPACE)
}

pub(crate) fn time_namespace(_pid: i64) -> Option<u64> {
    Some(FIRST_TIME_NAMESPACE)
}

pub(crate) fn host() -> Option<String> {
    Some("sim".to_owned())
}

pub(crate) fn command_line(_pid: u32) -> Option<String> {
    Some("sim".to_owned())
}

/// Returns the process that has this pid now. For another process's pid this is a point.
fn find(pid: i64, what: &str) -> Result<usize, i32> {
    if pid != i64::from(self::pid()) {
        point(Call::PidFd)?;
    }
    perform(|world| world.kernel.alive(pid).ok_or(libc::ESRCH), || format!("{what} of pid {pid}"))
}

pub(crate) fn stat_line(pid: i64) -> Option<String> {
    let process = find(pid, "stat").ok()?;
    let start = world::with(|world| world.kernel.processes[process].start_time);
    Some(format!("{pid} (sim) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0 0"))
}

pub(crate) fn status_text(pid: i64) -> Option<String> {
    find(pid, "status").ok()?;
    Some(format!("Name:\tsim\nTgid:\t{pid}\nPid:\t{pid}\nNSpid:\t{pid}\n"))
}

pub(crate) fn thread_stat_lines(pid: i64) -> Option<Vec<String>> {
    Some(vec![stat_line(pid)?])
}

pub(crate) fn signal_zero(pid: i64) -> io::Result<()> {
    find(pid, "signal 0").map(drop).map_err(io::Error::from_raw_os_error)
}

pub(crate) fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// A descriptor of a process.
#[derive(Debug)]
pub(crate) struct PidFd(usize);

impl PidFd {
    pub(crate) fn open(pid: i64) -> io::Result<PidFd> {
        find(pid, "pidfd").map(PidFd).map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn exited(&self) -> io::Result<bool> {
        if self.0 != world::with(|world| world.process()) {
            point(Call::Step).map_err(io::Error::from_raw_os_error)?;
        }
        perform(|world| Ok(!world.kernel.processes[self.0].alive), || "poll a pidfd".to_owned())
            .map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn inode(&self) -> Option<u64> {
        Some(7000 + self.0 as u64)
    }

    pub(super) fn process(&self) -> usize {
        self.0
    }
}

pub(crate) fn lock_keepers(_dev: u64, ino: u64) -> Vec<i64> {
    openers_of(ino, true)
}

/// Returns nothing, because the simulation has no marks of waiting.
pub(crate) fn marked_waiters(_dev: u64, _ino: u64) -> Vec<i64> {
    Vec::new()
}

pub(crate) fn openers(_dev: u64, ino: u64) -> Vec<i64> {
    openers_of(ino, false)
}

fn openers_of(ino: u64, locked: bool) -> Vec<i64> {
    let _ = point(Call::Step);
    let found = world::with(|world| world.kernel.processes_with_open(ino, locked));
    world::tell(found.iter().fold(9, |hash, pid| super::state::mix(hash, *pid as u64)));
    found
}
