//! Single-steps a thread of another process from one system call's entry or exit to the next.
//!
//! `strace` can make a call fail or delay it, but reports the call only at its end.

use std::io;
use std::ptr;

use libc::{c_int, c_uint, c_void, pid_t};

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
        let mut info = std::mem::MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
        let size = ptr::without_provenance_mut::<c_void>(size_of_val(&info));
        // SAFETY: zeroed is a valid value, of the size that is said; the thread is ours and stopped at a system call.
        let info = unsafe {
            libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, self.0, size, info.as_mut_ptr());
            info.assume_init()
        };
        // SAFETY: `op` says which of them is meant.
        Some(unsafe {
            match info.op {
                libc::PTRACE_SYSCALL_INFO_ENTRY => Step::Enters(info.u.entry.nr, info.u.entry.args),
                libc::PTRACE_SYSCALL_INFO_EXIT => Step::Leaves(info.u.exit.sval),
                other => panic!("a stop neither at the entry nor at the exit of a system call: {other}"),
            }
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

fn ptrace(request: c_uint, thread: pid_t, data: *mut c_void) -> io::Result<()> {
    // SAFETY: none of the requests that come here makes the kernel write to this process.
    match unsafe { libc::ptrace(request, thread, ptr::null_mut::<c_void>(), data) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
