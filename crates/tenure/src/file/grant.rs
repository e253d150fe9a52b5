//! A grant: what an acquire gives to a tenure.

use std::sync::Arc;
use std::time::SystemTime;

use crate::file::anchor::Anchor;
use crate::file::crash::unreported_crash_record;
use crate::file::lock_file::LockFile;
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::Previous;
use crate::model::request::Request;
use crate::model::this_process::this_process;
use crate::record::cached::Milliseconds;
use crate::record::{Native, Record, RecordState, is_same_text};
use crate::sys::{self, File, FileId, Moment};

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
    pub(crate) checked_at: Moment,
    pub(crate) began: Moment,
    /// Since when this process has had the kernel lock: longer than `began` where it was handed off.
    pub(crate) locked_since: Moment,
}

impl Grant {
    /// Returns a value to be filled in by a grant.
    pub(crate) fn empty() -> Grant {
        Grant {
            anchor: None,
            target: None,
            lock_file: LockFile::Hidden,
            previous: Previous::Clean,
            record: None,
            state_offset: 0,
            live_file_at_swap: false,
            checked_at: Moment::default(),
            began: Moment::default(),
            locked_since: Moment::default(),
        }
    }

    /// Returns the grant of the bare kernel lock on `target`.
    pub(crate) fn bare(target: Arc<TargetFile>) -> Grant {
        Grant { target: Some(target), ..Grant::beginning_now() }
    }

    /// Returns an empty grant that begins now.
    fn beginning_now() -> Grant {
        let now = sys::moment();
        Grant { checked_at: now, began: now, locked_since: now, ..Grant::empty() }
    }

    /// Returns a share, of which there is no record.
    pub(crate) fn share(anchor: Arc<Anchor>, target: Arc<TargetFile>, previous: Previous) -> Grant {
        Grant { anchor: Some(anchor), previous, ..Grant::bare(target) }
    }

    /// Returns `record` with this grant's crash report, which was not delivered.
    pub(crate) fn unreported_crash_record(&self, record: Arc<Record>) -> Arc<Record> {
        Arc::new(unreported_crash_record(&self.previous, Arc::unwrap_or_clone(record)))
    }
}

/// Returns the record of a tenure that begins now.
pub(crate) fn new_record(request: &Request, last_fence: u64, paths: &LockPaths) -> Result<Record> {
    let beginning = Beginning::now(last_fence, paths)?;
    Ok(beginning.record(request))
}

/// As [`new_record`], where `anchor` keeps the last tenure's record.
#[inline(always)]
pub(crate) fn next_record(
    anchor: &Anchor,
    request: &Request,
    last_fence: u64,
    paths: &LockPaths,
) -> Result<Arc<Record>> {
    let beginning = Beginning::now(last_fence, paths)?;
    Ok(anchor.own_record(beginning.milliseconds, |own| beginning.renew(own, request), || beginning.record(request)))
}

/// The properties that distinguish a tenure from the others of this process.
#[derive(Clone, Copy)]
struct Beginning {
    at: SystemTime,
    milliseconds: Milliseconds,
    fence: u64,
}

impl Beginning {
    /// Returns a beginning now. The fence is the larger of the last one plus one and the clock's microseconds, so it
    /// grows even when the last one is forgotten.
    fn now(last_fence: u64, paths: &LockPaths) -> Result<Beginning> {
        let since = sys::since_epoch();
        let at = SystemTime::UNIX_EPOCH + since;
        let micros = since.as_secs() * 1_000_000 + u64::from(since.subsec_micros());
        let fence = micros.max(last_fence + 1);
        if fence > crate::record::MAX_SAFE {
            return Err(fence_exhausted(paths));
        }
        Ok(Beginning { at, milliseconds: micros / 1000, fence })
    }

    fn record(self, request: &Request) -> Record {
        let own = this_process();
        Record {
            pid: Some(own.identity.pid),
            created_at: Some(self.at),
            start_time: own.foreign_start_time,
            max_hold: request.options.max_hold,
            native: Some(Native {
                fence: Some(self.fence),
                style: request.record_style(),
                acquired_at: Some(self.at),
                ..own.native(&request.options)
            }),
            marker: None,
        }
    }

    /// Makes the record of a tenure that is over the next one's. Returns `false` where `request` needs another.
    #[inline]
    fn renew(self, record: &mut Record, request: &Request) -> bool {
        let Some(native) = &mut record.native else { return false };
        if record.max_hold != request.options.max_hold
            || native.style != request.record_style()
            || native.slots != request.options.slots.map(Into::into)
            || !is_same_text(&native.label, &request.options.label)
        {
            return false;
        }
        record.created_at = Some(self.at);
        (native.fence, native.acquired_at, native.state) = (Some(self.fence), Some(self.at), RecordState::Held);
        true
    }
}

#[cold]
fn fence_exhausted(paths: &LockPaths) -> Error {
    Error::new(ErrorKind::Io, paths.anchor_path(), "the fence has reached 2^53 and cannot grow")
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::model::options::Options;
    use crate::record::RecordStyle;

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_record_serves_the_next_tenure_once_nothing_uses_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = LockPaths::open(&dir.path().join("t"), false).unwrap();
        let request = |label: &str| Request::new(Options::default().label(label), false);
        let one = request("one");
        let anchor = Anchor::open(&paths, &one.options).unwrap();
        let next = |request: &Request, last: &Record| {
            next_record(&anchor, request, last.previous_fence().unwrap(), &paths).unwrap()
        };
        let first = next_record(&anchor, &one, 0, &paths).unwrap();
        let before = Record::clone(&first);
        let second = next(&one, &first);
        assert!(!Arc::ptr_eq(&first, &second) && *first == before, "a tenure still has the first one");
        let (kept, last) = (Arc::as_ptr(&second), Record::clone(&second));
        drop((first, second));
        let third = next(&one, &last);
        assert!(Arc::as_ptr(&third) == kept && third.previous_fence() > last.previous_fence(), "{third:?}");
        assert_eq!(third.created_at, third.native.as_ref().unwrap().acquired_at);
        drop(third);
        for (request, label, style) in [
            (request("other"), "other", RecordStyle::LockFile),
            (one, "one", RecordStyle::LockFile),
            (Request::new(Options::default().label("one").record(false), false), "one", RecordStyle::Flock),
        ] {
            let record = next(&request, &last);
            let native = record.native.as_ref().unwrap();
            assert_eq!((native.label.as_deref(), native.style), (Some(label), style));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn what_was_changed_in_a_record_is_not_in_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let paths = LockPaths::open(&dir.path().join("t"), false).unwrap();
        let request = Request::new(Options::default().label("usual"), false);
        let anchor = Anchor::open(&paths, &request.options).unwrap();
        let mut size = 0;
        let mut write = |record: &Record| {
            anchor.write(record, size, false).unwrap();
            size = anchor.file.ident().unwrap().size;
            let mut text = vec![0; usize::try_from(size).unwrap()];
            assert_eq!(anchor.file.read(&mut text).unwrap(), text.len());
            assert_eq!(crate::record::read(&text), crate::record::Content::Record(in_milliseconds(record)));
        };
        let mut fence = 0;
        for _ in 0..3 {
            let mut record = next_record(&anchor, &request, fence, &paths).unwrap();
            write(&record);
            // As a holder does, by `set_label` and `refresh`.
            let changed = Arc::make_mut(&mut record);
            changed.created_at = Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_772_445_600));
            changed.native.as_mut().unwrap().label = Some("step 2".into());
            write(&record);
            fence = record.previous_fence().unwrap();
            let next = next_record(&anchor, &request, fence, &paths).unwrap();
            assert_eq!(next.native.as_ref().unwrap().label.as_deref(), Some("usual"));
            write(&next);
            fence = next.previous_fence().unwrap();
        }
    }

    /// Returns the record as its text has it.
    fn in_milliseconds(record: &Record) -> Record {
        let whole = |time: Option<SystemTime>| {
            let since = time?.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(since.as_millis().try_into().unwrap()))
        };
        let mut record = record.clone();
        record.created_at = whole(record.created_at);
        let native = record.native.as_mut().unwrap();
        native.acquired_at = whole(native.acquired_at);
        record
    }
}
