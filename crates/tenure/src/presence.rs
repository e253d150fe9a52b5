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
//! | a foreign record | [`judge`](crate::judge): alive or unknown is waited for, dead is taken over |
//! | no lock at all | an error; it stays |

mod hidden;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::anchor::{self, Anchor, Prior, PriorState};
use crate::error::{Error, Kind, Result};
use crate::guard::Previous;
use crate::holder::{Holder, HolderKind};
use crate::judge::{self, Facts, ForeignFacts, OpenForWriting, Reason};
use crate::options::{Options, StalePolicy};
use crate::place::Place;
use crate::process::{self, Liveness, Look};
use crate::record::{self, Content, MAX_BYTES, PID_KEY_OFFSET, Record, RecordState, RecordStyle, Rendered};
use crate::sys::{self, Access, Brief, File, FileId, FileKind, Lease, LockKind, Name};

pub(crate) use hidden::show_hidden;

/// How often a lock file that keeps changing under us is looked at again before we call it an error.
const TRIES: usize = 1000;

/// How a tenure shows itself.
#[derive(Clone, Debug)]
pub(crate) enum Presence {
    /// Not at all: flock style.
    Hidden,
    /// A hard link to the anchor.
    Link,
    /// A file of its own, kept open and locked: where hard links are not to be had, or would not be ours to remove.
    Copy { file: Arc<File>, id: FileId },
}

impl Presence {
    /// The inode that the lock file's name must point at.
    pub(crate) fn id(&self, anchor: &Anchor) -> Option<FileId> {
        match self {
            Presence::Hidden => None,
            Presence::Link => Some(anchor.id),
            Presence::Copy { id, .. } => Some(*id),
        }
    }

    /// The visible file.
    pub(crate) fn file<'a>(&'a self, anchor: &'a Anchor) -> Option<&'a File> {
        match self {
            Presence::Hidden => None,
            Presence::Link => Some(&anchor.file),
            Presence::Copy { file, .. } => Some(file),
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
}

/// What came of showing the lock file.
#[derive(Debug)]
pub(crate) enum Shown {
    /// With the place of the state's text in the record.
    Held(Presence, Previous, u64),
    Blocked(Box<Blocker>),
}

enum Entered {
    Held(Presence, Previous),
    Blocked(Box<Blocker>),
}

/// What the record tells whoever comes next, if we die before we hold.
struct Told {
    /// Where its state stands.
    state_offset: u64,
    /// That state says `aborted`: there was a crash, or a takeover is on and the swap must be looked for.
    aborted: bool,
    /// The swap may name a live one's file: what [`recover`] found, or what a takeover that failed has left.
    parked: bool,
    /// Whose lock file was taken over, though nothing that shows us may have come of it: no file tells of that crash now.
    taken: Option<Holder>,
}

/// Is the lock file our own anchor, with a second link? It is a dead native's, whose kernel lock we have.
pub(crate) fn is_visible(place: &Place, anchor: &Anchor, stat: &Brief) -> Result<bool> {
    // More than one link may be a dead native's unfinished takeover as well.
    Ok(stat.links > 1 && place.lock_file_id()? == Some(anchor.id))
}

/// Shows the tenure whose record is `record`, with the anchor's kernel lock held: steps 4 to 7. When it is blocked, the
/// anchor's text is again what it was. `parked`: what [`recover`] said.
pub(crate) fn show(
    place: &Place,
    anchor: &Anchor,
    stat: &Brief,
    prior: &Prior,
    record: &Record,
    options: &Options,
    parked: bool,
) -> Result<Shown> {
    let state = prior.state();
    let visible = is_visible(place, anchor, stat)?;
    if visible && let Some(blocker) = out_of_reach(place, anchor, state, prior) {
        return Ok(Shown::Blocked(Box::new(blocker)));
    }
    // A crash that only the record tells of (flock style): ours tells of it too until the lock file is there, or it
    // would be forgotten if we die before that.
    let hidden_crash = !visible && previous(prior, state, None).is_crashed();
    let mut first = Cow::Borrowed(record);
    if hidden_crash && let Some(native) = &mut first.to_mut().native {
        native.state = RecordState::Aborted;
    }
    let state_offset =
        anchor.write(&first, stat.size, visible).map_err(|error| place.anchor_error("cannot be written", error))?;
    let mut told = Told { state_offset, aborted: hidden_crash, parked, taken: None };
    let mut entered = enter(place, anchor, prior, record, options, &mut told);
    let mut settled = true;
    if let Ok(Entered::Held(presence, previous)) = &entered
        && let Err(error) = settle(place, anchor, presence, &told)
    {
        undo(place, anchor, presence, previous, record, state_offset);
        (entered, settled) = (Err(error), false);
    }
    let stays = entered.is_err() && matches!(place.lock_file_id(), Ok(Some(shown)) if shown == anchor.id);
    // Nor may a takeover that failed halfway be forgotten.
    let half_taken = entered.is_err() && told.aborted && !matches!(place.dir.stat_at(&place.swap), Ok(None));
    // While somebody is parked our record stays: it tells of the swap, or of the crash. And a lock file that could not be
    // removed again says that nobody holds, which no older text may cover.
    let ours_stays = !settled || visible || told.parked || half_taken || stays;
    if !matches!(entered, Ok(Entered::Held(..))) && !ours_stays {
        if told.taken.is_some() {
            let _ = anchor.file.write_at(record::state_text(RecordState::Aborted), state_offset);
        } else {
            restore(anchor, prior, record);
        }
    }
    Ok(match entered? {
        Entered::Held(presence, previous) => Shown::Held(presence, previous, state_offset),
        Entered::Blocked(blocker) => Shown::Blocked(blocker),
    })
}

/// Step 7: the lock file is there, and the record says `held`; then everything is compared once more.
fn settle(place: &Place, anchor: &Anchor, presence: &Presence, told: &Told) -> Result<()> {
    if told.aborted {
        anchor
            .file
            .write_at(record::state_text(RecordState::Held), told.state_offset)
            .map_err(|error| place.anchor_error("cannot be written", error))?;
    }
    confirm(place, anchor, presence)
}

fn enter(
    place: &Place,
    anchor: &Anchor,
    prior: &Prior,
    record: &Record,
    options: &Options,
    told: &mut Told,
) -> Result<Entered> {
    let state = prior.state();
    let copy = place.copies();
    for pass in 0..TRIES {
        if pass > 0 {
            if told.parked {
                told.parked = recover(place, anchor, prior, options)?;
            }
            if anchor.current(place)?.is_none() {
                return Err(anchor_lost(place));
            }
        }
        let made = match (told.parked, copy) {
            // Whoever is parked lives, and the lock file's place is another's.
            (true, _) => Err(io::ErrorKind::AlreadyExists.into()),
            (_, true) => Err(io::ErrorKind::Unsupported.into()),
            _ => place.dir.link(&place.anchor, &place.lock),
        };
        match made {
            Ok(()) => return Ok(Entered::Held(Presence::Link, previous(prior, state, told.taken.take()))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if no_links(&error) => {
                told.parked = recover(place, anchor, prior, options)?;
                let shown = if told.parked { Ok(None) } else { show_copy(place, record, options) };
                match shown {
                    Ok(Some(presence)) => {
                        place.set_copies();
                        return Ok(Entered::Held(presence, previous(prior, state, told.taken.take())));
                    }
                    Ok(None) => {}
                    // A folder that takes no new name denies the link and the copy alike: the link's error is the plain
                    // one.
                    Err(later) => {
                        let alike = later.io_error().is_some_and(|later| later.raw_os_error() == error.raw_os_error());
                        let plain = alike && !copy && !later.is_unsupported();
                        return Err(if plain { place.lock_error("cannot be made", error) } else { later });
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(anchor_lost(place));
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                return Err(place
                    .lock_error("cannot be made: `.tenure` is on another file system", error)
                    .with_kind(Kind::Unsupported));
            }
            Err(error) => return Err(place.lock_error("cannot be made", error)),
        }
        let Some(found) = look(place)? else { continue };
        if found.id == anchor.id {
            return Ok(Entered::Held(Presence::Link, own_inode(prior, state)));
        }
        let judged = judge_found(place, found, options)?;
        if !judged.takeable {
            return Ok(Entered::Blocked(Box::new(judged.blocker)));
        }
        // Once more: the swap is only for who has the kernel lock of the anchor that is there.
        if anchor.current(place)?.is_none() {
            return Err(anchor_lost(place));
        }
        told.parked = recover(place, anchor, prior, options)?;
        if !copy && !told.aborted {
            // A lock file that is removed after we died takes the sign of a takeover with it, the anchor's second link.
            let aborted = anchor.file.write_at(record::state_text(RecordState::Aborted), told.state_offset);
            aborted.map_err(|error| place.anchor_error("cannot be written", error))?;
            told.aborted = true;
        }
        if told.parked {
            // Of two live ones the policy robs the one that has the lock file's place: the other gets that back.
            if !judged.blocker.holder.liveness.is_dead() {
                put_back(place, &judged)?;
            }
            continue;
        }
        if let Some(presence) = take_over(place, anchor, &judged, record, options, copy)? {
            if !judged.released {
                told.taken = Some(judged.blocker.holder);
            }
            if shows(place, anchor, &presence, record)? {
                return Ok(Entered::Held(presence, previous(prior, state, told.taken.take())));
            }
        }
        told.parked = true;
    }
    Err(Error::new(Kind::Io, &place.lock_path, "the lock file keeps changing under us"))
}

/// The last step. A link takes the anchor by its name, and `.tenure` may have been removed, or the lock broken, since that
/// was compared: then somebody else has it, or may.
pub(crate) fn confirm(place: &Place, anchor: &Anchor, presence: &Presence) -> Result<()> {
    if anchor.current(place)?.is_none() {
        return Err(anchor_lost(place));
    }
    match presence {
        // It was renamed by a name in `.tenure`, which may have come to be another's.
        Presence::Copy { id, .. } if place.lock_file_id()? != Some(*id) => {
            Err(Error::new(Kind::Lost, &place.lock_path, "the lock file was removed under us"))
        }
        _ => Ok(()),
    }
}

/// Undoes what `show` did: we do not hold after all. Of a crash that we would have told of, the next one hears.
pub(crate) fn undo(
    place: &Place,
    anchor: &Anchor,
    presence: &Presence,
    previous: &Previous,
    record: &Record,
    state_offset: u64,
) {
    let state = if previous.is_crashed() { RecordState::Aborted } else { RecordState::Released };
    let _ = anchor.file.write_at(record::state_text(state), state_offset);
    let _ = hide(place, anchor, presence, record);
}

fn anchor_lost(place: &Place) -> Error {
    Error::new(Kind::Lost, place.anchor_path(), "the lock's anchor was removed or replaced under us")
}

/// Is the lock file, which was just made, ours? Where that cannot be told it goes again: we do not hold.
fn shows(place: &Place, anchor: &Anchor, presence: &Presence, record: &Record) -> Result<bool> {
    match place.lock_file_id() {
        Ok(found) => Ok(found == presence.id(anchor)),
        Err(error) => {
            let _ = hide(place, anchor, presence, record);
            Err(error)
        }
    }
}

/// The lock file is our own anchor's inode: its holder is gone, because we have its kernel lock. Unless another machine
/// may have mounted this, where that lock may not reach: then it cannot be told.
fn out_of_reach(place: &Place, anchor: &Anchor, state: Option<PriorState>, prior: &Prior) -> Option<Blocker> {
    let released = state.is_some_and(|state| state.state == RecordState::Released);
    let left = prior.record()?;
    if released || !place.file_system.shared || !is_other_boot(&left) {
        return None;
    }
    let holder = holder_of(Some(&left), Liveness::unknown(unreachable_machine(place)));
    Some(Blocker { holder, file: None, id: anchor.id, again_after: None })
}

/// The lock file is our own anchor's inode, and this machine's kernel lock on it is ours.
pub(crate) fn own_inode(prior: &Prior, state: Option<PriorState>) -> Previous {
    if state.is_some_and(|state| state.state == RecordState::Released) {
        return Previous::Clean;
    }
    let left = prior.record();
    let other_boot = left.as_ref().is_some_and(is_other_boot);
    let why = if other_boot { "the machine was restarted" } else { "its kernel lock is free" };
    let holder = holder_of(left.as_ref(), Liveness::dead(why));
    Previous::Crashed(Box::new(holder))
}

/// How the tenure before this one ended.
pub(crate) fn previous(prior: &Prior, state: Option<PriorState>, crashed: Option<Holder>) -> Previous {
    if let Some(holder) = crashed {
        return Previous::Crashed(Box::new(holder));
    }
    let Some(why) = state.and_then(|state| crash_in(state.style, state.state)) else { return Previous::Clean };
    Previous::Crashed(Box::new(holder_of(prior.record().as_ref(), Liveness::dead(why))))
}

/// The crash that a record tells of by itself, when nobody has its kernel lock: in lock-file style the lock file's
/// absence says that it was released; in flock style only the record does.
fn crash_in(style: RecordStyle, state: RecordState) -> Option<&'static str> {
    match (style, state) {
        (_, RecordState::Aborted) => Some("a signal ended it"),
        (RecordStyle::Flock, RecordState::Held) => Some("its kernel lock is free"),
        _ => None,
    }
}

/// Does the state of an anchor whose kernel lock is free tell by itself of a holder that died?
pub(crate) fn tells_of_end(state: PriorState) -> bool {
    crash_in(state.style, state.state).is_some()
}

/// Does the record of an anchor that nobody has tell of a crash?
pub(crate) fn tells_of_crash(record: &Record) -> bool {
    record.native.as_ref().is_some_and(|native| crash_in(native.style, native.state).is_some())
}

/// Writes a record: [`write_text`]. Returns where the state's text stands in it.
pub(crate) fn write(file: &File, record: &Record, size: u64, visible: bool) -> io::Result<u64> {
    let mut rendered = record.render(size);
    write_text(file, &mut rendered, visible)?;
    Ok(rendered.state_offset)
}

/// Writes a record's text; one that others can see is masked first, and its pid comes back last.
pub(crate) fn write_text(file: &File, rendered: &mut Rendered, visible: bool) -> io::Result<()> {
    if !visible {
        return file.write_at(&rendered.bytes, 0);
    }
    write_masked(file, &mut rendered.bytes)
}

/// Writes one of our own records' text where others see it.
fn write_masked(file: &File, bytes: &mut [u8]) -> io::Result<()> {
    let key = PID_KEY_OFFSET as usize;
    let (first, masked) = (bytes[key], b'_');
    file.write_at(&[masked], PID_KEY_OFFSET)?;
    bytes[key] = masked;
    // `"_id"` is the pid's key with its first byte changed.
    let written = file.write_at(bytes, 0);
    bytes[key] = first;
    written?;
    file.write_at(&[first], PID_KEY_OFFSET)
}

/// Puts the last holder's record back: we do not hold after all, and its end is still to be told.
pub(crate) fn restore(anchor: &Anchor, prior: &Prior, ours: &Record) {
    let _ = anchor.file.write_at(&restored(prior, ours), 0);
}

fn restored(prior: &Prior, ours: &Record) -> Vec<u8> {
    let mut bytes = prior.bytes.clone();
    bytes.resize(bytes.len().max(ours.render(0).bytes.len()), b' ');
    bytes
}

/// In a sticky folder a link to another user's anchor would not be ours to remove.
pub(crate) fn must_copy(place: &Place, anchor: &Anchor) -> bool {
    if !is_sticky(place) {
        return false;
    }
    let user = sys::effective_user();
    user != 0 && user != anchor.owner && user != place.dir_stat.owner
}

/// What file systems without hard links answer to `link(2)`.
fn no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
        || error.raw_os_error().is_some_and(sys::means_no_links)
}

/// Makes the lock file as a file of its own: complete and locked before it gets its name. `None`: the name is taken.
fn show_copy(place: &Place, record: &Record, options: &Options) -> Result<Option<Presence>> {
    let presence = make_copy(place, record, options)?;
    match place.dir.rename_new(&place.new, &place.lock) {
        Ok(()) => Ok(Some(presence)),
        Err(error) => {
            let _ = place.dir.unlink(&place.new);
            // Not there: `.tenure` was removed under us.
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) {
                return Ok(None);
            }
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            let detail = "cannot be made: this file system has neither hard links nor exclusive renames";
            let error = place.lock_error(detail, error);
            Err(match denied {
                true => error,
                false => error
                    .with_kind(Kind::Unsupported)
                    .with_hint("flock style needs neither: style(Style::Flock), --flock"),
            })
        }
    }
}

/// Under the name `new`, which is each user's own in a sticky folder: what is half-made there is nobody else's trouble.
fn make_copy(place: &Place, record: &Record, options: &Options) -> Result<Presence> {
    let file = anchor::prepare(place, options, record)?;
    match file.brief() {
        Ok(stat) => Ok(Presence::Copy { file: Arc::new(file), id: stat.id }),
        Err(error) => {
            let _ = place.dir.unlink(&place.new);
            Err(place.lock_error("cannot be made", error))
        }
    }
}

/// What stands at the lock file's place, open and read.
pub(crate) struct Found {
    pub(crate) file: File,
    pub(crate) id: FileId,
    /// As it was read, and what it says.
    pub(crate) text: Vec<u8>,
    pub(crate) content: Content,
}

/// `None`: it is gone.
pub(crate) fn look(place: &Place) -> Result<Option<Found>> {
    let Some(stat) = place.dir.brief_at(&place.lock).map_err(|error| place.lock_error("cannot be read", error))? else {
        return Ok(None);
    };
    if stat.kind != FileKind::Regular {
        return Err(place.in_the_way(stat.kind.words()));
    }
    let file = match place.dir.open_at(&place.lock, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(place.lock_error("cannot be opened", error)),
    };
    found(place, file).map(Some)
}

fn found(place: &Place, file: File) -> Result<Found> {
    let unreadable = |error| place.lock_error("cannot be read", error);
    let stat = file.brief().map_err(unreadable)?;
    if stat.kind != FileKind::Regular {
        return Err(place.in_the_way(stat.kind.words()));
    }
    let text = read_text(&file, stat.size).map_err(unreadable)?;
    Ok(Found { id: stat.id, content: record::read(&text), text, file })
}

/// What a record says, by [`read_text`].
pub(crate) fn read_stable(file: &File) -> io::Result<Content> {
    Ok(record::read(&stable(|| read_once(file))?))
}

/// Reads until two readings agree: a record may change while it is read. `size`: what the file had just now, so that the
/// first reading need not look for its end.
pub(crate) fn read_text(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut first = usize::try_from(size).ok().filter(|size| *size <= MAX_BYTES);
    stable(|| match first.take() {
        Some(size) => {
            let mut bytes = vec![0; size];
            let length = file.read(&mut bytes)?;
            bytes.truncate(length);
            Ok(bytes)
        }
        None => read_once(file),
    })
}

/// Does the file read as `text` still?
pub(crate) fn reads(file: &File, text: &[u8]) -> io::Result<bool> {
    Ok(read_once(file)? == text)
}

fn stable(mut read: impl FnMut() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut last = read()?;
    for _ in 0..TRIES {
        let next = read()?;
        if next == last {
            break;
        }
        last = next;
    }
    Ok(last)
}

fn read_once(file: &File) -> io::Result<Vec<u8>> {
    // Not on the heap: musl asks the kernel for such a piece and gives it back, each time.
    let mut usual = [0; 2048];
    let length = file.read(&mut usual)?;
    if length < usual.len() {
        return Ok(usual[..length].to_vec());
    }
    // One byte more than is ever taken, so that a longer file is known for one.
    let mut bytes = vec![0; MAX_BYTES + 1];
    let length = file.read(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// A found lock file with its verdict.
pub(crate) struct Judged {
    pub(crate) blocker: Blocker,
    pub(crate) reasons: Vec<Reason>,
    /// Proven dead, or the caller's policy robs it: it may be exchanged away.
    pub(crate) takeable: bool,
    /// A native record that says released: nobody crashed.
    released: bool,
    native: bool,
}

/// Is who was judged still in the way? To be asked once its events are waited for: what came before that has none.
pub(crate) fn still_blocks(place: &Place, blocker: &Blocker, options: &Options) -> Result<bool> {
    match look(place)? {
        Some(found) if found.id == blocker.id => Ok(!judge_found(place, found, options)?.takeable),
        _ => Ok(false),
    }
}

fn judge_found(place: &Place, found: Found, options: &Options) -> Result<Judged> {
    let native = match &found.content {
        Content::NotALock(what) => return Err(place.in_the_way(what)),
        Content::Record(record) => record.native.is_some(),
        Content::Blank | Content::Torn => false,
    };
    if native { judge_native(place, found) } else { Ok(judge_foreign(place, found, options, Look::Ask)) }
}

/// A native's record on another inode than our anchor's: the anchor was removed under its holder, or it is a copy.
fn judge_native(place: &Place, found: Found) -> Result<Judged> {
    let Content::Record(record) = &found.content else { unreachable!("only a record is native") };
    let native = record.native.as_ref();
    let released = native.is_some_and(|native| native.state == RecordState::Released);
    let liveness = if !released && place.file_system.shared && is_other_boot(record) {
        Liveness::unknown(unreachable_machine(place))
    } else if found.file.try_lock(LockKind::Exclusive).map_err(|error| place.lock_error("cannot be locked", error))? {
        Liveness::dead("its kernel lock is free")
    } else {
        Liveness::alive("it has the kernel lock")
    };
    Ok(Judged {
        reasons: Vec::new(),
        takeable: liveness.is_dead(),
        released,
        native: true,
        blocker: Blocker {
            holder: holder_of(Some(record), liveness),
            id: found.id,
            file: Some(found.file),
            again_after: None,
        },
    })
}

/// `look`: what was found of its record's pid, after the record was read.
pub(crate) fn judge_foreign(place: &Place, found: Found, options: &Options, look: Look) -> Judged {
    let record = match &found.content {
        Content::Record(record) => record.clone(),
        _ => Record::default(),
    };
    let reasons = seed_reasons(&record, options.stale_after, false, look);
    let writer = match found.file.read_lease() {
        Lease::Granted => OpenForWriting::No,
        Lease::Refused => OpenForWriting::Yes,
        Lease::Unavailable => OpenForWriting::CannotTell,
    };
    let modified = found.file.stat().ok().map(|stat| stat.modified);
    let mtime_age = modified.and_then(|modified| sys::now().duration_since(modified).ok()).unwrap_or(Duration::ZERO);
    let verdict = judge::judge_foreign(&ForeignFacts {
        content: &found.content,
        reasons: &reasons,
        writer,
        mtime_age,
        malformed_grace: options.malformed_grace,
        shared_fs: place.file_system.shared,
    });
    let holder = holder_of(Some(&record), verdict.liveness.clone());
    let robbed = match options.stale_policy {
        StalePolicy::Proof => false,
        StalePolicy::Age(limit) => {
            reasons.contains(&Reason::HoldExceeded) || holder.age().is_some_and(|age| age > limit)
        }
    };
    Judged {
        takeable: verdict.liveness.is_dead() || robbed,
        reasons,
        released: false,
        native: false,
        blocker: Blocker { holder, file: Some(found.file), id: found.id, again_after: verdict.again_after },
    }
}

/// The seed's reasons, with this process's own facts, and what a look at the record's pid has found.
pub(crate) fn seed_reasons(record: &Record, stale_after: Duration, held_here: bool, look: Look) -> Vec<Reason> {
    let own_pid = i64::from(sys::pid());
    judge::reasons(
        record,
        &Facts {
            now: sys::now(),
            stale_after,
            own_pid,
            // Compared with nobody else's.
            own_start_time: record.pid.filter(|pid| *pid == own_pid).and_then(process::start_time),
            held_here,
            alive: &|pid| match look {
                Look::Lives(_) => true,
                Look::Gone => false,
                Look::Ask => process::is_alive(pid),
            },
            start_time: &|pid| match look {
                Look::Lives(seen) => seen.start_time,
                Look::Gone | Look::Ask => process::comparable_start_time(pid),
            },
        },
    )
}

/// Step 6's second half: the judged file is gone, and ours has its place unless that was removed since. `None` means that
/// something changed; look again, at the swap too.
fn take_over(
    place: &Place,
    anchor: &Anchor,
    judged: &Judged,
    record: &Record,
    options: &Options,
    copy: bool,
) -> Result<Option<Presence>> {
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let presence = match put_swap(place, record, options, copy)? {
        Swap::Put(presence) => presence,
        Swap::Denied => return instead_of_exchange(place, judged, record, denied()),
        Swap::Changed => return Ok(None),
    };
    let ours = presence.id(anchor);
    let failed = |error| place.lock_error("cannot be taken over", error);
    let drop_swap = || match place.dir.unlink(&place.swap) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    let at_swap = || Ok::<_, Error>(place.dir.stat_at(&place.swap).map_err(failed)?.map(|stat| stat.id));
    if at_swap()? != ours {
        // Another anchor was linked, which had come to have the name. What is there now is for its holder to recover.
        return Err(anchor_lost(place));
    }
    if let Err(error) = place.dir.exchange(&place.swap, &place.lock) {
        drop_swap()?;
        return match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => instead_of_exchange(place, judged, record, error),
        };
    }
    if at_swap()? == Some(judged.blocker.id) {
        drop_swap()?;
        return Ok(Some(presence));
    }
    // Another's: it came after we judged. Back with it.
    match place.dir.exchange(&place.swap, &place.lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(place.lock_error("cannot be put back", error));
        }
        _ => {}
    }
    // What came for it may be a third one's, which nobody has judged; or ours was removed meanwhile, and it is still there.
    let back = at_swap()?;
    if back.is_none() || back == ours {
        drop_swap()?;
    }
    Ok(None)
}

enum Swap {
    Put(Presence),
    /// What a dead user left in a sticky folder has the name, and only that user may remove it.
    Denied,
    /// The anchor or `.tenure` has gone, or another native was at the swap.
    Changed,
}

/// Puts what will be the lock file under the swap's name.
fn put_swap(place: &Place, record: &Record, options: &Options, copy: bool) -> Result<Swap> {
    let failed = |error| place.lock_error("cannot be taken over", error);
    if !copy {
        match place.dir.link(&place.anchor, &place.swap) {
            Ok(()) => return Ok(Swap::Put(Presence::Link)),
            Err(error) if no_links(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_sticky(place) => return Ok(Swap::Denied),
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                return Ok(Swap::Changed);
            }
            Err(error) => return Err(failed(error)),
        }
    }
    let presence = make_copy(place, record, options)?;
    match place.dir.rename_over(&place.new, &place.swap) {
        Ok(()) => Ok(Swap::Put(presence)),
        Err(error) => {
            let _ = place.dir.unlink(&place.new);
            match error.kind() {
                io::ErrorKind::PermissionDenied if is_sticky(place) => Ok(Swap::Denied),
                io::ErrorKind::NotFound => Ok(Swap::Changed),
                _ => Err(failed(error)),
            }
        }
    }
}

pub(crate) fn is_sticky(place: &Place) -> bool {
    place.dir_stat.mode & 0o1000 != 0
}

/// A dead native's file that may not be moved is written over in place: we have its kernel lock.
fn instead_of_exchange(place: &Place, judged: &Judged, record: &Record, error: io::Error) -> Result<Option<Presence>> {
    if judged.native { adopt(place, judged, record) } else { Err(cannot_exchange(place, judged, error)) }
}

fn cannot_exchange(place: &Place, judged: &Judged, error: io::Error) -> Error {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let what = if denied { "its holder is dead, but it may not be removed" } else { "its holder is dead" };
    let mut cannot = Error::io(&place.lock_path, what, error).with_holder(Some(judged.blocker.holder.clone()));
    if !denied {
        cannot = cannot.with_kind(Kind::Unsupported).with_hint(
            "this file system cannot exchange two names (RENAME_EXCHANGE), so nothing was removed: once you are sure, \
             remove the lock file yourself",
        );
    }
    cannot
}

/// Writes our record over a dead native's copy that cannot be moved, then makes sure that it still has the name.
fn adopt(place: &Place, judged: &Judged, record: &Record) -> Result<Option<Presence>> {
    let failed = |error| place.lock_error("was left by another user's dead program and may not be written", error);
    if let Some(file) = &judged.blocker.file {
        // The one lock gives way to the other's open file, which can be written; the anchor's keeps natives out.
        file.unlock().map_err(failed)?;
    }
    let file = match place.dir.open_at(&place.lock, Access::ReadWrite) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = file.brief().map_err(failed)?;
    if stat.id != judged.blocker.id || !file.try_lock(LockKind::Exclusive).map_err(failed)? {
        return Ok(None);
    }
    write(&file, record, stat.size, true).map_err(failed)?;
    Ok((place.lock_file_id()? == Some(stat.id)).then_some(Presence::Copy { file: Arc::new(file), id: stat.id }))
}

/// Step 3: undoes or ends what a native left that died in a takeover. `true`: the swap names the file of one who may live,
/// and another who may live has the lock file's place, so it stays there, and nothing may be shown beside it.
pub(crate) fn recover(place: &Place, anchor: &Anchor, prior: &Prior, options: &Options) -> Result<bool> {
    let failed = |error| place.anchor_error("cannot be recovered", error);
    for _ in 0..TRIES {
        let Some(swap) = place.dir.stat_at(&place.swap).map_err(failed)? else { return Ok(false) };
        let ours = swap.id == anchor.id || swap.kind != FileKind::Regular;
        match if ours { Some(true) } else { is_over(place, anchor, prior, options)? } {
            None => return Ok(false),
            Some(true) => {
                return match place.dir.unlink(&place.swap) {
                    // Another user's, in a sticky folder: it stays until they come again. A takeover does without.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_sticky(place) => Ok(false),
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                    _ => Ok(false),
                };
            }
            Some(false) => {}
        }
        let lock = place.dir.stat_at(&place.lock).map_err(|error| place.lock_error("cannot be read", error))?;
        let moved = match lock {
            None => place.dir.rename_new(&place.swap, &place.lock),
            Some(stat) if stat.id == anchor.id => place.dir.exchange(&place.swap, &place.lock),
            Some(stat) if stat.kind != FileKind::Regular => return Ok(true),
            Some(_) => match is_dead(place, &place.lock, options)? {
                Some(true) => place.dir.exchange(&place.swap, &place.lock),
                Some(false) => return Ok(true),
                None => continue,
            },
        };
        match moved {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
                return Err(failed(error));
            }
            // What came out is judged in its turn.
            _ => {}
        }
    }
    Err(Error::new(Kind::Io, &place.lock_path, "the lock file keeps changing under us"))
}

/// Is the tenure of the file at the swap over? While the dead native's own lock file is there, no release has removed that.
/// Later on its process may live and have released: then it has the file no longer open. `None`: it is gone.
fn is_over(place: &Place, anchor: &Anchor, prior: &Prior, options: &Options) -> Result<Option<bool>> {
    if !shows_us(place, anchor, prior)? {
        let file = match place.dir.open_at(&place.swap, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Ok(Some(false)),
        };
        let closed = file.read_lease() == Lease::Granted;
        let foreign = match read_stable(&file).map_err(|error| place.lock_error("cannot be read", error))? {
            Content::NotALock(_) => false,
            Content::Record(record) => record.native.is_none(),
            Content::Blank | Content::Torn => true,
        };
        if closed && foreign {
            return Ok(Some(true));
        }
    }
    is_dead(place, &place.swap, options)
}

/// Is the holder of the file with this name dead? `None`: it is gone. What cannot be read, or is no lock, may live.
fn is_dead(place: &Place, name: &Name, options: &Options) -> Result<Option<bool>> {
    let file = match place.dir.open_at(name, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Ok(Some(false)),
    };
    let found = found(place, file)?;
    if matches!(found.content, Content::NotALock(_)) {
        return Ok(Some(false));
    }
    Ok(Some(judge_found(place, found, options)?.blocker.holder.liveness.is_dead()))
}

/// Exchanges a live holder's file at the swap with the one in its place, as in a takeover.
fn put_back(place: &Place, judged: &Judged) -> Result<()> {
    let failed = |error| place.lock_error("cannot be put back", error);
    let exchange = || match place.dir.exchange(&place.swap, &place.lock) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    };
    exchange()?;
    match place.dir.stat_at(&place.swap).map_err(failed)? {
        Some(out) if out.id == judged.blocker.id => place.dir.unlink(&place.swap).map_err(failed),
        Some(_) => exchange(),
        None => Ok(()),
    }
}

/// Is the lock file the dead native's: the anchor's inode, or a copy with the anchor's fence?
fn shows_us(place: &Place, anchor: &Anchor, prior: &Prior) -> Result<bool> {
    let Some(stat) = place.dir.stat_at(&place.lock).map_err(|error| place.lock_error("cannot be read", error))? else {
        return Ok(false);
    };
    if stat.id == anchor.id || stat.kind != FileKind::Regular {
        return Ok(stat.id == anchor.id);
    }
    let Some(fence) = prior.state().map(|state| state.fence) else { return Ok(false) };
    let Ok(file) = place.dir.open_at(&place.lock, Access::Read) else { return Ok(false) };
    Ok(match read_stable(&file) {
        Ok(Content::Record(Record { native: Some(native), .. })) => native.fence == Some(fence),
        _ => false,
    })
}

/// Was the removal of a lock file refused because another user's is not ours to remove in a sticky folder?
fn stays(place: &Place, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && is_sticky(place)
}

/// Step 1 of a release: the lock file goes, if it is still ours.
pub(crate) fn hide(place: &Place, anchor: &Anchor, presence: &Presence, record: &Record) -> Result<()> {
    let Some(ours) = presence.id(anchor) else { return Ok(()) };
    let at_path = place.lock_file_id();
    if let Ok(at_path) = at_path
        && at_path != Some(ours)
    {
        let detail = "the lock file was removed or replaced while we held it; it was left as it is";
        return Err(Error::new(Kind::Lost, &place.lock_path, detail));
    }
    match place.dir.unlink(&place.lock) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            // It stays, so it must say that nobody holds: no pid, and a state that natives read.
            if let Some(file) = presence.file(anchor) {
                let untold = record.native.as_ref().is_some_and(|native| native.state == RecordState::Aborted);
                let state = if untold { RecordState::Aborted } else { RecordState::Released };
                let _ = write_husk(file, record, state);
            }
            // Another user's copy in a sticky folder: expected, and it is marked as released.
            if stays(place, &error) {
                Ok(())
            } else {
                Err(place.lock_error("cannot be removed; it is marked as released", error))
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
    file.write_at(b"_", PID_KEY_OFFSET)?;
    file.write_at(&husk.render(file.stat()?.size).bytes, 0)
}

pub(crate) fn is_other_boot(record: &Record) -> bool {
    let recorded = record.native.as_ref().and_then(|native| native.boot_id.as_deref());
    recorded.is_some_and(|recorded| sys::boot_id().is_some_and(|own| own != recorded))
}

pub(crate) fn unreachable_machine(place: &Place) -> String {
    format!("it is of another machine or another boot, and {} may be mounted by several", place.file_system.name)
}

fn owned(text: &Option<record::Text>) -> Option<String> {
    text.as_deref().map(str::to_owned)
}

/// A holder, from its record.
pub(crate) fn holder_of(record: Option<&Record>, liveness: Liveness) -> Holder {
    let native = record.and_then(|record| record.native.as_ref());
    Holder {
        kind: if native.is_some() { HolderKind::Native } else { HolderKind::Foreign },
        identity: record.and_then(Record::identity),
        liveness,
        label: native.and_then(|native| owned(&native.label)),
        command: native.and_then(|native| owned(&native.command)),
        host: native.and_then(|native| owned(&native.host)),
        created_at: record.and_then(|record| record.created_at),
        acquired_at: native.and_then(|native| native.acquired_at),
        fence: native.and_then(|native| native.fence),
        max_hold: record.and_then(|record| record.max_hold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_counts_once_a_second_one_agrees() {
        let read = |readings: &[&[u8]]| {
            let mut left = readings.iter().map(|reading| reading.to_vec());
            let read = stable(|| left.next().ok_or(io::ErrorKind::UnexpectedEof.into()));
            (read.ok(), left.count())
        };
        assert_eq!(read(&[b"old", b"old", b"new"]), (Some(b"old".to_vec()), 1));
        assert_eq!(read(&[b"old", b"ned", b"new", b"new"]), (Some(b"new".to_vec()), 0), "half of each was read");
        assert_eq!(read(&[b"old", b"new"]), (None, 0), "an error is one");
    }

    #[test]
    fn a_record_that_never_stands_still_ends_the_reading() {
        let mut count = 0_usize;
        let read = stable(|| {
            count += 1;
            Ok(count.to_string().into_bytes())
        });
        assert_eq!(read.unwrap(), (TRIES + 1).to_string().into_bytes());
    }
}
