//! Single-steps a thread of another process from one system call's entry or exit to the next.
//!
//! `strace` can make a call fail or delay it, but reports the call only at its end.

use std::io;
use std::ptr;

use libc::{c_int, c_void, pid_t};

/// A thread that is stopped until this value is dropped. `ptrace(2)` requires that one thread makes all requests.
pub struct Stepped(pid_t);

impl Stepped {
    /// Stops the thread at any instruction.
    pub fn stop(thread: u32) -> Stepped {
        let thread = pid_t::try_from(thread).unwrap();
        let options = ptr::without_provenance_mut(usize::try_from(libc::PTRACE_O_TRACESYSGOOD).unwrap());
        ptrace(libc::PTRACE_SEIZE, thread, options).unwrap();
        let stepped = Stepped(thread);
        ptrace(libc::PTRACE_INTERRUPT, thread, ptr::null_mut()).unwrap();
        stepped.wait();
        stepped
    }

    /// Resumes the thread up to the next entry or exit of a system call; returns `None` if the thread has ended.
    pub fn step(&self) -> Option<Step> {
        loop {
            ptrace(libc::PTRACE_SYSCALL, self.0, ptr::null_mut()).ok()?;
            // A stop by a signal or by the interrupt: resume without it.
            if self.wait()? == libc::SIGTRAP | 0x80 {
                break;
            }
        }
        let mut info = SyscallInfo::default();
        let size = ptr::without_provenance_mut::<c_void>(size_of_val(&info));
        // SAFETY: the kernel writes at most the size that is given; the thread is ours and stopped at a system call.
        unsafe { libc::ptrace(GET_SYSCALL_INFO, self.0, size, &raw mut info) };
        Some(match info.op {
            SYSCALL_INFO_ENTRY => Step::Enters(info.words[0], info.words[1..7].try_into().unwrap()),
            SYSCALL_INFO_EXIT => Step::Leaves(info.words[0].cast_signed()),
            other => panic!("a stop neither at the entry nor at the exit of a system call: {other}"),
        })
    }

    /// Waits for the thread to stop and returns the signal; returns `None` if the thread has ended.
    fn wait(&self) -> Option<c_int> {
        let mut status = 0;
        // SAFETY: `status` is on this stack.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        (waited == self.0 && libc::WIFSTOPPED(status)).then(|| libc::WSTOPSIG(status))
    }
}

impl Drop for Stepped {
    fn drop(&mut self) {
        // The thread may have ended.
        let _ = ptrace(libc::PTRACE_DETACH, self.0, ptr::null_mut());
    }
}

/// The position at which a thread is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The call's number and arguments.
    Enters(u64, [u64; 6]),
    /// The call's result.
    Leaves(i64),
}

// The crate libc has these for glibc alone (`ptrace(2)`, PTRACE_GET_SYSCALL_INFO).
const GET_SYSCALL_INFO: Request = 0x420e;
const SYSCALL_INFO_ENTRY: u8 = 1;
const SYSCALL_INFO_EXIT: u8 = 2;

#[cfg(target_env = "musl")]
type Request = c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

/// `struct ptrace_syscall_info`. Its union begins with the call's number and arguments, or with the call's result.
#[repr(C)]
#[derive(Default)]
struct SyscallInfo {
    op: u8,
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    words: [u64; 8],
}

fn ptrace(request: Request, thread: pid_t, data: *mut c_void) -> io::Result<()> {
    // SAFETY: none of the requests that come here makes the kernel write to this process.
    match unsafe { libc::ptrace(request, thread, ptr::null_mut::<c_void>(), data) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
