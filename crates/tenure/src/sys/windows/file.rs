//! Open files, and the kernel lock on them.

use std::io::{self, Write};
use std::os::windows::fs::FileExt;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use windows_sys::Wdk::Storage::FileSystem::FILE_OPEN;
use windows_sys::Win32::Storage::FileSystem::FILE_GENERIC_READ;

use super::ident::{Volume, stat};
use super::inherit::Inherited;
use super::nt::{Open, SHARE_ALL, reopen};
use super::range_lock::{self, Range};
use super::share;
use crate::sys::no_interrupts::InterruptHandle;
use crate::sys::types::{FileIdent, LeaseOutcome, LockKind, Stat};

/// The maximum number of attempts to set a mark while another process checks for marks.
const MARK_TRIES: u32 = 3;

/// An open file that may carry a kernel lock.
#[derive(Debug)]
pub(crate) struct File {
    handle: Arc<std::fs::File>,
    /// The folder that the name is relative to, and that name, for a watch.
    folder: Arc<OwnedHandle>,
    name: Vec<u16>,
    volume: Volume,
    range: Range,
    lock: Mutex<LockState>,
    /// Notified when a wait in the kernel is over.
    waited: Condvar,
    /// Whether this open file carries the mark of a waiter.
    marked: AtomicBool,
    /// The handle by which no program can remove the file's name.
    keeper: Arc<Keeper>,
}

/// A handle that is open so that no program can remove or rename a file, until it is taken.
#[derive(Debug, Default)]
pub(super) struct Keeper(Mutex<Option<OwnedHandle>>);

impl Keeper {
    pub(super) fn set(&self, handle: OwnedHandle) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }

    /// Closes the handle. Returns whether there was one.
    pub(super) fn close(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

/// The kernel lock of an open file.
#[derive(Debug, Default)]
struct LockState {
    held: Option<Held>,
    /// Whether a thread waits in the kernel.
    waiting: bool,
}

#[derive(Debug)]
struct Held {
    kind: LockKind,
    /// The handle that has the lock, where it was waited for. `None` means the file's own.
    waiter: Option<OwnedHandle>,
}

impl File {
    pub(super) fn new(
        handle: OwnedHandle,
        folder: Arc<OwnedHandle>,
        name: &[u16],
        volume: Volume,
        range: Range,
    ) -> File {
        File {
            handle: Arc::new(handle.into()),
            folder,
            name: name.to_vec(),
            volume,
            range,
            lock: Mutex::default(),
            waited: Condvar::new(),
            marked: AtomicBool::new(false),
            keeper: Arc::default(),
        }
    }

    /// Describes this file (`NtQueryInformationFile`).
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        stat(self.handle(), self.volume)
    }

    /// Identifies this file.
    pub(crate) fn ident(&self) -> io::Result<FileIdent> {
        Ok(self.stat()?.ident())
    }

    /// Returns the number of this file's names.
    pub(crate) fn links(&self) -> io::Result<u64> {
        Ok(self.stat()?.links)
    }

    /// Fails as unsupported: Windows has no mode. The caller compares what [`stat`](File::stat) shows.
    pub(crate) fn chmod(&self, _mode: u32) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "Windows has access lists and no modes"))
    }

    fn state(&self) -> MutexGuard<'_, LockState> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquires the kernel lock if it is free (`LockFileEx`). Returns `false` if it is not.
    ///
    /// As with `flock(2)`, the lock belongs to the open file: a thread acquires what another thread has acquired by the
    /// same [`File`]. A lock of the other kind is unlocked first.
    pub(crate) fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        let mut state = self.state();
        if self.has_or_drops(&mut state, kind)? {
            return Ok(true);
        }
        let locked = range_lock::try_lock(self.handle(), self.range, kind)?;
        if locked {
            state.held = Some(Held { kind, waiter: None });
        }
        Ok(locked)
    }

    /// Acquires the kernel lock, waiting in the kernel's queue (`LockFileEx`). A wait cannot be interrupted.
    ///
    /// It waits with a handle of its own: Windows makes every call with a handle wait for the one before it.
    pub(crate) fn lock(&self, kind: LockKind, _interrupt: Option<&InterruptHandle>) -> io::Result<bool> {
        let mut state = self.state();
        loop {
            if self.has_or_drops(&mut state, kind)? {
                return Ok(true);
            }
            if !state.waiting {
                break;
            }
            state = self.waited.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting = true;
        drop(state);
        let waited = self.wait_for_lock(kind);
        let mut state = self.state();
        state.waiting = false;
        self.waited.notify_all();
        let waiter = waited?;
        // Another thread may have a share by the file's own handle. One is enough, and this one is closed.
        if state.held.is_none() {
            state.held = Some(Held { kind, waiter: Some(waiter) });
        }
        Ok(true)
    }

    fn wait_for_lock(&self, kind: LockKind) -> io::Result<OwnedHandle> {
        let how = Open {
            access: FILE_GENERIC_READ,
            share: SHARE_ALL,
            disposition: FILE_OPEN,
            options: 0,
            attributes: 0,
            asynchronous: false,
        };
        let handle = reopen(self.handle(), how)?;
        range_lock::lock(handle.as_handle(), self.range, kind)?;
        Ok(handle)
    }

    /// Returns whether this open file has the lock in this kind. A lock of the other kind is unlocked.
    fn has_or_drops(&self, state: &mut LockState, kind: LockKind) -> io::Result<bool> {
        match &state.held {
            Some(held) if held.kind == kind => Ok(true),
            Some(_) => self.release(state).map(|()| false),
            None => Ok(false),
        }
    }

    fn release(&self, state: &mut LockState) -> io::Result<()> {
        match state.held.take() {
            None => Ok(()),
            Some(Held { waiter: None, .. }) => range_lock::unlock(self.handle(), self.range),
            // Its handle is closed as well.
            Some(Held { waiter: Some(handle), .. }) => range_lock::unlock(handle.as_handle(), self.range),
        }
    }

    /// Releases the kernel lock (`UnlockFileEx`), and removes this open file's [mark](File::mark_waiting).
    pub(crate) fn unlock(&self) -> io::Result<()> {
        let unlocked = self.release(&mut self.state());
        self.unmark();
        unlocked
    }

    /// Marks that this open file's owner waits for the lock, until [`unlock`](File::unlock) or [`unmark`](File::unmark):
    /// a shared lock of another byte (`LockFileEx`).
    pub(crate) fn mark_waiting(&self) {
        for _ in 0..MARK_TRIES {
            match range_lock::try_lock(self.handle(), Range::MARK, LockKind::Shared) {
                Ok(true) => return self.marked.store(true, Ordering::Relaxed),
                // A holder is checking for marks at this moment.
                Ok(false) => std::thread::yield_now(),
                Err(_) => return,
            }
        }
    }

    /// Removes the mark (`UnlockFileEx`).
    pub(crate) fn unmark(&self) {
        if self.marked.swap(false, Ordering::Relaxed) {
            let _ = range_lock::unlock(self.handle(), Range::MARK);
        }
    }

    /// Returns whether another open file carries a waiter's mark: then the byte cannot be locked exclusively
    /// (`LockFileEx`). `false` where that cannot be asked.
    pub(crate) fn has_waiters(&self) -> bool {
        let own = self.marked.load(Ordering::Relaxed);
        self.unmark();
        let free = range_lock::try_lock(self.handle(), Range::MARK, LockKind::Exclusive);
        if matches!(free, Ok(true)) {
            let _ = range_lock::unlock(self.handle(), Range::MARK);
        }
        if own {
            self.mark_waiting();
        }
        matches!(free, Ok(false))
    }

    /// Marks the byte of that number, far behind every record, until the file is closed: a shared lock of it
    /// (`LockFileEx`).
    pub(crate) fn mark_numbered(&self, number: u64) -> io::Result<()> {
        for _ in 0..MARK_TRIES {
            if range_lock::try_lock(self.handle(), Range::numbered(number)?, LockKind::Shared)? {
                return Ok(());
            }
            // Another process is checking for this mark at this moment.
            std::thread::yield_now();
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Returns whether another open file has marked the byte of that number: then it cannot be locked exclusively
    /// (`LockFileEx`).
    pub(crate) fn is_numbered_marked(&self, number: u64) -> io::Result<bool> {
        let range = Range::numbered(number)?;
        let free = range_lock::try_lock(self.handle(), range, LockKind::Exclusive)?;
        if free {
            range_lock::unlock(self.handle(), range)?;
        }
        Ok(!free)
    }

    /// Reads from the start, until `buffer` is full or the file ends (`ReadFile`).
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.handle.seek_read(&mut buffer[filled..], filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    /// Reads from the start in one call, which returns fewer bytes where the file ends (`ReadFile`).
    pub(crate) fn read_part(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.handle.seek_read(buffer, 0)
    }

    /// Writes all bytes (`WriteFile`).
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match self.handle.seek_write(&bytes[written..], offset + written as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => written += n,
            }
        }
        Ok(())
    }

    /// Writes all bytes at the end of a file from [`Dir::open_to_append`](super::Dir::open_to_append) (`WriteFile`).
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.handle).write_all(bytes)
    }

    /// Flushes what was written to the disk (`FlushFileBuffers`).
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    /// Returns whether a program has the file open for writing. This process must not have it open for writing itself.
    pub(crate) fn read_lease(&self) -> LeaseOutcome {
        share::open_for_writing(self.handle())
    }

    /// Returns whether a program has the file open for writing, or without letting others delete it.
    pub(crate) fn write_lease(&self) -> LeaseOutcome {
        share::open_without_sharing(self.handle())
    }

    /// Fails as unsupported: on Windows a lock ends with the process that took it, whatever handles its children have.
    pub(crate) fn duplicate(&self) -> io::Result<Inherited> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "on Windows a lock ends with the process that took it, and no child can keep it",
        ))
    }

    pub(super) fn handle(&self) -> BorrowedHandle<'_> {
        self.handle.as_handle()
    }

    /// Returns the handle for an owner that may outlive this [`File`].
    pub(super) fn shared_handle(&self) -> Arc<std::fs::File> {
        Arc::clone(&self.handle)
    }

    pub(super) fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// Returns the folder that the file's name is relative to, and that name.
    pub(super) fn place(&self) -> (BorrowedHandle<'_>, &[u16]) {
        (self.folder.as_handle(), &self.name)
    }
}
