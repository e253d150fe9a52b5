//! Facts about processes, from `/proc` (`proc_pid(5)`).

use super::proc;
use super::process_text::{Stat, only_child, thread_group};
use crate::sys::types::ProcessFacts;
use crate::sys::unix::command_text::command_text;

/// No Linux kernel gives a pid above this (`PID_MAX_LIMIT`, `proc_sys_kernel(5)`), in any namespace.
pub(crate) const PID_LIMIT: i64 = 4_194_304;

/// Returns the facts about a process (`proc_pid_stat(5)`). `None` where there is none with this pid, or it is hidden.
pub(crate) fn process_facts(pid: i64) -> Option<ProcessFacts> {
    let stat = Stat::parse(&proc::stat_line(pid)?)?;
    Some(ProcessFacts { parent: stat.parent, start_time: stat.start_time, leader_ended: stat.state.ended() })
}

/// Returns the pid of the process that has a thread with this id (`proc_pid_status(5)`).
pub(crate) fn process_of_thread(id: i64) -> Option<i64> {
    thread_group(&proc::status_text(id)?)
}

/// Returns whether all threads of a process have ended: its first thread has, and `/proc` shows no other that lives
/// (`proc_pid_task(5)`).
pub(crate) fn all_threads_ended(pid: i64) -> bool {
    let ended = |line: &str| Stat::parse(line).is_some_and(|stat| stat.state.ended());
    proc::stat_line(pid).is_some_and(|line| ended(&line))
        && proc::thread_stat_lines(pid).is_some_and(|lines| lines.iter().all(|line| ended(line)))
}

/// Returns the child for whose end a process waits, where nothing but a signal ends that wait before: its one thread sleeps in
/// `wait4(2)` or `waitid(2)`, and it has one child. `None` where that is not known, as of another user's process.
///
/// Only the process itself removes a child from its list, after that wait. So what was there before and after the look at
/// the wait was there in between.
pub(crate) fn awaited_child(pid: i64) -> Option<i64> {
    /// The kernel's function in which these calls sleep.
    const WAITS: &str = "do_wait";
    let child = || only_child(&proc::children_text(pid)?);
    let before = child()?;
    let waits = proc::has_one_thread(pid)? && proc::sleeps_in(pid)? == WAITS;
    (waits && child()? == before).then_some(before)
}

/// Returns the command line of a process, arguments separated by spaces, at most 1024 bytes (`proc_pid_cmdline(5)`).
/// Another user may have written it.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    command_text(&proc::command_line(i64::from(pid))?)
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::super::machine::{boot_id, pid_namespace};
    use super::super::process_handle::ProcessHandle;
    use super::*;
    use crate::sys::unix::{host, pid, signal_zero};

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn facts_about_this_process() {
        assert_eq!(pid(), std::process::id());
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(pid_namespace().is_some());
        assert_eq!(host().unwrap(), fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        let own: Vec<String> = std::env::args().collect();
        assert!(command_line(pid()).unwrap().starts_with(own[0].split(' ').next().unwrap()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_number_that_is_no_pid_makes_no_call() {
        for pid in [0, -1, i64::MIN, i64::from(i32::MIN), i64::from(i32::MAX) + 1, 1 << 32, (1 << 32) + 1, i64::MAX] {
            assert_eq!(signal_zero(pid).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{pid}");
            assert_eq!(ProcessHandle::open(pid).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{pid}");
            assert_eq!(process_facts(pid), None, "{pid}");
        }
    }
}
