//! The types of the platforms' reports. They name no platform.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "constructed only where there is a port"))]

use std::path::PathBuf;
use std::time::Duration;

/// A message from the signal handlers or from another thread, as [`Signals::next`](super::Signals::next) returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A signal arrived.
    Signal(Arrival),
    /// A thread of this process called [`Waker::wake`](super::Waker::wake).
    Woken,
}

/// A signal that arrived at this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) signal: i32,
    /// The kernel sent it to the whole process group: a key at the terminal, a hangup, a new window size.
    pub(crate) from_terminal: bool,
    /// The pid of the sender, where a process sent it; else 0.
    pub(crate) sender: i32,
    /// The time within which this process should end, because another one replaces it ([`tenure::IfBusy::Replace`]).
    pub(crate) grace: Option<Duration>,
    /// The signal arrived before the command was forked, so the command cannot have received it.
    pub(crate) before_the_command: bool,
}

/// A change that a [`Watch`](super::Watch) noticed, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Nothing,
    /// The lock may have changed.
    Possible,
    /// The lock file itself was created, removed or exchanged.
    LockFile,
}

/// Identifies a file on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    /// The major and the minor number of the device.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

/// A file or folder that a process has open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// The name under which it was opened, or to which it was renamed since.
    pub(crate) path: PathBuf,
    pub(crate) id: FileId,
    /// The file has no name left.
    pub(crate) gone: bool,
    /// `path` names the same file in this process. It does not after a replacement, or in another mount namespace.
    pub(crate) visible: bool,
    /// The process has a `flock(2)` on the file.
    pub(crate) flocked: bool,
    /// The process has marked the file as an anchor that it waits for.
    pub(crate) marked: bool,
}
