//! The parts of a script: its processes, the files from earlier processes, and the possible faults.

use crate::kernel::call::Call;
use crate::kernel::state::{Face, FileSystemKind};
use crate::model::options::Style;

/// A process.
#[derive(Clone, Copy, Debug)]
pub enum Actor {
    /// A native that tries, and tries again after a change: `acquire::attempt`, `release::unlock`.
    Native { style: Style, rounds: usize },
    /// A native that waits in its process's queue, whose helper waits in the kernel's: `TargetQueue::enqueue`.
    Waiter { style: Style, shared: bool, rounds: usize },
    /// A native that waits in its process's queue, and suspends its tenure once.
    Suspender { style: Style },
    /// A native with several threads that block for one lock: `TargetQueue::acquire`.
    Crowd { style: Style, threads: usize, rounds: usize, waits: Waits },
    /// A native that acquires and stays.
    Holder { style: Style },
    /// A foreign program with OpenClaw's protocol.
    Foreign { rounds: usize },
    /// `flock(1)` on the target.
    Flock,
    /// `clean`, which prunes anchors of any age.
    Clean,
    /// `break_lock`.
    Break { force: bool },
    /// A person who removes files.
    User(Removes),
    /// A program that has the lock file open for a while, on Windows so that its name is kept, as Python's `open` has it.
    Reader,
    /// `status`.
    Look,
    /// An hour that passes at some time.
    Hours,
}

/// How a blocking thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// For its process's helper.
    ForHelper,
    /// In the kernel itself, if it is the first in the queue: `TargetQueue::serve`.
    Itself,
    /// The same, until a deadline, which may pass at any time.
    UntilDeadline,
}

/// The files that a person removes.
#[derive(Clone, Copy, Debug)]
pub enum Removes {
    LockFile,
    Anchors,
    /// Both, so that nothing is left to exclude two holders.
    Both,
}

/// The files at the start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A native acquired and released.
    Anchor,
    /// A native in lock-file style died while it held.
    DeadNative,
    /// A native in flock style died while it held.
    DeadFlockNative,
    /// A foreign program died while it held.
    DeadForeign,
    /// As before, and another process has its pid.
    Recycled,
    /// A foreign program died between create and write.
    Blank,
    /// Then a person removed `.tenure`.
    NoAnchors,
    /// A foreign program of another container holds. Its pid has no meaning here, but it has its lock file open.
    Container,
}

/// A piece of the start of every run. Threads and processes have the numbers of the actors.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    /// This thread continues until it is about to make such a call.
    Until(u8, Call),
    /// This thread makes its call and continues to the next.
    Once(u8),
    /// This process dies.
    Dies(u8),
    /// This thread continues until it has ended.
    Ends(u8),
}

/// A script.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub name: &'static str,
    pub about: &'static str,
    pub left: &'static [Left],
    pub actors: &'static [Actor],
    /// The start of every run. The rest is explored.
    pub opening: &'static [Opening],
    pub fs: FileSystemKind,
    /// Whether each process belongs to another user, and so do the files from before. Otherwise all belong to root.
    pub users: bool,
    /// Maximum number of processes that die.
    pub deaths: u8,
    /// Maximum number of calls of natives that fail.
    pub failures: u8,
    /// Whether they fail with every error that the call's manual page lists, instead of one for each way in which the library
    /// handles them.
    pub every_error: bool,
    /// Whether a write becomes visible in two parts.
    pub torn: bool,
    /// Maximum number of switches from a thread that could continue. `None` is no limit.
    pub preemptions: Option<u32>,
}

impl Script {
    /// Returns this script on another system, or `None` where it has no meaning there.
    pub fn on(&self, face: Face) -> Option<Script> {
        let applies = match face {
            Face::Linux => true,
            // Access lists are not simulated, and neither are file systems but NTFS.
            Face::Windows => self.fs == FileSystemKind::LOCAL && !self.users && self.opening.is_empty(),
            // Copies take an exclusive rename.
            Face::FreeBsd => {
                let links = self.fs.links.is_ok() && !self.fs.aliases && self.fs.folder_mode & 0o1000 == 0;
                links && !self.left.contains(&Left::Container) && self.opening.is_empty()
            }
            // Without leases, only the pid shows whether a foreign program lives.
            Face::MacOs => !self.left.contains(&Left::Container),
        };
        applies.then_some(Script { fs: FileSystemKind { face, ..self.fs }, ..*self })
    }

    /// Returns the user of a process. Process 0 made the files from before.
    pub(super) fn user(&self, process: usize) -> u32 {
        if self.users { 1000 + process as u32 } else { 0 }
    }
}
