//! The folders that are searched for locks.

use std::path::{Path, PathBuf};

use crate::options::WalkOptions;
use crate::sys;

/// Calls `visit` for a folder, and with `--recursive` for those below it, before the names in each are read. Links are not
/// followed, folders that cannot be read are passed over, and so are `.tenure` and what is made to become one.
pub(crate) fn walk_folders<E>(
    dir: &Path,
    walk: WalkOptions,
    visit: &mut dyn FnMut(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let device = |folder: &Path| sys::device(folder).ok();
    let own_device = device(dir);
    let mut folders: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        visit(&folder)?;
        if !walk.recursive {
            continue;
        }
        for entry in sys::folder_entries(&folder).unwrap_or_default() {
            let below = folder.join(&entry.name);
            let is_own = entry.name.as_encoded_bytes().starts_with(b".tenure");
            if entry.is_folder && !is_own && (walk.cross_file_systems || device(&below) == own_device) {
                folders.push(below);
            }
        }
    }
    Ok(())
}
