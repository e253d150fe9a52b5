//! Children that have ended, without reaping them.

use std::mem::MaybeUninit;

use rustix::io::Errno;

/// Returns a child that has ended. `CHILD` means that there is no child at all.
pub(crate) fn wait_any() -> Result<Option<i32>, Errno> {
    wait(libc::P_ALL, 0)
}

/// Is it a child of this process that was not reaped?
#[cfg(target_os = "linux")]
pub(crate) fn is_child(pid: i32) -> bool {
    wait(libc::P_PID, pid.cast_unsigned()).is_ok()
}

#[allow(clippy::useless_conversion, reason = "the widths of ids differ between systems")]
fn wait(which: libc::idtype_t, id: u32) -> Result<Option<i32>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is large enough, and being zeroed is valid where the kernel writes nothing, as when none has ended.
    let (code, pid) =
        unsafe { (libc::waitid(which, id.into(), info.as_mut_ptr(), options), info.assume_init().si_pid()) };
    if code == 0 {
        return Ok(Some(pid).filter(|pid| *pid > 0));
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}
