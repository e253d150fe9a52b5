//! Finds the circles of waits that there are now, without touching a lock.

use std::collections::HashSet;
use std::path::Path;

use crate::file::wait_graph::{self, Step};
use crate::file::wait_note;
use crate::maintenance::walk::{Depth, ListOptions, Visited, walk};
use crate::model::circle::{Circle, Waiting};
use crate::model::error::{Error, ErrorKind, Result};

/// Returns the circles in which a lock in `dir` has a part.
pub(crate) fn deadlocks(dir: &Path, options: ListOptions) -> Result<Vec<Circle>> {
    if !wait_note::exist_here() {
        let detail = "holders do not say here what they wait for, so no circle of waits is found";
        return Err(Error::new(ErrorKind::Unsupported, dir, detail));
    }
    let depth = Depth::of(options.recursive, options.cross_file_systems);
    let (mut known, mut found) = (HashSet::new(), Vec::new());
    walk(dir, depth, &mut |visited| {
        let Visited::Lock(lock) = visited else { return };
        let Some(chain) = lock.paths().and_then(wait_graph::deadlock_through) else { return };
        let mut notes: Vec<_> = chain.iter().map(Step::note_id).collect();
        notes.sort_unstable_by_key(|id| (id.device, id.inode));
        // The same circle is found from each of its locks.
        if known.insert(notes) {
            let mut waits: Vec<Waiting> = chain.iter().map(Step::waiting).collect();
            let first = waits.iter().enumerate().min_by(|(_, one), (_, other)| one.holds.cmp(&other.holds));
            let first = first.map_or(0, |(at, _)| at);
            waits.rotate_left(first);
            found.push(Circle { waits });
        }
    })?;
    found.sort_by(|one, other| one.waits[0].holds.cmp(&other.waits[0].holds));
    Ok(found)
}
