//! Facts about the process that has a pid now.

use crate::sys;

/// Returns whether a process can have this pid, in any pid namespace.
///
/// The system's present limit is no measure: it can be lowered while processes with larger pids run.
pub(super) fn is_possible(pid: i64) -> bool {
    (1..=sys::PID_LIMIT).contains(&pid)
}

/// Returns when the process started, in clock ticks since boot (field 22 of `proc_pid_stat(5)`).
///
/// `None` where there is no such process, it is hidden (`hidepid`, `proc(5)`), or the system has no such number. Two
/// processes with one pid differ in it unless they started within the same tick (10 ms).
pub fn start_time(pid: impl Into<i64>) -> Option<u64> {
    start_time_of(pid.into())
}

pub(super) fn start_time_of(pid: i64) -> Option<u64> {
    Some(facts(pid)?.start_time)
}

/// Returns the pid of the process that started it, or that adopted it since. 0 for the first process of a pid namespace.
pub(crate) fn parent(pid: i64) -> Option<i64> {
    i64::try_from(facts(pid)?.parent).ok()
}

fn facts(pid: i64) -> Option<sys::ProcessFacts> {
    is_possible(pid).then(|| sys::process_facts(pid))?
}

/// Returns the start time of a process, if the process reads it as this process does. A different reading proves nothing.
pub(crate) fn comparable_start_time(pid: i64) -> Option<u64> {
    sys::reads_start_times_alike(pid).then(|| start_time_of(pid))?
}
