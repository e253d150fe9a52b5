//! The lock file: what foreign programs and people see of a tenure.
//!
//! It appears by one `link(2)` of the anchor and goes by one `unlink(2)`, both under the anchor's kernel lock. What
//! stands at its place already is judged, and taken over only if it is proven dead: by an exchange of two names, after
//! which what came out is compared with what was judged. Nothing that was not judged is ever removed.
//!
//! | at the lock file's place | then |
//! | --- | --- |
//! | nothing | linked: held |
//! | our anchor's inode | the last native holder died (or could not remove it): held |
//! | a native's record on another inode | its kernel lock is tried: free means dead |
//! | our anchor on another inode, as each name is on sshfs | a dead native's, of whom the anchor told: written over in place |
//! | a foreign record | [`staleness`](crate::file::staleness): alive or unknown is waited for, dead is taken over |
//! | no lock at all | an error; it stays |

mod copy;
mod existing;
mod flock_style;
mod takeover;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::file::anchor::{Anchor, Prior};
use crate::file::paths::LockPaths;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::{Holder, Previous};
use crate::model::options::Options;
use crate::process::Liveness;
use crate::record::{self, PID_KEY_OFFSET, PriorState, Record, RecordState};
use crate::sys::{File, FileId, FileIdent};

pub(crate) use crate::file::crash::{crash_unreported, is_cut_off_state, own_inode, previous, reports_crash};
pub(crate) use crate::record::io::{read_stable, read_text, reads, write, write_text};
pub(crate) use copy::must_copy;
pub(crate) use existing::{
    ExistingLockFile, is_other_boot, judge_foreign, look, seed_reasons, still_blocks, unreachable_machine,
};
pub(crate) use flock_style::{crash_still_reported, take_hidden};
pub(crate) use takeover::recover;

use crate::record::io::{MASKED, write_masked};
use copy::{is_link, no_links, publish_copy};
use existing::judge_found;
use takeover::{put_back, take_over};

/// How often a lock file that keeps changing under us is looked at again before we call it an error.
const TRIES: usize = 1000;

/// How a tenure shows itself.
#[derive(Clone, Debug)]
pub(crate) enum LockFile {
    /// Not at all: flock style.
    Hidden,
    /// A hard link to the anchor.
    Link,
    /// A file of its own, kept open and locked: where hard links are not to be had, or would not be ours to remove.
    Copy { file: Arc<File>, id: FileId },
}

impl LockFile {
    /// The inode that the lock file's name must point at.
    pub(crate) fn id(&self, anchor: &Anchor) -> Option<FileId> {
        match self {
            LockFile::Hidden => None,
            LockFile::Link => Some(anchor.id),
            LockFile::Copy { id, .. } => Some(*id),
        }
    }

    /// The visible file.
    pub(crate) fn file<'a>(&'a self, anchor: &'a Anchor) -> Option<&'a File> {
        match self {
            LockFile::Hidden => None,
            LockFile::Link => Some(&anchor.file),
            LockFile::Copy { file, .. } => Some(file),
        }
    }
}

/// Who is in the way, at the lock file's place.
#[derive(Debug)]
pub(crate) struct Blocker {
    pub(crate) holder: Holder,
    /// The judged file, open: a native's is waited for in its kernel queue, a foreign one's by its events.
    pub(crate) file: Option<File>,
    pub(crate) id: FileId,
    /// Look again then, whatever happens.
    pub(crate) again_after: Option<Duration>,
    /// Whether the anchor proved, when the file was judged, that natives have used this lock before.
    pub(crate) used_before: bool,
}

/// What came of showing the lock file.
#[derive(Debug)]
pub(crate) enum Published {
    /// With the place of the state's text in the record.
    Held(LockFile, Previous, u64),
    Blocked(Box<Blocker>),
}

enum Attempted {
    Held(LockFile, Previous),
    Blocked(Box<Blocker>),
}

/// What the record tells whoever comes next, if we die before we hold.
struct PublishProgress {
    /// Where its state stands.
    state_offset: u64,
    /// That state says `aborted`: there was a crash, or a takeover is on and the swap must be looked for.
    aborted: bool,
    /// That state is not `held` yet.
    unheld: bool,
    /// The swap may name a live one's file: what [`recover`] found, or what a takeover that failed has left.
    live_file_at_swap: bool,
    /// Whose lock file was taken over, though nothing that shows us may have come of it: no file tells of that crash now.
    taken: Option<Holder>,
}

/// Is the lock file our own anchor, with a second link? It is a dead native's, whose kernel lock we have.
pub(crate) fn is_visible(paths: &LockPaths, anchor: &Anchor, stat: &FileIdent) -> Result<bool> {
    // More than one link may be a dead native's unfinished takeover as well.
    Ok(stat.links > 1 && paths.lock_file_id()? == Some(anchor.id))
}

/// Shows the tenure whose record is `record`, with the anchor's kernel lock held: steps 4 to 7. When it is blocked, the
/// anchor's text is again what it was. `live_file_at_swap`: what [`recover`] said.
pub(crate) fn publish(
    paths: &LockPaths,
    anchor: &Anchor,
    stat: &FileIdent,
    prior: &Prior,
    record: &Record,
    options: &Options,
    live_file_at_swap: bool,
) -> Result<Published> {
    let state = prior.state();
    let visible = is_visible(paths, anchor, stat)?;
    if visible && let Some(blocker) = out_of_reach(paths, anchor, state, prior) {
        return Ok(Published::Blocked(Box::new(blocker)));
    }
    // A crash that only the record tells of (flock style): ours tells of it too until the lock file is there, or it
    // would be forgotten if we die before that.
    let hidden_crash = !visible && previous(prior, state, None).is_crashed();
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
    let state_offset =
        anchor.write(&first, stat.size, visible).map_err(|error| paths.anchor_error("cannot be written", error))?;
    let mut progress = PublishProgress { state_offset, aborted: hidden_crash, unheld, live_file_at_swap, taken: None };
    let mut entered = try_publish(paths, anchor, prior, record, options, &mut progress);
    let mut settled = true;
    if let Ok(Attempted::Held(lock_file, previous)) = &entered
        && let Err(error) = finalize(paths, anchor, stat, lock_file, &progress)
    {
        roll_back(paths, anchor, lock_file, previous, record, state_offset);
        (entered, settled) = (Err(error), false);
    }
    let stays = entered.is_err() && matches!(paths.lock_file_id(), Ok(Some(shown)) if shown == anchor.id);
    // Nor may a takeover that failed halfway be forgotten.
    let half_taken = entered.is_err() && progress.aborted && !matches!(paths.dir.stat_at(&paths.swap), Ok(None));
    // While somebody is parked our record stays: it tells of the swap, or of the crash. And a lock file that could not be
    // removed again says that nobody holds, which no older text may cover.
    let ours_stays = !settled || visible || progress.live_file_at_swap || half_taken || stays;
    if !matches!(entered, Ok(Attempted::Held(..))) && !ours_stays {
        if let Some(holder) = progress.taken {
            let _ = tell(anchor, &crash_unreported(&Previous::Crashed(Box::new(holder)), record.clone()));
        } else {
            restore(anchor, prior, record, false);
        }
    }
    Ok(match entered? {
        Attempted::Held(lock_file, previous) => Published::Held(lock_file, previous, state_offset),
        Attempted::Blocked(blocker) => Published::Blocked(blocker),
    })
}

/// Step 7: the lock file is there, and the record says `held`; then everything is compared once more.
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

fn try_publish(
    paths: &LockPaths,
    anchor: &Anchor,
    prior: &Prior,
    record: &Record,
    options: &Options,
    progress: &mut PublishProgress,
) -> Result<Attempted> {
    let state = prior.state();
    let mut copy = paths.copies();
    for pass in 0..TRIES {
        if pass > 0 {
            if progress.live_file_at_swap {
                progress.live_file_at_swap = recover(paths, anchor, prior, options)?;
            }
            if anchor.current(paths)?.is_none() {
                return Err(anchor_lost(paths));
            }
        }
        let made = match (progress.live_file_at_swap, copy) {
            // Whoever is parked lives, and the lock file's place is another's.
            (true, _) => Err(io::ErrorKind::AlreadyExists.into()),
            (_, true) => Err(io::ErrorKind::Unsupported.into()),
            _ => paths.dir.link(&paths.anchor, &paths.lock),
        };
        match made {
            Ok(()) => match is_link(paths, anchor, &paths.lock, record) {
                Ok(true) => return Ok(Attempted::Held(LockFile::Link, previous(prior, state, progress.taken.take()))),
                Ok(false) => {
                    copy = true;
                    continue;
                }
                // Where that cannot be told it goes again: we do not hold.
                Err(error) => {
                    let previous = previous(prior, state, progress.taken.clone());
                    roll_back(paths, anchor, &LockFile::Link, &previous, record, progress.state_offset);
                    return Err(error);
                }
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if no_links(&error) => {
                progress.live_file_at_swap = recover(paths, anchor, prior, options)?;
                let shown = if progress.live_file_at_swap { Ok(None) } else { publish_copy(paths, record, options) };
                match shown {
                    Ok(Some(lock_file)) => {
                        paths.set_copies();
                        return Ok(Attempted::Held(lock_file, previous(prior, state, progress.taken.take())));
                    }
                    Ok(None) => {}
                    // A folder that takes no new name denies the link and the copy alike: the link's error is the plain
                    // one.
                    Err(later) => {
                        let alike = later.io_error().is_some_and(|later| later.raw_os_error() == error.raw_os_error());
                        let plain = alike && !copy && !later.is_unsupported();
                        return Err(if plain { paths.lock_error("cannot be made", error) } else { later });
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(anchor_lost(paths));
            }
            Err(error) => return Err(paths.lock_error("cannot be made", error)),
        }
        let Some(found) = look(paths)? else { continue };
        if found.id == anchor.id {
            return Ok(Attempted::Held(LockFile::Link, own_inode(prior, state)));
        }
        let verdict = judge_found(paths, found, options, prior.replaced.as_deref(), prior.was_shown())?;
        if !verdict.takeable {
            return Ok(Attempted::Blocked(Box::new(verdict.blocker)));
        }
        // Once more: the swap is only for who has the kernel lock of the anchor that is there.
        if anchor.current(paths)?.is_none() {
            return Err(anchor_lost(paths));
        }
        if verdict.shows(record) {
            // Our anchor by another name, which has an inode of its own: what we have just written stands in both.
            paths.set_copies();
            copy = true;
        }
        progress.live_file_at_swap = recover(paths, anchor, prior, options)?;
        if !copy && !progress.aborted {
            // A lock file that is removed after we died takes the sign of a takeover with it, the anchor's second link.
            let aborted = anchor.write_state(RecordState::Aborted, progress.state_offset);
            aborted.map_err(|error| paths.anchor_error("cannot be written", error))?;
            (progress.aborted, progress.unheld) = (true, true);
        }
        if progress.live_file_at_swap {
            // Of two live ones the policy robs the one that has the lock file's place: the other gets that back.
            if !verdict.blocker.holder.liveness.is_dead() {
                put_back(paths, &verdict)?;
            }
            continue;
        }
        if let Some(lock_file) = take_over(paths, anchor, &verdict, prior, record, options, copy)? {
            let own_text = verdict.shows(record);
            if !verdict.released && !own_text {
                progress.taken = Some(verdict.blocker.holder);
            }
            let previous = |taken: Option<Holder>| match own_text {
                true => own_inode(prior, state),
                false => previous(prior, state, taken),
            };
            match paths.lock_file_id() {
                Ok(found) if found == lock_file.id(anchor) => {
                    return Ok(Attempted::Held(lock_file, previous(progress.taken.take())));
                }
                Ok(_) => {}
                // Where that cannot be told it goes again: we do not hold.
                Err(error) => {
                    let previous = previous(progress.taken.clone());
                    roll_back(paths, anchor, &lock_file, &previous, record, progress.state_offset);
                    return Err(error);
                }
            }
        }
        progress.live_file_at_swap = true;
    }
    Err(Error::new(ErrorKind::Io, &paths.lock_path, "the lock file keeps changing under us"))
}

/// Has a tenure all the names that it should have? Asked of the descriptors, which costs a quarter of a look at a path: a
/// removal leaves a link less, and so does a break, the anchor first. A name that was moved aside is a name still, so this
/// serves right after a look.
pub(crate) fn has_names(anchor: &Anchor, lock_file: &LockFile) -> bool {
    let has = |file: &File, links| file.ident().is_ok_and(|found| found.links == links);
    match lock_file {
        LockFile::Hidden => has(&anchor.file, 1),
        LockFile::Link => has(&anchor.file, 2),
        LockFile::Copy { file, .. } => has(file, 1) && has(&anchor.file, 1),
    }
}

/// The last step. A link takes the anchor by its name, and `.tenure` may have been removed, or the lock broken, since that
/// was compared: then somebody else has it, or may. `stat` is the anchor's as it was compared: where it had no other name,
/// its links tell.
pub(crate) fn verify_names(paths: &LockPaths, anchor: &Anchor, stat: &FileIdent, lock_file: &LockFile) -> Result<()> {
    let copy = matches!(lock_file, LockFile::Copy { .. });
    if !copy && stat.links == 1 && has_names(anchor, lock_file) {
        return Ok(());
    }
    // It was renamed by a name in `.tenure`, which may have come to be another's.
    if let LockFile::Copy { id, .. } = lock_file
        && paths.lock_file_id()? != Some(*id)
    {
        return Err(Error::new(ErrorKind::Lost, &paths.lock_path, "the lock file was removed under us"));
    }
    // Last, because a break takes the anchor's name first.
    anchor.current(paths)?.map(drop).ok_or_else(|| anchor_lost(paths))
}

/// Undoes what `show` did: we do not hold after all. Of a crash that we would have told of, the next one hears.
pub(crate) fn roll_back(
    paths: &LockPaths,
    anchor: &Anchor,
    lock_file: &LockFile,
    previous: &Previous,
    record: &Record,
    state_offset: u64,
) {
    let crashed = previous.is_crashed();
    let state = if crashed { RecordState::Aborted } else { RecordState::Released };
    let written = anchor.file.write_at(record::state_text(state), state_offset);
    let left = crash_unreported(previous, record.clone());
    if crashed && written.is_err() {
        // The lock file stays then, because it alone tells of the crash; but it shows nobody.
        let _ = write_husk(lock_file.file(anchor).unwrap_or(&anchor.file), &left, state);
    } else if unpublish(paths, anchor, lock_file, &left).is_ok() && crashed {
        let _ = tell(anchor, &left);
    }
}

/// Writes the record that tells of a crash, where nobody sees it.
pub(crate) fn tell(anchor: &Anchor, left: &Record) -> io::Result<()> {
    let size = anchor.file.ident().map_or(0, |stat| stat.size);
    anchor.write(left, size, false).map(drop)
}

fn anchor_lost(paths: &LockPaths) -> Error {
    Error::new(ErrorKind::Lost, paths.anchor_path(), "the lock's anchor was removed or replaced under us")
}

/// The lock file is our own anchor's inode: its holder is gone, because we have its kernel lock. Unless another machine
/// may have mounted this, where that lock may not reach: then it cannot be told.
fn out_of_reach(paths: &LockPaths, anchor: &Anchor, state: Option<PriorState>, prior: &Prior) -> Option<Blocker> {
    let released = state.is_some_and(|state| state.state == RecordState::Released);
    let left = prior.record()?;
    if released || !paths.file_system.shared || !is_other_boot(&left) {
        return None;
    }
    let holder = Holder::from_record(Some(&left), Liveness::unknown(unreachable_machine(paths)));
    Some(Blocker { holder, file: None, id: anchor.id, again_after: None, used_before: false })
}

pub(crate) fn is_sticky(paths: &LockPaths) -> bool {
    paths.dir_stat.mode & 0o1000 != 0
}

/// Was the removal of a lock file refused because another user's is not ours to remove in a sticky folder?
fn stays(paths: &LockPaths, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && is_sticky(paths)
}

/// Step 1 of a release: the lock file goes, if it is still ours.
pub(crate) fn unpublish(paths: &LockPaths, anchor: &Anchor, lock_file: &LockFile, record: &Record) -> Result<()> {
    let Some(ours) = lock_file.id(anchor) else { return Ok(()) };
    let at_path = paths.lock_file_id();
    if let Ok(at_path) = at_path
        && at_path != Some(ours)
    {
        let detail = "the lock file was removed or replaced while we held it; it was left as it is";
        return Err(Error::new(ErrorKind::Lost, &paths.lock_path, detail));
    }
    match paths.dir.unlink(&paths.lock) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            // It stays, so it must say that nobody holds: no pid, and a state that natives read.
            if let Some(file) = lock_file.file(anchor) {
                let crash_unreported =
                    record.native.as_ref().is_some_and(|native| native.state == RecordState::Aborted);
                let state = if crash_unreported { RecordState::Aborted } else { RecordState::Released };
                let _ = write_husk(file, record, state);
            }
            // Another user's copy in a sticky folder: expected, and it is marked as released.
            if stays(paths, &error) {
                Ok(())
            } else {
                Err(paths.lock_error("cannot be removed; it is marked as released", error))
            }
        }
    }
}

/// What is left of a record whose file stays: it shows nobody.
fn write_husk(file: &File, record: &Record, state: RecordState) -> io::Result<()> {
    let mut husk = record.clone();
    husk.pid = None;
    if let Some(native) = &mut husk.native {
        native.state = state;
    }
    file.write_at(MASKED, PID_KEY_OFFSET)?;
    file.write_at(&husk.render(file.stat()?.size).bytes, 0)
}

/// Puts the last holder's record back: we do not hold after all, and its end is still to be told.
pub(crate) fn restore(anchor: &Anchor, prior: &Prior, ours: &Record, visible: bool) {
    let mut bytes = prior.bytes.clone();
    bytes.resize(bytes.len().max(ours.render(0).bytes.len()), b' ');
    let _ = match visible {
        true => write_masked(&anchor.file, &mut bytes),
        false => anchor.file.write_at(&bytes, 0),
    };
}
