//! Notices that a lock may have changed, without polling its files.

use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_NOTIFY_CHANGE_FILE_NAME, FILE_NOTIFY_CHANGE_LAST_WRITE, FindCloseChangeNotification,
    FindFirstChangeNotificationW, FindNextChangeNotification,
};
use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_SYNCHRONIZE};

use super::signals::wait_for;
use crate::sys::types::Change;

/// A watch on a lock: on its folder and what is in it (`FindFirstChangeNotificationW`), and on its holder (`OpenProcess`).
///
/// It only reports when to check the lock: it does not report which file has changed. Where there is no folder to watch it reports
/// nothing, and the caller relies on its slow checks.
pub(crate) struct Watch {
    folder: PathBuf,
    changes: Option<Changes>,
    holder: Option<(i64, OwnedHandle)>,
    /// A holder whose end was reported. Its handle would report the end for ever.
    ended: Option<i64>,
}

/// A request for a folder's changes.
struct Changes(HANDLE);

impl Drop for Changes {
    fn drop(&mut self) {
        // SAFETY: FindCloseChangeNotification requires a request's handle that is not used again.
        unsafe { FindCloseChangeNotification(self.0) };
    }
}

impl Watch {
    pub(crate) fn new(target: &Path) -> Watch {
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Watch { folder: folder.to_owned(), changes: None, holder: None, ended: None }
    }

    /// Watches the folder, if it exists now. Must be called before each check, because folders come and go.
    pub(crate) fn watch_folders(&mut self) {
        if self.changes.is_some() {
            return;
        }
        let path: Vec<u16> = self.folder.as_os_str().encode_wide().chain([0]).collect();
        let events = FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_LAST_WRITE;
        // SAFETY: FindFirstChangeNotificationW requires a path that ends in a zero.
        let handle = unsafe { FindFirstChangeNotificationW(path.as_ptr(), 1, events) };
        self.changes = (handle != INVALID_HANDLE_VALUE && !handle.is_null()).then_some(Changes(handle));
    }

    /// Watches the process that holds the lock now. Must be called after each check.
    pub(crate) fn watch_holder(&mut self, pid: Option<i64>) {
        let pid = pid.filter(|&pid| Some(pid) != self.ended);
        if self.holder.as_ref().map(|(pid, _)| *pid) == pid {
            return;
        }
        self.holder = None;
        let Some((pid, number)) = pid.and_then(|pid| Some((pid, u32::try_from(pid).ok()?))) else { return };
        // SAFETY: OpenProcess has no precondition.
        let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE, 0, number) };
        if !process.is_null() {
            // SAFETY: `from_raw_handle` requires a handle that nothing else closes: the successful call has just made it.
            self.holder = Some((pid, unsafe { OwnedHandle::from_raw_handle(process) }));
        }
    }

    /// Waits until a file in the folder changes, the holder ends, or the timeout is over.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<Change> {
        let mut handles: Vec<HANDLE> = Vec::with_capacity(2);
        handles.extend(self.changes.iter().map(|changes| changes.0));
        handles.extend(self.holder.iter().map(|(_, process)| process.as_raw_handle()));
        if handles.is_empty() {
            std::thread::sleep(timeout);
            return Ok(Change::Nothing);
        }
        let Some(found) = wait_for(&handles, Some(timeout))? else { return Ok(Change::Nothing) };
        match &self.changes {
            Some(changes) if found == 0 => {
                // SAFETY: FindNextChangeNotification requires a request's handle.
                if unsafe { FindNextChangeNotification(changes.0) } == 0 {
                    self.changes = None;
                }
            }
            _ => self.ended = self.holder.take().map(|(pid, _)| pid),
        }
        Ok(Change::Possible)
    }
}
