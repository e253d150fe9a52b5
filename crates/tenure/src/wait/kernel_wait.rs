//! A helper's wait in the kernel for the holder that blocks its process's queue.
//!
//! The anchor's kernel lock is never kept over a wait. A process that waits for a foreign holder may be stopped, and
//! would keep all others out of a lock that has become free meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crate::file::acquire::{
    GrantOutcome, cached_anchor, close_all, drop_anchor, lock_kind, lock_target, target_error, try_grant, unlock_all,
};
use crate::file::anchor::Anchor;
use crate::file::break_lock;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::Grant;
use crate::file::lock_file::{self, Blocker};
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::file::suspended;
use crate::model::error::{Error, Result};
use crate::model::holder::HolderKind;
use crate::model::options::Options;
use crate::sys::{self, File, InterruptHandle, LockKind, Wakeup};
use crate::wait::fairness::{Pace, TimeSlice, announce_waiter, await_grant, read_head};
use crate::wait::queue::{TargetQueue, WaitEnd, WaitedFile, Waiter};
use crate::wait::yielding::GivingWay;

/// How long a foreign holder is waited for without a check, whatever its events say.
const SLOW_CHECK: Duration = Duration::from_secs(1);

/// The result of one wait.
pub(crate) enum Waited {
    /// Granted: the grant is at the caller's place for it.
    Granted {
        /// Whether the kernel lock had to be waited for.
        waited_for: bool,
    },
    /// The wait in the kernel's queue of the anchor ended with its lock, and the queue has another head by now: go on with
    /// it, for that.
    Locked,
    /// The state changed: read the queue's head again and retry.
    Changed,
}

/// The state of the anchor's kernel lock after one wait.
enum AnchorLock {
    /// It was free, or this process had it already.
    Here,
    /// It had to be waited for.
    WaitedFor,
    /// It had to be waited for, and the queue has another head by now.
    WaitedForOther,
    /// This process does not have it.
    Missing,
}

/// A helper that works for the queue's head.
#[derive(Clone, Copy)]
pub(crate) struct KernelWaiter<'a> {
    pub(crate) queue: &'a Arc<TargetQueue>,
    /// The helper's number. Where the queue has another one, this helper was detached.
    pub(crate) epoch: u32,
    /// The way to interrupt a wait in the kernel's queue.
    pub(crate) interrupt: Option<&'a InterruptHandle>,
}

impl KernelWaiter<'_> {
    /// Makes one attempt for the queue's head, and waits in the kernel where the lock is held. A grant is written to
    /// `grant`.
    pub(crate) fn wait_once(
        &self,
        cached: &mut CachedFiles,
        time_slice: &mut TimeSlice,
        giving_way: &mut GivingWay,
        head: &Arc<Waiter>,
        grant: &mut Grant,
    ) -> Result<Waited> {
        self.attempt(cached, time_slice, giving_way, head, grant).inspect_err(|_| {
            match self.queue.is_current(self.epoch) {
                true => close_all(cached),
                // Detached: the successor may use the same descriptor of the anchor, and its lock.
                false => *cached = CachedFiles::default(),
            }
        })
    }

    fn attempt(
        &self,
        cached: &mut CachedFiles,
        time_slice: &mut TimeSlice,
        giving_way: &mut GivingWay,
        head: &Arc<Waiter>,
        grant: &mut Grant,
    ) -> Result<Waited> {
        let paths = cached.paths.clone().unwrap_or_else(|| self.queue.paths());
        let (paths, request) = (&*paths, head.request());
        if request.bare() {
            return match lock_target(paths, cached, request)? {
                Some(target) => {
                    *grant = Grant::bare(target);
                    Ok(Waited::Granted { waited_for: false })
                }
                None => self.wait_for_target(cached, head),
            };
        }
        if !request.flock()
            && let Some(target) = &cached.target
        {
            // A waiter in flock style may have queued for the target, and given up.
            target.file.unlock().map_err(|error| target_error(paths, "cannot be unlocked", error))?;
        }
        let anchor = cached_anchor(paths, cached, request)?;
        let waited_for = match self.lock_anchor(cached, time_slice, head, paths, &anchor)? {
            AnchorLock::Here => false,
            AnchorLock::WaitedFor => true,
            AnchorLock::WaitedForOther => return Ok(Waited::Locked),
            AnchorLock::Missing => return Ok(Waited::Changed),
        };
        let Some(stat) = anchor.current(paths)? else {
            drop_anchor(cached);
            return Ok(Waited::Changed);
        };
        let mut yielding = |fence: u64, resumed: &[u64]| match request.shared {
            true => giving_way.yielding_share(fence, resumed),
            false => giving_way.yielding(fence, resumed),
        };
        match try_grant(paths, cached, &anchor, &stat, request, &mut yielding, grant) {
            Ok(GrantOutcome::Granted) => {
                // A share changes no record, so what was given stays given.
                if !request.shared {
                    *giving_way = GivingWay::default();
                }
                Ok(Waited::Granted { waited_for })
            }
            Ok(GrantOutcome::GivesWay) => {
                let before = read_head(&anchor);
                let alone = !request.shared || lock_alone(cached);
                unlock_all(cached);
                let since = sys::moment();
                await_grant(&anchor, &before, Pace::Slowing);
                giving_way.gave(sys::moment().since(since), alone);
                Ok(Waited::Changed)
            }
            Ok(GrantOutcome::SharesFirst(tenures)) => {
                giving_way.forgot();
                forget_suspended(paths, cached, &tenures);
                Ok(Waited::Changed)
            }
            Ok(GrantOutcome::TargetBusy) => self.wait_for_target(cached, head),
            Ok(GrantOutcome::Blocked(blocker)) => {
                self.wait_for_blocker(cached, blocker, head)?;
                Ok(Waited::Changed)
            }
            Err(error) if error.is_lost() => {
                drop_anchor(cached);
                Ok(Waited::Changed)
            }
            Err(error) => Err(error),
        }
    }

    /// Locks the anchor without waiting, or waits for its kernel lock. The lock is missing, too,
    /// where it was free and this process backed off for a waiter.
    fn lock_anchor(
        &self,
        cached: &mut CachedFiles,
        time_slice: &mut TimeSlice,
        head: &Arc<Waiter>,
        paths: &LockPaths,
        anchor: &Anchor,
    ) -> Result<AnchorLock> {
        let KernelWaiter { queue, epoch, interrupt } = *self;
        let request = head.request();
        let wanted = lock_kind(request);
        if cached.locked == Some(wanted) {
            return Ok(AnchorLock::Here);
        }
        let failed = |error| paths.anchor_error("cannot be locked", error);
        if cached.locked.take().is_some() {
            anchor.file.unlock().map_err(failed)?;
        }
        if !anchor.file.try_lock(wanted).map_err(failed)? {
            if break_lock::steal(paths, request.options.stale_policy) {
                return Ok(AnchorLock::Missing);
            }
            if !queue.begin_kernel_wait(epoch, cached, anchor.id, WaitedFile::Anchor, wanted) {
                return Ok(AnchorLock::Missing);
            }
            announce_waiter(paths, anchor);
            let locked = anchor.file.lock(wanted, interrupt);
            // A shared lock gives up its mark, because other processes ask for waiters while it is held.
            if request.shared || !matches!(locked, Ok(true)) {
                anchor.file.unmark();
            }
            let end = queue.end_kernel_wait(epoch, &locked, head);
            if end == WaitEnd::Detached && matches!(locked, Ok(true)) {
                // A detached helper has no successor on this open file, but a tenure that has ended may keep it open.
                let _ = anchor.file.unlock();
                return Ok(AnchorLock::Missing);
            }
            if !locked.map_err(failed)? {
                return Ok(AnchorLock::Missing);
            }
            cached.locked = Some(wanted);
            return Ok(if end == WaitEnd::SameHead { AnchorLock::WaitedFor } else { AnchorLock::WaitedForOther });
        }
        cached.locked = Some(wanted);
        if request.shared {
            anchor.file.unmark();
        }
        if request.resumes.is_none() && time_slice.should_yield(paths, anchor) {
            anchor.file.unlock().map_err(failed)?;
            cached.locked = None;
            time_slice.back_off(anchor);
            return Ok(AnchorLock::Missing);
        }
        Ok(AnchorLock::Here)
    }

    /// Waits for a program that holds by the lock file: for a native in its file's kernel queue, for a foreign program
    /// by its events.
    fn wait_for_blocker(&self, cached: &mut CachedFiles, mut blocker: Box<Blocker>, head: &Arc<Waiter>) -> Result<()> {
        let KernelWaiter { queue, epoch, interrupt } = *self;
        self.unlock_anchor(cached)?;
        let native_lives = blocker.holder.kind == HolderKind::Native && blocker.holder.liveness.is_alive();
        match blocker.file.take() {
            Some(file) if native_lives => {
                if queue.begin_kernel_wait(epoch, cached, blocker.id, WaitedFile::LockFile, LockKind::Exclusive) {
                    let locked = file.lock(LockKind::Exclusive, interrupt);
                    queue.end_kernel_wait(epoch, &locked, head);
                    locked.map_err(|error| {
                        Error::io(&queue.paths().lock_path, "the lock file cannot be locked", error)
                    })?;
                }
                Ok(())
            }
            file => {
                if let Some(anchor) = &cached.anchor {
                    // This waiter is in no kernel queue that would show it.
                    announce_waiter(&queue.paths(), anchor);
                }
                let watched = self.watch(cached, file, &blocker, &head.request().options);
                if let Some(anchor) = &cached.anchor {
                    anchor.file.unmark();
                }
                watched
            }
        }
    }

    /// Waits for a foreign holder's events. `file` is the judged lock file, if it is open. It is closed before the
    /// wait, because a process that has it open looks like its holder to others.
    fn watch(&self, cached: &CachedFiles, file: Option<File>, blocker: &Blocker, options: &Options) -> Result<()> {
        let paths = self.queue.paths();
        let failed = |error| Error::io(&paths.lock_path, "the lock file's holder cannot be waited for", error);
        let wakeup = Arc::new(Wakeup::new().map_err(failed)?);
        // Either may be missing (no inotify left, an unreadable file, a pid of another namespace): the slow check
        // remains.
        let watch = file.as_ref().and_then(|file| sys::FileWatch::new(file).ok());
        drop(file);
        let process = blocker.holder.pid().and_then(|pid| sys::ProcessHandle::open(pid).ok());
        if !self.queue.begin_watch(self.epoch, cached, &wakeup) {
            return Ok(());
        }
        // What happened before the watch began has no event: the end of the holder, or of its process.
        if !lock_file::still_blocks(&paths, blocker, options)? {
            return Ok(());
        }
        // An ended process whose lock is alive (another process has the file open) would wake this thread for ever.
        let process = process.filter(|process| !process.exited().unwrap_or(true));
        let timeout = blocker.retry_after.map_or(SLOW_CHECK, |retry| retry.min(SLOW_CHECK));
        sys::wait_any(watch.as_ref(), process.as_ref(), &wakeup, timeout).map_err(failed)
    }

    /// Waits in the kernel's queue of the target itself.
    fn wait_for_target(&self, cached: &mut CachedFiles, head: &Arc<Waiter>) -> Result<Waited> {
        let KernelWaiter { queue, epoch, interrupt } = *self;
        self.unlock_anchor(cached)?;
        let wanted = lock_kind(head.request());
        let Some(target) = cached.target.clone() else { return Ok(Waited::Changed) };
        if !queue.begin_kernel_wait(epoch, cached, target.id, WaitedFile::Target, wanted) {
            return Ok(Waited::Changed);
        }
        let locked = target.file.lock(wanted, interrupt);
        let current = queue.end_kernel_wait(epoch, &locked, head) != WaitEnd::Detached;
        let locked = locked.map_err(|error| target_error(&queue.paths(), "cannot be locked", error))?;
        // A detached helper shares the anchor's descriptor with its successor.
        if !current || !locked {
            if locked {
                // As in `lock_anchor`.
                let _ = target.file.unlock();
            }
            return Ok(Waited::Changed);
        }
        // No process waits while it has the anchor's lock, so a process that has the target's lock may try the anchor's
        // out of order. Where another process has the anchor, the target is unlocked again: it is not kept over a wait
        // either.
        let Some(anchor) = &cached.anchor else { return Ok(Waited::Changed) };
        match anchor.file.try_lock(wanted).map_err(|error| queue.paths().anchor_error("cannot be locked", error))? {
            true => cached.locked = Some(wanted),
            false => {
                target.file.unlock().map_err(|error| target_error(&queue.paths(), "cannot be unlocked", error))?;
            }
        }
        Ok(Waited::Changed)
    }

    /// Unlocks the anchor before a wait for another file.
    fn unlock_anchor(&self, cached: &mut CachedFiles) -> Result<()> {
        if cached.locked.take().is_some()
            && let Some(anchor) = &cached.anchor
        {
            let failed = |error| self.queue.paths().anchor_error("cannot be unlocked", error);
            anchor.file.unlock().map_err(failed)?;
        }
        Ok(())
    }
}

/// Returns whether no other process has the lock, not even as a share. If so, the exclusive kernel lock of the anchor is left
/// locked, and otherwise none. The request is one for a share.
#[cold]
fn lock_alone(cached: &mut CachedFiles) -> bool {
    let lock = |file: &File| file.unlock().is_ok() && file.try_lock(LockKind::Exclusive).unwrap_or(false);
    let alone = cached.anchor.as_ref().is_some_and(|anchor| lock(&anchor.file))
        && cached.target.as_ref().is_some_and(|target| lock(&target.file) && target.file.unlock().is_ok());
    if !alone {
        unlock_all(cached);
    }
    alone
}

/// Drops the tenures of these fences from the list in the record of the lock, if no other process has it. Leaves no kernel lock.
#[cold]
fn forget_suspended(paths: &LockPaths, cached: &mut CachedFiles, fences: &[u64]) {
    if lock_alone(cached)
        && let Some(anchor) = &cached.anchor
        && let Ok(Some(stat)) = anchor.current(paths)
        && let Ok(prior) = Prior::read(anchor, paths, &stat)
    {
        // Otherwise the next process that shares finds them, and gives way as well.
        let _ = suspended::forget(anchor, &prior, fences);
    }
    unlock_all(cached);
}
