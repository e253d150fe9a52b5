//! A grant: what an acquire gives to a tenure.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::file::anchor::Anchor;
use crate::file::crash::unreported_crash_record;
use crate::file::lock_file::LockFile;
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Previous;
use crate::model::request::Request;
use crate::model::this_process::this_process;
use crate::record::{Native, Record, RecordStyle};
use crate::sys::{self, File, FileId};

/// The target itself, locked in flock style.
#[derive(Debug)]
pub(crate) struct TargetFile {
    pub(crate) file: File,
    pub(crate) id: FileId,
}

/// The files and the record of a tenure that was granted.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) anchor: Option<Arc<Anchor>>,
    pub(crate) target: Option<Arc<TargetFile>>,
    pub(crate) lock_file: LockFile,
    pub(crate) previous: Previous,
    /// The record. `None` for a shared lock and for one without a record.
    pub(crate) record: Option<Arc<Record>>,
    /// The offset of the state's text in the record.
    pub(crate) state_offset: u64,
    /// Whether the swap names a live foreign program's file. In flock style that file does not block, and must not be
    /// forgotten.
    pub(crate) live_file_at_swap: bool,
    /// When the files' names were checked last.
    pub(crate) checked_at: Instant,
}

impl Grant {
    /// Returns `record` with this grant's crash report, which was not delivered.
    pub(crate) fn unreported_crash_record(&self, record: Arc<Record>) -> Arc<Record> {
        Arc::new(unreported_crash_record(&self.previous, Arc::unwrap_or_clone(record)))
    }
}

/// Returns the record of a tenure that begins now. The fence is the larger of the last one plus one and the clock's
/// microseconds, so it grows even when the last one is forgotten.
pub(crate) fn new_record(request: &Request, last_fence: u64, paths: &LockPaths) -> Result<Arc<Record>> {
    let now = sys::now();
    let clock = now.duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64);
    let fence = clock.max(last_fence + 1);
    if fence > crate::record::MAX_SAFE {
        return Err(Error::new(ErrorKind::Io, paths.anchor_path(), "the fence has reached 2^53 and cannot grow"));
    }
    let own = this_process();
    Ok(Arc::new(Record {
        pid: Some(own.identity.pid),
        created_at: Some(now),
        start_time: own.foreign_start_time,
        max_hold: request.options.max_hold,
        native: Some(Native {
            fence: Some(fence),
            style: if request.flock() { RecordStyle::Flock } else { RecordStyle::LockFile },
            acquired_at: Some(now),
            ..own.native(&request.options)
        }),
        marker: None,
    }))
}
