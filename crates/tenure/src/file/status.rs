//! How one lock stands, in view of a reading of the kernel's table.

use std::cell::Cell;
use std::io;
use std::time::{Duration, SystemTime};

use crate::file::anchor;
use crate::file::lock_file::{self, ExistingLockFile, seed_reasons};
use crate::file::paths::LockPaths;
use crate::model::error::{Error, Result};
use crate::model::holder::{Holder, HolderKind};
use crate::model::options::{Options, Style};
use crate::model::stale_reason::StaleReason;
use crate::model::status::{State, Status};
use crate::process::{Identity, Known, Liveness, Look};
use crate::record::{self, Content, Record, RecordState, RecordStyle};
use crate::sys::kernel_locks::{KernelLocks, mount_device};
use crate::sys::{self, Access, File, FileId, FileIdent, FileKind, LockKind, Name};

/// How often a lock that changes hands while we look is looked at again.
pub(crate) const LOOKS: usize = 20;

/// How one lock stands.
pub(crate) fn examine(paths: &LockPaths, options: &Options) -> Result<Status> {
    let (locks, known) = (KernelLocks::read(), Known::default());
    examine_after(View::new(paths, options, locks.as_ref(), &known, kernel_numbers(paths)), None)
}

/// As [`examine`], where the view's table is known to be newer than `before`.
pub(crate) fn examine_after<'a>(mut view: View<'a>, before: Option<&'a Seen>) -> Result<Status> {
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
pub(crate) type Seen = (FileId, Vec<u8>);

/// What to do about a record that says held, where the table at hand shows no lock.
#[derive(Clone, Copy)]
pub(crate) enum Doubt<'a> {
    /// Find out. The table at hand is newer than `before`, if that is what the record says.
    Resolve { before: Option<&'a Seen> },
    /// Take it for dead, and note what was seen; or try its kernel lock, where it has been so for a while.
    Note { suspect: &'a Cell<Option<Seen>>, tries: bool },
    /// Take it for alive: it changes all the time.
    Lives,
}

/// `None`: it changed hands meanwhile.
pub(crate) fn examine_once(view: &View<'_>) -> Result<Option<Status>> {
    let paths = view.paths;
    let mut inspection = view.free();
    let anchor = anchor_id(paths);
    let mut queue = anchor.map_or(Some(Vec::new()), |id| view.queue(id));
    match lock_file::look(paths) {
        Ok(Some(found)) => {
            let id = found.id;
            if !view.visible(&mut inspection, found)? {
                return Ok(None);
            }
            // In flock style a dead one's lock file is in nobody's way: who holds beside it has the anchor.
            let elsewhere = anchor.is_some_and(|own| own != id) && inspection.state == State::Stale;
            let beside = match if elsewhere { open_anchor(paths)? } else { None } {
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
                // Natives that wait for a foreign holder's events are in no queue, but have marked the anchor. One that has
                // the anchor's kernel lock looks at the lock file just now. A holder whose lock file is a copy has both
                // kernel locks, and waits for nobody.
                let holders: Vec<i64> = view.holders(id).into_iter().map(|(pid, _)| pid).collect();
                queue = queue.zip(view.queue(id)).map(|(one, other)| {
                    let mut all = [other, one].concat();
                    for pid in anchor.map_or_else(Vec::new, |id| view.outside_queues(id)) {
                        if !holders.contains(&pid) && !all.contains(&pid) {
                            all.push(pid);
                        }
                    }
                    all
                });
            }
        }
        Ok(None) => {
            if let Some((file, found)) = open_anchor(paths)?
                && !view.hidden(&mut inspection, &file, &found)?
            {
                return Ok(None);
            }
            view.target(&mut inspection, &mut queue)?;
        }
        Err(error) if error.is_permission_denied() => {
            inspection.state = State::Unknown;
            let why = "the lock file may not be read by this user";
            inspection.holder = Some(Holder::from_record(None, Liveness::unknown(why)));
        }
        Err(error) => return Err(error),
    }
    inspection.waiters = queue.as_ref().map(Vec::len);
    inspection.queue = queue.unwrap_or_default();
    Ok(Some(inspection))
}

/// `.tenure` may be something else altogether, or closed to this user: then it says nothing.
pub(crate) fn anchor_id(paths: &LockPaths) -> Option<FileId> {
    let found = paths.dir.ident_at(&paths.anchor).ok()??;
    (found.kind == FileKind::Regular).then_some(found.id)
}

pub(crate) fn open_anchor(paths: &LockPaths) -> Result<Option<(File, FileIdent)>> {
    // Looked at before it is opened: opening a device can do something to it.
    if anchor_id(paths).is_none() {
        return Ok(None);
    }
    let failed = |error| paths.anchor_error("cannot be read", error);
    match paths.dir.open_at(&paths.anchor, Access::Read) {
        Ok(file) => {
            let found = file.ident().map_err(failed)?;
            Ok((found.kind == FileKind::Regular).then_some((file, found)))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// How `/proc/locks` numbers the device of a place, and whether that table is complete for it.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    device: (u32, u32),
    complete: bool,
}

pub(crate) fn kernel_numbers(paths: &LockPaths) -> Numbers {
    // Others see only their own processes' locks.
    let first_namespace = sys::pid_namespace() == Some(sys::FIRST_PID_NAMESPACE);
    let plain = matches!(&*paths.file_system.name, "ext4" | "tmpfs" | "xfs" | "f2fs" | "vfat" | "exfat" | "ramfs");
    if plain {
        return Numbers { device: sys::device_numbers(paths.dir_stat.id.device), complete: first_namespace };
    }
    // Elsewhere stat(2) may show a number of the file system's own; the table has the mount's.
    let mount = sys::mount_line(&paths.dir).as_deref().and_then(mount_device);
    let device = mount.unwrap_or_else(|| sys::device_numbers(paths.dir_stat.id.device));
    Numbers { device, complete: false }
}

#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    paths: &'a LockPaths,
    options: &'a Options,
    locks: Option<&'a KernelLocks>,
    known: &'a Known,
    numbers: Numbers,
    pub(crate) doubt: Doubt<'a>,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        paths: &'a LockPaths,
        options: &'a Options,
        locks: Option<&'a KernelLocks>,
        known: &'a Known,
        numbers: Numbers,
    ) -> View<'a> {
        View { paths, options, locks, known, numbers, doubt: Doubt::Resolve { before: None } }
    }

    fn free(&self) -> Status {
        Status::free(&self.paths.target_path, &self.paths.lock_path)
    }

    /// Does the table show each lock here that was held when it was read?
    pub(crate) fn shows_deaths(&self) -> bool {
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

    /// Natives that wait for a foreign holder, and the one that looks at its lock file just now.
    fn outside_queues(&self, anchor: FileId) -> Vec<i64> {
        let looking = self.holders(anchor).into_iter().map(|(pid, _)| pid);
        let marked = self.locks.is_some_and(|locks| locks.is_marked(anchor.inode, self.numbers.device));
        let marked = if marked { sys::marked_waiters(anchor.device, anchor.inode) } else { Vec::new() };
        looking.chain(marked).collect()
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
        let failed = |error| self.paths.anchor_error("cannot be looked at", error);
        let same = || {
            let named = self.paths.dir.ident_at(name)?.map(|found| found.id);
            Ok::<_, io::Error>(named == Some(id) && lock_file::reads(file, seen)?)
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
    fn visible(&self, inspection: &mut Status, found: ExistingLockFile) -> Result<bool> {
        let native = match &found.content {
            Content::NotALock(what) => return Err(self.paths.obstructed(what)),
            Content::Record(record) if record.native.is_some() => Some(record),
            _ => None,
        };
        let Some(record) = native else {
            let id = found.id;
            let look = match &found.content {
                Content::Record(record) => self.look_at(record),
                _ => Look::Ask,
            };
            let flocked = |_: &File| !self.holders(id).is_empty();
            let used_before = found.text.is_empty() && self.used_before();
            let judged = lock_file::judge_foreign(self.paths, found, self.options, look, used_before, &flocked);
            inspection.state = State::of(&judged.blocker.holder.liveness);
            inspection.reasons = judged.reasons;
            let gone = inspection.reasons.iter().any(|reason| {
                matches!(reason, StaleReason::DeadPid | StaleReason::RecycledPid | StaleReason::MissingPid)
            });
            if gone && inspection.state == State::Held {
                inspection.open_by = but_us(sys::openers(id.device, id.inode));
            }
            inspection.holder = Some(judged.blocker.holder);
            return Ok(true);
        };
        inspection.style = style(record);
        let look = self.look_at(record);
        inspection.reasons = seed_reasons(record, self.options.stale_after, true, look);
        let liveness = match self.is_locked(&found.file, found.id, &self.paths.lock, record, &found.text)? {
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
        inspection.holder = Some(Holder::from_record(Some(record), liveness));
        Ok(true)
    }

    /// Does the anchor prove that natives have used this lock? What cannot be read proves nothing.
    fn used_before(&self) -> bool {
        let text = open_anchor(self.paths)
            .ok()
            .flatten()
            .and_then(|(file, found)| lock_file::read_text(&file, found.size).ok());
        text.is_some_and(|text| anchor::proves_use(&text))
    }

    /// No lock file, but an anchor: flock style, or nobody. `false`: it changed hands while we looked.
    fn hidden(&self, inspection: &mut Status, file: &File, found: &FileIdent) -> Result<bool> {
        let id = found.id;
        let text =
            lock_file::read_text(file, found.size).map_err(|error| self.paths.anchor_error("cannot be read", error))?;
        let content = record::read(&text);
        let holders = self.holders(id);
        if holders.iter().any(|(_, shared)| *shared) {
            inspection.style = Style::Flock;
            inspection.state = State::Held;
            inspection.open_by = holders.iter().map(|(pid, _)| *pid).collect();
            return Ok(true);
        }
        let record = match &content {
            Content::Record(record) => Some(record),
            _ => None,
        };
        if let Some((pid, _)) = holders.first()
            && !record.is_some_and(|record| is_of_holder(record, *pid))
        {
            return Ok(self.between_tenures(inspection, id, *pid));
        }
        let Some(record) = record.filter(|record| is_held(record)) else { return Ok(true) };
        let flock = style(record) == Style::Flock;
        // In lock-file style a record without its lock file is nobody's, unless the kernel lock says otherwise
        // (somebody removed the lock file): not worth disturbing anyone for.
        let locked = match flock {
            true => self.is_locked(file, id, &self.paths.anchor, record, &text)?,
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
        inspection.holder = Some(Holder::from_record(Some(record), liveness));
        Ok(true)
    }

    /// Process `pid` has the anchor's kernel lock, but no record says that it holds: it is at an acquire, or at the end of
    /// a release. That takes some system calls, unless the process is stopped. `false`: it may be over, so look again.
    fn between_tenures(&self, inspection: &mut Status, anchor: FileId, pid: i64) -> bool {
        if !matches!(self.doubt, Doubt::Lives) {
            return false;
        }
        // The table at hand may be older than all the looks.
        let newer = KernelLocks::read();
        let still = newer.is_some_and(|locks| {
            locks.holders(anchor.inode, self.numbers.device).iter().any(|(holder, _)| *holder == pid)
        });
        if still {
            inspection.state = State::Held;
            inspection.holder = Some(Holder {
                kind: HolderKind::Native,
                identity: Identity::of(pid),
                command: u32::try_from(pid).ok().and_then(sys::command_line),
                ..Holder::from_record(
                    None,
                    Liveness::alive("it has the kernel lock, in the middle of an acquire or a release"),
                )
            });
        }
        true
    }

    /// The target itself: waiters of flock style, and programs that know only `flock(2)`.
    fn target(&self, inspection: &mut Status, queue: &mut Option<Vec<i64>>) -> Result<()> {
        let found = self.paths.dir.ident_at(&self.paths.target);
        let Some(stat) =
            found.map_err(|error| Error::io(&self.paths.target_path, "the target cannot be read", error))?
        else {
            return Ok(());
        };
        // Natives wait for the target without the anchor's lock.
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
                ..Holder::from_record(None, Liveness::alive("it has the kernel lock on the target itself"))
            });
        }
        Ok(())
    }

    /// The kernel lock is held: by the recorded process, or by one that inherited the descriptor.
    fn held(&self, inspection: &mut Status, record: &Record, id: FileId, look: Look) -> Liveness {
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
        match (lock_file::is_other_boot(record), self.paths.file_system.shared) {
            (true, true) => Liveness::unknown(lock_file::unreachable_machine(self.paths)),
            (true, false) => Liveness::dead("the machine was restarted"),
            (false, _) => Liveness::dead("its kernel lock is free"),
        }
    }
}

fn is_held(record: &Record) -> bool {
    record.native.as_ref().is_some_and(|native| native.state == RecordState::Held)
}

/// Does the record, beside which there is no lock file, speak of process `pid`, which has the anchor's kernel lock? The table
/// names the process that took the lock, also where only a child of it lives.
fn is_of_holder(record: &Record, pid: i64) -> bool {
    let elsewhere = record.native.as_ref().is_some_and(|native| native.pid_namespace != sys::pid_namespace());
    let others = || record.identity().is_none_or(|identity| identity.verify().is_dead());
    is_held(record) && (elsewhere || record.pid == Some(pid) || (style(record) == Style::Flock && !others()))
}

/// This process only looks at the file just now.
pub(crate) fn but_us(mut pids: Vec<i64>) -> Vec<i64> {
    let own = i64::from(sys::pid());
    pids.retain(|pid| *pid != own);
    pids
}

pub(crate) fn style(record: &Record) -> Style {
    match record.native.as_ref().map(|native| native.style) {
        Some(RecordStyle::Flock) => Style::Flock,
        _ => Style::LockFile,
    }
}

pub(crate) fn released(record: &Record) -> bool {
    record.native.as_ref().is_some_and(|native| native.state == RecordState::Released)
}

/// Is a tenure that began then none of many in a row? Whoever tries a kernel lock that passes from hand to hand may be in
/// the way of the next.
pub(crate) fn has_settled(acquired_at: Option<SystemTime>) -> bool {
    let age = acquired_at.and_then(|at| sys::now().duration_since(at).ok());
    age.is_some_and(|age| age >= sys::SETTLED_AGE)
}

/// How long the anchor has been idle: since its record was written last.
pub(crate) fn idle_for(modified: SystemTime) -> Duration {
    sys::now().duration_since(modified).unwrap_or(Duration::ZERO)
}

/// Who holds now, for an error that says so.
///
/// The kernel's table tells more, but to read it stops every `flock(2)` of the machine meanwhile. So the record is asked
/// first, and the table only where it names no native that holds and lives.
pub(crate) fn holder_now(paths: &LockPaths) -> Option<Holder> {
    if let Some(record) = &record_now(paths)
        && record.native.as_ref().is_some_and(|native| native.state == RecordState::Held)
        && record.identity().is_some_and(|identity| identity.verify().is_alive())
    {
        // We were refused the kernel lock, and it was written under that lock.
        return Some(Holder::from_record(Some(record), Liveness::alive("it has the kernel lock")));
    }
    examine(paths, &Options::default()).ok()?.holder
}

/// The record that stands at the lock file's place, or on the anchor where nothing does. In lock-file style a record
/// without its lock file is of a tenure that has been released, and says nothing of who holds now.
pub(crate) fn record_now(paths: &LockPaths) -> Option<Record> {
    let content = match lock_file::look(paths).ok()? {
        Some(found) => return as_record(found.content),
        None => open_anchor(paths).ok()?.and_then(|(file, _)| lock_file::read_stable(&file).ok())?,
    };
    as_record(content).filter(|record| style(record) == Style::Flock)
}

fn as_record(content: Content) -> Option<Record> {
    match content {
        Content::Record(record) => Some(record),
        _ => None,
    }
}
