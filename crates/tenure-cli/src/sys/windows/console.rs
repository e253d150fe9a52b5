//! The console.

use std::os::windows::io::AsRawHandle;

use windows_sys::Win32::System::Console::{CONSOLE_SCREEN_BUFFER_INFO, GetConsoleScreenBufferInfo};

/// Returns the number of columns of a console's window (`GetConsoleScreenBufferInfo`).
pub(crate) fn columns(terminal: &impl AsRawHandle) -> Option<usize> {
    let mut found = CONSOLE_SCREEN_BUFFER_INFO::default();
    // SAFETY: GetConsoleScreenBufferInfo requires a handle and a pointer to the structure, which is on this stack.
    let done = unsafe { GetConsoleScreenBufferInfo(terminal.as_raw_handle(), &raw mut found) };
    let columns = i32::from(found.srWindow.Right) - i32::from(found.srWindow.Left) + 1;
    usize::try_from(columns).ok().filter(|columns| done != 0 && *columns > 1)
}

/// Returns `true`: a console has no background.
pub(crate) fn in_foreground() -> bool {
    true
}
