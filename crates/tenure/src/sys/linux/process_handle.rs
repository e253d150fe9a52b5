//! Pidfds: descriptors of processes (`pidfd_open(2)`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::PidfdFlags;

use crate::sys::types::EndRequest;
use crate::sys::unix::checked_pid;

/// The reason for a missing [`ProcessHandle::unique_id`], for messages.
pub(crate) const UNIQUE_ID_SINCE: &str = "it came with Linux 6.9";

/// A descriptor of a process. It keeps naming that process after the pid was recycled.
#[derive(Debug)]
pub(crate) struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// Opens a process (`pidfd_open(2)`), which needs no permission. A thread's id that is not a process's is refused
    /// (ENOENT; EINVAL before Linux 6.15).
    pub(crate) fn open(pid: i64) -> io::Result<ProcessHandle> {
        // A pidfd is always close-on-exec.
        Ok(ProcessHandle(rustix::process::pidfd_open(checked_pid(pid)?, PidfdFlags::empty())?))
    }

    /// Returns whether all threads of the process have ended (`poll(2)`): true of a zombie, false of a zombie leader
    /// with live threads.
    pub(crate) fn exited(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&now)))?;
        Ok(fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP))
    }

    /// Returns a number that no other process of this boot has: the inode of its pidfd (`fstat(2)`), since Linux 6.9.
    pub(crate) fn unique_id(&self) -> Option<u64> {
        // "PIDF". Before pidfs, all pidfds shared one anonymous inode.
        const PID_FS_MAGIC: u64 = 0x5049_4446;
        if rustix::fs::fstatfs(&self.0).ok()?.f_type as u64 != PID_FS_MAGIC {
            return None;
        }
        Some(rustix::fs::fstat(&self.0).ok()?.st_ino)
    }

    /// Asks the process to end within `grace`: sends SIGTERM with an [`EndRequest`], and then SIGCONT, because a stopped
    /// process handles SIGTERM only once it is continued (`pidfd_send_signal(2)`).
    pub(crate) fn request_end(&self, grace: Duration) -> io::Result<()> {
        let request = EndRequest { grace };
        // The kernel lets a process send codes below zero only, and takes the rest as it is. The field after the value is
        // up to the size of a `siginfo_t`.
        let info = QueuedSignal {
            signo: libc::SIGTERM,
            errno: EndRequest::MARK,
            code: libc::SI_QUEUE,
            fields: QueuedFields {
                pid: rustix::process::getpid().as_raw_nonzero().get(),
                uid: rustix::process::getuid().as_raw(),
                value: request.value() as usize,
            },
            rest: [0; 12],
        };
        // SAFETY: pidfd_send_signal(2) requires an open pidfd, and a pointer to a `siginfo_t` that is readable for the
        // whole call. `QueuedSignal` has its layout for a queued signal, and is as large.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), libc::SIGTERM, &raw const info, 0)
        };
        if sent != 0 {
            return Err(io::Error::last_os_error());
        }
        // The request has been delivered. A process that may be sent SIGTERM may be sent this one.
        let _ = rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::CONT);
        Ok(())
    }

    /// Ends the process (`pidfd_send_signal(2)`, SIGKILL).
    pub(crate) fn kill(&self) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.0, rustix::process::Signal::KILL)?)
    }

    /// Returns the descriptor, which polls readable once the process has ended (`poll(2)`).
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The layout of a `siginfo_t` for a queued signal (`sigqueue(3)`).
#[repr(C)]
struct QueuedSignal {
    signo: i32,
    errno: i32,
    code: i32,
    fields: QueuedFields,
    rest: [usize; 12],
}

#[repr(C)]
struct QueuedFields {
    pid: i32,
    uid: u32,
    value: usize,
}

const _: () = assert!(size_of::<QueuedSignal>() == size_of::<libc::siginfo_t>() || size_of::<usize>() < 8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::{is_no_such_process, pid};

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_handle_distinguishes_processes() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let own = ProcessHandle::open(i64::from(pid())).unwrap();
        let other = ProcessHandle::open(i64::from(child.id())).unwrap();
        assert!(!own.exited().unwrap() && !other.exited().unwrap());
        // Both are absent before Linux 6.9.
        assert_eq!(own.unique_id().is_some(), other.unique_id().is_some());
        assert!(own.unique_id().is_none() || own.unique_id() != other.unique_id());
        assert_eq!(ProcessHandle::open(i64::from(pid())).unwrap().unique_id(), own.unique_id());

        child.kill().unwrap();
        // Waits in the kernel, without a deadline.
        rustix::event::poll(&mut [PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN)], None).unwrap();
        assert!(other.exited().unwrap(), "a zombie");
        child.wait().unwrap();
        assert!(other.exited().unwrap(), "reaped");
        assert!(is_no_such_process(&ProcessHandle::open(i64::from(child.id())).unwrap_err()));
        assert!(!is_no_such_process(&io::ErrorKind::NotFound.into()));
    }
}
