//! Files and mounts, identified by `statx(2)`.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, StatxFlags, fstat, makedev, statat, statx};
use rustix::io::Errno;

use crate::sys::types::{FileId, FileIdent};
use crate::sys::unix::stat::{kind, stat};

/// Identifies the file of that name in a folder, not a link's target; without a name, the open file (`statx(2)`).
pub(crate) fn ident(file: BorrowedFd<'_>, name: Option<&CStr>) -> rustix::io::Result<FileIdent> {
    let flags = if name.is_some() { AtFlags::SYMLINK_NOFOLLOW } else { AtFlags::EMPTY_PATH };
    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::NLINK | StatxFlags::SIZE;
    match statx(file, name.unwrap_or(c""), flags, wanted) {
        Ok(found) => Ok(FileIdent {
            id: FileId { device: makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino },
            kind: kind(FileType::from_raw_mode(found.stx_mode.into())),
            links: found.stx_nlink.into(),
            size: found.stx_size,
        }),
        // A sandbox that does not know this call. Some deny all calls that they do not know.
        Err(Errno::NOSYS | Errno::PERM) => match name {
            Some(name) => Ok(stat(&statat(file, name, flags)?).ident()),
            None => Ok(stat(&fstat(file)?).ident()),
        },
        Err(error) => Err(error),
    }
}

/// Returns the number of the open file's names (`statx(2)`).
#[inline]
pub(crate) fn links(file: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    match statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::NLINK) {
        Ok(found) => Ok(found.stx_nlink.into()),
        // As in `ident`.
        Err(Errno::NOSYS | Errno::PERM) => Ok(stat(&fstat(file)?).links),
        Err(error) => Err(error),
    }
}

/// Identifies the mount that a folder was reached through (`statx(2)`, `STATX_MNT_ID`). 0 before Linux 5.8.
pub(crate) fn mount(folder: BorrowedFd<'_>) -> io::Result<u64> {
    let found = statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id })
}
