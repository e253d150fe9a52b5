//! The scripts: who is there, what was left from before, and what may go wrong.

use crate::options::Style;
use crate::sys::sim::kernel::FileSystemKind;

/// A process.
#[derive(Clone, Copy, Debug)]
pub enum Actor {
    /// A native that tries, and tries again when something has changed: `acquire::attempt`, `acquire::unlock`.
    Native { style: Style, rounds: usize },
    /// A native that waits in its process's queue, whose helper waits in the kernel's: `acquire::step`.
    Waiter { style: Style, shared: bool, rounds: usize },
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

/// What a person removes.
#[derive(Clone, Copy, Debug)]
pub enum Removes {
    LockFile,
    Anchors,
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
    /// A foreign program of another container holds: its pid says nothing, but it has its lock file open.
    Container,
}

/// A script.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub name: &'static str,
    pub about: &'static str,
    pub left: &'static [Left],
    pub actors: &'static [Actor],
    pub fs: FileSystemKind,
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

const PLAIN: Script = Script {
    name: "",
    about: "",
    left: &[],
    actors: &[],
    fs: FileSystemKind::LOCAL,
    deaths: 0,
    failures: 0,
    every_error: false,
    torn: false,
    preemptions: None,
};

const LOCK_FILE: Actor = Actor::Native { style: Style::LockFile, rounds: 1 };
const LOCK_FILE_TWICE: Actor = Actor::Native { style: Style::LockFile, rounds: 2 };
const FLOCK: Actor = Actor::Native { style: Style::Flock, rounds: 1 };
const WAITER: Actor = Actor::Waiter { style: Style::LockFile, shared: false, rounds: 1 };
const FOREIGN: Actor = Actor::Foreign { rounds: 1 };
const NO_LINKS: FileSystemKind = FileSystemKind { links: Err(libc::EPERM), ..FileSystemKind::LOCAL };
const NO_LINKS_NOR_EXCHANGE: FileSystemKind =
    FileSystemKind { links: Err(libc::EOPNOTSUPP), exchange: false, ..FileSystemKind::LOCAL };
const NO_EXCHANGE: FileSystemKind = FileSystemKind { exchange: false, ..FileSystemKind::LOCAL };

/// All of them.
pub const SCRIPTS: &[Script] = &[
    Script {
        name: "two",
        about: "two natives",
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 2,
        ..PLAIN
    },
];

/// The script of that name.
pub fn by_name(name: &str) -> Option<&'static Script> {
    SCRIPTS.iter().find(|script| script.name == name)
}
