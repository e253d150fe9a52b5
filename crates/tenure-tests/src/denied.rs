//! Processes in which a seccomp filter denies one system call, as under an old container profile or an old kernel.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use libc::{c_long, sock_filter};

/// A system call, or its variant with one value of an argument.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub name: &'static str,
    number: c_long,
    argument: Option<(u32, u32)>,
}

const fn call(name: &'static str, number: c_long) -> Call {
    Call { name, number, argument: None }
}

const fn part(name: &'static str, number: c_long, argument: u32, value: i32) -> Call {
    Call { name, number, argument: Some((argument, value.cast_unsigned())) }
}

/// The calls that `docs/platforms.md` lists as optional.
pub const OPTIONAL: [Call; 10] = [
    call("pidfd_open", libc::SYS_pidfd_open),
    call("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    call("inotify_init1", libc::SYS_inotify_init1),
    call("statx", libc::SYS_statx),
    call("utimensat", libc::SYS_utimensat),
    call("linkat", libc::SYS_linkat),
    part("renameat2(RENAME_EXCHANGE)", libc::SYS_renameat2, 4, libc::RENAME_EXCHANGE.cast_signed()),
    part("fcntl(F_SETLEASE)", libc::SYS_fcntl, 1, libc::F_SETLEASE),
    part("fcntl(F_OFD_SETLK)", libc::SYS_fcntl, 1, libc::F_OFD_SETLK),
    part("prctl(PR_SET_CHILD_SUBREAPER)", libc::SYS_prctl, 0, libc::PR_SET_CHILD_SUBREAPER),
];

/// Denies this call to `command` and all its descendants.
pub fn deny(command: &mut Command, denied: Call, errno: i32) {
    let filter = filter(denied, errno.cast_unsigned());
    // SAFETY: between fork and exec this makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // Without this, only root may install a filter.
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Builds the filter for `seccomp(2)`, which loads the call's number, then the argument's lower half, and compares
/// both.
fn filter(denied: Call, errno: u32) -> Vec<sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const SAME: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // `struct seccomp_data`: the number, the machine, the instruction's address, then the arguments of eight bytes.
    const ARGUMENTS: u32 = 16;
    const UPPER_FIRST: u32 = if cfg!(target_endian = "big") { 4 } else { 0 };
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let mut steps = vec![step(LOAD, 0, 0, 0)];
    let behind = if denied.argument.is_some() { 3 } else { 1 };
    steps.push(step(SAME, denied.number as u32, 0, behind));
    if let Some((argument, value)) = denied.argument {
        steps.push(step(LOAD, ARGUMENTS + 8 * argument + UPPER_FIRST, 0, 0));
        steps.push(step(SAME, value, 0, 1));
    }
    steps.push(step(RETURN, libc::SECCOMP_RET_ERRNO | errno, 0, 0));
    steps.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    steps
}
