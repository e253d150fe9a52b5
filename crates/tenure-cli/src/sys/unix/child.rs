//! A child process that runs.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::this_unix;

/// A child of this process. Only [`Child::wait`] reaps it, so no other process has its pid until then.
pub(crate) struct Child {
    process: std::process::Child,
    /// `None` where there is no such handle (`this_unix::handle`). SIGCHLD and a check once a second report the child's end
    /// there.
    handle: Option<OwnedFd>,
}

impl Child {
    pub(super) fn new(process: std::process::Child) -> Child {
        let handle = Pid::from_raw(process.id().cast_signed()).and_then(this_unix::handle::open);
        Child { process, handle }
    }

    pub(super) fn handle(&self) -> Option<&OwnedFd> {
        self.handle.as_ref()
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends the child a signal. Does nothing where the child has ended.
    pub(crate) fn signal(&self, signal: i32) {
        // The child is not reaped yet, so no other process has the pid.
        if let (Some(pid), Some(signal)) = (self.pid(), rustix::process::Signal::from_named_raw(signal)) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Returns whether the child has ended. Does not reap it.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_changed(WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    /// Returns the exit code of a child that has ended: 128 + N if signal N ended it. Does not reap it.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = rustix::process::waitid(WaitId::Pid(self.pid()?), options).ok()??;
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
    }

    /// Returns whether the child has stopped since the last call, and is still stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        self.has_changed(WaitIdOptions::STOPPED | WaitIdOptions::NOHANG)
    }

    /// Returns whether the child is still in the stop that [`Child::has_stopped`] reported, and in no later one.
    pub(crate) fn is_still_stopped(&self) -> bool {
        this_unix::proc::is_stopped(self.id().cast_signed())
            && !self.has_changed(WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.id().cast_signed())
    }

    fn has_changed(&self, options: WaitIdOptions) -> bool {
        self.pid().is_some_and(|pid| matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(Some(_))))
    }

    /// Waits until the child ends, and reaps it.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.process.wait()
    }
}

/// Returns the signal that ended the process, if one did.
pub(crate) fn ended_by(status: ExitStatus) -> Option<i32> {
    status.signal()
}
