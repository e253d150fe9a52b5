//! The kinds of system calls.

/// What a thread is about to do: decides which errors it can be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Its first: it has not begun.
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
    Rename,
    MakeDir,
    RemoveDir,
    Chmod,
    Entries,
    Lock,
    Unlock,
    Read,
    Write,
    /// The second part of a write that the kernel makes in one go, for its maker.
    WriteOn,
    Sync,
    KernelLocks,
    Watch,
    PidFd,
}
