//! Determines the state of many locks.
//!
//! Only a kernel table that is newer than a record proves that its holder is dead. Reading the table again for each such
//! record would take quadratic time, so possibly dead holders are deferred to the end and compared with one more table. A
//! table that the kernel returns in pieces proves no death. Then the kernel lock is tried at once, unless it has just
//! changed hands.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use crate::file::paths::{LockPaths, ParentDir};
use crate::file::status::{Doubt, Seen, View, examine_after, examine_once, kernel_numbers};
use crate::maintenance::walk::{Depth, FoundLock, Visited, walk};
use crate::model::error::Result;
use crate::model::options::Options;
use crate::model::status::Status;
use crate::process::Known;
use crate::sys::{self, Dir, LockTable, Name, TableDevice};
use crate::util::parallel;

/// Maximum number of found locks that are kept at a time.
const BATCH: usize = 8192;

/// One reading of the kernel's lock table, for many locks.
pub(crate) struct Scan {
    pub(crate) options: Options,
    locks: Option<LockTable>,
    reports_all: bool,
}

/// A lock whose record says `held` and that has no entry in the kernel's table.
pub(crate) struct PossiblyDead {
    pub(crate) paths: LockPaths,
    /// The lock's status if its holder is dead.
    pub(crate) if_dead: Status,
    /// The file's identity and its text.
    pub(crate) seen: Seen,
}

/// The first finding about a lock.
#[allow(clippy::large_enum_variant, reason = "both are ordinary, and none is kept")]
pub(crate) enum Scanned {
    Found(LockPaths, Result<Status>),
    PossiblyDead(PossiblyDead),
}

/// The result of handling a first finding.
#[allow(clippy::large_enum_variant, reason = "both are ordinary, and few are kept")]
pub(crate) enum Handled<R> {
    Done(R),
    /// The lock is examined again with the next table.
    Deferred(PossiblyDead),
}

impl Scan {
    pub(crate) fn new(options: Options) -> Scan {
        Scan { options, locks: sys::lock_table(), reports_all: false }
    }

    /// Returns a scan that reports each possibly dead holder, for a caller with other means to prove the death.
    pub(crate) fn of_possibly_dead(options: Options) -> Scan {
        Scan { reports_all: true, ..Scan::new(options) }
    }

    /// Calls `handle` for each lock in a folder that `is_wanted`, in several threads where there are many, and returns the
    /// answers. `handle_late` is called for the locks that `handle` deferred, and `half_made` for each unfinished `.tenure`.
    pub(crate) fn run<R: Send>(
        self,
        dir: &Path,
        depth: Depth,
        is_wanted: impl Fn(&FoundLock) -> bool,
        half_made: impl Fn(&Dir, &Name),
        handle: impl Fn(&Scan, Scanned) -> Handled<R> + Sync,
        handle_late: impl Fn(&Scan, LockPaths, Result<Status>) -> R + Sync,
    ) -> Result<Vec<R>> {
        let (mut batch, mut answers, mut possibly_dead) = (Vec::new(), Vec::new(), Vec::new());
        let (scan, handle) = (&self, &handle);
        let mut examine = |batch: Vec<FoundLock>| {
            let handled = parallel::map(batch, || {
                let mut worker = ScanWorker::new(scan);
                move |found: FoundLock| {
                    let scanned = worker.examine(found.paths()?, found.has_lock_file);
                    Some(handle(scan, scanned))
                }
            });
            for handled in handled.into_iter().flatten() {
                match handled {
                    Handled::Done(answer) => answers.push(answer),
                    Handled::Deferred(lock) => possibly_dead.push(lock),
                }
            }
        };
        walk(dir, depth, &mut |visited| match visited {
            Visited::Lock(found) if !is_wanted(&found) => {}
            Visited::Lock(found) => {
                batch.push(found);
                if batch.len() == BATCH {
                    examine(std::mem::take(&mut batch));
                }
            }
            Visited::HalfMade(dir, name) => half_made(dir, name),
        })?;
        examine(batch);
        if !possibly_dead.is_empty() {
            let (newer, handle_late) = (&Scan::new(self.options.clone()), &handle_late);
            answers.extend(parallel::map(possibly_dead, || {
                let worker = ScanWorker::new(newer);
                move |lock| {
                    let (paths, found) = worker.examine_again(lock);
                    handle_late(newer, paths, found)
                }
            }));
        }
        Ok(answers)
    }
}

/// One thread of a scan.
struct ScanWorker<'a> {
    scan: &'a Scan,
    known: Known,
    /// The kernel's numbers of the folder that was examined last.
    numbers: Option<(Arc<ParentDir>, TableDevice)>,
}

impl ScanWorker<'_> {
    fn new(scan: &Scan) -> ScanWorker<'_> {
        ScanWorker { scan, known: Known::with_ttl(sys::LIVES_TTL), numbers: None }
    }

    /// Determines a lock's status. `listed` means that the folder's list has just shown a regular file with the lock file's
    /// name.
    fn examine(&mut self, paths: LockPaths, listed: bool) -> Scanned {
        let numbers = match &self.numbers {
            Some((folder, numbers)) if Arc::ptr_eq(folder, &paths.folder) => *numbers,
            _ => self.numbers.insert((Arc::clone(&paths.folder), kernel_numbers(&paths))).1,
        };
        let Scan { options, locks, reports_all } = self.scan;
        let mut view = View::new(&paths, options, locks.as_ref(), &self.known, numbers);
        let possibly_dead = Cell::new(None);
        view.doubt = Doubt::Note { found: &possibly_dead, tries: !reports_all && !view.shows_deaths() };
        view.listed = listed;
        let found = match examine_once(&view) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                possibly_dead.take();
                view.listed = false;
                examine_after(view, None)
            }
            Err(error) => Err(error),
        };
        match (found, possibly_dead.into_inner()) {
            (Ok(if_dead), Some(seen)) => Scanned::PossiblyDead(PossiblyDead { paths, if_dead, seen }),
            (found, _) => Scanned::Found(paths, found),
        }
    }

    /// Determines the status of a deferred lock with a newer table.
    fn examine_again(&self, lock: PossiblyDead) -> (LockPaths, Result<Status>) {
        let PossiblyDead { paths, seen, .. } = lock;
        let Scan { options, locks, .. } = self.scan;
        let view = View::new(&paths, options, locks.as_ref(), &self.known, kernel_numbers(&paths));
        let found = examine_after(view, Some(&seen));
        (paths, found)
    }
}
