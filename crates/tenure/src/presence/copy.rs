//! The lock file as a file of its own, where a hard link is not to be had or would not be ours to remove.

use std::io;
use std::sync::Arc;

use super::{Presence, is_sticky};
use crate::anchor::{self, Anchor};
use crate::error::{Kind, Result};
use crate::options::Options;
use crate::place::Place;
use crate::record::Record;
use crate::sys;

/// In a sticky folder a link to another user's anchor would not be ours to remove.
pub(crate) fn must_copy(place: &Place, anchor: &Anchor) -> bool {
    if !is_sticky(place) {
        return false;
    }
    let user = sys::effective_user();
    user != 0 && user != anchor.owner && user != place.dir_stat.owner
}

/// What file systems without hard links answer to `link(2)`.
pub(super) fn no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
        || error.raw_os_error().is_some_and(sys::means_no_links)
}

/// Makes the lock file as a file of its own: complete and locked before it gets its name. `None`: the name is taken.
pub(super) fn show_copy(place: &Place, record: &Record, options: &Options) -> Result<Option<Presence>> {
    let presence = make_copy(place, record, options)?;
    match place.dir.rename_new(&place.new, &place.lock) {
        Ok(()) => Ok(Some(presence)),
        Err(error) => {
            let _ = place.dir.unlink(&place.new);
            // Not there: `.tenure` was removed under us.
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) {
                return Ok(None);
            }
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            let detail = "cannot be made: this file system has neither hard links nor exclusive renames";
            let error = place.lock_error(detail, error);
            Err(match denied {
                true => error,
                false => error
                    .with_kind(Kind::Unsupported)
                    .with_hint("flock style needs neither: style(Style::Flock), --flock"),
            })
        }
    }
}

/// Under the name `new`, which is each user's own in a sticky folder: what is half-made there is nobody else's trouble.
pub(super) fn make_copy(place: &Place, record: &Record, options: &Options) -> Result<Presence> {
    let file = anchor::prepare(place, options, record)?;
    match file.brief() {
        Ok(stat) => Ok(Presence::Copy { file: Arc::new(file), id: stat.id }),
        Err(error) => {
            let _ = place.dir.unlink(&place.new);
            Err(place.lock_error("cannot be made", error))
        }
    }
}
