//! Facts about processes (`sysctl(3)`, `kern.proc.pid`).

use std::mem::MaybeUninit;
use std::ptr;

/// `SSTOP` (`sys/proc.h`).
const STOPPED: libc::c_char = 4;

fn info(pid: i32) -> Option<libc::kinfo_proc> {
    let mut found = MaybeUninit::<libc::kinfo_proc>::zeroed();
    let mut size = size_of::<libc::kinfo_proc>();
    let mib = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid];
    // SAFETY: sysctl(3) requires a name of the given length, which it only reads, and a buffer of the given size, which is on
    // this stack. Nothing is set.
    let done = unsafe {
        let name = mib.as_ptr().cast_mut();
        libc::sysctl(name, mib.len() as libc::c_uint, found.as_mut_ptr().cast(), &raw mut size, ptr::null_mut(), 0)
    };
    // SAFETY: `assume_init` requires a valid `kinfo_proc`: zeros are one, and the call has filled it in.
    (done == 0 && size == size_of::<libc::kinfo_proc>()).then(|| unsafe { found.assume_init() })
}

/// Returns the parent of a process.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    Some(info(pid)?.ki_ppid)
}

/// Returns whether a process is stopped.
pub(crate) fn is_stopped(pid: i32) -> bool {
    info(pid).is_some_and(|found| found.ki_stat == STOPPED)
}
