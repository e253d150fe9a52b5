//! Bare system calls: the minimum cost of any lock of this kind, in any language.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

/// A record of the same length as the library's.
pub(crate) const RECORD: [u8; 640] = [b' '; 640];

/// Converts a path for system calls.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(crate) fn open(path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: `path` ends in a NUL and lives during the call; a mode is given, as O_CREAT requires.
    let fd = check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o644) })?;
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn flock(fd: &OwnedFd, operation: libc::c_int) -> io::Result<()> {
    // SAFETY: an open descriptor and no memory.
    check(unsafe { libc::flock(fd.as_raw_fd(), operation) }).map(drop)
}

pub(crate) fn link_at(dir: &OwnedFd, from: &CStr, to: &CStr) -> io::Result<()> {
    // SAFETY: both names end in a NUL and live during the call.
    check(unsafe { libc::linkat(dir.as_raw_fd(), from.as_ptr(), dir.as_raw_fd(), to.as_ptr(), 0) }).map(drop)
}

pub(crate) fn unlink_at(dir: &OwnedFd, name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends in a NUL and lives during the call.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

pub(crate) fn unlink(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends in a NUL and lives during the call.
    check(unsafe { libc::unlink(path.as_ptr()) }).map(drop)
}

/// Raises the limit on open files of this process, and of its children, as far as this user may: root up to the kernel's
/// own maximum (`fs.nr_open`, `proc_sys_fs(5)`).
pub(crate) fn allow_many_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let kernels = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    for most in [kernels.unwrap_or(limit.rlim_max), limit.rlim_max] {
        let raised = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the kernel reads one rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
            return Ok(most);
        }
    }
    Err(io::Error::last_os_error())
}

/// Maps a word that every process shares which maps the same file.
pub(crate) fn shared_word(path: &Path) -> io::Result<&'static AtomicU64> {
    let file = open(&c_path(path)?, libc::O_RDWR | libc::O_CREAT)?;
    // SAFETY: an open descriptor and no memory.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), 4096) })?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping aliases nothing of this process. The file is 4096 bytes long and never shortened.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: aligned to a page, never unmapped, and only ever used as atomics.
    Ok(unsafe { &*page.cast::<AtomicU64>() })
}

/// Writes all of `bytes` at the file's start.
pub(crate) fn write_at_start(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `bytes.len()` bytes of `bytes`.
    let written = unsafe { libc::pwrite(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(written) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::other("a short write")),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Reads from the file's start until `buffer` is full.
pub(crate) fn read_at_start(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<()> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let read = unsafe { libc::pread(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    match usize::try_from(read) {
        Ok(count) if count == buffer.len() => Ok(()),
        Ok(_) => Err(io::Error::other("a short read")),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Looks up the file of a name, and its number of links and bytes; not its times.
pub(crate) fn look_at(dir: &OwnedFd, name: &CStr) -> io::Result<()> {
    statx(dir, name, libc::AT_SYMLINK_NOFOLLOW)
}

/// Looks up the same facts of an open file.
pub(crate) fn look_into(file: &OwnedFd) -> io::Result<()> {
    statx(file, c"", libc::AT_EMPTY_PATH)
}

fn statx(file: &OwnedFd, name: &CStr, flags: libc::c_int) -> io::Result<()> {
    let mut found = MaybeUninit::<libc::statx>::uninit();
    let mask = libc::STATX_INO | libc::STATX_NLINK | libc::STATX_SIZE;
    // SAFETY: the name ends in a NUL; the kernel writes one statx.
    check(unsafe { libc::statx(file.as_raw_fd(), name.as_ptr(), flags, mask, found.as_mut_ptr()) }).map(drop)
}

/// Returns nanoseconds on the clock that all processes of this machine share.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec. It cannot fail with this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns the kernel's release.
pub(crate) fn kernel() -> String {
    let mut name = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the kernel writes one utsname; all of its bytes were zero before, so it is valid in any case.
    let name = unsafe {
        libc::uname(name.as_mut_ptr());
        name.assume_init()
    };
    // SAFETY: the kernel ends the text with a NUL, and unwritten bytes are zero.
    unsafe { CStr::from_ptr(name.release.as_ptr()) }.to_string_lossy().into_owned()
}

/// Returns the name of the file system below `path`.
pub(crate) fn file_system(path: &Path) -> io::Result<String> {
    let path = c_path(path)?;
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `path` ends in a NUL; the kernel writes one statfs, whose bytes were all zero before.
    let stat = unsafe {
        check(libc::statfs(path.as_ptr(), stat.as_mut_ptr()))?;
        stat.assume_init()
    };
    Ok(match stat.f_type as u32 {
        0xEF53 => "ext4".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683E => "btrfs".to_owned(),
        0x794C_7630 => "overlayfs".to_owned(),
        other => format!("file system {other:#x}"),
    })
}
