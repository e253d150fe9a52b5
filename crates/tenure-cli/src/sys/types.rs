//! The types of the platforms' reports. They name no platform.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "constructed only where there is a port"))]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// What a [`FolderWatch`](super::FolderWatch) noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A file or folder in a watched folder changed.
    Entry(Entry),
    /// A watched folder, or its `.tenure`, was removed or moved.
    Gone(Arc<Path>),
    /// The kernel dropped notices, because they arrived faster than they were read.
    Overflow,
    /// The watched process with this pid ended.
    Ended(i64),
    /// A signal or another [`Note`] has arrived.
    Note,
    /// Standard input can be read.
    Input,
    /// The reader of standard output has closed it.
    OutputClosed,
}

/// A change of a file or folder in a watched folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The watched folder, as the caller named it.
    pub(crate) folder: Arc<Path>,
    pub(crate) part: Part,
    pub(crate) name: OsString,
    pub(crate) is_folder: bool,
    pub(crate) what: EntryChange,
}

/// The part of a watched folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The folder itself.
    Folder,
    /// Its `.tenure`.
    Anchors,
}

/// What happened to a name in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryChange {
    Created,
    Removed,
    /// Another name of the same file system was moved here.
    MovedIn,
    MovedOut,
    /// The file was written, or closed after it was open for writing.
    Written,
}

/// A name in a folder.
#[derive(Debug)]
pub(crate) struct FolderEntry {
    pub(crate) name: OsString,
    /// The name is a folder's, and no link's.
    pub(crate) is_folder: bool,
}

/// What ends a wait of a [`FolderWatch`](super::FolderWatch), beside changes.
#[derive(Clone, Copy, Default)]
pub(crate) struct WakeUps {
    /// Whether a [`Note`] wakes the caller. [`Signals`](super::Signals) must be caught before.
    pub(crate) notes: bool,
    /// Whether input wakes the caller.
    pub(crate) input: bool,
    /// Whether a reader that closes standard output wakes the caller.
    pub(crate) output_closed: bool,
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
