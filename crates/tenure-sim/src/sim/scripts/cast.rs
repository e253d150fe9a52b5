//! The actors, beginnings and file systems that the scripts are made of.

use crate::kernel::call::Call;
use crate::kernel::state::FileSystemKind;
use crate::model::options::Style;
use crate::sim::script::{Actor, Opening, Script, Waits};

pub(super) const PLAIN: Script = Script {
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

pub(super) const USERS: Script = Script { fs: SHARED_FOLDER, users: true, deaths: 1, ..PLAIN };

pub(super) const LOCK_FILE: Actor = Actor::Native { style: Style::LockFile, rounds: 1 };
pub(super) const LOCK_FILE_TWICE: Actor = Actor::Native { style: Style::LockFile, rounds: 2 };
pub(super) const FLOCK: Actor = Actor::Native { style: Style::Flock, rounds: 1 };
pub(super) const FLOCK_TWICE: Actor = Actor::Native { style: Style::Flock, rounds: 2 };
pub(super) const FLOCK_WAITER: Actor = Actor::Waiter { style: Style::Flock, shared: false, rounds: 1 };
pub(super) const SHARER: Actor = Actor::Waiter { style: Style::Flock, shared: true, rounds: 1 };
pub(super) const PAIR: Actor = Actor::Crowd { style: Style::LockFile, threads: 2, rounds: 1, waits: Waits::ForHelper };
pub(super) const PAIR_TWICE: Actor =
    Actor::Crowd { style: Style::LockFile, threads: 2, rounds: 2, waits: Waits::ForHelper };
pub(super) const THREE: Actor = Actor::Crowd { style: Style::LockFile, threads: 3, rounds: 1, waits: Waits::ForHelper };
pub(super) const FLOCK_PAIR: Actor =
    Actor::Crowd { style: Style::Flock, threads: 2, rounds: 1, waits: Waits::ForHelper };
pub(super) const DIRECT: Actor = Actor::Crowd { style: Style::LockFile, threads: 1, rounds: 2, waits: Waits::Itself };
pub(super) const DIRECT_PAIR: Actor =
    Actor::Crowd { style: Style::LockFile, threads: 2, rounds: 1, waits: Waits::Itself };
pub(super) const DIRECT_FLOCK_PAIR: Actor =
    Actor::Crowd { style: Style::Flock, threads: 2, rounds: 1, waits: Waits::Itself };
pub(super) const LATE_PAIR: Actor =
    Actor::Crowd { style: Style::LockFile, threads: 2, rounds: 1, waits: Waits::UntilDeadline };
pub(super) const LATE_FLOCK_PAIR: Actor =
    Actor::Crowd { style: Style::Flock, threads: 2, rounds: 1, waits: Waits::UntilDeadline };
pub(super) const READER: Actor = Actor::Reader;
pub(super) const BREAK: Actor = Actor::Break { force: true };
pub(super) const WAITER: Actor = Actor::Waiter { style: Style::LockFile, shared: false, rounds: 1 };
pub(super) const SUSPENDER: Actor = Actor::Suspender { style: Style::LockFile };
pub(super) const FLOCK_SUSPENDER: Actor = Actor::Suspender { style: Style::Flock };
pub(super) const HOLDER: Actor = Actor::Holder { style: Style::LockFile };
/// The first native judges a dead lock file, a foreign program replaces it, and the native exchanges the live file away and
/// dies.
pub(super) const CUT_OFF: &[Opening] = &[
    Opening::Until(0, Call::Rename),
    Opening::Until(1, Call::Write),
    Opening::Until(1, Call::Step),
    Opening::Once(0),
    Opening::Dies(0),
];
/// Then another foreign program finds the dead native's lock file, and holds beside the first.
pub(super) const CUT_OFF_BESIDE_ANOTHER: &[Opening] = &[
    Opening::Until(0, Call::Rename),
    Opening::Until(1, Call::Write),
    Opening::Until(1, Call::Step),
    Opening::Once(0),
    Opening::Dies(0),
    Opening::Until(2, Call::Write),
    Opening::Until(2, Call::Step),
];
pub(super) const FOREIGN: Actor = Actor::Foreign { rounds: 1 };
pub(super) const NO_LINKS: FileSystemKind = FileSystemKind { links: Err(libc::EPERM), ..FileSystemKind::LOCAL };
pub(super) const NO_LINKS_NOR_EXCHANGE: FileSystemKind =
    FileSystemKind { links: Err(libc::EOPNOTSUPP), exchange: false, ..FileSystemKind::LOCAL };
/// As a local one behind FUSE.
pub(super) const FUSE: FileSystemKind = FileSystemKind { shared: true, ..FileSystemKind::LOCAL };
/// As sshfs, but with exclusive renames.
pub(super) const ALIASES: FileSystemKind =
    FileSystemKind { aliases: true, exchange: false, shared: true, ..FileSystemKind::LOCAL };
/// A folder in which every user may write.
pub(super) const SHARED_FOLDER: FileSystemKind = FileSystemKind { folder_mode: 0o777, ..FileSystemKind::LOCAL };
pub(super) const NO_EXCHANGE: FileSystemKind = FileSystemKind { exchange: false, ..FileSystemKind::LOCAL };
