//! Files and folders on Linux.
//!
//! Everything is relative to a folder's descriptor, never follows the last component, never blocks on a FIFO, and is
//! closed on exec. An interrupted call is made again.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir as DirStream, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::fork;
use super::interrupt::InterruptHandle;
use crate::sys::types::{Access, FileId, FileIdent, FileKind, FileSystem, LeaseOutcome, LockKind, Stat, WAITING_MARK};

/// A file's name, as the kernel takes it; may hold a `/`, relative to a [`Dir`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(CString);

impl Name {
    /// # Errors
    ///
    /// `InvalidInput` for a name with a NUL in it.
    pub(crate) fn new(name: &OsStr) -> io::Result<Name> {
        Ok(Name(CString::new(name.as_bytes())?))
    }

    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(self.0.as_bytes())
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

/// The longest file name that Linux knows, in bytes.
pub(crate) const NAME_MAX: usize = 255;

/// How many bytes a name has for the kernel.
pub(crate) fn name_len(name: &OsStr) -> usize {
    name.as_bytes().len()
}

/// Does the path end as no file's path does: in `/`, `.` or `..`?
pub(crate) fn ends_without_name(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes.rsplit(|&b| b == b'/').next().unwrap_or_default();
    matches!(last, b"" | b"." | b"..")
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

impl Dir {
    /// Opens a folder, following links on the way: its owner may have put it elsewhere.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |flags| retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty()));
        match open(flags | OFlags::RDONLY) {
            // A folder that may be passed through but not listed serves as well.
            Err(Errno::ACCESS) => Ok(Dir(open(flags | OFlags::PATH)?)),
            other => Ok(Dir(other?)),
        }
    }

    /// Makes a folder and its parents, as `mkdir -p`.
    pub(crate) fn create_all(path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    /// Opens a folder in this one; a link is refused.
    pub(crate) fn open_dir(&self, name: &Name) -> io::Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::RDONLY;
        Ok(Dir(retry_on_intr(|| rustix::fs::openat(&self.0, name.as_c_str(), flags, Mode::empty()))?))
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&rustix::fs::fstat(&self.0)?))
    }

    /// The file of that name, itself and not what it may point at; `None` where there is none.
    pub(crate) fn stat_at(&self, name: &Name) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(stat(&found))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`stat_at`](Dir::stat_at), but brief.
    pub(crate) fn ident_at(&self, name: &Name) -> io::Result<Option<FileIdent>> {
        match ident(&self.0, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) if no_statx(error) => Ok(self.stat_at(name)?.as_ref().map(Stat::ident)),
            Err(error) => Err(error.into()),
        }
    }

    /// Which of the mounts it was reached through. 0 where the kernel does not tell (before Linux 5.8).
    pub(crate) fn mount(&self) -> io::Result<u64> {
        use rustix::fs::StatxFlags;
        let found = rustix::fs::statx(&self.0, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        Ok(if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id })
    }

    /// May this user make and remove files here?
    pub(crate) fn may_write(&self) -> bool {
        rustix::fs::accessat(
            &self.0,
            c".",
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
            AtFlags::EACCESS,
        )
        .is_ok()
    }

    pub(crate) fn file_system(&self) -> FileSystem {
        match retry_on_intr(|| rustix::fs::fstatfs(&self.0)) {
            Ok(found) => file_system(found.f_type as u64 & 0xffff_ffff),
            // Not to be told: treated as the more doubtful kind.
            Err(_) => FileSystem { name: "unknown".into(), shared: true },
        }
    }

    /// How many bytes this user may still write on this file system.
    pub(crate) fn free(&self) -> Option<u64> {
        let found = rustix::fs::fstatvfs(&self.0).ok()?;
        found.f_bavail.checked_mul(found.f_frsize)
    }

    /// Opens what is there. While another process asks for a lease ([`File::read_lease`], [`File::write_lease`]), the
    /// kernel refuses the open for some microseconds. That is waited out, for a second at most, because that process
    /// may have been stopped there.
    ///
    /// Reads leave no date (`O_NOATIME`), so that the date of the last access tells of programs that judge a lock file by
    /// its text. The kernel allows that to the file's owner only.
    pub(crate) fn open_at(&self, name: &Name, access: Access) -> io::Result<File> {
        let mut tries = 1000;
        let mut flags = OFlags::NOATIME;
        loop {
            match self.open_with(name, access, flags, 0) {
                Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) && !flags.is_empty() => {
                    flags = OFlags::empty();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                opened => return opened,
            }
        }
    }

    /// Makes a file that must not exist yet.
    pub(crate) fn create_new(&self, name: &Name, mode: u32) -> io::Result<File> {
        self.open_with(name, Access::ReadWrite, OFlags::CREATE | OFlags::EXCL, mode)
    }

    fn open_with(&self, name: &Name, access: Access, more: OFlags, mode: u32) -> io::Result<File> {
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let flags = access | more | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(mode);
        let fd = retry_on_intr(|| rustix::fs::openat(&self.0, name.as_c_str(), flags, mode))?;
        Ok(File::new(fd))
    }

    pub(crate) fn link(&self, from: &Name, to: &Name) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::linkat(&self.0, from.as_c_str(), &self.0, to.as_c_str(), AtFlags::empty()))?)
    }

    pub(crate) fn unlink(&self, name: &Name) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.0, name.as_c_str(), AtFlags::empty()))?)
    }

    /// Swaps two names in one step: neither is ever missing.
    pub(crate) fn exchange(&self, one: &Name, other: &Name) -> io::Result<()> {
        self.rename_with(one, other, RenameFlags::EXCHANGE)
    }

    /// Renames to a name that must be free.
    pub(crate) fn rename_new(&self, from: &Name, to: &Name) -> io::Result<()> {
        self.rename_with(from, to, RenameFlags::NOREPLACE)
    }

    /// Renames over whatever is there.
    pub(crate) fn rename_over(&self, from: &Name, to: &Name) -> io::Result<()> {
        self.rename_with(from, to, RenameFlags::empty())
    }

    fn rename_with(&self, from: &Name, to: &Name, flags: RenameFlags) -> io::Result<()> {
        let rename = || rustix::fs::renameat_with(&self.0, from.as_c_str(), &self.0, to.as_c_str(), flags);
        Ok(retry_on_intr(rename)?)
    }

    pub(crate) fn make_dir(&self, name: &Name, mode: u32) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::mkdirat(&self.0, name.as_c_str(), Mode::from_raw_mode(mode)))?)
    }

    pub(crate) fn remove_dir(&self, name: &Name) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.0, name.as_c_str(), AtFlags::REMOVEDIR))?)
    }

    /// The names in this folder, in no order, with what kind each is where the file system says so.
    pub(crate) fn entries(&self) -> io::Result<Vec<(Name, FileKind)>> {
        let mut found = Vec::new();
        // Opened anew, for reading: what may only be passed through says so here, and not that its descriptor is bad.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = retry_on_intr(|| rustix::fs::openat(&self.0, c".", flags, Mode::empty()))?;
        for entry in DirStream::new(readable)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                found.push((Name(entry.file_name().to_owned()), kind(entry.file_type())));
            }
        }
        Ok(found)
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An open file that may carry a kernel lock: closed in a forked child.
#[derive(Debug)]
pub(crate) struct File {
    fd: ManuallyDrop<OwnedFd>,
    cell: fork::Cell,
    generation: u64,
    /// Somebody said by it that he waits.
    marked: AtomicBool,
}

impl File {
    fn new(fd: OwnedFd) -> File {
        let cell = fork::enter(fd.as_raw_fd());
        File { fd: ManuallyDrop::new(fd), cell, generation: fork::fork_generation(), marked: AtomicBool::new(false) }
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&rustix::fs::fstat(&*self.fd)?))
    }

    pub(crate) fn ident(&self) -> io::Result<FileIdent> {
        match ident(&*self.fd, c"", AtFlags::EMPTY_PATH) {
            Err(error) if no_statx(error) => Ok(self.stat()?.ident()),
            found => Ok(found?),
        }
    }

    pub(crate) fn chmod(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&*self.fd, Mode::from_raw_mode(mode))?)
    }

    /// Takes the kernel lock if it is free: `Ok(false)` if not.
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

    /// Takes the kernel lock, waiting in the kernel's queue. `false`: the thread was called back from its seat.
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

    pub(crate) fn unlock(&self) -> io::Result<()> {
        let unlocked = retry_on_intr(|| rustix::fs::flock(&*self.fd, FlockOperation::Unlock));
        self.unmark();
        Ok(unlocked?)
    }

    /// Says that somebody waits for this file's lock, until it is [unlocked](File::unlock) or the mark is taken back.
    /// While the lock is held nobody asks, so a grant does not have to wait for that. Where byte ranges cannot be locked
    /// nobody hears of it.
    pub(crate) fn mark_waiting(&self) {
        self.marked.store(self.range_lock(libc::F_OFD_SETLK, libc::F_RDLCK).is_ok(), Ordering::Relaxed);
    }

    /// Takes the mark back.
    pub(crate) fn unmark(&self) {
        if self.marked.swap(false, Ordering::Relaxed) {
            let _ = self.range_lock(libc::F_OFD_SETLK, libc::F_UNLCK);
        }
    }

    /// Has anybody marked that they wait, by another open file than this one? No, where that cannot be asked.
    pub(crate) fn has_waiters(&self) -> bool {
        // Asked for writing, which a lock for reading is in the way of.
        self.range_lock(libc::F_OFD_GETLK, libc::F_WRLCK).is_ok_and(|found| found != libc::F_UNLCK)
    }

    /// The kind of lock that the call leaves in its argument.
    fn range_lock(&self, command: libc::c_int, kind: libc::c_int) -> io::Result<libc::c_int> {
        // SAFETY: `flock` is plain data, for which zeros are a valid value; `l_pid` must be zero here.
        let mut range: libc::flock = unsafe { std::mem::zeroed() };
        range.l_type = kind as libc::c_short;
        range.l_whence = libc::SEEK_SET as libc::c_short;
        range.l_start = WAITING_MARK;
        range.l_len = 1;
        // SAFETY: `self` keeps the descriptor open, and these commands read and write one `flock`, which outlives the call.
        match unsafe { libc::fcntl(self.fd.as_raw_fd(), command, &raw mut range) } {
            0 => Ok(libc::c_int::from(range.l_type)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Reads from the start, until `buffer` is full or the file ends.
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

    /// Reads from the start in one call, which comes back short where the file ends (`read(2)`; a file system of FUSE's may
    /// be as short elsewhere).
    pub(crate) fn read_part(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&*self.fd, &mut *buffer, 0))?)
    }

    /// Writes all of it; a full disk is an error, whatever part was written.
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

    /// Makes sure that what was written has reached the disk, or the server: some file systems tell only then that
    /// there is no room.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::fsync(&*self.fd))?)
    }

    /// Does some process of this kernel have the file open for writing? Ask it of a file that this process itself has
    /// not. Asks for a read lease and gives it back at once (`fcntl(2)`, "Leases").
    pub(crate) fn read_lease(&self) -> LeaseOutcome {
        self.lease(libc::F_RDLCK)
    }

    /// Does some process of this kernel have the file open at all, by another open file than this one? Asks for a write
    /// lease and gives it back at once (`fcntl(2)`, "Leases").
    pub(crate) fn write_lease(&self) -> LeaseOutcome {
        self.lease(libc::F_WRLCK)
    }

    fn lease(&self, kind: libc::c_int) -> LeaseOutcome {
        let fd = self.fd.as_raw_fd();
        // SAFETY: plain fcntl calls with integer arguments on a descriptor that `self` keeps open. F_SETSIG first: a
        // break of the lease must not deliver SIGIO, which ends a process by default; SIGURG is ignored by default.
        unsafe {
            if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0 {
                return LeaseOutcome::Unavailable;
            }
            if libc::fcntl(fd, libc::F_SETLEASE, kind) == 0 {
                libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
                return LeaseOutcome::Granted;
            }
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN) => LeaseOutcome::Refused,
            _ => LeaseOutcome::Unavailable,
        }
    }

    /// A second descriptor of the same open file, and so of the same lock, that a child may inherit.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&*self.fd, 3)?)
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.generation == fork::fork_generation() {
            self.cell.leave();
            // SAFETY: dropped once, here. In a forked child the descriptor is closed already and its number may be
            // another file's by now, so nothing is closed there.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

/// `fcntl(2)`; not in the libc crate for every target.
const F_SETSIG: i32 = 10;

/// A descriptor for a child to inherit.
pub(crate) type Inherited = OwnedFd;

/// Makes every child inherit a descriptor that is started while it is open.
pub(crate) fn inherit_always(fd: &Inherited) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?)
}

/// Makes `command` inherit a descriptor: it loses close-on-exec in the child, between fork and exec.
pub(crate) fn inherit(command: &mut std::process::Command, fd: OwnedFd) {
    use std::os::unix::process::CommandExt;
    let keep = move || Ok(rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty())?);
    // SAFETY: the closure makes one system call and allocates nothing, as what runs between fork and exec must.
    unsafe { command.pre_exec(keep) };
}

/// The numbers that `/proc/locks` has for a device.
pub(crate) fn device_numbers(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The text of `/proc/locks`, and whether one read got all of it: the kernel shows a state of one moment only as far as
/// that (about a page).
pub(crate) fn kernel_locks() -> io::Result<(String, bool)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::openat(CWD, c"/proc/locks", flags, Mode::empty()))?;
    let (mut text, mut reads) = (Vec::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match retry_on_intr(|| rustix::io::read(&fd, &mut buffer[..]))? {
            0 => return Ok((String::from_utf8_lossy(&text).into_owned(), reads <= 1)),
            length => text.extend_from_slice(&buffer[..length]),
        }
        reads += 1;
    }
}

/// `mountinfo`'s line for the mount that a folder is on, by the mount's id (`statx(2)`).
pub(crate) fn mount_line(dir: &Dir) -> Option<String> {
    let mount = dir.mount().ok()?;
    // The name of some other mount need not be UTF-8.
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    crate::sys::kernel_locks::mount_line(&String::from_utf8_lossy(&mounts), mount).map(str::to_owned)
}

fn ident(dir: impl AsFd, name: &CStr, flags: AtFlags) -> rustix::io::Result<FileIdent> {
    use rustix::fs::{StatxFlags, makedev, statx};
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::NLINK | StatxFlags::SIZE;
    let found = statx(dir, name, flags, wanted)?;
    let id = FileId { device: makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino };
    let kind = kind(FileType::from_raw_mode(found.stx_mode.into()));
    Ok(FileIdent { id, kind, links: found.stx_nlink.into(), size: found.stx_size })
}

/// What a sandbox that does not know `statx(2)` answers: some of them deny what they do not know.
fn no_statx(error: Errno) -> bool {
    matches!(error, Errno::NOSYS | Errno::PERM)
}

#[allow(clippy::unnecessary_cast, reason = "the number of links has 32 bits on some architectures")]
fn stat(found: &rustix::fs::Stat) -> Stat {
    let mode = found.st_mode;
    let seconds = u64::try_from(found.st_mtime).unwrap_or(0);
    let nanoseconds = found.st_mtime_nsec as u32;
    Stat {
        id: FileId { device: found.st_dev, inode: found.st_ino },
        kind: kind(FileType::from_raw_mode(mode)),
        links: found.st_nlink as u64,
        size: u64::try_from(found.st_size).unwrap_or(0),
        mode: mode & 0o7777,
        owner: found.st_uid,
        modified: SystemTime::UNIX_EPOCH
            .checked_add(Duration::new(seconds, nanoseconds % 1_000_000_000))
            .unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => FileKind::Unknown,
    }
}

/// By the magic numbers of `statfs(2)`: only what one kernel alone can mount is known as such. Network and cluster file
/// systems, what hands a host's folder to its guests, and what nobody has told us of may be mounted by two.
fn file_system(magic: u64) -> FileSystem {
    let local = [
        (0xef53, "ext4"),
        (0x0102_1994, "tmpfs"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x794c_7630, "overlayfs"),
        (0x4d44, "vfat"),
        (0x2011_bab0, "exfat"),
        (0xf2f5_2010, "f2fs"),
        (0x2fc1_2fc1, "zfs"),
        (0x8584_58f6, "ramfs"),
        (0xca45_1a4e, "bcachefs"),
        (0x7366_746e, "ntfs3"),
        (0x5346_544e, "ntfs"),
        (0x3153_464a, "jfs"),
        (0x5265_4973, "reiserfs"),
        (0x3434, "nilfs2"),
        (0x482b, "hfsplus"),
        (0x1501_3346, "udf"),
        (0x2405_1905, "ubifs"),
        (0x72b6, "jffs2"),
        (0x7371_7368, "squashfs"),
        (0xe0f5_e1e2, "erofs"),
        (0xf15f, "ecryptfs"),
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
        (0x2727_2727, "cgroup"),
    ];
    let shared = [
        (0x6969, "nfs"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb2"),
        (0x517b, "smb"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "fuse"),
        (0x00c3_6400, "ceph"),
        (0x5346_414f, "afs"),
        (0x6b41_4653, "afs"),
        (0x7375_7245, "coda"),
        (0x0116_1970, "gfs2"),
        (0x7461_636f, "ocfs2"),
        (0x0bd0_0bd0, "lustre"),
        (0x4750_4653, "gpfs"),
        (0x786f_4256, "vboxsf"),
        (0xbacb_acbc, "vmhgfs"),
        (0x1983_0326, "fhgfs"),
    ];
    let named = |list: &[(u64, &'static str)]| list.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name);
    match (named(&local), named(&shared)) {
        (Some(name), _) => FileSystem { name: name.into(), shared: false },
        (None, Some(name)) => FileSystem { name: name.into(), shared: true },
        (None, None) => FileSystem { name: Cow::Owned(format!("a file system of type {magic:#x}")), shared: true },
    }
}

/// Is this what a file system without hard links answers to `link(2)`?
pub(crate) fn means_no_links(code: i32) -> bool {
    matches!(code, libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)
}
