//! Memory that the processes of `tenure doctor` share, and the clock that they measure by.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::Signal;
use rustix::time::ClockId;

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
        let fd = rustix::fs::memfd_create(c"tenure-doctor", MemfdFlags::CLOEXEC)?;
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
        if usize::try_from(size) != Ok(bytes) {
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

/// Makes the kernel kill this process when `parent`, or the thread of it that started this process, ends. Fails where the
/// parent has ended already.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    match rustix::process::getppid() {
        Some(now) if now.as_raw_nonzero().get().cast_unsigned() == parent => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "the doctor has ended")),
    }
}

/// Returns the nanoseconds of the monotonic clock, which is the same for every process of this machine.
pub(crate) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
