//! A helper's turn: it waits in the kernel for whatever holder blocks its process's queue.
//!
//! The anchor's kernel lock is never kept over a wait. A process that waits for a foreign holder may be stopped, and would
//! keep all others out of a lock that has become free meanwhile.

use std::sync::Arc;

use crate::file::acquire::{
    Entered, bare_grant, close, drop_anchor, enter, kept_anchor, kind, lock_target, target_error,
};
use crate::file::break_lock;
use crate::file::cached_files::CachedFiles;
use crate::file::grant::Grant;
use crate::file::lock_file::Blocker;
use crate::model::error::{Error, Result};
use crate::model::holder::HolderKind;
use crate::model::request::Request;
use crate::sys::{InterruptHandle, LockKind};
use crate::wait::fairness::{TimeSlice, announce_waiter};
use crate::wait::queue::{self, Name, TargetQueue};

/// What came of a helper's turn; `None`: something changed, so look again who waits, and begin anew.
pub(crate) type Step = Option<Grant>;

/// Who works for the queue's head.
#[derive(Clone, Copy)]
pub(crate) struct KernelWaiter<'a> {
    pub(crate) queue: &'a Arc<TargetQueue>,
    /// Its number among the queue's helpers: another's means that it was left behind.
    pub(crate) epoch: u32,
    /// Where it may be called back from the kernel's queue.
    pub(crate) interrupt: Option<&'a InterruptHandle>,
}

impl KernelWaiter<'_> {
    /// Its turn: waits in the kernel for whatever is in the way.
    pub(crate) fn step(&self, kept: &mut CachedFiles, time_slice: &mut TimeSlice, request: &Request) -> Result<Step> {
        self.turn(kept, time_slice, request).inspect_err(|_| match self.queue.is_current(self.epoch) {
            true => close(kept),
            // Left behind: the anchor's descriptor may be the successor's too, and with it the lock.
            false => *kept = CachedFiles::default(),
        })
    }

    fn turn(&self, kept: &mut CachedFiles, time_slice: &mut TimeSlice, request: &Request) -> Result<Step> {
        let KernelWaiter { queue, epoch, interrupt } = *self;
        let paths = &*queue.paths();
        if request.bare() {
            return match lock_target(paths, kept, request)? {
                Some(target) => Ok(Some(bare_grant(target))),
                None => self.wait_for_target(kept, request),
            };
        }
        if !request.flock()
            && let Some(target) = &kept.target
        {
            // A waiter in flock style may have queued for it, and given up.
            target.file.unlock().map_err(|error| target_error(paths, "cannot be unlocked", error))?;
        }
        let anchor = kept_anchor(paths, kept, request)?;
        let wanted = kind(request);
        if kept.locked != Some(wanted) {
            let failed = |error| paths.anchor_error("cannot be locked", error);
            if kept.locked.take().is_some() {
                anchor.file.unlock().map_err(failed)?;
            }
            if !anchor.file.try_lock(wanted).map_err(failed)? {
                if break_lock::steal(paths, request.options.stale_policy) {
                    return Ok(None);
                }
                if !queue.begin_kernel_wait(epoch, kept, anchor.id, Name::Anchor, wanted) {
                    return Ok(None);
                }
                announce_waiter(paths, &anchor);
                let locked = anchor.file.lock(wanted, interrupt);
                // Of those who share, others ask while it is held.
                if request.shared || !matches!(locked, Ok(true)) {
                    anchor.file.unmark();
                }
                queue.end_kernel_wait(epoch);
                if locked.map_err(failed)? {
                    kept.locked = Some(wanted);
                    time_slice.begin();
                }
                return Ok(None);
            }
            kept.locked = Some(wanted);
            if time_slice.should_yield(paths, &anchor) {
                anchor.file.unlock().map_err(failed)?;
                kept.locked = None;
                time_slice.back_off(&anchor);
                return Ok(None);
            }
        }
        let Some(stat) = anchor.current(paths)? else {
            drop_anchor(kept);
            return Ok(None);
        };
        match enter(paths, kept, &anchor, &stat, request) {
            Ok(Entered::Granted(grant)) => Ok(Some(grant)),
            Ok(Entered::TargetBusy) => self.wait_for_target(kept, request),
            Ok(Entered::Blocked(blocker)) => {
                self.wait_for_blocker(kept, blocker, request)?;
                Ok(None)
            }
            Err(error) if error.is_lost() => {
                drop_anchor(kept);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Another program holds by the lock file. A native is waited for in its file's kernel queue, a foreign one by its
    /// events.
    fn wait_for_blocker(&self, kept: &mut CachedFiles, mut blocker: Box<Blocker>, request: &Request) -> Result<()> {
        let KernelWaiter { queue, epoch, interrupt } = *self;
        self.free_the_anchor(kept)?;
        let native_lives = blocker.holder.kind == HolderKind::Native && blocker.holder.liveness.is_alive();
        match blocker.file.take() {
            Some(file) if native_lives => {
                if queue.begin_kernel_wait(epoch, kept, blocker.id, Name::LockFile, LockKind::Exclusive) {
                    let locked = file.lock(LockKind::Exclusive, interrupt);
                    queue.end_kernel_wait(epoch);
                    locked.map_err(|error| {
                        Error::io(&queue.paths().lock_path, "the lock file cannot be locked", error)
                    })?;
                }
                Ok(())
            }
            file => {
                if let Some(anchor) = &kept.anchor {
                    // No queue shows that it waits.
                    announce_waiter(&queue.paths(), anchor);
                }
                let watched = queue::watch(queue, epoch, kept, file, &blocker, &request.options);
                if let Some(anchor) = &kept.anchor {
                    anchor.file.unmark();
                }
                watched
            }
        }
    }

    fn wait_for_target(&self, kept: &mut CachedFiles, request: &Request) -> Result<Step> {
        let KernelWaiter { queue, epoch, interrupt } = *self;
        self.free_the_anchor(kept)?;
        let wanted = kind(request);
        let Some(target) = kept.target.clone() else { return Ok(None) };
        if !queue.begin_kernel_wait(epoch, kept, target.id, Name::Target, wanted) {
            return Ok(None);
        }
        let locked = target.file.lock(wanted, interrupt);
        let present = queue.end_kernel_wait(epoch);
        let locked = locked.map_err(|error| target_error(&queue.paths(), "cannot be locked", error))?;
        // One that was left behind shares the anchor's descriptor with its successor.
        if !present || !locked {
            return Ok(None);
        }
        // Nobody waits with the anchor's lock, so with the target's it may be tried out of order. Where another has it,
        // that one comes first: the target's lock goes, because it is not kept over a wait either.
        let Some(anchor) = &kept.anchor else { return Ok(None) };
        match anchor.file.try_lock(wanted).map_err(|error| queue.paths().anchor_error("cannot be locked", error))? {
            true => kept.locked = Some(wanted),
            false => {
                target.file.unlock().map_err(|error| target_error(&queue.paths(), "cannot be unlocked", error))?;
            }
        }
        Ok(None)
    }

    fn free_the_anchor(&self, kept: &mut CachedFiles) -> Result<()> {
        if kept.locked.take().is_some()
            && let Some(anchor) = &kept.anchor
        {
            let failed = |error| self.queue.paths().anchor_error("cannot be unlocked", error);
            anchor.file.unlock().map_err(failed)?;
        }
        Ok(())
    }
}
