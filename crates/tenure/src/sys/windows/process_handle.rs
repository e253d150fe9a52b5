//! Handles of processes (`OpenProcess`).

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, HANDLE, WAIT_FAILED, WAIT_OBJECT_0, WAIT_TIMEOUT};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_SYNCHRONIZE, WaitForSingleObject,
};

/// The reason for a missing [`ProcessHandle::unique_id`], for messages.
pub(crate) const UNIQUE_ID_SINCE: &str = "Windows has none: the time at which a process was made is enough";

/// A handle of a process. It keeps naming that process after the pid was recycled.
#[derive(Debug)]
pub(crate) struct ProcessHandle(OwnedHandle);

impl ProcessHandle {
    /// Opens a process (`OpenProcess`). The handle of a process that has ended can be opened for as long as another
    /// program has one.
    ///
    /// Every pid is a multiple of four. The kernel ignores the lowest bits, and would open another process than the one
    /// that was recorded.
    pub(crate) fn open(pid: i64) -> io::Result<ProcessHandle> {
        let none = || io::Error::from_raw_os_error(ERROR_INVALID_PARAMETER.cast_signed());
        let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0 && pid.is_multiple_of(4)).ok_or_else(none)?;
        // SAFETY: OpenProcess has no precondition. Children do not inherit the handle.
        let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE, 0, pid) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `from_raw_handle` requires a handle that nothing else closes: the successful call has just made it.
        Ok(ProcessHandle(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// Returns whether the process has ended (`WaitForSingleObject`).
    pub(crate) fn exited(&self) -> io::Result<bool> {
        // SAFETY: WaitForSingleObject requires an open handle, which `self` has.
        match unsafe { WaitForSingleObject(self.raw(), 0) } {
            WAIT_OBJECT_0 => Ok(true),
            WAIT_TIMEOUT => Ok(false),
            WAIT_FAILED => Err(io::Error::last_os_error()),
            other => Err(io::Error::other(format!("WaitForSingleObject returned {other:#x}"))),
        }
    }

    /// Returns `None`: a process is identified by its pid and its creation time.
    pub(crate) fn unique_id(&self) -> Option<u64> {
        None
    }

    /// Asks the process to end. There is no port yet.
    pub(crate) fn request_end(&self, _grace: std::time::Duration) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Ends the process. There is no port yet.
    pub(crate) fn kill(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Returns the handle, which is signalled once the process has ended.
    pub(super) fn raw(&self) -> HANDLE {
        self.0.as_raw_handle()
    }
}

/// Returns whether the error is the one for a process that does not exist (`OpenProcess`).
pub(crate) fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ERROR_INVALID_PARAMETER.cast_signed())
}
