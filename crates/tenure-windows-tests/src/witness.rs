//! A witness: it notices that two processes hold at one time, by means that the library does not use.

use std::ptr;

use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, WAIT_ABANDONED, WAIT_OBJECT_0, WAIT_TIMEOUT};
use windows_sys::Win32::System::Threading::{CreateMutexW, ReleaseMutex, WaitForSingleObject};

/// How long a killed holder's mutex may take to be abandoned, in milliseconds: the kernel frees what a process had one by
/// one.
const SETTLES: u32 = 20_000;

/// A mutex of Windows that all actors of a test share.
pub struct Witness(HANDLE);

/// The state that a holder finds as it enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// No other process was inside.
    Alone,
    /// The previous process was killed while it was inside.
    AfterKill,
    /// Another process was inside, and left it in the ordinary way: two held at one time.
    Double,
}

impl Witness {
    /// Opens the witness of this name.
    pub fn open(name: &str) -> Witness {
        let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
        // SAFETY: CreateMutexW requires a name that ends in a zero.
        let mutex = unsafe { CreateMutexW(ptr::null(), 0, name.as_ptr()) };
        assert!(!mutex.is_null(), "a mutex can be made");
        Witness(mutex)
    }

    /// Enters, with the lock held.
    pub fn enter(&self) -> Entered {
        // SAFETY: WaitForSingleObject requires an open handle.
        match unsafe { WaitForSingleObject(self.0, 0) } {
            WAIT_OBJECT_0 => Entered::Alone,
            WAIT_ABANDONED => Entered::AfterKill,
            // SAFETY: as above.
            WAIT_TIMEOUT => match unsafe { WaitForSingleObject(self.0, SETTLES) } {
                WAIT_ABANDONED => Entered::AfterKill,
                // Left by a live holder, or never.
                _ => Entered::Double,
            },
            other => panic!("the witness answers {other:#x}"),
        }
    }

    /// Leaves, before the lock is released.
    pub fn leave(&self) {
        // SAFETY: ReleaseMutex requires an open handle.
        assert!(unsafe { ReleaseMutex(self.0) } != 0, "this thread has entered");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // SAFETY: CloseHandle requires a handle that nothing else closes.
        unsafe { CloseHandle(self.0) };
    }
}
