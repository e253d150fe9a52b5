//! Open files, and the kernel lock on them.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, Mode};
use rustix::io::{Errno, retry_on_intr};

use super::fork;
use super::inherit::Inherited;
use super::stat::stat;
use super::this_unix;
use super::this_unix::interrupt::InterruptHandle;
use crate::sys::types::{FileIdent, LeaseOutcome, LockKind, Stat};

/// An open file that may carry a kernel lock. A forked child closes it.
#[derive(Debug)]
pub(crate) struct File {
    fd: ManuallyDrop<OwnedFd>,
    cell: fork::Cell,
    generation: u64,
    /// Whether this open file carries the mark of a waiter.
    marked: AtomicBool,
}

impl File {
    pub(super) fn new(fd: OwnedFd) -> File {
        let cell = fork::enter(fd.as_raw_fd());
        File { fd: ManuallyDrop::new(fd), cell, generation: fork::fork_generation(), marked: AtomicBool::new(false) }
    }

    /// Describes this file (`fstat(2)`).
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&rustix::fs::fstat(&*self.fd)?))
    }

    /// Identifies this file, at less cost than [`stat`](File::stat) (`this_unix::ident`).
    pub(crate) fn ident(&self) -> io::Result<FileIdent> {
        Ok(this_unix::ident::ident(self.fd.as_fd(), None)?)
    }

    /// Returns the number of this file's names, at less cost than [`ident`](File::ident) (`this_unix::ident`).
    pub(crate) fn links(&self) -> io::Result<u64> {
        Ok(this_unix::ident::links(self.fd.as_fd())?)
    }

    /// Sets the permission bits (`fchmod(2)`).
    pub(crate) fn chmod(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&*self.fd, Mode::from_raw_mode(mode as _))?)
    }

    /// Acquires the kernel lock if it is free (`flock(2)`, `LOCK_NB`). Returns `false` if it is not.
    pub(crate) fn try_lock(&self, kind: LockKind) -> io::Result<bool> {
        let operation = match kind {
            LockKind::Shared => FlockOperation::NonBlockingLockShared,
            LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match retry_on_intr(|| rustix::fs::flock(&*self.fd, operation)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Acquires the kernel lock, waiting in the kernel's queue (`flock(2)`). Returns `false` if the wait was interrupted
    /// by `interrupt`.
    pub(crate) fn lock(&self, kind: LockKind, interrupt: Option<&InterruptHandle>) -> io::Result<bool> {
        let operation = match kind {
            LockKind::Shared => FlockOperation::LockShared,
            LockKind::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            if interrupt.is_some_and(InterruptHandle::is_interrupted) {
                return Ok(false);
            }
            match rustix::fs::flock(&*self.fd, operation) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Releases the kernel lock (`flock(2)`, `LOCK_UN`), and removes this open file's [mark](File::mark_waiting).
    pub(crate) fn unlock(&self) -> io::Result<()> {
        let unlocked = retry_on_intr(|| rustix::fs::flock(&*self.fd, FlockOperation::Unlock));
        self.unmark();
        Ok(unlocked?)
    }

    /// Marks that this open file's owner waits for the lock, until [`unlock`](File::unlock) or [`unmark`](File::unmark)
    /// (`this_unix::mark`).
    ///
    /// Holders look for a mark only when they release, so a grant never waits for it. Where byte ranges cannot be locked,
    /// no mark is set.
    pub(crate) fn mark_waiting(&self) {
        if !self.marked.load(Ordering::Relaxed) {
            self.marked.store(this_unix::mark::mark(self.fd.as_fd()).is_ok(), Ordering::Relaxed);
        }
    }

    /// Removes the mark (`this_unix::mark`).
    pub(crate) fn unmark(&self) {
        if self.marked.swap(false, Ordering::Relaxed) {
            let _ = this_unix::mark::unmark(self.fd.as_fd());
        }
    }

    /// Returns whether another open file carries a waiter's mark (`this_unix::mark`). `false` where that cannot be asked.
    pub(crate) fn has_waiters(&self) -> bool {
        this_unix::mark::is_marked(self.fd.as_fd()).unwrap_or(false)
    }

    /// Marks the byte of that number, far behind every record, until the file is closed (`this_unix::mark`). The kernel
    /// removes the mark with the process.
    pub(crate) fn mark_numbered(&self, number: u64) -> io::Result<()> {
        this_unix::mark::mark_numbered(self.fd.as_fd(), number)
    }

    /// Returns whether another open file has marked the byte of that number (`this_unix::mark`).
    pub(crate) fn is_numbered_marked(&self, number: u64) -> io::Result<bool> {
        this_unix::mark::is_numbered_marked(self.fd.as_fd(), number)
    }

    /// Reads from the start, until `buffer` is full or the file ends (`pread(2)`).
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match retry_on_intr(|| rustix::io::pread(&*self.fd, &mut buffer[filled..], filled as u64))? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    /// Reads from the start in one call, which returns fewer bytes where the file ends (`pread(2)`). A FUSE file system may
    /// return fewer elsewhere too.
    pub(crate) fn read_part(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&*self.fd, &mut *buffer, 0))?)
    }

    /// Writes all bytes (`pwrite(2)`). A full disk is an error, even after some bytes were written.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match retry_on_intr(|| rustix::io::pwrite(&*self.fd, &bytes[written..], offset + written as u64))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => written += n,
            }
        }
        Ok(())
    }

    /// Writes all bytes at the end of a file from [`Dir::open_to_append`](super::Dir::open_to_append) (`write(2)`). On a
    /// local file system no other process's bytes come in between, unless the disk is full.
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < bytes.len() {
            match retry_on_intr(|| rustix::io::write(&*self.fd, &bytes[written..]))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => written += n,
            }
        }
        Ok(())
    }

    /// Flushes what was written to the disk or the server (`fsync(2)`): some file systems report only then that they are
    /// full.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fsync(&*self.fd))?)
    }

    /// Tells whether a process of this kernel has the file open for writing. This process must not have it open for
    /// writing itself (`this_unix::lease`).
    pub(crate) fn read_lease(&self) -> LeaseOutcome {
        this_unix::lease::lease(self.fd.as_fd(), LockKind::Shared)
    }

    /// Tells whether a process of this kernel has the file open at all, by another open file than this one
    /// (`this_unix::lease`).
    pub(crate) fn write_lease(&self) -> LeaseOutcome {
        this_unix::lease::lease(self.fd.as_fd(), LockKind::Exclusive)
    }

    /// Returns a second descriptor of the same open file, and so of the same lock, for a child to inherit (`dup(2)`). It
    /// is close-on-exec until [`inherit`](super::inherit()).
    pub(crate) fn duplicate(&self) -> io::Result<Inherited> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&*self.fd, 3)?)
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Returns the descriptor, for the calls that a single Unix has.
    pub(in crate::sys) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.generation == fork::fork_generation() {
            self.cell.leave();
            // SAFETY: `ManuallyDrop::drop` must be called once, and the value not be used again: `self` is being dropped,
            // here alone. In a forked child the descriptor was closed already, and its number may belong to another file
            // by now, so nothing is closed there.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}
