//! The status of a lock.

use std::path::{Path, PathBuf};

use crate::model::holder::Holder;
use crate::model::options::Style;
use crate::model::stale_reason::StaleReason;
use crate::process::Liveness;
use crate::record::SuspendedTenure;

/// The kind of server that keeps a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `etcd://`
    Etcd,
    /// `postgres://`, `postgresql://`
    Postgres,
}

impl Scheme {
    /// Returns `etcd` or `postgres`, which is also the name of the crate's feature.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Etcd => "etcd",
            Scheme::Postgres => "postgres",
        }
    }
}

/// The state of a lock, as an acquire would find it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No process holds the lock.
    Free,
    /// The holder lives.
    Held,
    /// The holder is dead. An acquire takes the lock over.
    Stale,
    /// Whether the holder lives cannot be determined. An acquire waits.
    Unknown,
}

impl State {
    /// Returns `free`, `held`, `stale` or `unknown`, as in the command's JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Free => "free",
            State::Held => "held",
            State::Stale => "stale",
            State::Unknown => "unknown",
        }
    }

    /// Returns the state of a lock whose holder has this liveness.
    pub(crate) fn of(liveness: &Liveness) -> State {
        match liveness {
            Liveness::Alive(_) => State::Held,
            Liveness::Dead(_) => State::Stale,
            Liveness::Unknown(_) => State::Unknown,
        }
    }
}

/// The status of a lock: [`status`](crate::status()).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The path that the lock protects.
    pub target: PathBuf,
    /// The lock file `<target>.lock`; on a server, the lock's name there.
    pub lock_file: PathBuf,
    /// The kind of server that keeps the lock; `None` for a file.
    pub server: Option<Scheme>,
    /// The style in which the lock is held, or was held last.
    pub style: Style,
    /// The state, as an acquire would find it.
    pub state: State,
    /// The reasons for which OpenClaw's protocol calls the lock stale, whatever its state.
    pub reasons: Vec<StaleReason>,
    /// The holder, alive or dead. `None` if the lock is free, and for shared locks (see `open_by`).
    pub holder: Option<Holder>,
    /// The number of processes in the kernel's queue; `None` where it cannot be read.
    pub waiters: Option<usize>,
    /// The pids of the waiters in their order, as far as this process can see them.
    pub queue: Vec<i64>,
    /// The pids of further processes that have the lock open, by an inherited descriptor or as holders of a shared lock, as
    /// far as this user can see them. On a server the holders of a shared lock, of all machines.
    pub open_by: Vec<i64>,
    /// The suspended tenures whose processes mean to come back, in the order in which they were suspended
    /// ([`Guard::suspend`](crate::Guard::suspend)).
    pub suspended: Vec<SuspendedHolder>,
    /// The tenures that hold the lock, as the server names them; none for a file. A break compares them.
    #[cfg_attr(not(any(feature = "etcd", feature = "postgres")), allow(dead_code, reason = "only servers read it"))]
    pub(crate) server_tenures: Vec<String>,
}

/// A process that has suspended its tenure, and means to resume it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SuspendedHolder {
    /// The pid, in the process's own pid namespace.
    pub pid: i64,
    /// The fencing token of the suspended tenure.
    pub fence: u64,
}

impl SuspendedHolder {
    pub(crate) fn of(tenure: &SuspendedTenure) -> SuspendedHolder {
        SuspendedHolder { pid: i64::try_from(tenure.pid).unwrap_or(0), fence: tenure.fence }
    }
}

impl Status {
    /// Returns the status of a free lock.
    pub(crate) fn free(target: &Path, lock_file: &Path) -> Status {
        Status {
            target: target.to_owned(),
            lock_file: lock_file.to_owned(),
            server: None,
            style: Style::LockFile,
            state: State::Free,
            reasons: Vec::new(),
            holder: None,
            waiters: None,
            queue: Vec::new(),
            open_by: Vec::new(),
            suspended: Vec::new(),
            server_tenures: Vec::new(),
        }
    }

    /// Returns whether the holder is a foreign program that has the target itself by `flock(2)`, as `flock(1)` does. Such a lock
    /// cannot be broken: it ends with that program.
    pub fn is_foreign_flock(&self) -> bool {
        self.style == Style::Flock && self.is_foreign()
    }

    /// Returns whether the holder is a foreign program.
    pub(crate) fn is_foreign(&self) -> bool {
        self.holder.as_ref().is_some_and(Holder::is_foreign)
    }

    /// Returns whether only its age shows that the lock is stale: a foreign program's lock file that names no process.
    /// [`clean`](crate::clean()) keeps such a file without [`CleanOptions::aged`](crate::CleanOptions::aged); an acquire
    /// takes it over.
    pub fn is_stale_by_age_alone(&self) -> bool {
        self.state == State::Stale && self.holder.as_ref().is_some_and(Holder::is_nameless)
    }
}
