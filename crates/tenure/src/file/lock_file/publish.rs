//! The lock file appears: steps 4 to 7 of an acquire in lock-file style.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use super::copy::{keep_name, no_links, publish_copy};
use super::existing::{Blocker, Verdict, judge_found, read_existing, unreachable_machine};
use super::takeover::{MAX_RETRIES, TakeOver, put_back, recover, take_over};
use super::unpublish::{record_crash, restore, roll_back};
use super::visible::{LockFile, has_names, is_link, is_visible, verify_names};
use crate::file::anchor::{Anchor, anchor_lost};
use crate::file::crash::{is_other_boot, unreported_crash_record};
use crate::file::paths::LockPaths;
use crate::file::prior::Prior;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, Previous};
use crate::model::options::Options;
use crate::process::Liveness;
use crate::record::{PriorState, Record, RecordState};
use crate::sys::{self, FileIdent, TakeoverSteps};

/// The interval at which a dead holder's lock file is tried again that a process has open.
const IN_USE_RETRY: Duration = Duration::from_millis(20);

/// The result of publishing a lock file.
#[derive(Debug)]
pub(crate) enum Published {
    /// Granted, with the offset of the record's state.
    Held(LockFile, Previous, u64),
    Blocked(Box<Blocker>),
}

enum PublishAttempt {
    Held(LockFile, Previous),
    Blocked(Box<Blocker>),
}

/// The state in this process's record while the lock is not granted yet, for the next holder if this process dies.
struct PublishProgress {
    /// The offset of the record's state.
    state_offset: u64,
    /// Whether that state is `aborted`, because there was a crash, or a takeover is under way and the swap must be
    /// checked.
    aborted: bool,
    /// Whether that state is not `held` yet.
    unheld: bool,
    /// Whether the swap may name a live holder's file, as [`recover`] found or as a failed takeover has left it.
    live_file_at_swap: bool,
    /// The holder whose lock file was taken over before this process's lock file was certain to be there. No file
    /// reports that crash now.
    replaced_holder: Option<Holder>,
}

/// Publishes the tenure of `record`, with the anchor's kernel lock held: steps 4 to 7. Where it is blocked, the
/// anchor's text is restored. `live_file_at_swap` is what [`recover`] returned.
#[inline(always)]
pub(crate) fn publish(
    paths: &LockPaths,
    anchor: &Anchor,
    stat: &FileIdent,
    prior: &Prior<'_>,
    record: &Record,
    options: &Options,
    live_file_at_swap: bool,
) -> Result<Published> {
    // The usual case: the anchor has no other name, and the last holder, a native in this style, has released the lock.
    let usual =
        stat.links == 1 && prior.was_shown() && !live_file_at_swap && paths.links_are_known() && !paths.copies();
    let mut begun = None;
    if usual {
        let state_offset = anchor.write(record, stat.size, false).map_err(|error| unwritable(paths, error))?;
        let linked = paths.dir.link(&paths.anchor, &paths.lock);
        if linked.is_ok() && has_names(anchor, &LockFile::Link) {
            return Ok(Published::Held(LockFile::Link, Previous::Clean, state_offset));
        }
        begun = Some(Begun { state_offset, linked });
    }
    publish_carefully(paths, anchor, stat, prior, record, options, live_file_at_swap, begun)
}

/// The steps of [`publish`] that are already done in the usual case.
struct Begun {
    state_offset: u64,
    /// The result of the link.
    linked: io::Result<()>,
}

#[cold]
fn unwritable(paths: &LockPaths, error: io::Error) -> Error {
    paths.anchor_error("cannot be written", error)
}

/// As [`publish`], in every case.
#[cold]
#[allow(clippy::too_many_arguments, reason = "those of `publish`, and what it did")]
fn publish_carefully(
    paths: &LockPaths,
    anchor: &Anchor,
    stat: &FileIdent,
    prior: &Prior<'_>,
    record: &Record,
    options: &Options,
    live_file_at_swap: bool,
    begun: Option<Begun>,
) -> Result<Published> {
    let state = prior.state();
    let visible = is_visible(paths, anchor, stat)?;
    if visible && let Some(blocker) = unreachable_holder(paths, anchor, state, prior) {
        return Ok(Published::Blocked(Box::new(blocker)));
    }
    // A crash that only the record reports (flock style) must be reported by this process's record too until the lock
    // file exists, or it would be forgotten if this process died before.
    let hidden_crash = !visible && prior.previous(None).is_crashed();
    let first_state = match (hidden_crash, visible || prior.was_shown()) {
        (true, _) => RecordState::Aborted,
        (false, true) => RecordState::Held,
        (false, false) => RecordState::Acquiring,
    };
    let unheld = first_state != RecordState::Held;
    let mut first = Cow::Borrowed(record);
    if unheld && let Some(native) = &mut first.to_mut().native {
        native.state = first_state;
    }
    let (state_offset, linked) = match begun {
        Some(Begun { state_offset, linked }) => (state_offset, Some(linked)),
        None => {
            let written = anchor.write(&first, stat.size, visible);
            (written.map_err(|error| unwritable(paths, error))?, None)
        }
    };
    let mut progress =
        PublishProgress { state_offset, aborted: hidden_crash, unheld, live_file_at_swap, replaced_holder: None };
    // A dead native's lock file is the anchor already.
    let linked = linked.or_else(|| visible.then(|| Err(io::ErrorKind::AlreadyExists.into())));
    let mut attempted = try_publish(paths, anchor, prior, record, options, &mut progress, linked);
    let mut finalized = true;
    if let Ok(PublishAttempt::Held(lock_file, previous)) = &attempted
        && let Err(error) = finalize(paths, anchor, stat, lock_file, &progress)
    {
        roll_back(paths, anchor, lock_file, previous, record, state_offset);
        (attempted, finalized) = (Err(error), false);
    }
    let still_published = attempted.is_err() && matches!(paths.lock_file_id(), Ok(Some(found)) if found == anchor.id);
    // A takeover that failed halfway must not be forgotten either.
    let half_taken = attempted.is_err() && progress.aborted && !matches!(paths.dir.stat_at(&paths.swap), Ok(None));
    // While the swap names a live file, this process's record stays: it leads to the swap, or reports the crash. A
    // published lock file that could not be removed says that it is not held, which an older text must not replace.
    let keep_own_record = !finalized || visible || progress.live_file_at_swap || half_taken || still_published;
    if !matches!(attempted, Ok(PublishAttempt::Held(..))) && !keep_own_record {
        if let Some(holder) = progress.replaced_holder {
            let _ =
                record_crash(anchor, &unreported_crash_record(&Previous::Crashed(Box::new(holder)), record.clone()));
        } else {
            restore(anchor, prior, record, false);
        }
    }
    Ok(match attempted? {
        PublishAttempt::Held(lock_file, previous) => Published::Held(lock_file, previous, state_offset),
        PublishAttempt::Blocked(blocker) => Published::Blocked(blocker),
    })
}

/// Writes the state `held` once the lock file exists, and compares everything once more: step 7.
fn finalize(
    paths: &LockPaths,
    anchor: &Anchor,
    stat: &FileIdent,
    lock_file: &LockFile,
    progress: &PublishProgress,
) -> Result<()> {
    if progress.unheld {
        anchor
            .write_state(RecordState::Held, progress.state_offset)
            .map_err(|error| paths.anchor_error("cannot be written", error))?;
    }
    verify_names(paths, anchor, stat, lock_file)
}

/// `linked` is the result of the first link, where it was made already or is known.
fn try_publish(
    paths: &LockPaths,
    anchor: &Anchor,
    prior: &Prior<'_>,
    record: &Record,
    options: &Options,
    progress: &mut PublishProgress,
    mut linked: Option<io::Result<()>>,
) -> Result<PublishAttempt> {
    let mut copy = paths.copies();
    for pass in 0..MAX_RETRIES {
        if pass > 0 {
            if progress.live_file_at_swap {
                progress.live_file_at_swap = recover(paths, anchor, prior, options)?;
            }
            if anchor.current(paths)?.is_none() {
                return Err(anchor_lost(paths));
            }
        }
        let made = match (linked.take(), progress.live_file_at_swap, copy) {
            (Some(linked), ..) => linked,
            // The file at the swap has a live holder, and the lock file belongs to another program.
            (_, true, _) => Err(io::ErrorKind::AlreadyExists.into()),
            (_, _, true) => Err(io::ErrorKind::Unsupported.into()),
            _ => paths.dir.link(&paths.anchor, &paths.lock),
        };
        match made {
            Ok(()) => match is_link(paths, anchor, &paths.lock, record) {
                Ok(true) => {
                    return Ok(PublishAttempt::Held(LockFile::Link, prior.previous(progress.replaced_holder.take())));
                }
                Ok(false) => {
                    copy = true;
                    continue;
                }
                // Where the link cannot be verified it is removed again: the lock was not granted.
                Err(error) => {
                    let previous = prior.previous(progress.replaced_holder.clone());
                    roll_back(paths, anchor, &LockFile::Link, &previous, record, progress.state_offset);
                    return Err(error);
                }
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if no_links(&error) => {
                progress.live_file_at_swap = recover(paths, anchor, prior, options)?;
                let copied = if progress.live_file_at_swap { Ok(None) } else { publish_copy(paths, record, options) };
                match copied {
                    Ok(Some(lock_file)) => {
                        paths.set_copies();
                        let previous = prior.previous(progress.replaced_holder.clone());
                        match keep_name(paths, &lock_file) {
                            Ok(true) => return Ok(PublishAttempt::Held(lock_file, previous)),
                            Ok(false) => {}
                            Err(error) => {
                                roll_back(paths, anchor, &lock_file, &previous, record, progress.state_offset);
                                return Err(error);
                            }
                        }
                    }
                    Ok(None) => {}
                    // A folder that accepts no new name refuses both the link and the copy. The link's error is the
                    // plainer one.
                    Err(later) => {
                        let alike = later.io_error().is_some_and(|later| later.raw_os_error() == error.raw_os_error());
                        let plain = alike && !copy && !later.is_unsupported();
                        return Err(if plain { paths.lock_error("cannot be created", error) } else { later });
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(anchor_lost(paths));
            }
            Err(error) => return Err(paths.lock_error("cannot be created", error)),
        }
        // A dead native's lock file on the anchor's inode has the text of the anchor, which need not be read again.
        if paths.lock_file_id()? == Some(anchor.id) {
            return Ok(PublishAttempt::Held(LockFile::Link, prior.previous_by_link()));
        }
        let Some(found) = read_existing(paths)? else { continue };
        if found.id == anchor.id {
            return Ok(PublishAttempt::Held(LockFile::Link, prior.previous_by_link()));
        }
        let verdict = judge_found(paths, found, options, prior.replaced.as_deref(), prior.was_shown())?;
        if !verdict.may_take_over {
            return Ok(PublishAttempt::Blocked(Box::new(verdict.blocker)));
        }
        // Checked once more: only the process that has the kernel lock of the present anchor may use the swap.
        if anchor.current(paths)?.is_none() {
            return Err(anchor_lost(paths));
        }
        if verdict.is_of(record) {
            // This is the anchor by another name, with an inode of its own: both have the record that was just written.
            paths.set_copies();
            copy = true;
        }
        progress.live_file_at_swap = recover(paths, anchor, prior, options)?;
        let removes = sys::takeover_steps() == TakeoverSteps::Removal;
        if (!copy || removes) && !progress.aborted {
            // If this process dies, a removal of the lock file removes the anchor's second link too, which shows a
            // takeover. Where the judged file is removed first, no other file reports its crash meanwhile.
            let aborted = anchor.write_state(RecordState::Aborted, progress.state_offset);
            aborted.map_err(|error| paths.anchor_error("cannot be written", error))?;
            (progress.aborted, progress.unheld) = (true, true);
        }
        if progress.live_file_at_swap {
            // Of two live holders the policy steals from the one that has the lock file: the other gets its file back.
            if !verdict.blocker.holder.liveness.is_dead() {
                put_back(paths, &verdict)?;
            }
            continue;
        }
        let own_text = verdict.is_of(record);
        let taken = take_over(paths, anchor, &verdict, prior, record, options, copy)?;
        match taken {
            TakeOver::Removed => {
                if own_text && let Previous::Crashed(holder) = prior.previous_by_link() {
                    progress.replaced_holder = Some(*holder);
                } else if !verdict.released && !own_text {
                    progress.replaced_holder = Some(verdict.blocker.holder);
                }
                continue;
            }
            TakeOver::InUse => return Ok(PublishAttempt::Blocked(Box::new(in_use(verdict)))),
            TakeOver::Published(_) | TakeOver::Changed => {}
        }
        if let TakeOver::Published(lock_file) = taken {
            if !verdict.released && !own_text {
                progress.replaced_holder = Some(verdict.blocker.holder);
            }
            let previous = |replaced_holder: Option<Holder>| match own_text {
                true => prior.previous_by_link(),
                false => prior.previous(replaced_holder),
            };
            match paths
                .lock_file_id()
                .and_then(|found| Ok(found == lock_file.id(anchor) && keep_name(paths, &lock_file)?))
            {
                Ok(true) => {
                    return Ok(PublishAttempt::Held(lock_file, previous(progress.replaced_holder.take())));
                }
                Ok(false) => {}
                // Where that cannot be verified the lock file is removed again: the lock was not granted.
                Err(error) => {
                    let previous = previous(progress.replaced_holder.clone());
                    roll_back(paths, anchor, &lock_file, &previous, record, progress.state_offset);
                    return Err(error);
                }
            }
        }
        progress.live_file_at_swap = true;
    }
    Err(Error::new(ErrorKind::Io, &paths.lock_path, "the lock file keeps changing"))
}

/// Returns the blocker of a dead holder's lock file that cannot be removed because a process has it open. Its close makes
/// no event, so the caller tries again.
fn in_use(verdict: Verdict) -> Blocker {
    let mut blocker = verdict.blocker;
    // With the judged file's kernel lock, which this process has, the file would look like a live holder's.
    if let Some(file) = &blocker.file {
        let _ = file.unlock();
    }
    blocker.holder.liveness = Liveness::unknown("its holder is dead, but a process has its lock file open");
    blocker.retry_after = Some(IN_USE_RETRY);
    blocker.name_in_use = true;
    blocker
}

/// Returns the holder of a lock file that is this process's own anchor, where that holder may run on another machine.
/// On this machine the holder is dead, because this process has its kernel lock. On a file system that several machines
/// mount, the kernel lock may not reach the holder.
fn unreachable_holder(
    paths: &LockPaths,
    anchor: &Anchor,
    state: Option<PriorState>,
    prior: &Prior<'_>,
) -> Option<Blocker> {
    let released = state.is_some_and(|state| state.state == RecordState::Released);
    let record = prior.record()?;
    if released || !paths.file_system.shared || !is_other_boot(&record) {
        return None;
    }
    let holder = Holder::from_record(Some(&record), Liveness::unknown(unreachable_machine(paths)));
    Some(Blocker { holder, file: None, id: anchor.id, retry_after: None, used_before: false, name_in_use: false })
}
