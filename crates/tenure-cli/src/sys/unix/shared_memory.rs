//! Memory that the processes of `tenure doctor` share, and the clock that they measure by.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags};
use rustix::time::ClockId;

use super::this_unix;

/// Words in memory that several processes share. Neither a file system nor a lock is involved.
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    count: usize,
    fd: OwnedFd,
}

// SAFETY: the memory is only used as a slice of atomics, which any thread may use; nothing is tied to a thread.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Creates the words, all zero.
    pub(crate) fn create(count: usize) -> io::Result<SharedWords> {
        let fd = this_unix::memory::create()?;
        rustix::fs::ftruncate(&fd, (count * size_of::<AtomicU64>()) as u64)?;
        SharedWords::map(fd, count)
    }

    /// Maps the words that another process created and passed to this process as standard input.
    pub(crate) fn of_stdin(count: usize) -> io::Result<SharedWords> {
        SharedWords::map(io::stdin().as_fd().try_clone_to_owned()?, count)
    }

    /// Returns the descriptor of the words, for the standard input of another process.
    pub(crate) fn descriptor(&self) -> io::Result<Stdio> {
        Ok(self.fd.try_clone()?.into())
    }

    fn map(fd: OwnedFd, count: usize) -> io::Result<SharedWords> {
        let bytes = count * size_of::<AtomicU64>();
        let size = rustix::fs::fstat(&fd)?.st_size;
        // Some systems round the size up to whole pages.
        if !usize::try_from(size).is_ok_and(|size| size.checked_sub(bytes).is_some_and(|more| more < 1 << 16)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard input is not the doctor's memory"));
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address of the new mapping, so it replaces none that is in use.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, &fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave no memory"))?;
        Ok(SharedWords { start, count, fd })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has `count` words, page-aligned, zero or stored atomically by some process; it lives as long
        // as `self`, its file is never truncated, and every process accesses it through atomics only.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: this is the whole mapping that `map` created; no slice of it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}

/// Returns the nanoseconds of the monotonic clock, which is the same for every process of this machine.
pub(crate) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
