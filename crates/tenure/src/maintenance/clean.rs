//! Removing what dead holders left, and an operator's break.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::file::anchor::Anchor;
use crate::file::anchor_dir::{remove_abandoned_dir, restore_gitignore};
use crate::file::break_lock::{remove_foreign, replace_anchor};
use crate::file::crash::reports_crash;
use crate::file::lock_file;
use crate::file::paths::LockPaths;
use crate::file::prepare::remove_abandoned;
use crate::file::prior::Prior;
use crate::file::reclaim;
use crate::file::status::{has_settled, idle_for};
use crate::maintenance::scan::{Looked, PossiblyDead, Scan, Scanned};
use crate::maintenance::walk::Depth;
use crate::model::error::{Error, ErrorKind, Result};
use crate::model::holder::HolderKind;
use crate::model::options::{Options, Style, Wait};
use crate::model::request::Request;
use crate::model::stale_reason::StaleReason;
use crate::model::status::{State, Status};
use crate::sys::{Access, FileKind, LeaseOutcome, LockKind};
use crate::wait::registry;

/// How [`clean`](crate::clean()) goes about it.
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
    /// Below the folder too; links are not followed. Off by default.
    pub fn recursive(mut self, recursive: bool) -> CleanOptions {
        self.recursive = recursive;
        self
    }

    /// Below the folder, on other file systems too. Off by default.
    pub fn cross_file_systems(mut self, cross: bool) -> CleanOptions {
        self.cross_file_systems = cross;
        self
    }

    /// Only report what would be removed. Off by default.
    pub fn dry_run(mut self, dry_run: bool) -> CleanOptions {
        self.dry_run = dry_run;
        self
    }

    /// Only targets whose names end so: `.jsonl`. All by default.
    pub fn suffix(mut self, suffix: impl Into<String>) -> CleanOptions {
        self.suffix = suffix.into();
        self
    }

    /// Lock files that are stale for this reason stay. [`StaleReason::OrphanSelfPid`]: the pid alone says that it is this
    /// process's, and a process in another container may have the same one.
    pub fn keep(mut self, reason: StaleReason) -> CleanOptions {
        self.kept.push(reason);
        self
    }

    /// Anchors that nobody has open are pruned from this age on; a day by default.
    pub fn idle_anchor_age(mut self, age: Duration) -> CleanOptions {
        self.idle_anchor_age = age;
        self
    }

    /// As [`Options::malformed_grace`](crate::Options::malformed_grace).
    pub fn malformed_grace(mut self, grace: Duration) -> CleanOptions {
        self.malformed_grace = grace;
        self
    }

    /// Also removes lock files that name no process, once they are old and nobody has them open. Off by default, because
    /// only their age speaks against them: `flock(1)`, git and scripts make empty lock files that they do not keep open.
    /// The age is that of [`Options::malformed_grace`](crate::Options::malformed_grace), and for a file of no bytes that
    /// of [`Options::stale_after`](crate::Options::stale_after), unless natives have used that lock before.
    pub fn aged(mut self, aged: bool) -> CleanOptions {
        self.aged = aged;
        self
    }

    fn keeps(&self, found: &Status) -> bool {
        found.reasons.iter().any(|reason| self.kept.contains(reason))
    }

    fn means(&self, paths: &LockPaths) -> bool {
        paths.target.as_os_str().as_encoded_bytes().ends_with(self.suffix.as_bytes())
    }
}

/// What [`clean`](crate::clean()) found at one lock.
#[derive(Debug)]
#[non_exhaustive]
pub struct Cleaned {
    /// How the lock stood.
    pub found: Status,
    /// Was it removed? In a dry run: `false`.
    pub removed: bool,
    /// It is stale by its age alone, and so was left: [`CleanOptions::aged`] removes it.
    pub only_aged: bool,
    /// Why it could not be removed although it is stale.
    pub error: Option<Error>,
}

/// Everything that [`clean`](crate::clean()) did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CleanReport {
    /// Every lock that was found, sorted by path: held ones too, which stay.
    pub locks: Vec<Cleaned>,
    /// How many idle anchors were pruned (would be, in a dry run).
    pub pruned: usize,
}

/// Removes what dead holders left in `dir`, and prunes idle anchors.
pub(crate) fn clean(dir: &Path, options: &CleanOptions) -> Result<CleanReport> {
    let look = Options::default().malformed_grace(options.malformed_grace).create_parents(false);
    let depth = Depth::of(options.recursive, options.cross_file_systems);
    let survey = if options.dry_run { Scan::new(look) } else { Scan::of_possibly_dead(look) };
    let (at_once, late) = (options.clone(), options.clone());
    let all = survey.of(
        dir,
        depth,
        |paths| options.means(paths),
        |dir, name| {
            if !options.dry_run {
                // As with what cannot be pruned: it waits for the next time.
                let _ = remove_abandoned_dir(dir, name);
            }
        },
        move |survey, surveyed| match surveyed {
            Scanned::Found(paths, found) => Looked::Done(tidy(paths, found, &at_once, &survey.options)),
            Scanned::PossiblyDead(suspect)
                if !at_once.dry_run && !at_once.keeps(&suspect.if_dead) && swept(&suspect) =>
            {
                let cleaned = Cleaned { found: suspect.if_dead, removed: true, only_aged: false, error: None };
                Looked::Done(Tidied::Lock(Box::new(cleaned)))
            }
            Scanned::PossiblyDead(suspect) => Looked::PutOff(suspect),
        },
        move |survey, paths, found| tidy(paths, found, &late, &survey.options),
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

/// What there was to do at one place.
enum Tidied {
    Lock(Box<Cleaned>),
    Pruned,
    Nothing,
}

/// Was what a dead native left removed in the short way?
fn swept(suspect: &PossiblyDead) -> bool {
    let (id, text) = &suspect.seen;
    let acquired_at = suspect.if_dead.holder.as_ref().and_then(|holder| holder.acquired_at);
    suspect.if_dead.state == State::Stale && has_settled(acquired_at) && reclaim::reclaim(&suspect.paths, *id, text)
}

/// Removes what is left at one place.
fn tidy(paths: LockPaths, found: Result<Status>, options: &CleanOptions, look: &Options) -> Tidied {
    let Ok(found) = found else { return Tidied::Nothing };
    if found.state == State::Free {
        // What cannot be pruned now costs nothing: it waits for the next time.
        return if prune(&paths, options).unwrap_or(false) { Tidied::Pruned } else { Tidied::Nothing };
    }
    let only_aged = !options.aged && is_nameless(&found) && found.state == State::Stale;
    let goes = found.state == State::Stale && !only_aged && !options.dry_run && !options.keeps(&found);
    let (removed, error) = match goes {
        true => match take_and_release(paths, look) {
            Ok(removed) => (removed, None),
            Err(error) => (false, Some(error)),
        },
        false => (false, None),
    };
    Tidied::Lock(Box::new(Cleaned { found, removed, only_aged, error }))
}

/// Is it a foreign lock file that names no process? Nothing but its age proves that its holder is dead.
fn is_nameless(found: &Status) -> bool {
    found.holder.as_ref().is_some_and(|holder| holder.kind == HolderKind::Foreign && holder.identity.is_none())
}

/// Takes a dead holder's lock over and lets it go: whatever it left goes with it. `false` where another was first.
fn take_and_release(paths: LockPaths, options: &Options) -> Result<bool> {
    let queue = registry::queue(&paths, false);
    let request = Arc::new(Request { options: options.clone(), shared: false });
    match queue.acquire(request, Wait::Never) {
        Ok(tenure) => {
            let crashed = tenure.grant.previous.is_crashed();
            // Nobody has repaired anything: the next holder is to hear of the crash.
            tenure.discard_undelivered();
            queue.release(&tenure)?;
            Ok(crashed)
        }
        Err(error) if error.is_busy() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes an anchor that shows no lock file, that nobody has open, that has been idle for long enough and that has no
/// crash to tell of, under its kernel lock. Whoever opened it meanwhile finds that its path names another file, and
/// opens that.
fn prune(paths: &LockPaths, options: &CleanOptions) -> Result<bool> {
    let failed = |error| paths.anchor_error("cannot be pruned", error);
    let half_made = paths.dir.stat_at(&paths.new).map_err(failed)?;
    if !options.dry_run && half_made.is_some_and(|stat| stat.kind == FileKind::Regular) && remove_abandoned(paths)? {
        remove_folder(paths);
    }
    let Some(stat) = paths.dir.stat_at(&paths.anchor).map_err(failed)? else { return Ok(false) };
    if stat.kind != FileKind::Regular || idle_for(stat.modified) < options.idle_anchor_age {
        return Ok(false);
    }
    let file = paths.dir.open_at(&paths.anchor, Access::Read).map_err(failed)?;
    // Natives keep it open for writing. Where leases are not to be had nobody can tell, and it stays.
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
    // The next holder is to hear of a crash that nobody was told of yet.
    let crash_unreported = prior.record().is_some_and(|record| reports_crash(&record));
    if crash_unreported || paths.lock_file_id()?.is_some() {
        return Ok(false);
    }
    if !options.dry_run {
        paths.dir.unlink(&paths.anchor).map_err(failed)?;
        remove_folder(paths);
    }
    Ok(true)
}

/// Removes `.tenure` once nothing but its `.gitignore` is left. Whoever makes an anchor at the same time makes the
/// folder again.
fn remove_folder(paths: &LockPaths) {
    let Ok(anchors) = paths.dir.open_dir(&paths.anchors) else { return };
    let Ok(entries) = anchors.entries() else { return };
    if entries.iter().any(|(name, _)| name.as_os_str() != ".gitignore") {
        return;
    }
    for (name, _) in &entries {
        let _ = anchors.unlink(name);
    }
    if paths.dir.remove_dir(&paths.anchors).is_err() {
        restore_gitignore(&anchors);
    }
}

/// Breaks the lock that stood as `found`, whether or not its holder lives. `false` where another process was first.
pub(crate) fn break_lock(target: &Path, found: &Status) -> Result<bool> {
    let paths = LockPaths::open(target, false)?;
    if found.state == State::Stale {
        return take_and_release(paths, &Options::default().create_parents(false));
    }
    let foreign = found.holder.as_ref().is_some_and(|holder| holder.kind == HolderKind::Foreign);
    match (foreign, found.style) {
        (true, Style::LockFile) => remove_foreign(&paths, found)?,
        (true, Style::Flock) => {
            let detail = "a program that knows only flock(2) has the target's kernel lock, which cannot be taken away";
            let error = Error::new(ErrorKind::Unsupported, target, detail).with_holder(found.holder.clone());
            return Err(error.with_hint("end that program"));
        }
        (false, _) => replace_anchor(&paths, found)?,
    }
    Ok(true)
}
