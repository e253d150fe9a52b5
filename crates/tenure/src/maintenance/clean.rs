//! Removes the files of dead holders, and breaks locks for operators.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::file::anchor::Anchor;
use crate::file::anchor_dir::{remove_abandoned_dir, restore_gitignore};
use crate::file::break_lock::{BREAK_PATIENCE, remove_foreign, replace_anchor};
use crate::file::crash::reports_crash;
use crate::file::history;
use crate::file::lock_file;
use crate::file::paths::{LockPaths, is_of_trial};
use crate::file::prepare::remove_abandoned;
use crate::file::prior::Prior;
use crate::file::reclaim;
use crate::file::status::{has_settled, idle_for};
use crate::file::wait_note;
use crate::maintenance::gate;
use crate::maintenance::scan::{Handled, PossiblyDead, Scan, Scanned};
use crate::maintenance::walk::{Depth, FoundLock};
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::options::{Options, Wait};
use crate::model::request::Request;
use crate::model::stale_reason::StaleReason;
use crate::model::status::{State, Status};
use crate::sys::{Access, FileKind, LeaseOutcome, LockKind};
use crate::wait::registry;

/// The age from which on a history is removed with its anchor, since its last line: a weekly job's must outlive a daily
/// clean-up.
const HISTORY_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The options of [`clean`](crate::clean()).
#[derive(Clone, Debug)]
pub struct CleanOptions {
    pub(crate) recursive: bool,
    pub(crate) cross_file_systems: bool,
    pub(crate) dry_run: bool,
    pub(crate) suffix: String,
    pub(crate) kept: Vec<StaleReason>,
    pub(crate) idle_anchor_age: Duration,
    pub(crate) malformed_grace: Duration,
    pub(crate) aged: bool,
}

impl Default for CleanOptions {
    fn default() -> CleanOptions {
        CleanOptions {
            recursive: false,
            cross_file_systems: false,
            dry_run: false,
            suffix: String::new(),
            kept: Vec::new(),
            idle_anchor_age: Duration::from_secs(24 * 3600),
            malformed_grace: Duration::from_secs(5),
            aged: false,
        }
    }
}

impl CleanOptions {
    /// Sets whether to clean the folders below, too, without following links. Off by default.
    pub fn recursive(mut self, recursive: bool) -> CleanOptions {
        self.recursive = recursive;
        self
    }

    /// Sets whether to clean folders below on other file systems. Off by default.
    pub fn cross_file_systems(mut self, cross: bool) -> CleanOptions {
        self.cross_file_systems = cross;
        self
    }

    /// Sets whether to report only, and remove nothing. Off by default.
    pub fn dry_run(mut self, dry_run: bool) -> CleanOptions {
        self.dry_run = dry_run;
        self
    }

    /// Restricts the cleaning to targets whose names end with `suffix`, such as `.jsonl`. All targets by default.
    pub fn suffix(mut self, suffix: impl Into<String>) -> CleanOptions {
        self.suffix = suffix.into();
        self
    }

    /// Keeps lock files that are stale for this reason. For example, [`StaleReason::OrphanSelfPid`] rests on the pid alone,
    /// and a process in another container may have the same pid.
    pub fn keep(mut self, reason: StaleReason) -> CleanOptions {
        self.kept.push(reason);
        self
    }

    /// Sets the age from which on anchors that no process has open are removed; a day by default. An anchor with a
    /// [history](crate::history()) stays until the history's last line is 30 days old, or as old as this.
    pub fn idle_anchor_age(mut self, age: Duration) -> CleanOptions {
        self.idle_anchor_age = age;
        self
    }

    /// Sets the minimum age of a lock file without a valid pid, as [`Options::malformed_grace`] does; 5 seconds by default.
    pub fn malformed_grace(mut self, grace: Duration) -> CleanOptions {
        self.malformed_grace = grace;
        self
    }

    /// Sets whether to remove lock files that name no process, once they are old and no process has them open. Off by
    /// default, because their age is the only evidence: `flock(1)`, git and scripts create empty lock files that they do
    /// not keep open. The age limit is [`Options::malformed_grace`], and for an empty file [`Options::stale_after`], unless
    /// natives have used that lock before.
    pub fn aged(mut self, aged: bool) -> CleanOptions {
        self.aged = aged;
        self
    }

    fn keeps(&self, found: &Status) -> bool {
        found.reasons.iter().any(|reason| self.kept.contains(reason))
    }

    fn is_wanted(&self, found: &FoundLock) -> bool {
        found.target.as_encoded_bytes().ends_with(self.suffix.as_bytes())
    }
}

/// The result of [`clean`](crate::clean()) for one lock.
#[derive(Debug)]
#[non_exhaustive]
pub struct Cleaned {
    /// The lock's status before.
    pub found: Status,
    /// Whether its files were removed. Always `false` in a dry run.
    pub removed: bool,
    /// Whether it was kept because only its age shows that it is stale. [`CleanOptions::aged`] removes it.
    pub only_aged: bool,
    /// The reason why the stale lock could not be removed.
    pub error: Option<Error>,
}

/// The result of [`clean`](crate::clean()).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CleanReport {
    /// Every lock that was found, sorted by path, including held ones, which stay.
    pub locks: Vec<Cleaned>,
    /// The number of idle anchors that were removed, or that would be without the dry run.
    pub pruned: usize,
}

/// Removes what dead holders left in `dir`, and prunes idle anchors.
pub(crate) fn clean(dir: &Path, options: &CleanOptions) -> Result<CleanReport> {
    let look = Options::default().malformed_grace(options.malformed_grace).create_parents(false);
    let depth = Depth::of(options.recursive, options.cross_file_systems);
    let scan = if options.dry_run { Scan::new(look) } else { Scan::of_possibly_dead(look) };
    let all = scan.run(
        dir,
        depth,
        |found| options.is_wanted(found),
        |dir, name| {
            if !options.dry_run {
                // A folder that cannot be removed now is left for the next call.
                let _ = remove_abandoned_dir(dir, name);
            }
        },
        |scan, scanned| match scanned {
            Scanned::Found(paths, found) => Handled::Done(tidy(paths, found, options, &scan.options)),
            Scanned::PossiblyDead(lock)
                if !options.dry_run
                    && !options.keeps(&lock.if_dead)
                    && gate::check(&lock.paths).is_ok()
                    && reclaim(&lock) =>
            {
                let cleaned = Cleaned { found: lock.if_dead, removed: true, only_aged: false, error: None };
                Handled::Done(Tidied::Lock(Box::new(cleaned)))
            }
            Scanned::PossiblyDead(lock) => Handled::Deferred(lock),
        },
        |scan, paths, found| tidy(paths, found, options, &scan.options),
    )?;
    let mut report = CleanReport::default();
    for tidied in all {
        match tidied {
            Tidied::Lock(lock) => report.locks.push(*lock),
            Tidied::Pruned => report.pruned += 1,
            Tidied::Nothing => {}
        }
    }
    report.locks.sort_by(|one, other| one.found.target.cmp(&other.found.target));
    Ok(report)
}

/// The result of cleaning one lock.
enum Tidied {
    Lock(Box<Cleaned>),
    Pruned,
    Nothing,
}

/// Removes a dead native's lock file without a takeover. Returns whether that was possible.
fn reclaim(lock: &PossiblyDead) -> bool {
    let (id, text) = &lock.seen;
    let acquired_at = lock.if_dead.holder.as_ref().and_then(|holder| holder.acquired_at);
    lock.if_dead.state == State::Stale && has_settled(acquired_at) && reclaim::reclaim(&lock.paths, *id, text)
}

/// Removes one lock if it is stale, or its anchor if that is idle.
fn tidy(paths: LockPaths, found: Result<Status>, options: &CleanOptions, look: &Options) -> Tidied {
    let Ok(found) = found else { return Tidied::Nothing };
    let tried = if options.dry_run { Ok(()) } else { gate::check(&paths) };
    if found.state == State::Free {
        // An anchor that cannot be removed now is left for the next call.
        let pruned = tried.is_ok() && prune(&paths, options).unwrap_or(false);
        return if pruned { Tidied::Pruned } else { Tidied::Nothing };
    }
    let only_aged = !options.aged && found.is_stale_by_age_alone();
    let goes = found.state == State::Stale && !only_aged && !options.dry_run && !options.keeps(&found);
    let (removed, error) = match goes {
        true => match tried.and_then(|()| remove(paths, &found, look)) {
            Ok(removed) => (removed, None),
            Err(error) => (false, Some(error)),
        },
        false => (false, None),
    };
    Tidied::Lock(Box::new(Cleaned { found, removed, only_aged, error }))
}

/// Removes a dead holder's lock file. Returns `false` if another process took it over first.
fn remove(paths: LockPaths, found: &Status, options: &Options) -> Result<bool> {
    if found.is_foreign() && reclaim::reclaim_foreign(&paths, options) {
        return Ok(true);
    }
    take_and_release(paths, options)
}

/// Takes over a dead holder's lock and releases it, which removes all of its files. Returns `false` if another process took
/// it over first.
fn take_and_release(paths: LockPaths, options: &Options) -> Result<bool> {
    let queue = registry::queue(&paths, false);
    let request = Arc::new(Request::new(options.clone(), false));
    match queue.acquire(request, Wait::Never) {
        Ok(tenure) => {
            let crashed = tenure.grant.previous.is_crashed();
            // No holder has repaired the data, so the next one must learn of the crash.
            tenure.discard_undelivered();
            queue.release(&tenure)?;
            Ok(crashed)
        }
        Err(error) if error.is_busy() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes an anchor that no process has open and that has been idle for long enough, under its kernel lock. It must have no
/// lock file and record no unreported crash. A process that opened it meanwhile finds that its path names another file,
/// and opens that.
fn prune(paths: &LockPaths, options: &CleanOptions) -> Result<bool> {
    let failed = |error| paths.anchor_error("cannot be pruned", error);
    let half_made = paths.dir.stat_at(&paths.new).map_err(failed)?;
    if !options.dry_run && half_made.is_some_and(|stat| stat.kind == FileKind::Regular) && remove_abandoned(paths)? {
        remove_folder(paths);
    }
    let Some(stat) = paths.dir.stat_at(&paths.anchor).map_err(failed)? else {
        return prune_history_alone(paths, options).map(|()| false);
    };
    if stat.kind != FileKind::Regular || idle_for(stat.modified) < options.idle_anchor_age {
        return Ok(false);
    }
    let file = paths.dir.open_at(&paths.anchor, Access::Read).map_err(failed)?;
    // Natives keep an anchor open for writing. Without leases that cannot be excluded, and the anchor stays.
    if file.read_lease() != LeaseOutcome::Granted || !file.try_lock(LockKind::Exclusive).map_err(failed)? {
        return Ok(false);
    }
    let anchor = Anchor::from_file(paths, file, true)?;
    let Some(stat) = anchor.current(paths)? else { return Ok(false) };
    let prior = Prior::read(&anchor, paths, &stat)?;
    if !options.dry_run {
        let look = Options::default().malformed_grace(options.malformed_grace);
        if lock_file::recover(paths, &anchor, &prior, &look)? {
            return Ok(false);
        }
    }
    // The next holder must learn of a crash that was not reported yet.
    let crash_unreported = prior.record().is_some_and(|record| reports_crash(&record));
    if crash_unreported || paths.lock_file_id()?.is_some() || !is_history_old(paths, options).map_err(failed)? {
        return Ok(false);
    }
    if !options.dry_run {
        // The anchor leads to the other files, so it goes last.
        history::remove(paths).map_err(failed)?;
        wait_note::remove_all_dead(paths);
        paths.remove_name(&paths.anchor, &anchor.file).map_err(failed)?;
        remove_folder(paths);
    }
    Ok(true)
}

/// Returns whether the lock has no history that is younger than [`HISTORY_AGE`], or than the age of idle anchors where that
/// is greater.
fn is_history_old(paths: &LockPaths, options: &CleanOptions) -> io::Result<bool> {
    Ok(history::idle_for(paths)?.is_none_or(|idle| idle >= options.idle_anchor_age.max(HISTORY_AGE)))
}

/// Removes an old history whose anchor was removed by a person.
fn prune_history_alone(paths: &LockPaths, options: &CleanOptions) -> Result<()> {
    let failed = |error| paths.anchor_error("cannot be pruned", error);
    if history::idle_for(paths).map_err(failed)?.is_some()
        && is_history_old(paths, options).map_err(failed)?
        && paths.lock_file_id()?.is_none()
        && !options.dry_run
    {
        history::remove(paths).map_err(failed)?;
        remove_folder(paths);
    }
    Ok(())
}

/// Removes `.tenure` if it contains nothing but its `.gitignore`. A process that creates an anchor at the same time recreates
/// the folder.
fn remove_folder(paths: &LockPaths) {
    let Ok(anchors) = paths.dir.open_dir(&paths.anchors) else { return };
    let Ok(entries) = anchors.entries() else { return };
    // A trial's answer is worth less than a folder without litter, and a process that is writing one goes on without it.
    if entries.iter().any(|(name, _)| name.as_os_str() != ".gitignore" && !is_of_trial(name.as_os_str())) {
        return;
    }
    for (name, _) in &entries {
        let _ = anchors.unlink(name);
    }
    if paths.dir.remove_dir(&paths.anchors).is_err() {
        restore_gitignore(&anchors);
    }
}

/// Breaks the lock whose status was `found`, whether or not its holder lives. `false` where another process was first.
pub(crate) fn break_lock(target: &Path, found: &Status) -> Result<bool> {
    let paths = LockPaths::open(target, false)?;
    gate::check(&paths)?;
    if found.state == State::Stale {
        return take_and_release(paths, &Options::default().create_parents(false));
    }
    if found.is_foreign_flock() {
        let detail = "a foreign program holds the target's kernel lock (flock), which cannot be taken away";
        let error = Error::new(ErrorKind::Unsupported, target, detail).with_holder(found.holder.clone());
        return Err(error.with_hint("end that program"));
    }
    let broken = match found.is_foreign() {
        true => remove_foreign(&paths, found),
        false => replace_anchor(&paths, found, BREAK_PATIENCE),
    };
    broken.map_err(|error| match error.is_permission_denied() {
        true => error.with_hint("run this as the user who owns the lock's files, or as root"),
        false => error,
    })?;
    Ok(true)
}
