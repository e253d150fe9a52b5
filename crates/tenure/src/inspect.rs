//! Looking without touching: who holds, since when, does it live, who waits.
//!
//! Nothing here creates a file, blocks, or disturbs a holder. Whether a kernel lock is held is read from `/proc/locks`;
//! only where that table cannot say (another pid namespace than the first, a file system that numbers its files
//! otherwise there) and a record claims a holder, a shared lock is tried and given back at once.

mod survey;
mod view;
mod walk;

use std::path::{Path, PathBuf};

use crate::engine::{self, Scheme};
use crate::error::Result;
use crate::holder::Holder;
use crate::judge::Reason;
use crate::options::{Options, Style};
use crate::place::{Place, lock_path};
use crate::presence;
use crate::process::Liveness;
use crate::record::{Content, RecordState, RecordStyle};

pub(crate) use survey::{Looked, Survey, Surveyed, Suspect};
pub(crate) use view::{examine, has_settled, idle_for};
pub(crate) use walk::Depth;
pub use walk::ListOptions;

use view::open_anchor;

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

    fn of(liveness: &Liveness) -> State {
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
pub struct Inspection {
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
    pub reasons: Vec<Reason>,
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

impl Inspection {
    pub(crate) fn free(target: &Path, lock_file: &Path) -> Inspection {
        Inspection {
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

/// How the lock of `target` stands. A target whose folder does not exist is free.
///
/// A lock on the target that was taken with `flock(2)` by a program that is no native is told too (flock style, a
/// foreign holder): it does not keep a native in lock-file style out.
///
/// # Errors
///
/// [`is_in_the_way`](crate::Error::is_in_the_way) where the lock file's place is taken by something that is no lock;
/// the system's own where it cannot be read.
pub fn inspect(target: impl AsRef<Path>) -> Result<Inspection> {
    let target = target.as_ref();
    if let Some(engine) = engine::open(target)? {
        engine.url().lock_name()?;
        return engine.inspect();
    }
    match Place::look(target)? {
        Some(place) => examine(&place, &Options::default()),
        None => Ok(Inspection::free(target, &lock_path(target))),
    }
}

/// Who holds now, for an error that says so.
///
/// The kernel's table tells more, but to read it stops every `flock(2)` of the machine meanwhile. So the record is asked
/// first, and the table only where it names no native that holds and lives.
pub(crate) fn holder_now(place: &Place) -> Option<Holder> {
    let visible = presence::look(place).ok()?.map(|found| found.content);
    let shown = visible.is_some();
    let content = match visible {
        Some(content) => Some(content),
        None => open_anchor(place).ok()?.and_then(|(file, _)| presence::read_stable(&file).ok()),
    };
    // In lock-file style a record without its lock file is of a tenure that has been released.
    let speaks = |style| shown || style == RecordStyle::Flock;
    if let Some(Content::Record(record)) = &content
        && record.native.as_ref().is_some_and(|native| native.state == RecordState::Held && speaks(native.style))
        && record.identity().is_some_and(|identity| identity.verify().is_alive())
    {
        // We were refused the kernel lock, and it was written under that lock.
        return Some(Holder::from_record(Some(record), Liveness::alive("it has the kernel lock")));
    }
    examine(place, &Options::default()).ok()?.holder
}

/// Every lock in `dir` that is held or left behind, sorted by path; below it too with `recursive`, without following
/// links or crossing to another file system. A missing folder is an empty answer. What is no lock is passed over. Where
/// there are more than some hundreds, threads of the library's help.
///
/// # Errors
///
/// The system's own, where `dir` itself cannot be read. A folder below that cannot be read is passed over.
pub fn list(dir: impl AsRef<Path>, recursive: bool) -> Result<Vec<Inspection>> {
    list_with(dir, &ListOptions::default().recursive(recursive))
}

/// As [`list`], and where else to look.
///
/// # Errors
///
/// As there.
pub fn list_with(dir: impl AsRef<Path>, options: &ListOptions) -> Result<Vec<Inspection>> {
    if let Some(engine) = engine::open(dir.as_ref())? {
        // Names on a server have no folders: everything that is below is listed.
        let mut found = engine.list()?;
        found.sort_by(|one, other| one.target.cmp(&other.target));
        return Ok(found);
    }
    let depth = Depth::of(options.recursive, options.cross_file_systems);
    let all = Survey::new(Options::default()).of(
        dir.as_ref(),
        depth,
        |_| true,
        |_, _| {},
        |_, surveyed| match surveyed {
            Surveyed::Found(_, found) => Looked::Done(found),
            Surveyed::Suspect(suspect) => Looked::PutOff(suspect),
        },
        |_, _, found| found,
    )?;
    // What is no lock, or went away, or is closed to this user, is nothing to list.
    let mut found: Vec<_> = all.into_iter().flatten().filter(|found| found.state != State::Free).collect();
    found.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(found)
}
