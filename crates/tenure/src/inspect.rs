//! Looking without touching: who holds, since when, does it live, who waits.
//!
//! Nothing here creates a file, blocks, or disturbs a holder. Whether a kernel lock is held is read from `/proc/locks`;
//! only where that table cannot say (another pid namespace than the first, a file system that numbers its files
//! otherwise there) and a record claims a holder, a shared lock is tried and given back at once.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::anchor;
use crate::engine::{self, Scheme};
use crate::error::{Error, Result};
use crate::holder::{Holder, HolderKind};
use crate::judge::Reason;
use crate::kernel_locks::{KernelLocks, mount_device};
use crate::options::{Options, Style};
use crate::place::{ANCHORS, Folder, Place, target_of, target_of_anchor};
use crate::presence::{self, Found, holder_of, seed_reasons};
use crate::process::{Identity, Known, Liveness, Look};
use crate::record::{self, Content, Record, RecordState, RecordStyle};
use crate::sys::{self, Access, Brief, Dir, File, FileId, FileKind, LockKind, Name, Stat};

/// What an acquire would find now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody holds.
    Free,
    /// Its holder lives.
    Held,
    /// Its holder is dead: an acquire now would take over.
    Stale,
    /// It cannot be told; an acquire waits.
    Unknown,
}

impl State {
    /// `free`, `held`, `stale` or `unknown`, as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Free => "free",
            State::Held => "held",
            State::Stale => "stale",
            State::Unknown => "unknown",
        }
    }

    fn of(liveness: &Liveness) -> State {
        match liveness {
            Liveness::Alive(_) => State::Held,
            Liveness::Dead(_) => State::Stale,
            Liveness::Unknown(_) => State::Unknown,
        }
    }
}

/// How a lock stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inspection {
    /// The path that the lock protects.
    pub target: PathBuf,
    /// `<target>.lock`; on a server, what it calls the lock.
    pub lock_file: PathBuf,
    /// Which kind of server keeps it; `None` for a file.
    pub engine: Option<Scheme>,
    /// How it is held (or was last).
    pub style: Style,
    /// What an acquire would find.
    pub state: State,
    /// The seed's reasons for calling it stale, whatever the state.
    pub reasons: Vec<Reason>,
    /// Who holds, or held and died. `None` when free, and for shared locks (see `open_by`).
    pub holder: Option<Holder>,
    /// How many processes wait in the kernel's queue; `None` where that cannot be read.
    pub waiters: Option<usize>,
    /// Those that wait, first come first, as far as this process may see their pids.
    pub queue: Vec<i64>,
    /// Processes that have the lock open, where the recorded pid does not say it all: an inherited descriptor, the
    /// sharers of a shared lock. As far as this user may see.
    pub open_by: Vec<i64>,
}

impl Inspection {
    pub(crate) fn free(target: &Path, lock_file: &Path) -> Inspection {
        Inspection {
            target: target.to_owned(),
            lock_file: lock_file.to_owned(),
            engine: None,
            style: Style::LockFile,
            state: State::Free,
            reasons: Vec::new(),
            holder: None,
            waiters: None,
            queue: Vec::new(),
            open_by: Vec::new(),
        }
    }
}

/// How the lock of `target` stands. A target whose folder does not exist is free.
///
/// A lock on the target that was taken with `flock(2)` by a program that is no native is told too (flock style, a
/// foreign holder): it does not keep a native in lock-file style out.
///
/// # Errors
///
/// [`is_in_the_way`](crate::Error::is_in_the_way) where the lock file's place is taken by something that is no lock;
/// the system's own where it cannot be read.
pub fn inspect(target: impl AsRef<Path>) -> Result<Inspection> {
    let target = target.as_ref();
    if let Some(engine) = engine::open(target)? {
        engine.url().lock_name()?;
        return engine.inspect();
    }
    match Place::look(target)? {
        Some(place) => examine(&place, &Options::default()),
        None => Ok(Inspection::free(target, &lock_path(target))),
    }
}

fn lock_path(target: &Path) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Who holds now, for an error that says so.
///
/// The kernel's table tells more, but to read it stops every `flock(2)` of the machine meanwhile. So the record is asked
/// first, and the table only where it names no native that holds and lives.
pub(crate) fn holder_now(place: &Place) -> Option<Holder> {
    let content = match presence::look(place).ok()? {
        Some(found) => Some(found.content),
        None => open_anchor(place).ok()?.and_then(|(file, _)| presence::read_stable(&file).ok()),
    };
    if let Some(Content::Record(record)) = &content
        && record.native.as_ref().is_some_and(|native| native.state == RecordState::Held)
        && record.identity().is_some_and(|identity| identity.verify().is_alive())
    {
        // We were refused the kernel lock, and it was written under that lock.
        return Some(holder_of(Some(record), Liveness::alive("it has the kernel lock")));
    }
    examine(place, &Options::default()).ok()?.holder
}

/// How often a lock that changes hands while we look is looked at again.
const LOOKS: usize = 20;

/// How one lock stands.
pub(crate) fn examine(place: &Place, options: &Options) -> Result<Inspection> {
    let (locks, known) = (KernelLocks::read(), Known::default());
    examine_after(View::new(place, options, locks.as_ref(), &known, kernel_numbers(place)), None)
}

/// As [`examine`], where the view's table is known to be newer than `before`.
fn examine_after<'a>(mut view: View<'a>, before: Option<&'a Seen>) -> Result<Inspection> {
    view.doubt = Doubt::Resolve { before };
    for _ in 0..LOOKS {
        if let Some(found) = examine_once(&view)? {
            return Ok(found);
        }
    }
    // In use all the time: whoever was seen last lived then.
    view.doubt = Doubt::Lives;
    Ok(examine_once(&view)?.unwrap_or_else(|| view.free()))
}

/// The text of a record, and the file that it was read from.
type Seen = (FileId, Vec<u8>);

/// How very many locks stand. A holder is called dead only by a table that is newer than its record. Read anew for each,
/// it would be read as often as it has lines, so what may be dead is left for the end, and for one more table. A table
/// that comes in pieces proves no death: then the kernel lock is tried at once, but where it has just changed hands.
pub(crate) struct Survey<'a> {
    options: &'a Options,
    locks: Option<KernelLocks>,
    known: Known,
    /// Those of the folder that was looked at last.
    numbers: Option<(Arc<Folder>, Numbers)>,
    suspects: Vec<Suspect>,
    notes_all: bool,
}

/// The table shows no lock where a record says held.
pub(crate) struct Suspect {
    pub(crate) place: Place,
    /// How it stands if its holder is dead.
    pub(crate) if_dead: Inspection,
    /// The file, and its text.
    pub(crate) seen: Seen,
}

/// What a survey finds at a place.
#[allow(clippy::large_enum_variant, reason = "both are ordinary, and none is kept")]
pub(crate) enum Surveyed {
    Found(Place, Result<Inspection>),
    Suspect(Suspect),
}

impl<'a> Survey<'a> {
    pub(crate) fn new(options: &'a Options) -> Survey<'a> {
        let known = Known::default();
        Survey { options, locks: KernelLocks::read(), known, numbers: None, suspects: Vec::new(), notes_all: false }
    }

    /// For who can prove a suspect's death by other means: each is told of.
    pub(crate) fn of_suspects(options: &'a Options) -> Survey<'a> {
        Survey { notes_all: true, ..Survey::new(options) }
    }

    /// How this one stands.
    pub(crate) fn look(&mut self, place: Place) -> Surveyed {
        let numbers = match &self.numbers {
            Some((folder, numbers)) if Arc::ptr_eq(folder, &place.folder) => *numbers,
            _ => self.numbers.insert((Arc::clone(&place.folder), kernel_numbers(&place))).1,
        };
        let mut view = View::new(&place, self.options, self.locks.as_ref(), &self.known, numbers);
        let suspect = Cell::new(None);
        view.doubt = Doubt::Note { suspect: &suspect, tries: !self.notes_all && !view.shows_deaths() };
        let found = match examine_once(&view) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                suspect.take();
                examine_after(view, None)
            }
            Err(error) => Err(error),
        };
        match (found, suspect.into_inner()) {
            (Ok(if_dead), Some(seen)) => Surveyed::Suspect(Suspect { place, if_dead, seen }),
            (found, _) => Surveyed::Found(place, found),
        }
    }

    /// Leaves this one for the end.
    pub(crate) fn put_off(&mut self, suspect: Suspect) {
        self.suspects.push(suspect);
    }

    /// Those that were left.
    pub(crate) fn rest(self) -> impl Iterator<Item = (Place, Result<Inspection>)> {
        let newer = if self.suspects.is_empty() { None } else { KernelLocks::read() };
        self.suspects.into_iter().map(move |Suspect { place, seen, .. }| {
            let view = View::new(&place, self.options, newer.as_ref(), &self.known, kernel_numbers(&place));
            let found = examine_after(view, Some(&seen));
            (place, found)
        })
    }
}

/// What to do about a record that says held, where the table at hand shows no lock.
#[derive(Clone, Copy)]
enum Doubt<'a> {
    /// Find out. The table at hand is newer than `before`, if that is what the record says.
    Resolve { before: Option<&'a Seen> },
    /// Take it for dead, and note what was seen; or try its kernel lock, where it has been so for a while.
    Note { suspect: &'a Cell<Option<Seen>>, tries: bool },
    /// Take it for alive: it changes all the time.
    Lives,
}

/// `None`: it changed hands meanwhile.
fn examine_once(view: &View<'_>) -> Result<Option<Inspection>> {
    let place = view.place;
    let mut inspection = view.free();
    let anchor = anchor_id(place);
    let mut queue = anchor.map_or(Some(Vec::new()), |id| view.queue(id));
    match presence::look(place) {
        Ok(Some(found)) => {
            let id = found.id;
            if !view.visible(&mut inspection, found)? {
                return Ok(None);
            }
            // In flock style a dead one's lock file is in nobody's way: who holds beside it has the anchor.
            let elsewhere = anchor.is_some_and(|own| own != id) && inspection.state == State::Stale;
            let beside = match if elsewhere { open_anchor(place)? } else { None } {
                Some((file, own)) => {
                    let mut beside = view.free();
                    if !view.hidden(&mut beside, &file, &own)? {
                        return Ok(None);
                    }
                    Some(beside).filter(|beside| beside.state == State::Held && beside.style == Style::Flock)
                }
                None => None,
            };
            if let Some(beside) = beside {
                inspection = beside;
                view.target(&mut inspection, &mut queue)?;
            } else if Some(id) != anchor {
                // The one native that waits at a foreign lock file has the anchor's kernel lock meanwhile.
                // A holder whose lock file is a copy has both kernel locks, and waits for nobody.
                let holders = view.holders(id);
                let at_front = anchor.map_or_else(Vec::new, |id| view.holders(id));
                let at_front = at_front.into_iter().filter(|waiter| !holders.contains(waiter));
                let at_front: Vec<i64> = at_front.map(|(pid, _)| pid).collect();
                queue = queue.zip(view.queue(id)).map(|(one, other)| [at_front, other, one].concat());
            }
        }
        Ok(None) => {
            if let Some((file, found)) = open_anchor(place)?
                && !view.hidden(&mut inspection, &file, &found)?
            {
                return Ok(None);
            }
            view.target(&mut inspection, &mut queue)?;
        }
        Err(error) if error.is_permission_denied() => {
            inspection.state = State::Unknown;
            let why = "the lock file may not be read by this user";
            inspection.holder = Some(holder_of(None, Liveness::unknown(why)));
        }
        Err(error) => return Err(error),
    }
    inspection.waiters = queue.as_ref().map(Vec::len);
    inspection.queue = queue.unwrap_or_default();
    Ok(Some(inspection))
}

/// `.tenure` may be something else altogether, or closed to this user: then it says nothing.
fn anchor_id(place: &Place) -> Option<FileId> {
    let found = place.dir.brief_at(&place.anchor).ok()??;
    (found.kind == FileKind::Regular).then_some(found.id)
}

fn open_anchor(place: &Place) -> Result<Option<(File, Brief)>> {
    // Looked at before it is opened: opening a device can do something to it.
    if anchor_id(place).is_none() {
        return Ok(None);
    }
    let failed = |error| place.anchor_error("cannot be read", error);
    match place.dir.open_at(&place.anchor, Access::Read) {
        Ok(file) => {
            let found = file.brief().map_err(failed)?;
            Ok((found.kind == FileKind::Regular).then_some((file, found)))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// How `/proc/locks` numbers the device of a place, and whether that table is complete for it.
#[derive(Clone, Copy)]
struct Numbers {
    device: (u32, u32),
    complete: bool,
}

fn kernel_numbers(place: &Place) -> Numbers {
    // Others see only their own processes' locks.
    let first_namespace = sys::pid_namespace() == Some(sys::FIRST_PID_NAMESPACE);
    let plain = matches!(&*place.file_system.name, "ext4" | "tmpfs" | "xfs" | "f2fs" | "vfat" | "exfat" | "ramfs");
    if plain {
        return Numbers { device: sys::device_numbers(place.dir_stat.id.device), complete: first_namespace };
    }
    // Elsewhere stat(2) may show a number of the file system's own; the table has the mount's.
    let mount = sys::mount_line(&place.dir).as_deref().and_then(mount_device);
    let device = mount.unwrap_or_else(|| sys::device_numbers(place.dir_stat.id.device));
    Numbers { device, complete: false }
}

#[derive(Clone, Copy)]
struct View<'a> {
    place: &'a Place,
    options: &'a Options,
    locks: Option<&'a KernelLocks>,
    known: &'a Known,
    numbers: Numbers,
    doubt: Doubt<'a>,
}

impl<'a> View<'a> {
    fn new(
        place: &'a Place,
        options: &'a Options,
        locks: Option<&'a KernelLocks>,
        known: &'a Known,
        numbers: Numbers,
    ) -> View<'a> {
        View { place, options, locks, known, numbers, doubt: Doubt::Resolve { before: None } }
    }

    fn free(&self) -> Inspection {
        Inspection::free(&self.place.target_path, &self.place.lock_path)
    }

    /// Does the table show each lock here that was held when it was read?
    fn shows_deaths(&self) -> bool {
        self.numbers.complete && self.locks.is_some_and(KernelLocks::is_whole)
    }

    fn look_at(&self, record: &Record) -> Look {
        record.pid.map_or(Look::Ask, |pid| self.known.look(pid))
    }

    fn queue(&self, id: FileId) -> Option<Vec<i64>> {
        self.locks.map(|locks| locks.waiters(id.inode, self.numbers.device))
    }

    fn holders(&self, id: FileId) -> Vec<(i64, bool)> {
        self.locks.map(|locks| locks.holders(id.inode, self.numbers.device)).unwrap_or_default()
    }

    /// Is the kernel lock held on this file, whose record `seen` says that it should be? `None`: the record is no
    /// longer what it was, or not there.
    fn is_locked(&self, file: &File, id: FileId, name: &Name, record: &Record, seen: &[u8]) -> Result<Option<bool>> {
        if !self.holders(id).is_empty() {
            return Ok(Some(true));
        }
        // That table may be older than the record: only a newer one may call a holder dead.
        let newer = match self.doubt {
            Doubt::Note { tries: true, .. }
                if has_settled(record.native.as_ref().and_then(|native| native.acquired_at)) =>
            {
                None
            }
            Doubt::Note { suspect, .. } => {
                suspect.set(Some((id, seen.to_owned())));
                return Ok(Some(false));
            }
            // One tenure's record before the table and after it, with its name: its holder had no lock in between.
            Doubt::Resolve { before: Some((before, text)) } if *before == id && text == seen => {
                if self.shows_deaths() {
                    return Ok(Some(false));
                }
                None
            }
            Doubt::Resolve { .. } | Doubt::Lives if self.numbers.complete => KernelLocks::read(),
            Doubt::Resolve { .. } | Doubt::Lives => None,
        };
        if newer.as_ref().is_some_and(|locks| !locks.holders(id.inode, self.numbers.device).is_empty()) {
            return Ok(Some(true));
        }
        let failed = |error| self.place.anchor_error("cannot be looked at", error);
        let same = || {
            let named = self.place.dir.brief_at(name)?.map(|found| found.id);
            Ok::<_, io::Error>(named == Some(id) && presence::reads(file, seen)?)
        };
        let changed = matches!(self.doubt, Doubt::Lives).then_some(true);
        if let Some(newer) = newer {
            if !same().map_err(failed)? {
                return Ok(changed);
            }
            if newer.is_whole() {
                return Ok(Some(false));
            }
        }
        let free = file.try_lock(LockKind::Shared).map_err(failed)?;
        // Compared after that: what was released before is not called dead.
        let same = same();
        if free {
            file.unlock().map_err(failed)?;
        }
        Ok(if same.map_err(failed)? { Some(!free) } else { changed })
    }

    /// A lock file is there. `false`: it changed hands while we looked.
    fn visible(&self, inspection: &mut Inspection, found: Found) -> Result<bool> {
        let native = match &found.content {
            Content::NotALock(what) => return Err(self.place.in_the_way(what)),
            Content::Record(record) if record.native.is_some() => Some(record),
            _ => None,
        };
        let Some(record) = native else {
            let id = found.id;
            let look = match &found.content {
                Content::Record(record) => self.look_at(record),
                _ => Look::Ask,
            };
            let judged = presence::judge_foreign(self.place, found, self.options, look);
            inspection.state = State::of(&judged.blocker.holder.liveness);
            inspection.reasons = judged.reasons;
            let gone = inspection
                .reasons
                .iter()
                .any(|reason| matches!(reason, Reason::DeadPid | Reason::RecycledPid | Reason::MissingPid));
            if gone && inspection.state == State::Held {
                inspection.open_by = but_us(sys::openers(id.device, id.inode));
            }
            inspection.holder = Some(judged.blocker.holder);
            return Ok(true);
        };
        inspection.style = style(record);
        let look = self.look_at(record);
        inspection.reasons = seed_reasons(record, self.options.stale_after, true, look);
        let liveness = match self.is_locked(&found.file, found.id, &self.place.lock, record, &found.text)? {
            None => return Ok(false),
            Some(true) => self.held(inspection, record, found.id, look),
            Some(false) if released(record) => {
                // Marked as released, because it could not be removed.
                inspection.reasons.clear();
                return Ok(true);
            }
            Some(false) => self.unlocked(record),
        };
        inspection.state = State::of(&liveness);
        inspection.holder = Some(holder_of(Some(record), liveness));
        Ok(true)
    }

    /// No lock file, but an anchor: flock style, or nobody. `false`: it changed hands while we looked.
    fn hidden(&self, inspection: &mut Inspection, file: &File, found: &Brief) -> Result<bool> {
        let id = found.id;
        let text =
            presence::read_text(file, found.size).map_err(|error| self.place.anchor_error("cannot be read", error))?;
        let Content::Record(record) = &record::read(&text) else { return Ok(true) };
        let mut holders = self.holders(id);
        // Who has the anchor and waits for the target holds nothing yet: `target` tells for whom.
        let waiting = self.waiting_for_the_target()?;
        let locked = !holders.is_empty();
        holders.retain(|(pid, _)| !waiting.contains(pid));
        if locked && holders.is_empty() {
            return Ok(true);
        }
        if holders.iter().any(|(_, shared)| *shared) {
            inspection.style = Style::Flock;
            inspection.state = State::Held;
            inspection.open_by = holders.iter().map(|(pid, _)| *pid).collect();
            return Ok(true);
        }
        let flock = style(record) == Style::Flock;
        let held = record.native.as_ref().is_some_and(|native| native.state == RecordState::Held);
        if !held {
            return Ok(true);
        }
        // In lock-file style a record without its lock file is nobody's, unless the kernel lock says otherwise
        // (somebody removed the lock file): not worth disturbing anyone for.
        let locked = match flock {
            true => self.is_locked(file, id, &self.place.anchor, record, &text)?,
            false => Some(!holders.is_empty()),
        };
        let Some(locked) = locked else { return Ok(false) };
        let look = self.look_at(record);
        let liveness = match (locked, flock) {
            (true, _) => self.held(inspection, record, id, look),
            (false, true) => self.unlocked(record),
            (false, false) => return Ok(true),
        };
        inspection.style = style(record);
        inspection.state = State::of(&liveness);
        inspection.reasons = seed_reasons(record, Options::default().stale_after, true, look);
        inspection.holder = Some(holder_of(Some(record), liveness));
        Ok(true)
    }

    /// Those in the kernel's queue at the target itself.
    fn waiting_for_the_target(&self) -> Result<Vec<i64>> {
        let found = self.place.dir.brief_at(&self.place.target);
        let found = found.map_err(|error| Error::io(&self.place.target_path, "the target cannot be read", error))?;
        Ok(found.and_then(|stat| self.queue(stat.id)).unwrap_or_default())
    }

    /// The target itself: waiters of flock style, and programs that know only `flock(2)`.
    fn target(&self, inspection: &mut Inspection, queue: &mut Option<Vec<i64>>) -> Result<()> {
        let found = self.place.dir.brief_at(&self.place.target);
        let Some(stat) =
            found.map_err(|error| Error::io(&self.place.target_path, "the target cannot be read", error))?
        else {
            return Ok(());
        };
        // Who waits for the target has the anchor already.
        *queue = queue.take().zip(self.queue(stat.id)).map(|(one, other)| [other, one].concat());
        let holders = self.holders(stat.id);
        let Some((pid, shared)) = holders.first().copied().filter(|_| inspection.state == State::Free) else {
            return Ok(());
        };
        inspection.style = Style::Flock;
        inspection.state = State::Held;
        inspection.open_by = holders.iter().map(|(pid, _)| *pid).collect();
        if !shared {
            inspection.holder = Some(Holder {
                kind: HolderKind::Foreign,
                identity: Identity::of(pid),
                command: u32::try_from(pid).ok().and_then(sys::command_line),
                ..holder_of(None, Liveness::alive("it has the kernel lock on the target itself"))
            });
        }
        Ok(())
    }

    /// The kernel lock is held: by the recorded process, or by one that inherited the descriptor.
    fn held(&self, inspection: &mut Inspection, record: &Record, id: FileId, look: Look) -> Liveness {
        let recorded = record.identity().filter(|identity| !matches!(look, Look::Lives(seen) if seen.is(identity)));
        if !recorded.is_some_and(|identity| identity.verify().is_dead()) {
            return Liveness::alive("it has the kernel lock");
        }
        inspection.open_by = but_us(sys::lock_keepers(id.device, id.inode));
        let why = match inspection.open_by.as_slice() {
            [] => "the recorded process has ended, but one that inherited its lock has it still".to_owned(),
            [one] => format!("the recorded process has ended, but pid {one} inherited its lock"),
            [one, more @ ..] => {
                format!("the recorded process has ended, but pid {one} and {} more inherited its lock", more.len())
            }
        };
        Liveness::alive(why)
    }

    /// The kernel lock is free, though the record says held.
    fn unlocked(&self, record: &Record) -> Liveness {
        match (presence::is_other_boot(record), self.place.file_system.shared) {
            (true, true) => Liveness::unknown(presence::unreachable_machine(self.place)),
            (true, false) => Liveness::dead("the machine was restarted"),
            (false, _) => Liveness::dead("its kernel lock is free"),
        }
    }
}

/// This process only looks at the file just now.
fn but_us(mut pids: Vec<i64>) -> Vec<i64> {
    let own = i64::from(sys::pid());
    pids.retain(|pid| *pid != own);
    pids
}

fn style(record: &Record) -> Style {
    match record.native.as_ref().map(|native| native.style) {
        Some(RecordStyle::Flock) => Style::Flock,
        _ => Style::LockFile,
    }
}

fn released(record: &Record) -> bool {
    record.native.as_ref().is_some_and(|native| native.state == RecordState::Released)
}

/// Where [`list_with`] looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions {
    recursive: bool,
    cross_file_systems: bool,
}

impl ListOptions {
    /// Below the folder too; links are not followed. Off by default.
    pub fn recursive(mut self, recursive: bool) -> ListOptions {
        self.recursive = recursive;
        self
    }

    /// Below the folder, on other file systems too. Off by default: one of them may be a server that does not answer.
    pub fn cross_file_systems(mut self, cross: bool) -> ListOptions {
        self.cross_file_systems = cross;
        self
    }
}

/// Every lock in `dir` that is held or left behind, sorted by path; below it too with `recursive`, without following
/// links or crossing to another file system. A missing folder is an empty answer. What is no lock is passed over.
///
/// # Errors
///
/// The system's own, where `dir` itself cannot be read. A folder below that cannot be read is passed over.
pub fn list(dir: impl AsRef<Path>, recursive: bool) -> Result<Vec<Inspection>> {
    list_with(dir, &ListOptions::default().recursive(recursive))
}

/// As [`list`], and where else to look.
///
/// # Errors
///
/// As there.
pub fn list_with(dir: impl AsRef<Path>, options: &ListOptions) -> Result<Vec<Inspection>> {
    if let Some(engine) = engine::open(dir.as_ref())? {
        // Names on a server have no folders: everything that is below is listed.
        let mut found = engine.list()?;
        found.sort_by(|one, other| one.target.cmp(&other.target));
        return Ok(found);
    }
    let depth = Depth::of(options.recursive, options.cross_file_systems);
    let options = Options::default();
    let mut survey = Survey::new(&options);
    let mut all = Vec::new();
    walk(dir.as_ref(), depth, &mut |visited| {
        if let Visited::Lock(place) = visited {
            match survey.look(place) {
                Surveyed::Found(_, found) => all.push(found),
                Surveyed::Suspect(suspect) => survey.put_off(suspect),
            }
        }
    })?;
    all.extend(survey.rest().map(|(_, found)| found));
    // What is no lock, or went away, or is closed to this user, is nothing to list.
    let mut found: Vec<_> = all.into_iter().flatten().filter(|found| found.state != State::Free).collect();
    found.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(found)
}

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The folder alone.
    Folder,
    /// Below it, on its own file system.
    FileSystem,
    /// Below it, wherever that is.
    All,
}

impl Depth {
    pub(crate) fn of(recursive: bool, cross_file_systems: bool) -> Depth {
        match (recursive, cross_file_systems) {
            (false, _) => Depth::Folder,
            (true, false) => Depth::FileSystem,
            (true, true) => Depth::All,
        }
    }
}

/// What a walk comes to.
#[allow(clippy::large_enum_variant, reason = "a place is the ordinary one, and none is kept")]
pub(crate) enum Visited<'a> {
    /// The place of a lock.
    Lock(Place),
    /// A `.tenure` in the making.
    HalfMade(&'a Dir, &'a Name),
}

/// Visits the place of every lock in a folder: of each lock file, and of each anchor that shows none. A missing folder
/// has none.
pub(crate) fn walk(dir: &Path, depth: Depth, visit: &mut dyn FnMut(Visited<'_>)) -> Result<()> {
    let failed = |error| Error::io(dir, "the folder cannot be read", error);
    let open = match Dir::open(dir) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let dir_stat = open.stat().map_err(failed)?;
    visit_folder(Arc::new(open), dir_stat, dir, depth, visit).map_err(failed)
}

fn visit_folder(
    dir: Arc<Dir>,
    dir_stat: Stat,
    path: &Path,
    depth: Depth,
    visit: &mut dyn FnMut(Visited<'_>),
) -> io::Result<()> {
    let mut targets = Vec::new();
    let mut folders = Vec::new();
    for (name, kind) in dir.entries()? {
        let text = name.as_os_str();
        let kind = match kind {
            FileKind::Unknown => dir.stat_at(&name).ok().flatten().map_or(FileKind::Unknown, |stat| stat.kind),
            known => known,
        };
        match kind {
            FileKind::Directory if text == OsStr::new(ANCHORS) => {
                // A folder of anchors that cannot be read hides only locks that show no lock file.
                let anchors = dir.open_dir(&name).and_then(|anchors| anchors.entries()).unwrap_or_default();
                targets.extend(
                    anchors.iter().filter_map(|(name, _)| target_of_anchor(name.as_os_str())).map(OsStr::to_owned),
                );
            }
            FileKind::Directory if anchor::is_unused_name(text) => visit(Visited::HalfMade(&dir, &name)),
            FileKind::Directory => folders.push(name),
            FileKind::Regular => targets.extend(target_of(text).map(OsStr::to_owned)),
            _ => {}
        }
    }
    targets.sort_unstable();
    targets.dedup();
    if !targets.is_empty() {
        let folder = Arc::new(Folder { file_system: dir.file_system(), dir: Arc::clone(&dir), dir_stat });
        for target in targets {
            if let Ok(place) = Place::within(&folder, path.join(&target), &target) {
                visit(Visited::Lock(place));
            }
        }
    }
    if depth != Depth::Folder {
        for name in folders {
            descend(&dir, &name, path, dir_stat, depth, visit);
        }
    }
    Ok(())
}

/// A folder below: left out where it cannot be read, or is on another file system.
fn descend(dir: &Dir, name: &Name, path: &Path, above: Stat, depth: Depth, visit: &mut dyn FnMut(Visited<'_>)) {
    let Ok(below) = dir.open_dir(name) else { return };
    let Ok(stat) = below.stat() else { return };
    if depth == Depth::All || stat.id.device == above.id.device {
        let _ = visit_folder(Arc::new(below), stat, &path.join(name.as_os_str()), depth, visit);
    }
}

/// On the simulated kernel nobody minds: there it counts what is tried.
const SETTLED: Duration = if cfg!(tenure_sim) { Duration::ZERO } else { Duration::from_millis(100) };

/// Is a tenure that began then none of many in a row? Whoever tries a kernel lock that passes from hand to hand may be in
/// the way of the next.
pub(crate) fn has_settled(acquired_at: Option<SystemTime>) -> bool {
    let age = acquired_at.and_then(|at| sys::now().duration_since(at).ok());
    age.is_some_and(|age| age >= SETTLED)
}

/// How long the anchor has been idle: since its record was written last.
pub(crate) fn idle_for(modified: SystemTime) -> Duration {
    sys::now().duration_since(modified).unwrap_or(Duration::ZERO)
}
