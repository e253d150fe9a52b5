//! The lock of a path: [`Backend`] and [`Tenure`] for files.

use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

use crate::file::history;
use crate::file::lock_file::LockFile;
use crate::file::paths::LockPaths;
use crate::file::status::examine;
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::holder::Holder;
use crate::model::options::{Options, Style, Wait};
use crate::model::rank::Rank;
use crate::model::request::Request;
use crate::model::requester::RequesterId;
use crate::model::status::Status;
use crate::model::tenure::{Backend, Begun, Facts, Suspension, Tenure};
use crate::record::Record;
use crate::sys::{Inherited, LockKind};
use crate::wait::queue::TargetQueue;
use crate::wait::queued;
use crate::wait::registry;
use crate::wait::suspension;
use crate::wait::tenure::FileTenure;

/// The lock of a path, opened with its options.
#[derive(Clone, Debug)]
pub(crate) struct FileLock {
    queue: Arc<TargetQueue>,
    exclusive: Arc<Request>,
}

impl FileLock {
    pub(crate) fn open(target: &Path, options: Options) -> Result<FileLock> {
        Ok(FileLock::at(&LockPaths::open(target, options.create_parents)?, options))
    }

    /// Returns the lock at paths that are open already.
    pub(crate) fn at(paths: &LockPaths, options: Options) -> FileLock {
        let queue = registry::queue(paths, !options.record);
        FileLock { queue, exclusive: registry::request(options) }
    }

    /// Returns whether a guard of this process holds the lock exclusively. A waiter that was granted the lock has its outcome
    /// by then.
    #[allow(dead_code, reason = "the simulation replaces no holder")]
    pub(crate) fn is_held(&self) -> bool {
        self.queue().is_held()
    }

    /// Returns whether `requester` acquired what this process holds, so that a further acquire by it would wait for itself.
    #[allow(dead_code, reason = "the simulation has no slots")]
    pub(crate) fn is_held_by(&self, requester: RequesterId) -> bool {
        self.queue().is_held_by(requester)
    }

    /// As [`begin`](Backend::begin), for an acquire that blocks a thread. The requesters `around` cannot go on while it waits.
    pub(crate) fn begin_around(
        &self,
        kind: LockKind,
        wait: Wait,
        requester: Option<RequesterId>,
        around: &[RequesterId],
    ) -> Result<Begun> {
        queued::begin(self.queue(), self.request(kind)?, wait, requester, around)
    }

    /// Returns the queue of this process, which is another one after a fork.
    fn queue(&self) -> Arc<TargetQueue> {
        if self.queue.is_of_this_process() {
            return Arc::clone(&self.queue);
        }
        registry::reopened(&self.queue)
    }

    #[inline]
    fn request(&self, kind: LockKind) -> Result<Arc<Request>> {
        match kind {
            LockKind::Exclusive => Ok(Arc::clone(&self.exclusive)),
            LockKind::Shared => self.share(),
        }
    }

    #[cold]
    fn share(&self) -> Result<Arc<Request>> {
        let options = &self.exclusive.options;
        if options.style != Style::Flock && options.record {
            return Err(Error::new(ErrorKind::Unsupported, self.target(), "a lock file cannot be shared")
                .with_hint("shared locks exist in flock style: style(Style::Flock), --flock")
                .with_advice(Advice::UseFlockStyle));
        }
        Ok(Arc::new(Request::new(options.clone(), true)))
    }
}

impl Backend for FileLock {
    fn target(&self) -> &Path {
        &self.queue.target_path
    }

    fn rank(&self) -> Result<Rank> {
        self.queue.folder.rank_of(&self.queue.target_path)
    }

    #[inline]
    fn acquire(&self, kind: LockKind, wait: Wait) -> Result<Arc<dyn Tenure>> {
        let request = self.request(kind)?;
        let tenure = match self.queue.is_of_this_process() {
            true => self.queue.acquire(request, wait)?,
            false => self.queue().acquire(request, wait)?,
        };
        Ok(tenure)
    }

    fn begin(&self, kind: LockKind, wait: Wait, requester: Option<RequesterId>) -> Result<Begun> {
        self.begin_around(kind, wait, requester, &[])
    }

    fn status(&self) -> Result<Status> {
        examine(&self.queue().paths(), &Options::default())
    }

    fn note_failure(&self, error: &Error, kind: LockKind) {
        let options = &self.exclusive.options;
        if options.history > 0 {
            history::append_failure(&self.queue().paths(), options, error, kind == LockKind::Shared);
        }
    }
}

impl Tenure for FileTenure {
    fn facts(&self) -> Facts<'_> {
        Facts {
            target: &self.paths.target_path,
            lock_file: &self.paths.lock_path,
            fence: (self.fence != 0).then_some(self.fence),
            shared: self.request.shared,
            slot: None,
            previous: &self.grant.previous,
        }
    }

    fn holder(&self) -> Holder {
        FileTenure::holder(self)
    }

    fn record(&self) -> Option<Record> {
        FileTenure::record(self)
    }

    fn change(&self, change: &mut dyn FnMut(&mut Record)) -> Result<()> {
        FileTenure::change(self, change)
    }

    fn refresh(&self) -> Result<()> {
        match self.has_date() {
            true => FileTenure::refresh(self),
            false => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        FileTenure::check(self)
    }

    fn check_natives(&self) -> Result<()> {
        self.check_anchor()
    }

    fn descriptors(&self) -> Result<Vec<Inherited>> {
        self.check_anchor()?;
        let grant = &self.grant;
        let anchor = grant.anchor.as_deref().map(|anchor| &anchor.file);
        let target = grant.target.as_deref().map(|target| &target.file);
        let copy = match &grant.lock_file {
            LockFile::Copy(copy) => Some(&copy.file),
            _ => None,
        };
        let files = [anchor, target, copy].into_iter().flatten();
        let failed = |error| Error::io(&self.paths.target_path, "the lock cannot be handed to the command", error);
        files.map(|file| file.duplicate().map_err(failed)).collect()
    }

    fn note_exit_code(&self, code: i32) {
        FileTenure::note_exit_code(self, code);
    }

    fn poll_loss(self: Arc<Self>, waker: &Waker) -> bool {
        let lost = self.listeners.poll(waker);
        if !lost && self.is_held() {
            self.watch();
        }
        lost
    }

    fn release(self: Arc<Self>) -> Result<()> {
        FileTenure::release(&self)
    }

    fn check_suspendable(&self) -> Result<()> {
        suspension::check(self)
    }

    fn suspend(self: Arc<Self>) -> Result<Arc<dyn Suspension>> {
        Ok(Arc::new(suspension::suspend(&self, registry::queue(&self.paths, false))?))
    }

    fn abandon(self: Arc<Self>) {
        // A reentrant acquire may have joined the tenure, which then has work to report.
        if !self.has_other_guards() {
            self.discard_undelivered();
        }
        if let Err(_error) = FileTenure::release(&self) {
            crate::util::trace::event!(WARN, error = %_error, "the release of an abandoned grant failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::acquire::{Attempt, GrantOutcome};
    use crate::file::cached_files::CachedFiles;
    use crate::file::grant::Grant;
    use crate::file::lock_file::Published;
    use crate::file::prior::Prior;
    use crate::wait::queue::Start;

    /// A move of a larger value is a call of `memcpy`.
    #[test]
    fn no_large_value_is_moved_from_an_acquire_to_its_release() {
        for (name, size) in [
            ("Grant", size_of::<Grant>()),
            ("CachedFiles", size_of::<CachedFiles>()),
            ("Prior", size_of::<Result<Prior<'_>>>()),
            ("Published", size_of::<Result<(Published, bool)>>()),
            ("GrantOutcome", size_of::<Result<GrantOutcome>>()),
            ("Attempt", size_of::<Result<Attempt>>()),
            ("Start", size_of::<Result<Start>>()),
            ("Begun", size_of::<Result<Begun>>()),
            ("Facts", size_of::<Facts<'_>>()),
            ("a tenure", size_of::<Result<Arc<dyn Tenure>>>()),
        ] {
            assert!(size <= 128, "{name}: {size} bytes");
        }
    }
}
