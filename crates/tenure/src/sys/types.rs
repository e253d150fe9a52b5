//! The types of the front: what every system's calls take and return.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "a platform without a port makes none of them"))]

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// The identity of a file: unique on this machine while some process has the file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A change of a name in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameChange {
    /// A file got the name: it was created, linked or renamed to it.
    Added,
    /// The name was removed, or renamed to another one.
    Removed,
}

/// A file's description, as far as a lock needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) id: FileId,
    pub(crate) kind: FileKind,
    pub(crate) links: u64,
    pub(crate) size: u64,
    /// The permission bits, with set-id and sticky (`inode(7)`).
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) modified: SystemTime,
}

/// The part of a [`Stat`] that tells one file from another.
///
/// It leaves the times out: since Linux 6.13 (multigrain timestamps), a file whose times were read must show others
/// after its next write, which makes that write half as expensive again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileIdent {
    pub(crate) id: FileId,
    pub(crate) kind: FileKind,
    pub(crate) links: u64,
    pub(crate) size: u64,
}

impl Stat {
    /// Returns the part that tells one file from another.
    pub(crate) fn ident(&self) -> FileIdent {
        FileIdent { id: self.id, kind: self.kind, links: self.links, size: self.size }
    }

    /// Returns whether, in this folder, a file may be removed by its owner and the folder's only (`inode(7)`, `S_ISVTX`).
    pub(crate) fn removal_needs_owner(&self) -> bool {
        self.mode & 0o1000 != 0
    }
}

/// The kind of a file.
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
    /// Returns the kind in words, with its article.
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

/// A moment on the clock that no user can set and that stops while the machine is suspended, in nanoseconds. It is
/// half as large as the standard library's, and a difference of two is one subtraction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// Returns the time since `earlier`; zero where that is later.
    #[inline]
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The kind of a kernel lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    Shared,
    Exclusive,
}

/// The answer to a lease that was asked for and given back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseOutcome {
    /// No process of this kernel has the file open: for writing, where a read lease was asked for; otherwise at all.
    Granted,
    /// Some process has the file open.
    Refused,
    /// This user may not ask (another user's file), or the file system has no leases.
    Unavailable,
}

/// The steps by which a dead holder's lock file gives way to the next holder's, as the system's means allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeoverSteps {
    /// The judged file and the next holder's are exchanged in one step, and the file that came out is compared with the
    /// judged one ([`Dir::exchange`](super::Dir::exchange)). The name is never missing.
    Exchange,
    /// The name is removed while it is the judged file's ([`Dir::unlink_same`](super::Dir::unlink_same)). Then the name is
    /// free, and any program may come first.
    Removal,
}

/// The lock files that a system allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockFileKind {
    /// Hard links to the anchor, where the file system has links, and copies elsewhere.
    Link,
    /// Copies only.
    Copy,
}

/// The steps by which a prepared file gets a name that an open file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplaceSteps {
    /// One rename, so that the name is never missing ([`Dir::rename_over`](super::Dir::rename_over)).
    One,
    /// The name is taken from the old file ([`Dir::unlink_same`](super::Dir::unlink_same)), and then given to the new one,
    /// unless another process has made a file of that name in between ([`Dir::rename_new`](super::Dir::rename_new)).
    Two,
}

/// The access that a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// The file system that a folder is on.
#[derive(Clone, Debug)]
pub(crate) struct FileSystem {
    pub(crate) name: Cow<'static, str>,
    /// Whether two machines may mount it at once. If so, this kernel's answer about a process is not final.
    pub(crate) shared: bool,
    /// Whether the kernel lock is a byte-range lock of a server's, so that an exclusive one needs a descriptor that may
    /// write.
    pub(crate) emulates_flock: bool,
}

/// The facts about a process that has not been reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessFacts {
    pub(crate) parent: u64,
    /// Distinguishes processes that had one pid, unless they started within the clock's step.
    pub(crate) start_time: u64,
    /// Whether its first thread has ended. Other threads may live.
    pub(crate) leader_ended: bool,
}

/// A request to a process to end within a time, which arrives with SIGTERM. A process that does not know of such requests
/// gets an ordinary SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndRequest {
    pub(crate) grace: std::time::Duration,
}

#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux carries a request in a signal"))]
impl EndRequest {
    /// The mark of such a request, in the signal's field `si_errno`, which the kernel does not use: "tnre".
    pub(crate) const MARK: i32 = 0x746e_7265;

    /// Returns the value of the signal: the time in milliseconds.
    pub(crate) fn value(self) -> i32 {
        i32::try_from(self.grace.as_millis()).unwrap_or(i32::MAX)
    }

    /// Returns the request that a signal carries by these fields.
    pub(crate) fn of_signal(errno: i32, value: i32) -> Option<EndRequest> {
        let grace = u64::try_from(value).ok().filter(|_| errno == EndRequest::MARK)?;
        Some(EndRequest { grace: std::time::Duration::from_millis(grace) })
    }
}
