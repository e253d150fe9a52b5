//! A suspended tenure of a file's lock, and the acquire that resumes it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use crate::file::anchor::Anchor;
use crate::file::history;
use crate::file::lock_file::LockFile;
use crate::file::paths::LockPaths;
use crate::file::status::examine;
use crate::file::suspended::SuspensionMark;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::{Options, Wait};
use crate::model::rank::Rank;
use crate::model::request::{Request, Resumption};
use crate::model::requester::RequesterId;
use crate::model::status::Status;
use crate::model::tenure::{Backend, Begun, Facts, Meanwhile, Suspension, Tenure};
use crate::sys::{self, LockKind, Name, NameChange, NameWatch};
use crate::util::thread_pool;
use crate::wait::queue::TargetQueue;
use crate::wait::queued;
use crate::wait::tenure::FileTenure;

/// The name changes of a lock file that was removed by the suspended tenure, and added by the resumed one.
const UNTOUCHED: [NameChange; 2] = [NameChange::Removed, NameChange::Added];

/// A suspended tenure.
#[derive(Debug)]
pub(crate) struct FileSuspension {
    queue: Arc<TargetQueue>,
    /// The request that resumes the tenure.
    request: Arc<Request>,
    fence: u64,
    /// The mark by which it goes before those that wait.
    mark: Option<SuspensionMark>,
    /// The watch of the lock file's name, since before the release.
    watch: Option<NameWatch>,
    generation: u64,
}

/// Fails where the tenure cannot be suspended.
pub(crate) fn check(tenure: &FileTenure) -> Result<()> {
    tenure.check()?;
    let unsupported = |detail: &'static str, hint: &'static str| {
        Err(Error::new(ErrorKind::Unsupported, &tenure.paths().target_path, detail).with_hint(hint))
    };
    let again = "release it, acquire it again, and read again what it protects";
    if tenure.request.shared {
        return unsupported("a share cannot be suspended: it has no record to leave its place in", again);
    }
    if tenure.request.bare() {
        return unsupported("a lock without a record cannot be suspended: nothing shows who held it meanwhile", again);
    }
    if tenure.has_other_guards() {
        return unsupported(
            "the lock cannot be suspended while other guards of this process hold it too",
            "suspend it where one guard is left",
        );
    }
    Ok(())
}

/// Suspends the tenure of `queue`. After an error it is held, but where its release failed.
pub(crate) fn suspend(tenure: &Arc<FileTenure>, queue: Arc<TargetQueue>) -> Result<FileSuspension> {
    check(tenure)?;
    let (paths, request) = (&tenure.paths, &tenure.request);
    let Some(anchor) = tenure.grant.anchor.as_deref() else { return Err(no_anchor(paths)) };
    // All of this comes before the release: what happens from then on is seen.
    let watch = watch_name(paths, &tenure.grant.lock_file, anchor);
    let mut mark = SuspensionMark::take(paths, anchor, tenure.fence);
    if let Some(taken) = &mark {
        let mut entered = false;
        tenure.change(|record| entered = taken.enter(record))?;
        if !entered {
            mark = None;
        }
    }
    let mut options = request.options.clone();
    options.label = tenure.record().and_then(|record| record.native?.label);
    let request = Request { resumes: Some(Resumption::new(tenure.fence)), ..Request::new(options, false) };
    let (fence, generation) = (tenure.fence, tenure.generation);
    tenure.release()?;
    Ok(FileSuspension { queue, request: Arc::new(request), fence, mark, watch, generation })
}

#[cold]
fn no_anchor(paths: &LockPaths) -> Error {
    Error::new(ErrorKind::Unsupported, &paths.target_path, "a lock without an anchor cannot be suspended")
}

/// Watches the lock file's name. `None` where the watch would prove nothing: without a lock file, on a file system that other
/// machines change too, and in a folder where the file has more names than its own.
fn watch_name(paths: &LockPaths, lock_file: &LockFile, anchor: &Anchor) -> Option<NameWatch> {
    let shown = lock_file.id(anchor)?;
    if paths.file_system.shared {
        return None;
    }
    let mut other_case = OsString::from(paths.target.as_os_str());
    other_case.push(".LOCK");
    let found = paths.dir.ident_at(&Name::new(&other_case).ok()?).ok()?;
    if found.is_some_and(|found| found.id == shown) {
        return None;
    }
    NameWatch::new(&paths.dir, &paths.lock).ok()
}

impl FileSuspension {
    /// Shows other processes that the tenure is being resumed.
    fn begin_resumption(&self) -> Result<()> {
        if self.generation != sys::fork_generation() {
            let detail = "the suspended lock is the parent's: this is a forked child";
            return Err(Error::new(ErrorKind::Lost, self.target(), detail));
        }
        if let Some(mark) = &self.mark {
            // Without it, only the order is lost.
            let _ = mark.show_resumption();
        }
        Ok(())
    }

    fn paths(&self) -> Arc<LockPaths> {
        self.queue.paths()
    }
}

impl Backend for FileSuspension {
    fn target(&self) -> &Path {
        &self.queue.target_path
    }

    fn rank(&self) -> Result<Rank> {
        self.queue.folder.rank_of(&self.queue.target_path)
    }

    fn acquire(&self, _kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        self.begin_resumption()?;
        Ok(self.queue.acquire(Arc::clone(&self.request), wait)?)
    }

    fn begin(&self, _kind: LockKind, wait: Wait, requester: Option<RequesterId>) -> Result<Begun> {
        self.begin_resumption()?;
        queued::begin(Arc::clone(&self.queue), Arc::clone(&self.request), wait, requester, &[])
    }

    fn status(&self) -> Result<Status> {
        examine(&self.paths(), &Options::default())
    }

    fn note_failure(&self, error: &Error, _kind: LockKind) {
        let options = &self.request.options;
        if options.history > 0 && self.generation == sys::fork_generation() {
            history::append_failure(&self.paths(), options, error, false);
        }
    }
}

impl Suspension for FileSuspension {
    fn fence(&self) -> u64 {
        self.fence
    }

    fn goes_first(&self) -> bool {
        self.mark.is_some()
    }

    fn meanwhile(&self, resumed: &Facts<'_>) -> Meanwhile {
        let found = self.request.resumes.as_ref().and_then(Resumption::found);
        if resumed.previous.is_crashed() || found.is_some_and(|fence| fence != self.fence) {
            return Meanwhile::Others;
        }
        // Without a fence the record was lost, or this process held the lock all the time, by another guard.
        let (Some(_), Some(watch)) = (found, &self.watch) else { return Meanwhile::Unknown };
        match watch.changes() {
            Ok(changes) if changes == UNTOUCHED => Meanwhile::Nobody,
            Ok(_) => Meanwhile::Others,
            Err(_) => Meanwhile::Unknown,
        }
    }
}

impl Drop for FileSuspension {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take()
            && self.generation == sys::fork_generation()
        {
            // Closing it takes the kernel some milliseconds, in which the resumed lock is held.
            let _ = thread_pool::run(move || {
                let _closed = watch;
            });
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "the test is a foreign program as well")]
mod tests {
    use super::*;
    use crate::file::acquire::{GrantOutcome, try_grant};
    use crate::file::cached_files::CachedFiles;
    use crate::file::grant::Grant;
    use crate::file::suspended::Yielding;
    use crate::model::options::Style;
    use crate::sys::Access;
    use crate::wait::registry;
    use crate::wait::watchdog::WatchedQueue as _;

    /// Makes an acquire with descriptors of its own, which gives way.
    fn outcome(paths: &LockPaths, request: &Request) -> GrantOutcome {
        let mut cached = CachedFiles::default();
        let anchor = Arc::new(Anchor::open(paths, &request.options).unwrap());
        assert!(anchor.file.try_lock(LockKind::Exclusive).unwrap());
        let stat = anchor.current(paths).unwrap().unwrap();
        let mut grant = Grant::empty();
        try_grant(paths, &mut cached, &anchor, &stat, request, &mut |_, _| Yielding::Yield, &mut grant).unwrap()
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn a_foreign_holder_is_waited_for_and_not_given_way_to() {
        for style in [Style::LockFile, Style::Flock] {
            let dir = tempfile::tempdir().unwrap();
            let paths = LockPaths::open(&dir.path().join("t"), false).unwrap();
            let queue = registry::queue(&paths, false);
            let request = Arc::new(Request::new(Options::default().style(style), false));
            let tenure = queue.acquire(Arc::clone(&request), Wait::Never).unwrap();
            let suspension = suspend(&tenure, queue).unwrap();
            suspension.begin_resumption().unwrap();
            assert!(matches!(outcome(&paths, &request), GrantOutcome::GivesWay), "the lock is free");
            match style {
                Style::Flock => {
                    let other = paths.dir.open_at(&paths.target, Access::Read).unwrap();
                    assert!(other.try_lock(LockKind::Exclusive).unwrap());
                    assert!(matches!(outcome(&paths, &request), GrantOutcome::TargetBusy));
                    let share = Request::new(request.options.clone(), true);
                    assert!(matches!(outcome(&paths, &share), GrantOutcome::TargetBusy));
                }
                _ => {
                    std::fs::write(&paths.lock_path, format!(r#"{{"pid":{}}}"#, std::os::unix::process::parent_id()))
                        .unwrap();
                    assert!(matches!(outcome(&paths, &request), GrantOutcome::Blocked(_)));
                    std::fs::remove_file(&paths.lock_path).unwrap();
                }
            }
            assert!(matches!(outcome(&paths, &request), GrantOutcome::GivesWay), "it is free again");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "makes system calls")]
    fn only_what_is_held_counts_for_max_hold() {
        let dir = tempfile::tempdir().unwrap();
        let queue = registry::queue(&LockPaths::open(&dir.path().join("t"), false).unwrap(), false);
        let options = Options::default().max_hold(std::time::Duration::from_secs(3600));
        let tenure = queue.acquire(Arc::new(Request::new(options, false)), Wait::Never).unwrap();
        assert_eq!(queue.tenures().len(), 1);
        let suspension = suspend(&tenure, Arc::clone(&queue)).unwrap();
        assert!(queue.tenures().is_empty(), "the watchdog has nothing to act on");
        let between = sys::moment();
        let resumed = queue.acquire(Arc::clone(&suspension.request), Wait::Never).unwrap();
        assert!(resumed.grant.began.0 >= between.0, "it begins again");
        assert_eq!(resumed.request.options.max_hold, tenure.request.options.max_hold);
        resumed.release().unwrap();
    }
}
