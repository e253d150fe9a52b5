//! The kinds of system calls.

/// The kind of a thread's next call, which decides the errors that the call can return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The thread has not begun.
    Start,
    /// A step of the script's own, which cannot fail.
    Step,
    StatAt,
    Stat,
    Open,
    OpenFolder,
    Create,
    Link,
    Unlink,
    UnlinkSame,
    KeepName,
    Rename,
    MakeDir,
    RemoveDir,
    Chmod,
    Entries,
    Lock,
    Unlock,
    Read,
    Write,
    /// The second part of a write that is one call for the writing process.
    WriteOn,
    Sync,
    KernelLocks,
    Watch,
    PidFd,
}
