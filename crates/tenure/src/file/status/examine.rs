//! The status of one lock.

use crate::file::crash::is_other_boot;
use crate::file::lock_file::{self, ExistingLockFile};
use crate::file::paths::LockPaths;
use crate::file::prior::proves_use;
use crate::file::suspended;
use crate::model::error::{Error, Result};
use crate::model::holder::{Holder, HolderKind};
use crate::model::options::{Options, Style};
use crate::model::stale_reason::StaleReason;
use crate::model::status::{State, Status, SuspendedHolder};
use crate::process::{Identity, Known, Liveness, Look};
use crate::record::io::read_text;
use crate::record::{self, Content, Record, RecordState, RecordStyle};
use crate::sys::{self, File, FileId, FileIdent};

use super::view::{Doubt, Seen, View, anchor_id, kernel_numbers, open_anchor};

/// The maximum number of retries while the lock changes hands.
pub(crate) const MAX_RETRIES: usize = 20;

/// Returns the status of one lock.
pub(crate) fn examine(paths: &LockPaths, options: &Options) -> Result<Status> {
    let (locks, known) = (sys::lock_table(), Known::default());
    examine_after(View::new(paths, options, locks.as_ref(), &known, kernel_numbers(paths)), None)
}

/// As [`examine`], where the view's table is known to be newer than `before`.
pub(crate) fn examine_after<'a>(mut view: View<'a>, before: Option<&'a Seen>) -> Result<Status> {
    view.doubt = Doubt::Resolve { before };
    for _ in 0..MAX_RETRIES {
        if let Some(found) = examine_once(&view)? {
            return Ok(found);
        }
    }
    // The lock changes hands all the time, so the last holder that was seen lived.
    view.doubt = Doubt::AssumeAlive;
    Ok(examine_once(&view)?.unwrap_or_else(|| view.free()))
}

/// Examines the lock once. Returns `None` if it changed hands meanwhile.
pub(crate) fn examine_once(view: &View<'_>) -> Result<Option<Status>> {
    let paths = view.paths;
    let mut status = view.free();
    let anchor = anchor_id(paths);
    let mut queue = anchor.map_or(Some(Vec::new()), |id| view.queue(id));
    let existing = match view.listed {
        true => lock_file::read_listed(paths),
        false => lock_file::read_existing(paths),
    };
    match existing {
        Ok(Some(found)) => {
            let id = found.id;
            if !view.examine_lock_file(&mut status, found, anchor.is_some())? {
                return Ok(None);
            }
            // In flock style a dead holder's lock file does not block: a process that holds beside it has the anchor.
            let elsewhere = anchor.is_some_and(|own| own != id) && status.state == State::Stale;
            let beside = match if elsewhere { open_anchor(paths)? } else { None } {
                Some((file, own)) => {
                    let mut beside = view.free();
                    if !view.examine_anchor(&mut beside, &file, &own)? {
                        return Ok(None);
                    }
                    Some(beside).filter(|beside| beside.state == State::Held && beside.style == Style::Flock)
                }
                None => None,
            };
            if let Some(beside) = beside {
                status = beside;
                view.examine_target(&mut status, &mut queue)?;
            } else if Some(id) != anchor {
                // Natives that wait for a foreign holder's events are in no queue, but have marked the anchor. A native
                // that has the anchor's kernel lock is just examining the lock file. A holder whose lock file is a copy
                // has both kernel locks, and waits for no process.
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
                && !view.examine_anchor(&mut status, &file, &found)?
            {
                return Ok(None);
            }
            view.examine_target(&mut status, &mut queue)?;
        }
        Err(error) if error.is_permission_denied() => {
            status.state = State::Unknown;
            let why = "the lock file may not be read by this user";
            status.holder = Some(Holder::from_record(None, Liveness::unknown(why)));
        }
        Err(error) => return Err(error),
    }
    status.waiters = queue.as_ref().map(Vec::len);
    status.queue = queue.unwrap_or_default();
    Ok(Some(status))
}

impl View<'_> {
    /// Examines an existing lock file. Returns `false` if it changed hands meanwhile.
    fn examine_lock_file(&self, status: &mut Status, found: ExistingLockFile, has_anchor: bool) -> Result<bool> {
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
            let used_before = found.text.is_empty() && has_anchor && self.used_before();
            let judged = lock_file::judge_foreign(self.paths, found, self.options, look, used_before, &flocked);
            status.state = State::of(&judged.blocker.holder.liveness);
            status.reasons = judged.reasons;
            let no_live_pid = status.reasons.iter().any(|reason| {
                matches!(reason, StaleReason::DeadPid | StaleReason::RecycledPid | StaleReason::MissingPid)
            });
            if no_live_pid && status.state == State::Held {
                status.open_by = except_self(sys::openers(id.device, id.inode));
            }
            status.holder = Some(judged.blocker.holder);
            if has_anchor {
                status.suspended = self.suspended_in_anchor();
            }
            return Ok(true);
        };
        status.style = style(record);
        status.suspended = self.suspended(record);
        let look = self.look_at(record);
        status.reasons = lock_file::openclaw_reasons(record, self.options.stale_after, true, look);
        let liveness = match self.is_locked(&found.file, found.id, &self.paths.lock, record, &found.text)? {
            None => return Ok(false),
            Some(true) => self.held_liveness(status, record, found.id, look),
            Some(false) if released(record) => {
                // The file is marked as released, because it could not be removed.
                status.reasons.clear();
                return Ok(true);
            }
            Some(false) => self.free_liveness(record),
        };
        status.state = State::of(&liveness);
        status.holder = Some(Holder::from_record(Some(record), liveness));
        Ok(true)
    }

    /// Returns the suspended tenures that a record names.
    fn suspended(&self, record: &Record) -> Vec<SuspendedHolder> {
        suspended::of_lock(self.paths, record).iter().map(SuspendedHolder::of).collect()
    }

    /// Returns the suspended tenures that the anchor names, where the lock file is a foreign program's.
    fn suspended_in_anchor(&self) -> Vec<SuspendedHolder> {
        let text = open_anchor(self.paths).ok().flatten().and_then(|(file, found)| read_text(&file, found.size).ok());
        match text.map(|text| record::read(&text)) {
            Some(Content::Record(record)) => self.suspended(&record),
            _ => Vec::new(),
        }
    }

    /// Returns whether the anchor proves that natives have used this lock. An unreadable anchor proves nothing.
    fn used_before(&self) -> bool {
        let text = open_anchor(self.paths).ok().flatten().and_then(|(file, found)| read_text(&file, found.size).ok());
        text.is_some_and(|text| proves_use(&text))
    }

    /// Examines the anchor where there is no lock file: the lock is free, or held in flock style. Returns `false` if it
    /// changed hands meanwhile.
    fn examine_anchor(&self, status: &mut Status, file: &File, found: &FileIdent) -> Result<bool> {
        let id = found.id;
        let text = read_text(file, found.size).map_err(|error| self.paths.anchor_error("cannot be read", error))?;
        let content = record::read(&text);
        let record = match &content {
            Content::Record(record) => Some(record),
            _ => None,
        };
        status.suspended = record.map(|record| self.suspended(record)).unwrap_or_default();
        let holders = self.holders(id);
        if holders.iter().any(|(_, shared)| *shared) {
            status.style = Style::Flock;
            status.state = State::Held;
            status.open_by = holders.iter().map(|(pid, _)| *pid).collect();
            return Ok(true);
        }
        if let Some((pid, _)) = holders.first()
            && !record.is_some_and(|record| is_of_holder(record, *pid))
        {
            return Ok(self.between_tenures(status, id, *pid));
        }
        let Some(record) = record.filter(|record| is_held(record)) else { return Ok(true) };
        let flock = style(record) == Style::Flock;
        // In lock-file style a record without its lock file is of a released tenure, unless the kernel lock shows
        // otherwise, because the lock file was removed. Trying that lock would disturb other processes for little.
        let locked = match flock {
            true => self.is_locked(file, id, &self.paths.anchor, record, &text)?,
            false => Some(!holders.is_empty()),
        };
        let Some(locked) = locked else { return Ok(false) };
        let look = self.look_at(record);
        let liveness = match (locked, flock) {
            (true, _) => self.held_liveness(status, record, id, look),
            (false, true) => self.free_liveness(record),
            (false, false) => return Ok(true),
        };
        status.style = style(record);
        status.state = State::of(&liveness);
        status.reasons = lock_file::openclaw_reasons(record, Options::default().stale_after, true, look);
        status.holder = Some(Holder::from_record(Some(record), liveness));
        Ok(true)
    }

    /// Examines process `pid`, which has the anchor's kernel lock although no record says that it holds: it is in an
    /// acquire, or at the end of a release. That takes a few system calls, unless the process is stopped. Returns
    /// `false` if it may be over, so that the caller examines again.
    fn between_tenures(&self, status: &mut Status, anchor: FileId, pid: i64) -> bool {
        if !matches!(self.doubt, Doubt::AssumeAlive) {
            return false;
        }
        // The table at hand may be older than all the examinations.
        let newer = sys::lock_table();
        let still = newer.is_some_and(|locks| {
            locks.holders(anchor.inode, self.numbers.device).iter().any(|(holder, _)| *holder == pid)
        });
        if still {
            status.state = State::Held;
            status.holder = Some(Holder {
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

    /// Examines the target itself, for waiters in flock style and for programs that only know `flock(2)`.
    fn examine_target(&self, status: &mut Status, queue: &mut Option<Vec<i64>>) -> Result<()> {
        let found = self.paths.dir.ident_at(&self.paths.target);
        let Some(stat) =
            found.map_err(|error| Error::io(&self.paths.target_path, "the target cannot be read", error))?
        else {
            return Ok(());
        };
        // Natives wait for the target without the anchor's lock.
        *queue = queue.take().zip(self.queue(stat.id)).map(|(one, other)| [other, one].concat());
        let holders = self.holders(stat.id);
        let Some((pid, shared)) = holders.first().copied().filter(|_| status.state == State::Free) else {
            return Ok(());
        };
        status.style = Style::Flock;
        status.state = State::Held;
        status.open_by = holders.iter().map(|(pid, _)| *pid).collect();
        if !shared {
            status.holder = Some(Holder {
                kind: HolderKind::Foreign,
                identity: Identity::of(pid),
                command: u32::try_from(pid).ok().and_then(sys::command_line),
                ..Holder::from_record(None, Liveness::alive("it has the kernel lock on the target itself"))
            });
        }
        Ok(())
    }

    /// Returns the liveness of a holder whose kernel lock is held, by the recorded process or by one that inherited the
    /// descriptor.
    fn held_liveness(&self, status: &mut Status, record: &Record, id: FileId, look: Look) -> Liveness {
        let recorded = record.identity().filter(|identity| !matches!(look, Look::Lives(seen) if seen.is(identity)));
        if !recorded.is_some_and(|identity| identity.verify().is_dead()) {
            return Liveness::alive("it has the kernel lock");
        }
        status.open_by = except_self(sys::lock_keepers(id.device, id.inode));
        let why = match status.open_by.as_slice() {
            [] => "the recorded process has ended, but one that inherited its lock has it still".to_owned(),
            [one] => format!("the recorded process has ended, but pid {one} inherited its lock"),
            [one, more @ ..] => {
                format!("the recorded process has ended, but pid {one} and {} more inherited its lock", more.len())
            }
        };
        Liveness::alive(why)
    }

    /// Returns the liveness of a holder whose kernel lock is free although its record says `held`.
    fn free_liveness(&self, record: &Record) -> Liveness {
        match (is_other_boot(record), self.paths.file_system.shared) {
            (true, true) => Liveness::unknown(lock_file::unreachable_machine(self.paths)),
            (true, false) => Liveness::dead("the machine was restarted"),
            (false, _) => Liveness::dead("its kernel lock is free"),
        }
    }
}

fn is_held(record: &Record) -> bool {
    record.native.as_ref().is_some_and(|native| native.state == RecordState::Held)
}

/// Returns whether a record without a lock file is that of process `pid`, which has the anchor's kernel lock. The table
/// names the process that took the lock, also where only a child of it lives.
fn is_of_holder(record: &Record, pid: i64) -> bool {
    let elsewhere = record.native.as_ref().is_some_and(|native| native.pid_namespace != sys::pid_namespace());
    let others = || record.identity().is_none_or(|identity| identity.verify().is_dead());
    is_held(record) && (elsewhere || record.pid == Some(pid) || (style(record) == Style::Flock && !others()))
}

/// Removes this process from `pids`: it only reads the file just now.
pub(crate) fn except_self(mut pids: Vec<i64>) -> Vec<i64> {
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
