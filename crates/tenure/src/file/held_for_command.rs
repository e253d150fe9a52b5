//! The locks that are held for this process: by a holder that runs it as its command, so that they are free only once this
//! process ends.
//!
//! A wait of this process is then a wait of that holder too, if the process does not end before its wait does. Only the
//! program itself knows that, and `tenure run` [says so](declare_that_waits_block_the_end). Where the process is a child of the
//! command, such as a shell's, that counts while the command [waits for that child alone](crate::file::nested::runs), which is
//! looked at when a circle is proven.
//!
//! `tenure run` names them to its command in a variable. The variable only says where to look: what counts is the record of
//! the lock, as for the [acquire of that lock itself](crate::file::nested).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::file::nested;
use crate::file::paths::LockPaths;
use crate::file::status::current_record;
use crate::file::wait_note::{self, HeldLock, LockId};
use crate::record::Record;

/// The variable: a JSON array of targets, outermost first.
pub(crate) const VARIABLE: &str = "TENURE_HELD";

/// Returns whether locks may be held until a wait of this process is over.
pub(crate) fn may_exist() -> bool {
    WAITS_BLOCK_THE_END.load(Ordering::Relaxed) && std::env::var_os(VARIABLE).is_some()
}

fn targets() -> Vec<PathBuf> {
    let value = std::env::var(VARIABLE).ok();
    value.and_then(|value| serde_json::from_str(&value).ok()).unwrap_or_default()
}

/// Returns the variable's value with more targets. A path that is not UTF-8 has no form in JSON, and is left out.
#[allow(dead_code, reason = "the simulation runs no command")]
pub(crate) fn with(more: impl Iterator<Item = impl AsRef<Path>>) -> String {
    let more = more.filter_map(|path| wait_note::absolute(path.as_ref()));
    let all: Vec<PathBuf> = targets().into_iter().chain(more).filter(|path| path.to_str().is_some()).collect();
    serde_json::to_string(&all).unwrap_or_default()
}

static WAITS_BLOCK_THE_END: AtomicBool = AtomicBool::new(false);

/// Declares that this process does not end while one of its threads waits for a lock, unless a signal ends it.
#[allow(dead_code, reason = "the simulation runs no command")]
pub(crate) fn declare_that_waits_block_the_end() {
    WAITS_BLOCK_THE_END.store(true, Ordering::Relaxed);
}

/// Returns the locks that may be held until a wait of this process is over, each with its record: this process is the holder's
/// command, or descends from it.
pub(crate) fn locks() -> Vec<(Arc<LockPaths>, HeldLock, Record)> {
    if !may_exist() {
        return Vec::new();
    }
    let lock = |target: PathBuf| {
        let paths = LockPaths::look(&target).ok()??;
        let record = current_record(&paths).filter(nested::waits_for_this_process)?;
        let fence = Some(record.previous_fence()?);
        let held = HeldLock { id: LockId::of(&paths)?, fence, shared_anchor: None, for_command: true };
        Some((Arc::new(paths), held, record))
    };
    targets().into_iter().filter(|target| target.is_absolute()).filter_map(lock).collect()
}
