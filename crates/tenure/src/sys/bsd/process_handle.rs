//! Processes, watched by their pids (`kqueue(2)`, `EVFILT_PROC`).

use std::io;

use rustix::event::kqueue::{Event, EventFilter, EventFlags, ProcessEvents};

use super::kqueue::Queue;
use crate::sys::unix::checked_pid;

/// The reason for a missing [`ProcessHandle::unique_id`], for messages.
pub(crate) const UNIQUE_ID_SINCE: &str = "this system has none: a start time has a microsecond's precision";

/// A watch of the process that had the pid when the watch was made. The kernel ties it to that process, and not to the pid:
/// it reports that process's end, whatever process has the pid by then.
#[derive(Debug)]
pub(crate) struct ProcessHandle(Queue);

impl ProcessHandle {
    /// Watches a process (`kevent(2)`, `NOTE_EXIT`). Fails as `ESRCH` where there is none with this pid, or it has ended.
    pub(crate) fn open(pid: i64) -> io::Result<ProcessHandle> {
        let pid = checked_pid(pid)?;
        let queue = Queue::new()?;
        let filter = EventFilter::Proc { pid, flags: ProcessEvents::EXIT };
        queue.change(Event::new(filter, EventFlags::ADD, std::ptr::null_mut()))?;
        Ok(ProcessHandle(queue))
    }

    /// Returns whether the process has ended (`poll(2)`): true of a zombie. The event stays in the queue.
    pub(crate) fn exited(&self) -> io::Result<bool> {
        self.0.wait(std::time::Duration::ZERO)
    }

    /// Returns `None`: a process is identified by its pid and its start time.
    pub(crate) fn unique_id(&self) -> Option<u64> {
        None
    }

    /// Fails as unsupported: the system has no signal that is tied to a process and not to a pid, which another process may
    /// have by then.
    pub(crate) fn request_end(&self, _grace: std::time::Duration) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fails as unsupported, as [`ProcessHandle::request_end`] does.
    pub(crate) fn kill(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns the queue, which polls readable once the process has ended.
    pub(super) fn queue(&self) -> &Queue {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::{is_no_such_process, pid};

    #[test]
    fn a_handle_reports_the_end_of_its_process() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let own = ProcessHandle::open(i64::from(pid())).unwrap();
        let other = ProcessHandle::open(i64::from(child.id())).unwrap();
        assert!(!own.exited().unwrap() && !other.exited().unwrap());
        child.kill().unwrap();
        assert!(other.queue().wait(std::time::Duration::from_secs(60)).unwrap());
        for _ in 0..2 {
            assert!(other.exited().unwrap());
        }
        child.wait().unwrap();
        assert!(other.exited().unwrap(), "reaped");
        assert!(is_no_such_process(&ProcessHandle::open(i64::from(child.id())).unwrap_err()));
    }
}
