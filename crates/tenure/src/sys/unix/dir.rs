//! Folders, by their descriptors.
//!
//! Every call is relative to a folder's descriptor, never follows a link at the last component, never blocks on a FIFO, and
//! opens close-on-exec. A call that a signal interrupted is repeated.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Dir as DirStream, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::file::File;
use super::name::Name;
use super::stat::{kind, stat};
use super::this_unix;
use crate::sys::types::{Access, FileIdent, FileKind, FileSystem, Stat};

/// An open folder.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

impl Dir {
    /// Opens a folder, following links (`open(2)`): its owner may have moved it.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |flags| retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty()));
        match open(flags | OFlags::RDONLY) {
            // A folder that may be passed through but not listed serves as well.
            Err(Errno::ACCESS) => Ok(Dir(open(flags | this_unix::open::SEARCH)?)),
            other => Ok(Dir(other?)),
        }
    }

    /// Makes a folder and its missing parents (`mkdir(2)`).
    pub(crate) fn create_all(path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    /// Opens a folder in this one (`openat(2)`). Refuses a link.
    pub(crate) fn open_dir(&self, name: &Name) -> io::Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::RDONLY;
        Ok(Dir(retry_on_intr(|| rustix::fs::openat(&self.0, name.as_c_str(), flags, Mode::empty()))?))
    }

    /// Describes this folder (`fstat(2)`).
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(stat(&rustix::fs::fstat(&self.0)?))
    }

    /// Describes the file of that name, not a link's target (`fstatat(2)`). `None` where there is none.
    pub(crate) fn stat_at(&self, name: &Name) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(stat(&found))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Identifies the file of that name, not a link's target, at less cost than [`stat_at`](Dir::stat_at)
    /// (`this_unix::ident`).
    pub(crate) fn ident_at(&self, name: &Name) -> io::Result<Option<FileIdent>> {
        match this_unix::ident::ident(self.0.as_fd(), Some(name.as_c_str())) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Identifies the mount that this folder was reached through. 0 where the kernel does not report
    /// it (`this_unix::ident`).
    pub(crate) fn mount(&self) -> io::Result<u64> {
        this_unix::ident::mount(self.0.as_fd())
    }

    /// Returns whether this user may make and remove files here (`faccessat(2)`).
    pub(crate) fn may_write(&self) -> bool {
        rustix::fs::accessat(
            &self.0,
            c".",
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
            AtFlags::EACCESS,
        )
        .is_ok()
    }

    /// Describes the file system that this folder is on (`this_unix::file_system`).
    pub(crate) fn file_system(&self) -> FileSystem {
        this_unix::file_system::file_system(self.0.as_fd())
    }

    /// Returns the number of bytes that this user may still write on this file system (`fstatvfs(3)`).
    pub(crate) fn free(&self) -> Option<u64> {
        let found = rustix::fs::fstatvfs(&self.0).ok()?;
        found.f_bavail.checked_mul(found.f_frsize)
    }

    /// Opens a file that exists (`openat(2)`).
    ///
    /// While another process asks for a lease ([`File::read_lease`], [`File::write_lease`]), the kernel refuses the open
    /// for some microseconds. The call retries for a second at most, because that process may have been stopped there.
    ///
    /// Reads leave no date where the system allows that, so that the date of the last access shows the programs that
    /// judge a lock file by its text. Linux allows it to the file's owner only.
    pub(crate) fn open_at(&self, name: &Name, access: Access) -> io::Result<File> {
        let mut tries = 1000;
        let mut flags = this_unix::open::QUIET;
        loop {
            match self.open_with(name, access, flags, 0) {
                Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) && !flags.is_empty() => {
                    flags = OFlags::empty();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => return opened,
            }
        }
    }

    /// Opens the target, whose own kernel lock is used (`openat(2)`).
    pub(crate) fn open_target(&self, name: &Name, access: Access) -> io::Result<File> {
        self.open_at(name, access)
    }

    /// Returns what is equal for two names exactly if they are one file's in this folder (`this_unix::name_key`).
    pub(crate) fn name_key<'a>(&self, name: &'a OsStr) -> Cow<'a, OsStr> {
        this_unix::name_key::name_key(self.0.as_fd(), name)
    }

    /// Makes a file that must not exist yet (`openat(2)`, `O_EXCL`).
    pub(crate) fn create_new(&self, name: &Name, mode: u32) -> io::Result<File> {
        self.open_with(name, Access::ReadWrite, OFlags::CREATE | OFlags::EXCL, mode)
    }

    /// Opens a file that exists, so that [`File::append`] writes at its end, whatever others write (`openat(2)`,
    /// `O_APPEND`).
    pub(crate) fn open_to_append(&self, name: &Name) -> io::Result<File> {
        self.open_with(name, Access::ReadWrite, OFlags::APPEND, 0)
    }

    fn open_with(&self, name: &Name, access: Access, more: OFlags, mode: u32) -> io::Result<File> {
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let flags = access | more | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(mode as _);
        let fd = retry_on_intr(|| rustix::fs::openat(&self.0, name.as_c_str(), flags, mode))?;
        Ok(File::new(fd))
    }

    /// Gives a file a second name, which must be free (`linkat(2)`).
    pub(crate) fn link(&self, from: &Name, to: &Name) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::linkat(&self.0, from.as_c_str(), &self.0, to.as_c_str(), AtFlags::empty()))?)
    }

    /// Gives an open file another name in this folder, which must be free (`this_unix::rename`). Fails as not found where
    /// the file has no name any more.
    pub(crate) fn link_open(&self, file: &File, to: &Name) -> io::Result<()> {
        this_unix::rename::link_open(file.descriptor(), self.0.as_fd(), to.as_c_str())
    }

    /// Removes a name (`unlinkat(2)`).
    pub(crate) fn unlink(&self, name: &Name) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.0, name.as_c_str(), AtFlags::empty()))?)
    }

    /// Removes a name in one step, if it is `file`'s. Returns `false`, and removes nothing, if it is another file's or
    /// missing (`this_unix::rename`).
    pub(crate) fn unlink_same(&self, name: &Name, file: &File) -> io::Result<bool> {
        this_unix::rename::unlink_same(self.0.as_fd(), name.as_c_str(), file.descriptor())
    }

    /// Keeps other processes from removing or renaming `name`, which is `file`'s, until
    /// [`unlink_same`](Dir::unlink_same) with that file, or its close. Fails as not found where the name is another file's
    /// by now. No Unix can do that, so this does nothing.
    pub(crate) fn keep_name(&self, _name: &Name, _file: &File) -> io::Result<()> {
        Ok(())
    }

    /// Swaps two names in one step, so that neither is ever missing (`this_unix::rename`).
    pub(crate) fn exchange(&self, one: &Name, other: &Name) -> io::Result<()> {
        this_unix::rename::exchange(self.0.as_fd(), one.as_c_str(), other.as_c_str())
    }

    /// Renames a file to a name that must be free (`this_unix::rename`).
    pub(crate) fn rename_new(&self, from: &Name, to: &Name) -> io::Result<()> {
        this_unix::rename::rename_new(self.0.as_fd(), from.as_c_str(), to.as_c_str())
    }

    /// Renames a file, replacing the file of the new name (`this_unix::rename`).
    pub(crate) fn rename_over(&self, from: &Name, to: &Name) -> io::Result<()> {
        this_unix::rename::rename_over(self.0.as_fd(), from.as_c_str(), to.as_c_str())
    }

    /// Makes a folder (`mkdirat(2)`).
    pub(crate) fn make_dir(&self, name: &Name, mode: u32) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::mkdirat(&self.0, name.as_c_str(), Mode::from_raw_mode(mode as _)))?)
    }

    /// Removes an empty folder (`unlinkat(2)`, `AT_REMOVEDIR`).
    pub(crate) fn remove_dir(&self, name: &Name) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::unlinkat(&self.0, name.as_c_str(), AtFlags::REMOVEDIR))?)
    }

    /// Gives this new folder, which belongs to this process's user, the rights of `parent`: owner (where this is root),
    /// group, mode and access list (`this_unix::rights`).
    ///
    /// # Errors
    ///
    /// Where this folder would grant more than `parent` does. A right that cannot be granted is left out.
    pub(crate) fn take_rights_of(&self, parent: &Dir) -> io::Result<()> {
        this_unix::rights::take_rights_of(self.0.as_fd(), parent.0.as_fd())
    }

    /// Lists the names in this folder, in no order, each with its kind where the file system reports it (`readdir(3)`).
    pub(crate) fn entries(&self) -> io::Result<Vec<(Name, FileKind)>> {
        let mut found = Vec::new();
        // Opened again for reading: a folder that may not be listed then answers EACCES, and not EBADF.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = retry_on_intr(|| rustix::fs::openat(&self.0, c".", flags, Mode::empty()))?;
        for entry in DirStream::new(readable)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                found.push((Name::of_entry(entry.file_name()), kind(entry.file_type())));
            }
        }
        Ok(found)
    }

    /// Returns the descriptor, for the calls that Linux alone has.
    #[cfg(target_os = "linux")]
    pub(in crate::sys) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Returns whether a file system without hard links answers `link(2)` with this error.
pub(crate) fn means_no_links(code: i32) -> bool {
    // The last two are one number on most systems.
    matches!(code, libc::EPERM | libc::ENOSYS) || code == libc::EOPNOTSUPP || code == libc::ENOTSUP
}
