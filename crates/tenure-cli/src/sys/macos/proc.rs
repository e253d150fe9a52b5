//! Facts about processes (`proc_pidinfo`, `libproc.h`).

use std::mem::MaybeUninit;

/// `SSTOP` (`sys/proc.h`).
const STOPPED: u32 = 4;

fn info(pid: i32) -> Option<libc::proc_bsdinfo> {
    let mut found = MaybeUninit::<libc::proc_bsdinfo>::zeroed();
    let size = i32::try_from(size_of::<libc::proc_bsdinfo>()).ok()?;
    // SAFETY: proc_pidinfo requires a buffer of the given size: `found` is one, on this stack.
    let filled = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, found.as_mut_ptr().cast(), size) };
    // SAFETY: `assume_init` requires a valid `proc_bsdinfo`: zeros are one, and the call has filled it in.
    (filled == size).then(|| unsafe { found.assume_init() })
}

/// Returns the parent of a process of this user.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    i32::try_from(info(pid)?.pbi_ppid).ok()
}

/// Returns whether a process of this user is stopped.
pub(crate) fn is_stopped(pid: i32) -> bool {
    info(pid).is_some_and(|found| found.pbi_status == STOPPED)
}
