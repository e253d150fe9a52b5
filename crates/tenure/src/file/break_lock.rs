//! A break: a live holder's lock is taken away, by an operator or by the caller's policy.

use std::io;
use std::time::Duration;

use crate::file::history;
use crate::file::lock_file;
use crate::file::paths::LockPaths;
use crate::file::prepare::{prepare, released_record, unheld_record};
use crate::file::status::examine;
use crate::model::error::{Error, Result};
use crate::model::holder::{Holder, HolderKind};
use crate::model::options::{Options, StalePolicy};
use crate::model::status::{State, Status};
use crate::record::io::{read_stable, write};
use crate::record::{Content, RecordState};
use crate::sys::{self, Access, File, FileId, ReplaceSteps, TakeoverSteps};
use crate::util::text::word;
use crate::util::trace::event;

/// The maximum time for the holder to remove its lock file after a break, where only the holder can: its watchdog looks once a
/// second.
pub(crate) const BREAK_PATIENCE: Duration = Duration::from_secs(3);
/// The first interval between two attempts meanwhile. Each is twice as long as the one before.
const BREAK_PAUSE: Duration = Duration::from_millis(20);

/// Removes a foreign holder's lock file, if it is still the one that was seen.
pub(crate) fn remove_foreign(paths: &LockPaths, seen: &Status) -> Result<()> {
    let Some(now) = lock_file::read_existing(paths)? else { return Ok(()) };
    let same = match &now.content {
        Content::Record(record) => record.native.is_none() && record.pid == seen.holder.as_ref().and_then(Holder::pid),
        Content::Blank | Content::Torn => true,
        Content::NotALock(_) => false,
    };
    if !same || paths.lock_file_id()? != Some(now.id) {
        return Err(changed_hands(paths));
    }
    remove_lock_file(paths, now.id, Duration::ZERO)?;
    history::append_break(paths, seen);
    Ok(())
}

/// Removes the lock file, unless its holder did so first. `id` is the file that was compared: where the system can, no
/// other one is removed.
///
/// Where the holder keeps others from removing it, the holder itself does so once it has noticed the break. The call
/// waits for that for `patience` at most.
fn remove_lock_file(paths: &LockPaths, id: FileId, patience: Duration) -> Result<()> {
    if sys::takeover_steps() == TakeoverSteps::Exchange {
        return match paths.dir.unlink(&paths.lock) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(paths.lock_error("cannot be removed", error)),
            _ => Ok(()),
        };
    }
    let file = match paths.dir.open_at(&paths.lock, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(paths.lock_error("cannot be opened", error)),
    };
    if file.ident().map_err(|error| paths.lock_error("cannot be read", error))?.id != id {
        return Ok(());
    }
    let (mut pause, mut waited) = (BREAK_PAUSE, Duration::ZERO);
    loop {
        match paths.dir.unlink_same(&paths.lock, &file) {
            Ok(_) => return Ok(()),
            Err(error) if sys::means_in_use(&error) && waited < patience => {}
            Err(error) if sys::means_in_use(&error) => {
                let detail = "cannot be removed while its holder has it open; the lock is free once that program ends";
                return Err(paths.lock_error(detail, error).with_hint("end that program"));
            }
            Err(error) => return Err(paths.lock_error("cannot be removed", error)),
        }
        sys::pause(pause);
        waited += pause;
        pause *= 2;
    }
}

fn changed_hands(paths: &LockPaths) -> Error {
    let hint = format!("it changed hands meanwhile: look again with `tenure status {}`", word(&paths.target_path));
    Error::busy(&paths.target_path).with_hint(hint)
}

/// Replaces the anchor of a live holder, which was `seen`, and removes that holder's lock file. The new anchor is
/// locked until that is done, so no process acquires in between. Its record continues the fence. `patience` is how long
/// the holder may take to remove its lock file, where only the holder can.
///
/// Where the replacement takes two steps, processes that look for an anchor in between wait for the second step, or make
/// it themselves if this process has died.
pub(crate) fn replace_anchor(paths: &LockPaths, seen: &Status, patience: Duration) -> Result<()> {
    let visible = lock_file::read_existing(paths)?;
    let lock_file_before = visible.as_ref().map(|found| found.id);
    let unreadable = |error| paths.anchor_error("cannot be read", error);
    let fence_of = |file: &File| match read_stable(file) {
        Ok(Content::Record(record)) => Ok(record.previous_fence()),
        Ok(_) => Ok(None),
        Err(error) => Err(unreadable(error)),
    };
    let open = || paths.dir.open_at(&paths.anchor, Access::Read).ok();
    let mut fence = match visible.as_ref().map(|found| &found.content) {
        Some(Content::Record(record)) => record.previous_fence(),
        _ => None,
    };
    if let Some(before) = open() {
        fence = fence.max(fence_of(&before)?);
    }
    let old = paths.dir.stat_at(&paths.anchor).map_err(unreadable)?;
    let options = match old {
        // A user that could open the old anchor must be able to open the new one.
        Some(stat) => Options::default().mode(stat.mode),
        None => Options::default(),
    };
    let fresh = prepare(paths, &options, &released_record(fence))?;
    // There is one prepared file at a time, so no other break can come between this check and the renaming. While this
    // process waited for its turn, the judged holder may have been broken and another process granted the lock.
    let now = examine(paths, &Options::default());
    if !now.as_ref().is_ok_and(|now| is_same_tenure(seen, now)) {
        let _ = paths.dir.unlink(&paths.new);
        return Err(changed_hands(paths).with_holder(now?.holder));
    }
    // Not the anchor from before: an acquire replaces another user's anchor in the same way.
    let before = open();
    let replaced = before.as_ref().and_then(|before| before.ident().ok());
    if let Err(error) = paths.rename_to_anchor(before.as_ref()) {
        let overtaken = sys::replace_steps() == ReplaceSteps::Two && error.kind() == io::ErrorKind::AlreadyExists;
        if !overtaken {
            return Err(paths.anchor_error("cannot be replaced", error));
        }
    }
    // A tenure that began until now counts as well, and a takeover may have left a file at the swap. Whatever fails
    // from here on, the lock file is removed: waiters would wait for a holder that has lost the lock.
    let last = before.as_ref().map_or(Ok(None), fence_of);
    let swap = paths.dir.stat_at(&paths.swap).map_err(unreadable);
    let begun = last.as_ref().ok().copied().flatten();
    let written = write_later_fence(paths, &fresh, fence, begun, !matches!(swap, Ok(None)));
    // The lock file that the holder had published, or has just published.
    let lock_file_now = paths.lock_file_id()?;
    let known = lock_file_now == lock_file_before || lock_file_now == replaced.map(|stat| stat.id);
    let broken = seen.holder.as_ref().and_then(|holder| holder.fence);
    if let Some(id) = lock_file_now
        && (known || is_copy_of(paths, [begun, broken])?)
    {
        remove_lock_file(paths, id, patience)?;
    }
    history::append_break(paths, seen);
    last.map(drop).and(swap.map(drop)).and(written)?;
    fresh.unlock().map_err(|error| paths.anchor_error("cannot be unlocked", error))
}

/// Writes the new anchor's record again, where a later tenure than `fence` had `begun`, or a takeover was `cut_off`.
fn write_later_fence(
    paths: &LockPaths,
    fresh: &File,
    fence: Option<u64>,
    begun: Option<u64>,
    cut_off: bool,
) -> Result<()> {
    if begun <= fence && !cut_off {
        return Ok(());
    }
    let state = if cut_off { RecordState::Aborted } else { RecordState::Released };
    let record = unheld_record(begun.max(fence), state);
    let written = fresh.stat().and_then(|stat| write(fresh, &record, stat.size, false));
    written.map(drop).map_err(|error| paths.anchor_error("cannot be written", error))
}

/// Returns whether the lock file is a copy, on an inode of its own, of a tenure with one of these fences.
fn is_copy_of(paths: &LockPaths, fences: [Option<u64>; 2]) -> Result<bool> {
    let found = match lock_file::read_existing(paths) {
        Err(error) if error.is_obstructed() => None,
        found => found?,
    };
    let Some(Content::Record(record)) = found.map(|found| found.content) else { return Ok(false) };
    let fence = record.native.and_then(|native| native.fence);
    Ok(fence.is_some() && fences.contains(&fence))
}

/// Returns whether both are one tenure. Each exclusive tenure has a fence of its own; shares have none.
fn is_same_tenure(seen: &Status, now: &Status) -> bool {
    let fence = |status: &Status| status.holder.as_ref().map(|holder| (holder.kind, holder.fence));
    seen.state == now.state && seen.style == now.style && fence(seen) == fence(now)
}

/// Breaks a live native's lock that is older than the caller's policy allows, as OpenClaw's protocol does.
pub(crate) fn steal(paths: &LockPaths, policy: StalePolicy) -> bool {
    if policy == StalePolicy::Proof {
        return false;
    }
    let Ok(found) = examine(paths, &Options::default()) else { return false };
    let native = found.holder.as_ref().filter(|holder| holder.kind == HolderKind::Native && found.state == State::Held);
    if !native.is_some_and(|holder| policy.steals(holder)) {
        return false;
    }
    event!(WARN, target = ?paths.target_path, "a live holder's lock is stolen for its age");
    replace_anchor(paths, &found, Duration::ZERO).is_ok()
}
