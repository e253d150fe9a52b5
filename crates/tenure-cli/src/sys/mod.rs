//! Every system call of the command, one file a platform.

pub(crate) mod doctor;
#[cfg(target_os = "linux")]
mod inherited;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod mortal;
#[cfg(target_os = "linux")]
mod procfs;
#[cfg(target_os = "linux")]
mod tree;
#[cfg(target_os = "linux")]
mod watch;
#[cfg(target_os = "linux")]
pub(crate) use {linux::*, mortal::kill_with_us, procfs::*, tree::Tree, watch::Watch};

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::*;

/// What the signals' pipe tells.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "made only where there is a port"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A signal came.
    Signal(Arrival),
    /// A thread of this process called [`Waker::wake`].
    Woken,
}

/// A signal that came to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) signal: i32,
    /// The kernel sent it: a key at the terminal, a hangup, a new window size. Its whole process group got it.
    pub(crate) from_terminal: bool,
    /// Who sent it, where a process did.
    pub(crate) sender: i32,
    /// It came when there was no command yet, which so cannot have got it.
    pub(crate) before_the_command: bool,
}

/// What a [`Watch`] noticed, from the least to the most.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "made only where there is a port"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stir {
    Nothing,
    /// It is worth a look.
    Something,
    /// The lock file itself came, went or was exchanged.
    LockFile,
}

/// A file or folder that a process has open.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "made only where there is a port"))]
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// Its name when it was opened, or since it was renamed.
    pub(crate) path: std::path::PathBuf,
    /// Major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// No name is left.
    pub(crate) gone: bool,
    /// `path` is this file for us too: it may be another's by now, or in another mount namespace.
    pub(crate) visible: bool,
    /// `/proc/<pid>/fdinfo/<fd>`.
    pub(crate) info: String,
}

/// Makes a file that holds `bytes`, or writes over the one that is there.
#[allow(clippy::disallowed_methods)]
pub(crate) fn write_file(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(path, bytes)
}
