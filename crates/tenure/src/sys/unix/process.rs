//! Processes and the machine, as far as POSIX knows them.

use std::io;
use std::mem::MaybeUninit;

use rustix::process::Pid;

/// Returns this process's pid (`getpid(2)`). The kernel is asked each time, because a copy in memory would survive a fork.
pub(crate) fn pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Returns the effective user's number (`geteuid(2)`).
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns how many files this process may have open (`getrlimit(2)`, `RLIMIT_NOFILE`).
pub(crate) fn open_file_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Returns the machine's name (`uname(2)`).
pub(crate) fn host() -> Option<String> {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: uname(2) requires a pointer to a writable `utsname`: `names` is one, on this stack.
    if unsafe { libc::uname(names.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: `assume_init` requires a valid `utsname`: zeros are one, and the call has filled it in.
    let names = unsafe { names.assume_init() };
    let name: Vec<u8> = names.nodename.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
}

/// Converts a number that can be a pid. To the kernel, 0 and negatives name groups of processes (`kill(2)`).
pub(in crate::sys) fn checked_pid(pid: i64) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .filter(|&pid| pid > 0)
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no pid")))
}

/// Asks whether a signal could be sent to a process or thread (`kill(2)` with signal 0). None is sent.
pub(crate) fn signal_zero(pid: i64) -> io::Result<()> {
    Ok(rustix::process::test_kill_process(checked_pid(pid)?)?)
}

/// Returns whether the error is the one for a process that does not exist (`errno(3)`).
pub(crate) fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESRCH)
}
