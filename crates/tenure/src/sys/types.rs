//! What every platform's file operations speak of.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "a platform without a port makes none of them"))]

use std::borrow::Cow;
use std::time::SystemTime;

/// What tells a file from every other of this machine, while somebody has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What `stat(2)` says, as far as a lock cares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) id: FileId,
    pub(crate) kind: FileKind,
    pub(crate) links: u64,
    pub(crate) size: u64,
    /// The permission bits, with set-id and sticky.
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) modified: SystemTime,
}

/// As much of a [`Stat`] as tells one file from another. It leaves the times out: a file whose times were asked for must
/// show others after its next write (Linux 6.13, multigrain timestamps), which makes that write half as dear again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileIdent {
    pub(crate) id: FileId,
    pub(crate) kind: FileKind,
    pub(crate) links: u64,
    pub(crate) size: u64,
}

impl Stat {
    pub(crate) fn ident(&self) -> FileIdent {
        FileIdent { id: self.id, kind: self.kind, links: self.links, size: self.size }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
    Unknown,
}

impl FileKind {
    /// In words, with its article.
    pub(crate) fn words(self) -> &'static str {
        match self {
            FileKind::Regular => "a file",
            FileKind::Directory => "a folder",
            FileKind::Symlink => "a symbolic link",
            FileKind::Fifo => "a FIFO",
            FileKind::Socket => "a socket",
            FileKind::CharacterDevice | FileKind::BlockDevice => "a device",
            FileKind::Unknown => "something unknown",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    Shared,
    Exclusive,
}

/// What a lease that was asked for and given back at once says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseOutcome {
    /// No process of this kernel has it open: for writing, where a read lease was asked for; otherwise at all.
    Granted,
    /// Some process has.
    Refused,
    /// Not ours to ask (another user's file, no `CAP_LEASE`), or the file system has no leases.
    Unavailable,
}

/// The byte of an anchor that a native locks while it waits, far behind every record.
pub(crate) const WAITING_MARK: i64 = 1 << 62;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// The file system that a folder is on.
#[derive(Clone, Debug)]
pub(crate) struct FileSystem {
    pub(crate) name: Cow<'static, str>,
    /// May two machines mount it at once? Then a kernel's word about a process is not the last one.
    pub(crate) shared: bool,
}
