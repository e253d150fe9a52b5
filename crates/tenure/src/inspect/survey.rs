//! How very many locks stand.

use std::cell::Cell;
use std::sync::Arc;

use super::Inspection;
use super::view::{Doubt, Numbers, Seen, View, examine_after, examine_once, kernel_numbers};
use crate::error::Result;
use crate::kernel_locks::KernelLocks;
use crate::options::Options;
use crate::place::{Folder, Place};
use crate::process::Known;

/// How very many locks stand. A holder is called dead only by a table that is newer than its record. Read anew for each,
/// it would be read as often as it has lines, so what may be dead is left for the end, and for one more table. A table
/// that comes in pieces proves no death: then the kernel lock is tried at once, but where it has just changed hands.
pub(crate) struct Survey<'a> {
    options: &'a Options,
    locks: Option<KernelLocks>,
    known: Known,
    /// Those of the folder that was looked at last.
    numbers: Option<(Arc<Folder>, Numbers)>,
    suspects: Vec<Suspect>,
    notes_all: bool,
}

/// The table shows no lock where a record says held.
pub(crate) struct Suspect {
    pub(crate) place: Place,
    /// How it stands if its holder is dead.
    pub(crate) if_dead: Inspection,
    /// The file, and its text.
    pub(crate) seen: Seen,
}

/// What a survey finds at a place.
#[allow(clippy::large_enum_variant, reason = "both are ordinary, and none is kept")]
pub(crate) enum Surveyed {
    Found(Place, Result<Inspection>),
    Suspect(Suspect),
}

impl<'a> Survey<'a> {
    pub(crate) fn new(options: &'a Options) -> Survey<'a> {
        let known = Known::default();
        Survey { options, locks: KernelLocks::read(), known, numbers: None, suspects: Vec::new(), notes_all: false }
    }

    /// For who can prove a suspect's death by other means: each is told of.
    pub(crate) fn of_suspects(options: &'a Options) -> Survey<'a> {
        Survey { notes_all: true, ..Survey::new(options) }
    }

    /// How this one stands.
    pub(crate) fn look(&mut self, place: Place) -> Surveyed {
        let numbers = match &self.numbers {
            Some((folder, numbers)) if Arc::ptr_eq(folder, &place.folder) => *numbers,
            _ => self.numbers.insert((Arc::clone(&place.folder), kernel_numbers(&place))).1,
        };
        let mut view = View::new(&place, self.options, self.locks.as_ref(), &self.known, numbers);
        let suspect = Cell::new(None);
        view.doubt = Doubt::Note { suspect: &suspect, tries: !self.notes_all && !view.shows_deaths() };
        let found = match examine_once(&view) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                suspect.take();
                examine_after(view, None)
            }
            Err(error) => Err(error),
        };
        match (found, suspect.into_inner()) {
            (Ok(if_dead), Some(seen)) => Surveyed::Suspect(Suspect { place, if_dead, seen }),
            (found, _) => Surveyed::Found(place, found),
        }
    }

    /// Leaves this one for the end.
    pub(crate) fn put_off(&mut self, suspect: Suspect) {
        self.suspects.push(suspect);
    }

    /// Those that were left.
    pub(crate) fn rest(self) -> impl Iterator<Item = (Place, Result<Inspection>)> {
        let newer = if self.suspects.is_empty() { None } else { KernelLocks::read() };
        self.suspects.into_iter().map(move |Suspect { place, seen, .. }| {
            let view = View::new(&place, self.options, newer.as_ref(), &self.known, kernel_numbers(&place));
            let found = examine_after(view, Some(&seen));
            (place, found)
        })
    }
}
