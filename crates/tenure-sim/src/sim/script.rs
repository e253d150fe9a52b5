//! The scripts: who is there, what was left from before, and what may go wrong.

use crate::kernel::state::FileSystemKind;
use crate::kernel::world::Call;
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

const PLAIN: Script = Script {
    name: "",
    about: "",
    left: &[],
    actors: &[],
    opening: &[],
    fs: FileSystemKind::LOCAL,
    users: false,
    deaths: 0,
    failures: 0,
    every_error: false,
    torn: false,
    preemptions: None,
};

const USERS: Script = Script { fs: SHARED_FOLDER, users: true, deaths: 1, ..PLAIN };

const LOCK_FILE: Actor = Actor::Native { style: Style::LockFile, rounds: 1 };
const LOCK_FILE_TWICE: Actor = Actor::Native { style: Style::LockFile, rounds: 2 };
const FLOCK: Actor = Actor::Native { style: Style::Flock, rounds: 1 };
const FLOCK_TWICE: Actor = Actor::Native { style: Style::Flock, rounds: 2 };
const FLOCK_WAITER: Actor = Actor::Waiter { style: Style::Flock, shared: false, rounds: 1 };
const SHARER: Actor = Actor::Waiter { style: Style::Flock, shared: true, rounds: 1 };
const PAIR: Actor = Actor::Crowd { style: Style::LockFile, threads: 2, rounds: 1, waits: Waits::ForHelper };
const PAIR_TWICE: Actor = Actor::Crowd { style: Style::LockFile, threads: 2, rounds: 2, waits: Waits::ForHelper };
const THREE: Actor = Actor::Crowd { style: Style::LockFile, threads: 3, rounds: 1, waits: Waits::ForHelper };
const FLOCK_PAIR: Actor = Actor::Crowd { style: Style::Flock, threads: 2, rounds: 1, waits: Waits::ForHelper };
const SEATED: Actor = Actor::Crowd { style: Style::LockFile, threads: 1, rounds: 2, waits: Waits::Itself };
const SEATED_PAIR: Actor = Actor::Crowd { style: Style::LockFile, threads: 2, rounds: 1, waits: Waits::Itself };
const SEATED_FLOCK_PAIR: Actor = Actor::Crowd { style: Style::Flock, threads: 2, rounds: 1, waits: Waits::Itself };
const LATE_PAIR: Actor = Actor::Crowd { style: Style::LockFile, threads: 2, rounds: 1, waits: Waits::UntilDeadline };
const LATE_FLOCK_PAIR: Actor = Actor::Crowd { style: Style::Flock, threads: 2, rounds: 1, waits: Waits::UntilDeadline };
const BREAK: Actor = Actor::Break { force: true };
const WAITER: Actor = Actor::Waiter { style: Style::LockFile, shared: false, rounds: 1 };
const HOLDER: Actor = Actor::Holder { style: Style::LockFile };
/// The first native judges a dead lock file; a foreign program takes its place; the native exchanges that away and dies.
const CUT_OFF: &[Opening] = &[
    Opening::Until(0, Call::Rename),
    Opening::Until(1, Call::Write),
    Opening::Until(1, Call::Step),
    Opening::Once(0),
    Opening::Dies(0),
];
/// And then another foreign program finds the dead native's lock file, and holds beside the first.
const CUT_OFF_BESIDE_ANOTHER: &[Opening] = &[
    Opening::Until(0, Call::Rename),
    Opening::Until(1, Call::Write),
    Opening::Until(1, Call::Step),
    Opening::Once(0),
    Opening::Dies(0),
    Opening::Until(2, Call::Write),
    Opening::Until(2, Call::Step),
];
const FOREIGN: Actor = Actor::Foreign { rounds: 1 };
const NO_LINKS: FileSystemKind = FileSystemKind { links: Err(libc::EPERM), ..FileSystemKind::LOCAL };
const NO_LINKS_NOR_EXCHANGE: FileSystemKind =
    FileSystemKind { links: Err(libc::EOPNOTSUPP), exchange: false, ..FileSystemKind::LOCAL };
/// As a local one behind FUSE.
const FUSE: FileSystemKind = FileSystemKind { shared: true, ..FileSystemKind::LOCAL };
/// As sshfs, but with exclusive renames.
const ALIASES: FileSystemKind =
    FileSystemKind { aliases: true, exchange: false, shared: true, ..FileSystemKind::LOCAL };
/// Everybody may write in it.
const SHARED_FOLDER: FileSystemKind = FileSystemKind { folder_mode: 0o777, ..FileSystemKind::LOCAL };
const NO_EXCHANGE: FileSystemKind = FileSystemKind { exchange: false, ..FileSystemKind::LOCAL };

/// All of them.
pub const SCRIPTS: &[Script] = &[
    Script {
        name: "first",
        about: "two natives, in a folder that has seen none",
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "two",
        about: "two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "two-twice",
        about: "two natives, each of them twice",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, LOCK_FILE_TWICE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "two-errors",
        about: "two natives, one of whose calls fails",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 1,
        failures: 1,
        ..PLAIN
    },
    Script {
        name: "one-errors",
        about: "one native in a folder that has seen none: two of its calls fail, by every error there is",
        actors: &[LOCK_FILE_TWICE],
        deaths: 1,
        failures: 2,
        every_error: true,
        ..PLAIN
    },
    Script {
        name: "three",
        about: "three natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, LOCK_FILE],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "two-flock",
        about: "two natives in flock style",
        left: &[Left::Anchor],
        actors: &[FLOCK, FLOCK],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "mixed",
        about: "a native of each style",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, FLOCK_TWICE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "mixed-flock-1",
        about: "a native of each style beside flock(1) on the target",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, FLOCK, Actor::Flock],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "dead-native",
        about: "two natives find one that died while it held",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-native-mixed",
        about: "natives of each style find one that died while it held",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-flock-native",
        about: "natives of each style find one in flock style that died while it held",
        left: &[Left::DeadFlockNative],
        actors: &[LOCK_FILE, FLOCK],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-foreign",
        about: "two natives find a dead foreign program's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-foreign-mixed",
        about: "natives of each style find a dead foreign program's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FLOCK],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-native-foreign",
        about: "natives of each style and a foreign program find a native that died while it held",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK, FOREIGN],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "recycled",
        about: "a native and a foreign program find a lock file whose pid another process has now",
        left: &[Left::Recycled],
        actors: &[LOCK_FILE, FOREIGN],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "foreign",
        about: "two natives and a foreign program",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, FOREIGN],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "dead-between",
        about: "a native finds a dead foreign program's lock file, and a live one makes its own in between",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE_TWICE, FOREIGN],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "dead-between-two",
        about: "two natives and a foreign program find a dead foreign program's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, LOCK_FILE, FOREIGN],
        deaths: 2,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "two-foreign",
        about: "a native and two foreign programs find a dead one's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FOREIGN, FOREIGN],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "cut-off-takeover",
        about: "a native died right after it had exchanged a live foreign program's file away: a foreign one and a native",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FOREIGN, FOREIGN, LOCK_FILE],
        opening: CUT_OFF,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "cut-off-takeover-clean",
        about: "as before: a foreign one and a clean",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FOREIGN, FOREIGN, Actor::Clean],
        opening: CUT_OFF,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "cut-off-takeover-flock",
        about: "as before, with another foreign program that holds beside the first: natives of each style",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FOREIGN, FOREIGN, FLOCK, LOCK_FILE],
        opening: CUT_OFF_BESIDE_ANOTHER,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "blank",
        about: "a native and a foreign program find a lock file without a word in it, and an hour passes",
        left: &[Left::Blank],
        actors: &[LOCK_FILE, FOREIGN, Actor::Hours],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "container",
        about: "two natives beside a foreign holder whose pid says nothing here",
        left: &[Left::Container],
        actors: &[LOCK_FILE, LOCK_FILE],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "torn",
        about: "a native and a foreign program; each write becomes visible in two parts",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE_TWICE, FOREIGN],
        deaths: 1,
        torn: true,
        ..PLAIN
    },
    Script {
        name: "torn-flock",
        about: "natives of each style find one in flock style that died; each write becomes visible in two parts",
        left: &[Left::DeadFlockNative],
        actors: &[LOCK_FILE, FLOCK],
        deaths: 1,
        torn: true,
        ..PLAIN
    },
    Script {
        name: "waiters",
        about: "two natives that wait in the kernel's queue",
        left: &[Left::Anchor],
        actors: &[WAITER, WAITER],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "waiters-three",
        about: "three natives that wait in the kernel's queue",
        left: &[Left::Anchor],
        actors: &[WAITER, WAITER, WAITER],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "waiters-foreign",
        about: "a waiting native, one that tries, and a foreign program",
        left: &[Left::Anchor],
        actors: &[WAITER, LOCK_FILE, FOREIGN],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "waiters-flock",
        about: "waiting natives in flock style beside flock(1)",
        left: &[Left::Anchor],
        actors: &[FLOCK_WAITER, FLOCK_WAITER, Actor::Flock],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "threads",
        about: "two threads of one process, each of them twice, beside another process",
        left: &[Left::Anchor],
        actors: &[PAIR_TWICE, LOCK_FILE],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "threads-three",
        about: "three threads of one process beside one of another, which waits",
        left: &[Left::Anchor],
        actors: &[THREE, WAITER],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "threads-foreign",
        about: "two threads of one process and a foreign program find a native that died while it held",
        left: &[Left::DeadNative],
        actors: &[PAIR, FOREIGN],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "threads-flock",
        about: "two threads of one process in flock style beside flock(1) and a native with a lock file",
        left: &[Left::Anchor],
        actors: &[FLOCK_PAIR, Actor::Flock, LOCK_FILE],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "threads-break",
        about: "an operator breaks the lock of a process with two threads, beside another",
        left: &[Left::Anchor],
        actors: &[PAIR, LOCK_FILE, BREAK],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "seated",
        about: "two processes that wait in the kernel themselves, each of them twice",
        left: &[Left::Anchor],
        actors: &[SEATED, SEATED],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "seated-threads",
        about: "two threads of one process, of which the first waits in the kernel itself, beside another process",
        left: &[Left::Anchor],
        actors: &[SEATED_PAIR, LOCK_FILE_TWICE],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "seated-late",
        about: "the same until a deadline, at which they are called back",
        left: &[Left::Anchor],
        actors: &[LATE_PAIR, LOCK_FILE_TWICE],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "seated-late-foreign",
        about: "two threads that wait until a deadline, and a foreign program",
        left: &[Left::DeadNative],
        actors: &[LATE_PAIR, FOREIGN],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "seated-flock",
        about: "two threads in flock style that wait in the kernel themselves, beside flock(1) and a native with a lock file",
        left: &[Left::Anchor],
        actors: &[SEATED_FLOCK_PAIR, Actor::Flock, LOCK_FILE],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "seated-late-flock",
        about: "the same until a deadline",
        left: &[Left::Anchor],
        actors: &[LATE_FLOCK_PAIR, Actor::Flock, LOCK_FILE],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "seated-break",
        about: "an operator breaks the lock of one that stays, for two threads of which the first waits in the kernel itself",
        left: &[Left::Anchor],
        actors: &[HOLDER, SEATED_PAIR, BREAK],
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "seated-late-break",
        about: "the same until a deadline",
        left: &[Left::Anchor],
        actors: &[HOLDER, LATE_PAIR, BREAK],
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "shared",
        about: "two that share and one that holds",
        left: &[Left::Anchor],
        actors: &[SHARER, SHARER, FLOCK],
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "clean",
        about: "a clean that prunes, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, Actor::Clean],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "clean-dead",
        about: "a clean and a native find one that died while it held",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, Actor::Clean],
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "clean-dead-foreign",
        about: "a clean, a native and a foreign program find a dead one's lock file",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, Actor::Clean, FOREIGN],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "clean-dead-between",
        about: "a clean and a foreign program find a native that died while it held",
        left: &[Left::DeadNative],
        actors: &[Actor::Clean, FOREIGN],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "clean-two",
        about: "two cleans and a native",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, Actor::Clean, Actor::Clean],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break",
        about: "an operator breaks the lock of whoever holds it, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, BREAK],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break-waiters",
        about: "an operator breaks the lock of a holder, and of those who wait",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, WAITER, BREAK],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break-holder",
        about: "an operator breaks the lock of one that stays, for one that waits",
        left: &[Left::Anchor],
        actors: &[HOLDER, WAITER, BREAK],
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break-foreign",
        about: "an operator breaks the lock, beside a native and a foreign program",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, FOREIGN, BREAK],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "break-gently",
        about: "an operator who spares the living, beside a native and what a dead one left",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, Actor::Break { force: false }],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "users",
        about: "natives of each style and of three users, who may only read and replace each other's anchors",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, FLOCK],
        preemptions: Some(2),
        ..USERS
    },
    Script {
        name: "users-twice",
        about: "two users who take turns",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, FLOCK_TWICE],
        ..USERS
    },
    Script {
        name: "users-dead",
        about: "users of each style find another's dead native",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK],
        ..USERS
    },
    Script {
        name: "users-dead-flock",
        about: "users of each style find another's dead native in flock style",
        left: &[Left::DeadFlockNative],
        actors: &[LOCK_FILE, FLOCK],
        ..USERS
    },
    Script {
        name: "users-dead-foreign",
        about: "users of each style and a foreign program find what another's dead foreign program has left",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE, FLOCK, FOREIGN],
        preemptions: Some(2),
        ..USERS
    },
    Script {
        name: "users-waiters",
        about: "two users who wait in the kernel's queue",
        left: &[Left::Anchor],
        actors: &[WAITER, WAITER],
        ..USERS
    },
    Script {
        name: "users-break",
        about: "an operator breaks the lock of whoever holds it, beside two users",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, BREAK],
        preemptions: Some(2),
        ..USERS
    },
    Script {
        name: "users-clean",
        about: "users of each style, and one who cleans, find another's dead native",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK, Actor::Clean],
        preemptions: Some(2),
        ..USERS
    },
    Script {
        name: "no-links",
        about: "two natives where there are no hard links",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE],
        fs: NO_LINKS,
        deaths: 2,
        ..PLAIN
    },
    Script {
        name: "no-links-dead",
        about: "natives of each style find a dead one's copy, where there are no hard links",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK],
        fs: NO_LINKS,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-dead-flock",
        about: "a native in flock style and a foreign program find a dead native's copy",
        left: &[Left::DeadNative],
        actors: &[FLOCK, FOREIGN],
        fs: NO_LINKS,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-dead-flock-errors",
        about: "as before, and a call fails",
        left: &[Left::DeadNative],
        actors: &[FLOCK, FOREIGN],
        fs: NO_LINKS,
        failures: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "no-links-dead-flock-beside",
        about: "natives of each style and a foreign program find a dead native's copy",
        left: &[Left::DeadNative],
        actors: &[FLOCK, FOREIGN, LOCK_FILE],
        fs: NO_LINKS,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "bereft-flock",
        about: "a native in flock style and a foreign program find a dead native's lock file, whose anchor is gone",
        left: &[Left::DeadNative, Left::NoAnchors],
        actors: &[FLOCK, FOREIGN],
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-dead-errors",
        about: "a native finds a dead one's copy, and a call fails",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE_TWICE],
        fs: NO_LINKS,
        failures: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-break",
        about: "an operator breaks the lock of whoever holds it, beside two natives, where there are no hard links",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, BREAK],
        fs: NO_LINKS,
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "no-links-break-holder",
        about: "an operator breaks the lock of one that stays and shows a copy, for one that waits",
        left: &[Left::Anchor],
        actors: &[HOLDER, WAITER, BREAK],
        fs: NO_LINKS,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "no-links-threads-break",
        about: "an operator breaks the lock of a process with two threads, where there are no hard links",
        left: &[Left::Anchor],
        actors: &[PAIR, BREAK],
        fs: NO_LINKS,
        deaths: 1,
        preemptions: Some(2),
        ..PLAIN
    },
    Script {
        name: "no-links-foreign",
        about: "a native and a foreign program find a dead one's lock file, where there are no hard links",
        left: &[Left::DeadForeign],
        actors: &[LOCK_FILE_TWICE, FOREIGN],
        fs: NO_LINKS,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-nor-exchange",
        about: "two natives find a dead one's copy, where there is no exchange either",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, LOCK_FILE],
        fs: NO_LINKS_NOR_EXCHANGE,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "no-links-nor-exchange-flock",
        about: "a native in flock style and a foreign program find a dead native's copy; no exchange either",
        left: &[Left::DeadNative],
        actors: &[FLOCK, FOREIGN],
        fs: NO_LINKS_NOR_EXCHANGE,
        ..PLAIN
    },
    Script {
        name: "fuse-errors",
        about: "a native and a foreign program where two machines may mount, and a call fails",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, FOREIGN],
        fs: FUSE,
        failures: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "aliases",
        about: "two natives where each name of a file has an inode of its own",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE_TWICE, LOCK_FILE],
        fs: ALIASES,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "aliases-dead",
        about: "natives of each style find a dead one's lock file, where each name of a file has an inode of its own",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE, FLOCK],
        fs: ALIASES,
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "no-exchange",
        about: "two natives find a dead one's lock file, where there is no exchange",
        left: &[Left::DeadNative],
        actors: &[LOCK_FILE_TWICE, LOCK_FILE],
        fs: NO_EXCHANGE,
        deaths: 1,
        ..PLAIN
    },
    Script {
        name: "removed-lock-file",
        about: "a person removes the lock file, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, Actor::User(Removes::LockFile)],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "removed-lock-file-foreign",
        about: "a person removes the lock file, beside a native and a foreign program",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, FOREIGN, Actor::User(Removes::LockFile)],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "removed-anchors",
        about: "a person removes `.tenure`, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE_TWICE, Actor::User(Removes::Anchors)],
        deaths: 1,
        preemptions: Some(3),
        ..PLAIN
    },
    Script {
        name: "looks",
        about: "somebody looks, beside two natives",
        left: &[Left::Anchor],
        actors: &[LOCK_FILE, LOCK_FILE, Actor::Look],
        preemptions: Some(3),
        ..PLAIN
    },
];

/// What no lock can keep, so that the witness has something to see.
pub const UNSOUND: Script = Script {
    name: "removed-both",
    about: "a person removes `.tenure` and the lock file, beside two natives",
    left: &[Left::Anchor],
    actors: &[LOCK_FILE, LOCK_FILE, Actor::User(Removes::Both)],
    preemptions: Some(2),
    ..PLAIN
};

/// The script of that name.
pub fn by_name(name: &str) -> Option<&'static Script> {
    SCRIPTS.iter().chain([&UNSOUND]).find(|script| script.name == name)
}
