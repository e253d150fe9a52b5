//! How very many locks stand.
//!
//! A holder is called dead only by a table that is newer than its record. Read anew for each, it would be read as often
//! as it has lines, so what may be dead is left for the end, and for one more table. A table that comes in pieces proves
//! no death: then the kernel lock is tried at once, but where it has just changed hands.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use crate::file::paths::{LockPaths, ParentDir};
use crate::file::status::{Doubt, Numbers, Seen, View, examine_after, examine_once, kernel_numbers};
use crate::maintenance::walk::{Depth, Visited, walk};
use crate::model::error::Result;
use crate::model::options::Options;
use crate::model::status::Status;
use crate::process::Known;
use crate::sys::kernel_locks::KernelLocks;
use crate::sys::{Dir, Name};
use crate::util::spread::spread;

/// So many places are kept at a time, of however many.
const MOST: usize = 8192;

/// A reading of the kernel's table, for many places.
pub(crate) struct Scan {
    pub(crate) options: Options,
    locks: Option<KernelLocks>,
    notes_all: bool,
}

/// The table shows no lock where a record says held.
pub(crate) struct PossiblyDead {
    pub(crate) paths: LockPaths,
    /// How it stands if its holder is dead.
    pub(crate) if_dead: Status,
    /// The file, and its text.
    pub(crate) seen: Seen,
}

/// What a survey finds at a place.
#[allow(clippy::large_enum_variant, reason = "both are ordinary, and none is kept")]
pub(crate) enum Scanned {
    Found(LockPaths, Result<Status>),
    PossiblyDead(PossiblyDead),
}

/// What came of a first look.
#[allow(clippy::large_enum_variant, reason = "both are ordinary, and few are kept")]
pub(crate) enum Looked<R> {
    Done(R),
    /// It is looked at again once the table has been read again.
    PutOff(PossiblyDead),
}

impl Scan {
    pub(crate) fn new(options: Options) -> Scan {
        Scan { options, locks: KernelLocks::read(), notes_all: false }
    }

    /// For who can prove a suspect's death by other means: each is told of.
    pub(crate) fn of_possibly_dead(options: Options) -> Scan {
        Scan { notes_all: true, ..Scan::new(options) }
    }

    /// What `work` makes of each lock in a folder, by several threads where there are many. What it puts
    /// off is for `late`.
    pub(crate) fn of<R: Send + 'static>(
        self,
        dir: &Path,
        depth: Depth,
        means: impl Fn(&LockPaths) -> bool,
        half_made: impl Fn(&Dir, &Name),
        work: impl Fn(&Scan, Scanned) -> Looked<R> + Send + Sync + 'static,
        late: impl Fn(&Scan, LockPaths, Result<Status>) -> R + Send + Sync + 'static,
    ) -> Result<Vec<R>> {
        let survey = Arc::new(self);
        let work = Arc::new(work);
        let (mut places, mut answers, mut possibly_dead) = (Vec::new(), Vec::new(), Vec::new());
        let mut look = |places: Vec<LockPaths>| {
            let (survey, work) = (Arc::clone(&survey), Arc::clone(&work));
            let all = spread(places, move || {
                let (mut eye, work) = (ScanWorker::new(Arc::clone(&survey)), Arc::clone(&work));
                move |paths| {
                    let found = eye.look(paths);
                    work(&eye.survey, found)
                }
            });
            for one in all {
                match one {
                    Looked::Done(answer) => answers.push(answer),
                    Looked::PutOff(suspect) => possibly_dead.push(suspect),
                }
            }
        };
        walk(dir, depth, &mut |visited| match visited {
            Visited::Lock(paths) if !means(&paths) => {}
            Visited::Lock(paths) => {
                places.push(paths);
                if places.len() == MOST {
                    look(std::mem::take(&mut places));
                }
            }
            Visited::HalfMade(dir, name) => half_made(dir, name),
        })?;
        look(places);
        if !possibly_dead.is_empty() {
            let newer = Arc::new(Scan::new(survey.options.clone()));
            let late = Arc::new(late);
            answers.extend(spread(possibly_dead, move || {
                let (eye, late) = (ScanWorker::new(Arc::clone(&newer)), Arc::clone(&late));
                move |suspect| {
                    let (paths, found) = eye.look_again(suspect);
                    late(&eye.survey, paths, found)
                }
            }));
        }
        Ok(answers)
    }
}

/// A thread's part in a survey.
struct ScanWorker {
    survey: Arc<Scan>,
    known: Known,
    /// Those of the folder that was looked at last.
    numbers: Option<(Arc<ParentDir>, Numbers)>,
}

impl ScanWorker {
    fn new(survey: Arc<Scan>) -> ScanWorker {
        ScanWorker { survey, known: Known::default(), numbers: None }
    }

    /// How this one stands.
    fn look(&mut self, paths: LockPaths) -> Scanned {
        let numbers = match &self.numbers {
            Some((folder, numbers)) if Arc::ptr_eq(folder, &paths.folder) => *numbers,
            _ => self.numbers.insert((Arc::clone(&paths.folder), kernel_numbers(&paths))).1,
        };
        let Scan { options, locks, notes_all } = &*self.survey;
        let mut view = View::new(&paths, options, locks.as_ref(), &self.known, numbers);
        let suspect = Cell::new(None);
        view.doubt = Doubt::Note { suspect: &suspect, tries: !notes_all && !view.shows_deaths() };
        let found = match examine_once(&view) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                suspect.take();
                examine_after(view, None)
            }
            Err(error) => Err(error),
        };
        match (found, suspect.into_inner()) {
            (Ok(if_dead), Some(seen)) => Scanned::PossiblyDead(PossiblyDead { paths, if_dead, seen }),
            (found, _) => Scanned::Found(paths, found),
        }
    }

    /// How one stands that was put off, with a table that is newer.
    fn look_again(&self, suspect: PossiblyDead) -> (LockPaths, Result<Status>) {
        let PossiblyDead { paths, seen, .. } = suspect;
        let Scan { options, locks, .. } = &*self.survey;
        let view = View::new(&paths, options, locks.as_ref(), &self.known, kernel_numbers(&paths));
        let found = examine_after(view, Some(&seen));
        (paths, found)
    }
}
