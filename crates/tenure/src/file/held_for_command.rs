//! The locks that are held for this process: by a holder that runs a command under its lock, and whose command this process
//! is, or descends from.
//!
//! `tenure run` names them to its command in a variable. The variable only says where to look: what counts is the record of
//! the lock, as for the [acquire of that lock itself](crate::file::nested).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file::nested;
use crate::file::paths::LockPaths;
use crate::file::status::current_record;
use crate::file::wait_note::{self, HeldLock, LockId};
use crate::record::Record;

/// The variable: a JSON array of targets, outermost first.
pub(crate) const VARIABLE: &str = "TENURE_HELD";

/// Returns whether the variable names any lock.
pub(crate) fn is_set() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

fn targets() -> Vec<PathBuf> {
    let value = std::env::var(VARIABLE).ok();
    value.and_then(|value| serde_json::from_str(&value).ok()).unwrap_or_default()
}

/// Returns the variable's value with more targets. A path that is not UTF-8 has no form in JSON, and is left out.
#[allow(dead_code, reason = "the simulation runs no command")]
pub(crate) fn with<'a>(more: impl Iterator<Item = &'a Path>) -> String {
    let more = more.filter_map(wait_note::absolute);
    let all: Vec<PathBuf> = targets().into_iter().chain(more).filter(|path| path.to_str().is_some()).collect();
    serde_json::to_string(&all).unwrap_or_default()
}

/// Returns the locks that are proven to be held for this process, each with its record.
pub(crate) fn locks() -> Vec<(Arc<LockPaths>, HeldLock, Record)> {
    let lock = |target: PathBuf| {
        let paths = LockPaths::look(&target).ok()??;
        let record = current_record(&paths).filter(nested::waits_for_this_process)?;
        let fence = Some(record.previous_fence()?);
        let held = HeldLock { id: LockId::of(&paths)?, fence, shared_anchor: None, for_command: true };
        Some((Arc::new(paths), held, record))
    };
    targets().into_iter().filter(|target| target.is_absolute()).filter_map(lock).collect()
}
