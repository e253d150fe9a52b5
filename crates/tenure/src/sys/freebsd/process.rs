//! Facts about processes, from `sysctl(3)`.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use super::machine::sees_every_process;
use crate::sys::bsd::sysctl;
use crate::sys::types::ProcessFacts;
use crate::sys::unix::command_text::command_text;
use crate::sys::unix::{checked_pid, is_no_such_process as is_esrch};

/// Pids are numbers of 31 bits (`kill(2)`), though the kernel gives none above 99999.
pub(crate) const PID_LIMIT: i64 = i32::MAX as i64;

/// Returns the facts about a process (`sysctl(3)`, `kern.proc.pid`). `None` where there is none with this pid, or it is
/// hidden. The start time is in microseconds since the boot.
///
/// The kernel reports it as a date, which it computes from the date of the boot, and that moves whenever the clock is set.
/// So the date of the boot is subtracted again.
pub(crate) fn process_facts(pid: i64) -> Option<ProcessFacts> {
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        let before = booted_at()?;
        let found = info(pid)?;
        if booted_at()? == before {
            let start_time = microseconds(found.ki_start)?.checked_sub(before)?;
            return Some(ProcessFacts {
                parent: found.ki_ppid.try_into().ok()?,
                start_time,
                leader_ended: found.ki_stat == libc::SZOMB,
            });
        }
    }
    None
}

fn info(pid: i64) -> Option<libc::kinfo_proc> {
    let pid = checked_pid(pid).ok()?.as_raw_nonzero().get();
    let mut found = MaybeUninit::<libc::kinfo_proc>::zeroed();
    let mut size = size_of::<libc::kinfo_proc>();
    let mib = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid];
    // SAFETY: sysctl(3) requires a name of the given length, which it only reads, and a buffer of the given size, which is on
    // this stack. Nothing is set.
    let done = unsafe {
        let name = mib.as_ptr().cast_mut();
        libc::sysctl(name, mib.len() as libc::c_uint, found.as_mut_ptr().cast(), &raw mut size, ptr::null_mut(), 0)
    };
    if done != 0 || size != size_of::<libc::kinfo_proc>() {
        return None;
    }
    // SAFETY: `assume_init` requires a valid `kinfo_proc`: zeros are one, and the call has filled it in.
    let found = unsafe { found.assume_init() };
    (usize::try_from(found.ki_structsize) == Ok(size) && found.ki_pid == pid).then_some(found)
}

/// Returns the date of the boot in microseconds (`sysctl(3)`, `kern.boottime`).
fn booted_at() -> Option<u64> {
    // SAFETY: `value` requires that all bytes be a value: they are one of two integers.
    microseconds(unsafe { sysctl::value::<libc::timeval>(c"kern.boottime") }?)
}

fn microseconds(time: libc::timeval) -> Option<u64> {
    u64::try_from(time.tv_sec).ok()?.checked_mul(1_000_000)?.checked_add(u64::try_from(time.tv_usec).ok()?)
}

/// Returns whether the process has ended and was not reaped yet (`sysctl(3)`, `kern.proc.pid`).
pub(crate) fn all_threads_ended(pid: i64) -> bool {
    info(pid).is_some_and(|found| found.ki_stat == libc::SZOMB)
}

/// Returns the command line of a process, arguments separated by spaces, at most 1024 bytes (`sysctl(3)`, `kern.proc.args`).
/// Another user may have written it.
pub(crate) fn command_line(pid: u32) -> Option<String> {
    let mut raw = vec![0; 1 << 16];
    let mib = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_ARGS, i32::try_from(pid).ok()?];
    let length = sysctl::bytes(&mib, &mut raw)?;
    command_text(raw.get(..length)?)
}

/// Returns whether the error proves that a process does not exist (`errno(2)`, ESRCH). It does not in a jail, or where users
/// do not see each other's processes: the kernel then answers so for a process that lives.
pub(crate) fn is_no_such_process(error: &io::Error) -> bool {
    is_esrch(error) && sees_every_process()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::pid;

    #[test]
    fn facts_about_this_process() {
        let facts = process_facts(i64::from(pid())).unwrap();
        assert_eq!(process_facts(i64::from(pid())), Some(facts));
        assert!(facts.parent > 0 && facts.start_time > 0 && !facts.leader_ended);
        let own = std::env::args().next().unwrap();
        assert!(command_line(pid()).unwrap().starts_with(own.split(' ').next().unwrap()));
    }
}
