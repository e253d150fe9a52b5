//! The scripts: who is there, what was left from before, and what may go wrong.

use crate::kernel::call::Call;
use crate::kernel::state::FileSystemKind;
use crate::model::options::Style;

/// A process.
#[derive(Clone, Copy, Debug)]
pub enum Actor {
    /// A native that tries, and tries again when something has changed: `acquire::attempt`, `release::unlock`.
    Native { style: Style, rounds: usize },
    /// A native that waits in its process's queue, whose helper waits in the kernel's: `acquire::step`.
    Waiter { style: Style, shared: bool, rounds: usize },
    /// A native with so many threads, which ask for one lock and block: `TargetQueue::acquire`.
    Crowd { style: Style, threads: usize, rounds: usize, waits: Waits },
    /// A native that acquires and stays.
    Holder { style: Style },
    /// A foreign program with the seed's protocol.
    Foreign { rounds: usize },
    /// `flock(1)` on the target.
    Flock,
    /// `clean`, which prunes anchors of any age.
    Clean,
    /// `break_lock`.
    Break { force: bool },
    /// A person who removes files.
    User(Removes),
    /// `inspect`.
    Look,
    /// An hour passes at some moment.
    Hours,
}

/// How a thread waits that blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// For its process's helper.
    ForHelper,
    /// In the kernel itself, where it is the queue's first: `TargetQueue::serve`.
    Itself,
    /// The same, until a deadline, which may be over at any moment.
    UntilDeadline,
}

/// What a person removes.
#[derive(Clone, Copy, Debug)]
pub enum Removes {
    LockFile,
    Anchors,
    /// Both: then nothing is left that could keep two apart.
    Both,
}

/// What is there when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The lock was in use before, and let go.
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
    /// A foreign program of another container holds: its pid says nothing, but it has its lock file open.
    Container,
}

/// A piece of a run's beginning. Threads and processes are numbered as the actors are.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    /// This thread goes on until it is about to make such a call.
    Until(u8, Call),
    /// This thread makes its call and goes on to the next.
    Once(u8),
    /// This process dies.
    Dies(u8),
    /// This thread goes on until it has ended.
    Ends(u8),
}

/// A script.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub name: &'static str,
    pub about: &'static str,
    pub left: &'static [Left],
    pub actors: &'static [Actor],
    /// How every run begins: what comes after it is explored.
    pub opening: &'static [Opening],
    pub fs: FileSystemKind,
    /// Each process is another user's, and so is what was left. Otherwise all are root's.
    pub users: bool,
    /// How many processes may die.
    pub deaths: u8,
    /// How many calls of natives may fail.
    pub failures: u8,
    /// With every error that the call's manual page lists, instead of one for each way in which the library takes them.
    pub every_error: bool,
    /// A write becomes visible in two parts.
    pub torn: bool,
    /// How often a thread may be interrupted where it could go on; `None`: as often as there are calls.
    pub preemptions: Option<u32>,
}

impl Script {
    /// Whose process this is; 0 is that of what was left.
    pub(super) fn user(&self, process: usize) -> u32 {
        if self.users { 1000 + process as u32 } else { 0 }
    }
}
