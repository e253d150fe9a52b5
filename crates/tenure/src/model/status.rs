//! How a lock stands.

use std::path::{Path, PathBuf};

use crate::model::holder::Holder;
use crate::model::options::Style;
use crate::model::stale_reason::StaleReason;
use crate::process::Liveness;

/// Which kind of server keeps a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `etcd://`
    Etcd,
    /// `postgres://`, `postgresql://`
    Postgres,
}

impl Scheme {
    /// `etcd` or `postgres`: also the name of the crate's feature.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Etcd => "etcd",
            Scheme::Postgres => "postgres",
        }
    }
}

/// What an acquire would find now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody holds.
    Free,
    /// Its holder lives.
    Held,
    /// Its holder is dead: an acquire now would take over.
    Stale,
    /// It cannot be told; an acquire waits.
    Unknown,
}

impl State {
    /// `free`, `held`, `stale` or `unknown`, as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Free => "free",
            State::Held => "held",
            State::Stale => "stale",
            State::Unknown => "unknown",
        }
    }

    pub(crate) fn of(liveness: &Liveness) -> State {
        match liveness {
            Liveness::Alive(_) => State::Held,
            Liveness::Dead(_) => State::Stale,
            Liveness::Unknown(_) => State::Unknown,
        }
    }
}

/// How a lock stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The path that the lock protects.
    pub target: PathBuf,
    /// `<target>.lock`; on a server, what it calls the lock.
    pub lock_file: PathBuf,
    /// Which kind of server keeps it; `None` for a file.
    pub engine: Option<Scheme>,
    /// How it is held (or was last).
    pub style: Style,
    /// What an acquire would find.
    pub state: State,
    /// The seed's reasons for calling it stale, whatever the state.
    pub reasons: Vec<StaleReason>,
    /// Who holds, or held and died. `None` when free, and for shared locks (see `open_by`).
    pub holder: Option<Holder>,
    /// How many processes wait in the kernel's queue; `None` where that cannot be read.
    pub waiters: Option<usize>,
    /// Those that wait, first come first, as far as this process may see their pids.
    pub queue: Vec<i64>,
    /// Processes that have the lock open, where the recorded pid does not say it all: an inherited descriptor, the
    /// sharers of a shared lock. As far as this user may see.
    pub open_by: Vec<i64>,
}

impl Status {
    pub(crate) fn free(target: &Path, lock_file: &Path) -> Status {
        Status {
            target: target.to_owned(),
            lock_file: lock_file.to_owned(),
            engine: None,
            style: Style::LockFile,
            state: State::Free,
            reasons: Vec::new(),
            holder: None,
            waiters: None,
            queue: Vec::new(),
            open_by: Vec::new(),
        }
    }
}
