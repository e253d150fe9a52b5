//! The kernel's answers about files, converted to the types of the front.

use std::time::{Duration, SystemTime};

use rustix::fs::FileType;

use crate::sys::types::{FileId, FileKind, Stat};

/// Converts what `stat(2)` returns.
#[allow(clippy::unnecessary_cast, reason = "the widths of these fields differ between systems")]
pub(crate) fn stat(found: &rustix::fs::Stat) -> Stat {
    let mode = found.st_mode as u32;
    let seconds = u64::try_from(found.st_mtime).unwrap_or(0);
    let nanoseconds = found.st_mtime_nsec as u32;
    Stat {
        id: FileId { device: found.st_dev as u64, inode: found.st_ino as u64 },
        kind: kind(FileType::from_raw_mode(found.st_mode)),
        links: found.st_nlink as u64,
        size: u64::try_from(found.st_size).unwrap_or(0),
        mode: mode & 0o7777,
        owner: found.st_uid,
        modified: SystemTime::UNIX_EPOCH
            .checked_add(Duration::new(seconds, nanoseconds % 1_000_000_000))
            .unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

/// Converts a file's type (`inode(7)`).
pub(crate) fn kind(file_type: FileType) -> FileKind {
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
