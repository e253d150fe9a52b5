//! The paths of the slots of a target.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::file::paths::{ANCHORS, LockPaths, joined, target_of_anchor};
use crate::model::error::{Error, Result};
use crate::model::slots::{self, Part, SLOT_SUFFIX};
use crate::sys::Name;

/// Returns the target of a slot's own lock.
pub(crate) fn slot_path(target: &Path, number: u32) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(Part::Slot(number).suffix());
    path.into()
}

/// Returns the paths of a slot's lock, in the folder of the target.
pub(crate) fn slot_paths(of: &LockPaths, number: u32) -> Result<LockPaths> {
    of.beside(slot_path(&of.target_path, number))
}

/// Returns the numbers of the slots that have an anchor, in their order.
pub(crate) fn existing(of: &LockPaths) -> Result<BTreeSet<u32>> {
    let failed = |error| Error::io(of.anchor_path(), "the folder of anchors cannot be read", error);
    let dir = match Name::new(ANCHORS.as_ref()).and_then(|name| of.dir.open_dir(&name)) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(failed(error)),
    };
    let prefix = joined(of.target.as_os_str(), SLOT_SUFFIX);
    let names = dir.entries().map_err(failed)?;
    Ok(names.iter().filter_map(|(name, _)| number(target_of_anchor(name.as_os_str())?, &prefix)).collect())
}

/// Returns the number in a slot's name.
fn number(name: &OsStr, prefix: &OsString) -> Option<u32> {
    slots::number(name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes())?)
}
