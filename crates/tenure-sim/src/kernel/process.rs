//! Simulated processes: start, pid and end.

use std::io;

use super::call::Call;
use super::world::{self, perform, point};
use crate::sys::types::ProcessFacts;

pub(crate) const PID_LIMIT: i64 = 4_194_304;
pub(crate) const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;
pub(crate) const BOOT_ID_SOURCE: &str = "the simulated boot's id";
pub(crate) const PID_NAMESPACE_SOURCE: &str = "the simulated pid namespace";
pub(crate) const UNIQUE_ID_SINCE: &str = "every simulated process has one";

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

pub(crate) fn reads_start_times_alike(_pid: i64) -> bool {
    true
}

pub(crate) fn shows_its_start_time() -> bool {
    true
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

pub(crate) fn process_facts(pid: i64) -> Option<ProcessFacts> {
    let process = find(pid, "stat").ok()?;
    let start_time = world::with(|world| world.kernel.processes[process].start_time);
    Some(ProcessFacts { parent: 1, start_time, leader_ended: false })
}

pub(crate) fn process_of_thread(id: i64) -> Option<i64> {
    find(id, "status").ok()?;
    Some(id)
}

pub(crate) fn awaited_child(_pid: i64) -> Option<i64> {
    None
}

pub(crate) fn all_threads_ended(pid: i64) -> bool {
    process_facts(pid).is_some_and(|facts| facts.leader_ended)
}

pub(crate) fn signal_zero(pid: i64) -> io::Result<()> {
    find(pid, "signal 0").map(drop).map_err(io::Error::from_raw_os_error)
}

pub(crate) fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}

/// A descriptor of a process.
#[derive(Debug)]
pub(crate) struct ProcessHandle(usize);

impl ProcessHandle {
    pub(crate) fn open(pid: i64) -> io::Result<ProcessHandle> {
        find(pid, "pidfd").map(ProcessHandle).map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn exited(&self) -> io::Result<bool> {
        if self.0 != world::with(|world| world.process()) {
            point(Call::Step).map_err(io::Error::from_raw_os_error)?;
        }
        perform(|world| Ok(!world.kernel.processes[self.0].alive), || "poll a pidfd".to_owned())
            .map_err(io::Error::from_raw_os_error)
    }

    pub(crate) fn unique_id(&self) -> Option<u64> {
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
