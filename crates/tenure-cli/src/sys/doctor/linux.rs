//! Linux.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Stdio;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::Signal;
use rustix::time::ClockId;

/// Makes a folder that is nobody else's; its parent must be there.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Removes a folder of our own with all that is in it. Links are not followed.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    for _ in 0..5 {
        match fs::remove_dir_all(path) {
            // A process that was just killed, or a thread that still tries things, may have added to it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    fs::remove_dir_all(path)
}

/// Words in memory that several processes share: no file system and no lock is involved.
pub(crate) struct SharedWords {
    start: NonNull<AtomicU64>,
    count: usize,
    fd: OwnedFd,
}

// SAFETY: it is only ever used as a slice of atomics, which any thread may use; nothing is tied to the thread.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Makes them, all zero.
    pub(crate) fn create(count: usize) -> io::Result<SharedWords> {
        let fd = rustix::fs::memfd_create(c"tenure-doctor", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&fd, (count * size_of::<AtomicU64>()) as u64)?;
        SharedWords::map(fd, count)
    }

    /// Those that another process made, and gave this one as its standard input.
    pub(crate) fn of_stdin(count: usize) -> io::Result<SharedWords> {
        SharedWords::map(io::stdin().as_fd().try_clone_to_owned()?, count)
    }

    /// For another process's standard input.
    pub(crate) fn descriptor(&self) -> io::Result<Stdio> {
        Ok(self.fd.try_clone()?.into())
    }

    fn map(fd: OwnedFd, count: usize) -> io::Result<SharedWords> {
        let bytes = count * size_of::<AtomicU64>();
        let size = rustix::fs::fstat(&fd)?.st_size;
        if usize::try_from(size) != Ok(bytes) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not the doctor's memory"));
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel likes: it replaces none that is in use.
        let start = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, &fd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap gave no memory"))?;
        Ok(SharedWords { start, count, fd })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has `count` words, page-aligned, zero or what some process stored atomically; it lasts as
        // long as `self`, its file is never made shorter, and every process touches it through atomics only.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `map`, whole; no slice of it outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.count * size_of::<AtomicU64>()) };
    }
}

/// This process is killed when `parent`, or the thread of it that started this, ends. Fails where it has ended already.
pub(crate) fn die_with(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    match rustix::process::getppid() {
        Some(now) if now.as_raw_nonzero().get().cast_unsigned() == parent => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "the doctor has ended")),
    }
}

/// Nanoseconds on the monotonic clock, the same for every process of this machine.
pub(crate) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// How many columns standard output has, where it is a terminal.
pub(crate) fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
