//! A child process that runs.

use std::io;
use std::os::windows::io::AsRawHandle;
use std::process::ExitStatus;

use windows_sys::Win32::Foundation::{HANDLE, STATUS_CONTROL_C_EXIT, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{GetExitCodeProcess, TerminateProcess, WaitForSingleObject};

use super::numbers::{SIGBREAK, SIGINT, SIGKILL, SIGTERM};

/// A child of this process. While this lives, no other process has its pid.
pub(crate) struct Child(std::process::Child);

impl Child {
    pub(super) fn new(process: std::process::Child) -> Child {
        Child(process)
    }

    pub(super) fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends the child, if the signal would end it on Unix (`TerminateProcess`). Windows has no other signals.
    ///
    /// Its exit code for Ctrl-C is that of a process that the console has ended.
    pub(crate) fn signal(&self, signal: i32) {
        let code = match signal {
            SIGKILL | SIGTERM => 128 + signal,
            SIGINT | SIGBREAK => STATUS_CONTROL_C_EXIT,
            _ => return,
        };
        // SAFETY: TerminateProcess requires a process's handle, which `self` has.
        unsafe { TerminateProcess(self.raw(), code.cast_unsigned()) };
    }

    /// Returns whether the child has ended (`WaitForSingleObject`).
    pub(crate) fn has_ended(&self) -> bool {
        // SAFETY: WaitForSingleObject requires an open handle, which `self` has.
        unsafe { WaitForSingleObject(self.raw(), 0) == WAIT_OBJECT_0 }
    }

    /// Returns the exit code of a child that has ended (`GetExitCodeProcess`).
    pub(crate) fn exit_code(&self) -> Option<i32> {
        let mut code = 0;
        // SAFETY: GetExitCodeProcess requires a process's handle, which `self` has, and a place for the code.
        let known = self.has_ended() && unsafe { GetExitCodeProcess(self.raw(), &raw mut code) } != 0;
        known.then_some(code.cast_signed())
    }

    /// Returns `false`: a process of Windows is not stopped by its console.
    pub(crate) fn has_stopped(&self) -> bool {
        false
    }

    pub(crate) fn is_still_stopped(&self) -> bool {
        false
    }

    /// Waits until the child ends.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

/// Returns SIGINT where Ctrl-C ended the process.
pub(crate) fn ended_by(status: ExitStatus) -> Option<i32> {
    (status.code() == Some(STATUS_CONTROL_C_EXIT)).then_some(SIGINT)
}
