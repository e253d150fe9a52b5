//! Facts about processes, from `proc_pidinfo` and `sysctl(3)`.

use std::mem::MaybeUninit;

use crate::sys::bsd::sysctl;
use crate::sys::types::ProcessFacts;
use crate::sys::unix::command_text::{command_text, counted_arguments};

/// Pids are numbers of 31 bits (`kill(2)`), though the kernel gives none above 99998.
pub(crate) const PID_LIMIT: i64 = i32::MAX as i64;

/// The longest list of arguments that is read, with the environment behind it (`execve(2)`, `ARG_MAX`).
const ARGUMENT_BYTES: usize = 1 << 20;

/// Returns the facts about a process (`proc_pidinfo` with `PROC_PIDTBSDINFO`, `libproc.h`). `None` where there is none with
/// this pid, or it is another user's. The start time is in microseconds since 1970, which a JavaScript number can hold.
pub(crate) fn process_facts(pid: i64) -> Option<ProcessFacts> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let mut found = MaybeUninit::<libc::proc_bsdinfo>::zeroed();
    let size = i32::try_from(size_of::<libc::proc_bsdinfo>()).ok()?;
    // The argument 1 asks for a zombie as well.
    // SAFETY: proc_pidinfo requires a buffer of the given size: `found` is one, on this stack.
    let filled = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 1, found.as_mut_ptr().cast(), size) };
    if filled != size {
        return None;
    }
    // SAFETY: `assume_init` requires a valid `proc_bsdinfo`: zeros are one, and the call has filled it in.
    let found = unsafe { found.assume_init() };
    let start_time = found.pbi_start_tvsec.checked_mul(1_000_000)?.checked_add(found.pbi_start_tvusec)?;
    Some(ProcessFacts { parent: found.pbi_ppid.into(), start_time, leader_ended: found.pbi_status == libc::SZOMB })
}

/// Returns whether the process has ended and was not reaped yet (`proc_pidinfo`).
pub(crate) fn all_threads_ended(pid: i64) -> bool {
    process_facts(pid).is_some_and(|facts| facts.leader_ended)
}

/// Returns the command line of a process of this user, arguments separated by spaces, at most 1024 bytes (`sysctl(3)`,
/// `KERN_PROCARGS2`).
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let mut raw = vec![0; ARGUMENT_BYTES];
    let mib = [libc::CTL_KERN, libc::KERN_PROCARGS2, i32::try_from(pid).ok()?];
    let length = sysctl::bytes(&mib, &mut raw)?;
    command_text(counted_arguments(raw.get(..length)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::pid;

    #[test]
    fn facts_about_this_process() {
        let facts = process_facts(i64::from(pid())).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let age = u64::try_from(now.as_micros()).unwrap().abs_diff(facts.start_time);
        assert!(age < 3_600_000_000, "it began within the last hour: {age}");
        assert!(facts.parent > 0 && !facts.leader_ended);
        let own = std::env::args().next().unwrap();
        assert!(command_line(pid()).unwrap().starts_with(own.split(' ').next().unwrap()));
    }
}
