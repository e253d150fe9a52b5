//! Suspended tenures in the record, and the order between a tenure that is resumed and the natives that wait already.
//!
//! A tenure that is suspended leaves its pid and its fence in the record as it releases the lock, and each acquire carries
//! the list on, as it carries on the fence. For a lock without suspended tenures this costs nothing. A list is only a hint:
//! where it is lost (a break, another user's anchor) a resumed tenure waits as any other acquire.
//!
//! The kernel knows which entries of the list are true. The process keeps the anchor open, with two bytes that it has locked
//! for reading, numbered by the fence. The first says that the tenure is suspended, the second that it is being resumed.
//! The kernel drops both with the process. An acquire that finds a list drops the entries without the first byte, and gives
//! way to those with the second one: it unlocks the anchor and queues again. Of two that are being resumed, the one that was
//! suspended first goes first. It has the smaller fence.

use std::io;

use crate::file::anchor::Anchor;
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::model::request::Request;
use crate::record::{MAX_SUSPENDED, Record, SuspendedTenure, SuspendedTenures};
use crate::sys::{Access, File};

/// What an acquire does that could be granted the lock before a tenure that is being resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Yielding {
    /// It gives way: the lock is not granted now.
    Yield,
    /// It goes first.
    Proceed,
    /// It goes first, and so does every later one, because none of those tenures took the lock in time.
    ProceedAndForget,
}

/// The suspended tenures that the next record names.
pub(crate) enum Carried {
    /// None is left of those that the last record named.
    None,
    Some(SuspendedTenures),
    /// This acquire gives way to one of them.
    GivesWay,
}

/// Returns the suspended tenures that the next record names, where the last one names some. `yielding` gets the last record's
/// fence, and those of the tenures that go first.
#[cold]
#[inline(never)]
pub(crate) fn carry_on(
    anchor: &Anchor,
    prior: &Prior<'_>,
    request: &Request,
    yielding: &mut dyn FnMut(u64, &[u64]) -> Yielding,
) -> Carried {
    let own = request.resumes.as_ref().map(|resumes| resumes.fence);
    let mut suspended = still_suspended(prior.record().as_ref(), &anchor.file);
    // A tenure that was forgotten is resumed as any other acquire.
    let own_place = suspended.iter().find(|tenure| Some(tenure.fence) == own).map(|tenure| tenure.fence);
    suspended.retain(|tenure| Some(tenure.fence) != own);
    let goes_first =
        |tenure: &SuspendedTenure| own_place.is_none_or(|own| tenure.fence < own) && is_resumed(tenure, &anchor.file);
    let first: Vec<_> = suspended.iter().filter(|tenure| goes_first(tenure)).map(|tenure| tenure.fence).collect();
    if !first.is_empty() {
        match yielding(prior.state().map_or(0, |state| state.fence), &first) {
            Yielding::Yield => return Carried::GivesWay,
            Yielding::Proceed => {}
            Yielding::ProceedAndForget => suspended.retain(|tenure| !first.contains(&tenure.fence)),
        }
    }
    match suspended.is_empty() {
        true => Carried::None,
        false => Carried::Some(suspended.into()),
    }
}

/// Why a share is not granted although the lock is free.
pub(crate) enum Delayed {
    /// It gives way.
    GivesWay,
    /// It goes first, and so should every later one: none of the tenures of these fences took the lock in time.
    Late(Vec<u64>),
}

/// As [`carry_on`], for a share, which writes no record. `None`: it goes first.
#[cold]
#[inline(never)]
pub(crate) fn delay_share(
    anchor: &Anchor,
    prior: &Prior<'_>,
    request: &Request,
    yielding: &mut dyn FnMut(u64, &[u64]) -> Yielding,
) -> Option<Delayed> {
    let mut late = Vec::new();
    let mut noting = |fence: u64, resumed: &[u64]| {
        let answer = yielding(fence, resumed);
        if answer == Yielding::ProceedAndForget {
            late = resumed.to_vec();
        }
        answer
    };
    match carry_on(anchor, prior, request, &mut noting) {
        Carried::GivesWay => Some(Delayed::GivesWay),
        _ if late.is_empty() => None,
        _ => Some(Delayed::Late(late)),
    }
}

/// Drops the tenures of these fences from the list of the last record, in place: of the text, only those fences change, to one
/// that no tenure has. The caller has the anchor's exclusive kernel lock.
pub(crate) fn forget(anchor: &Anchor, prior: &Prior<'_>, fences: &[u64]) -> io::Result<()> {
    if anchor.read_only {
        return Ok(());
    }
    let text = prior.bytes();
    for fence in fences {
        // Of the list alone: the record's own fence ends a line, and the quotes of other texts are escaped.
        let entry = format!("\"fence\": {fence}}}");
        let Some(at) = text.windows(entry.len()).position(|found| found == entry.as_bytes()) else { continue };
        let none = format!("\"fence\": {:<width$}}}", NO_TENURE, width = fence.to_string().len());
        anchor.file.write_at(none.as_bytes(), at as u64)?;
    }
    Ok(())
}

/// A fence of no tenure: the first fence of a lock is a time, and only a clock of 1970 makes one so small.
const NO_TENURE: u64 = 1;

/// Returns the suspended tenures that a record names and whose process still means to resume them. `anchor` is the anchor.
fn still_suspended(record: Option<&Record>, anchor: &File) -> Vec<SuspendedTenure> {
    let named = record.and_then(|record| record.native.as_ref()?.suspended.as_deref()).unwrap_or_default();
    // Where that cannot be asked, no tenure has entered itself.
    let marked = |tenure: &&SuspendedTenure| anchor.is_numbered_marked(mark_of(tenure.fence)).unwrap_or(false);
    named.iter().filter(marked).copied().collect()
}

fn is_resumed(tenure: &SuspendedTenure, anchor: &File) -> bool {
    anchor.is_numbered_marked(resumption_mark_of(tenure.fence)).unwrap_or(false)
}

/// Returns the suspended tenures of the lock, for its status. `record` is the one that was just read.
pub(crate) fn of_lock(paths: &LockPaths, record: &Record) -> Vec<SuspendedTenure> {
    if record.native.as_ref().is_none_or(|native| native.suspended.is_none()) {
        return Vec::new();
    }
    match paths.dir.open_at(&paths.anchor, Access::Read) {
        Ok(anchor) => still_suspended(Some(record), &anchor),
        Err(_) => Vec::new(),
    }
}

const fn mark_of(fence: u64) -> u64 {
    2 * fence
}

const fn resumption_mark_of(fence: u64) -> u64 {
    2 * fence + 1
}

/// The mark by which a suspended tenure goes before those that wait: the anchor, open and marked.
#[derive(Debug)]
pub(crate) struct SuspensionMark {
    anchor: File,
    fence: u64,
}

impl SuspensionMark {
    /// Marks the tenure of this fence as suspended. `None` where the anchor cannot be marked.
    pub(crate) fn take(paths: &LockPaths, anchor: &Anchor, fence: u64) -> Option<SuspensionMark> {
        if paths.file_system.shared {
            return None;
        }
        // Opened once more: marks belong to the open file, and the tenure's own serves the next acquires of this process.
        let file = paths.dir.open_at(&paths.anchor, Access::Read).ok()?;
        let same = file.ident().is_ok_and(|found| found.id == anchor.id);
        (same && file.mark_numbered(mark_of(fence)).is_ok()).then_some(SuspensionMark { anchor: file, fence })
    }

    /// Enters the tenure, whose record this is, into its list. Returns `false` where the list is full.
    pub(crate) fn enter(&self, record: &mut Record) -> bool {
        let Some(native) = &mut record.native else { return false };
        let pid = record.pid.and_then(|pid| u64::try_from(pid).ok()).unwrap_or(0);
        let mut suspended = native.suspended.as_deref().unwrap_or_default().to_vec();
        if suspended.len() >= MAX_SUSPENDED || pid == 0 {
            return false;
        }
        suspended.push(SuspendedTenure { pid, fence: self.fence });
        native.suspended = Some(suspended.into());
        true
    }

    /// Shows that the tenure is being resumed.
    pub(crate) fn show_resumption(&self) -> io::Result<()> {
        self.anchor.mark_numbered(resumption_mark_of(self.fence))
    }
}
