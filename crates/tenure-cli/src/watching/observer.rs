//! Looks at the locks of a folder whenever its file system reports a change of their files, and slowly besides.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tenure::{ErrorKind, Holder, HolderKind, State, Status, server};

use super::event::{Event, EventKind};
use super::folders::walk_folders;
use super::lock::{Notes, WatchedLock};
use crate::options::WalkOptions;
use crate::output::{Failure, describe, exit};
use crate::sys::{Entry, EntryChange, FolderWatch, Notice, Part, WakeUps};

/// The shortest interval between two looks at all locks that no event asked for. They notice what changes no file: waiters,
/// and kernel locks that no holder recorded.
const TICK: Duration = Duration::from_secs(1);
/// Such looks take at most this part of the time.
const TICK_SHARE: u32 = 20;
/// The intervals of the looks after a change: a holder removes its lock file a little before it unlocks, and the kernel
/// reports the end of a process before it drops its locks.
const FIRST_AGAIN: Duration = Duration::from_millis(1);
const LAST_AGAIN: Duration = Duration::from_millis(256);
/// The bounds of the pause after a look, in which events are collected.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How often a look is repeated at those locks that changed meanwhile.
const ROUNDS: usize = 4;
/// The largest number of processes whose end is awaited. Each takes a descriptor. The ends of others are noticed by a look.
const MOST_PROCESSES: usize = 128;

/// A watch on the locks of a folder.
pub(crate) struct Observer {
    dir: Arc<Path>,
    walk: WalkOptions,
    watch: FolderWatch,
    locks: BTreeMap<PathBuf, WatchedLock>,
    /// What happened to locks that no look has found yet.
    new: BTreeMap<PathBuf, Notes>,
    /// Locks to look at now.
    due: BTreeSet<PathBuf>,
    /// All locks are to be looked at now.
    all_due: bool,
    /// Locks to look at again, when, and the interval after that.
    again: BTreeSet<PathBuf>,
    again_at: Instant,
    again_pause: Duration,
    next_tick: Instant,
    /// Until when events are only collected.
    pause_until: Instant,
    /// The folder existed at the last look.
    exists: bool,
    /// Events that are about no lock.
    own_events: Vec<Event>,
}

/// What ended a wait, beside changes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Woken {
    #[cfg_attr(not(all(feature = "top", target_os = "linux")), allow(dead_code, reason = "only `top` uses it"))]
    pub(crate) input: bool,
    pub(crate) output_closed: bool,
}

impl Observer {
    /// Begins to watch, and returns the state of each lock as the first events. `command` names the subcommand for errors.
    pub(crate) fn begin(command: &str, dir: &Path, walk: WalkOptions) -> Result<(Observer, Vec<Event>), Failure> {
        if server::scheme(dir)?.is_some() {
            let name = describe::path(dir);
            let message = format!(
                "{name}: `tenure {command}` watches folders, and not servers; `tenure ls {name}` lists a server's locks"
            );
            return Err(Failure::new(exit::UNAVAILABLE, message));
        }
        let watch = FolderWatch::new().map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => {
                let message = format!("`tenure {command}`: {error}; `tenure ls` and `tenure metrics` work here");
                Failure::new(exit::UNAVAILABLE, message)
            }
            _ => Failure::new(
                exit::UNAVAILABLE,
                format!("inotify: {error}; the limit of watching programs is fs.inotify.max_user_instances (sysctl)"),
            ),
        })?;
        let now = Instant::now();
        let mut observer = Observer {
            dir: dir.into(),
            walk,
            watch,
            locks: BTreeMap::new(),
            new: BTreeMap::new(),
            due: BTreeSet::new(),
            all_due: false,
            again: BTreeSet::new(),
            again_at: now,
            again_pause: FIRST_AGAIN,
            next_tick: now,
            pause_until: now,
            exists: true,
            own_events: Vec::new(),
        };
        observer.watch_folders()?;
        observer.own_events.clear();
        let mut events = Vec::new();
        for status in observer.list()? {
            let target = status.target.clone();
            let (lock, event) = WatchedLock::begin(status, now);
            observer.locks.insert(target, lock);
            events.push(event);
        }
        events.push(Event::new(EventKind::Watching, None));
        observer.after_look(now, true);
        Ok((observer, events))
    }

    /// Returns the locks that are held or stale, or that processes wait for, sorted by target.
    #[cfg_attr(not(all(feature = "top", target_os = "linux")), allow(dead_code, reason = "only `top` uses it"))]
    pub(crate) fn locks(&self) -> impl Iterator<Item = &WatchedLock> {
        self.locks.values().filter(|lock| lock.status.state != State::Free)
    }

    /// Returns whether the folder existed at the last look.
    #[cfg_attr(not(all(feature = "top", target_os = "linux")), allow(dead_code, reason = "only `top` uses it"))]
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// Waits until something happens, at most until the next slow look and for `limit`, and returns what has happened.
    pub(crate) fn wait(&mut self, wake_ups: WakeUps, limit: Duration) -> Result<(Vec<Event>, Woken), Failure> {
        // Keys and signals may wait as long, too.
        thread::sleep(self.pause_until.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        let mut until = self.next_tick;
        if !self.again.is_empty() {
            until = until.min(self.again_at);
        }
        let timeout = if self.all_due || !self.due.is_empty() { now } else { until }.saturating_duration_since(now);
        let notices = self.watch.wait(timeout.min(limit), wake_ups).map_err(|error| Failure::io("poll", &error))?;
        let woken =
            Woken { input: notices.contains(&Notice::Input), output_closed: notices.contains(&Notice::OutputClosed) };
        self.note(notices);
        let now = Instant::now();
        self.all_due |= now >= self.next_tick;
        if !self.again.is_empty() && now >= self.again_at {
            self.due.extend(self.again.iter().cloned());
            self.again_pause *= 4;
            self.again_at = now + self.again_pause;
            if self.again_pause > LAST_AGAIN {
                self.again.clear();
            }
        }
        let mut events = std::mem::take(&mut self.own_events);
        if self.all_due || !self.due.is_empty() {
            events.extend(self.look()?);
        }
        Ok((events, woken))
    }

    /// Notes which locks the changes are about.
    fn note(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Entry(entry) => self.note_entry(&entry),
                Notice::Gone(_) => self.all_due = true,
                Notice::Overflow => {
                    self.all_due = true;
                    self.locks.values_mut().for_each(|lock| lock.blind = true);
                    self.own_events.push(Event::new(EventKind::Overflow, None));
                }
                Notice::Ended(pid) => {
                    let is_of = |lock: &WatchedLock| holder_pid(&lock.status) == Some(pid);
                    let held = self.locks.iter().filter(|(_, lock)| is_of(lock)).map(|(target, _)| target.clone());
                    self.look_again(held.collect::<Vec<_>>());
                }
                Notice::Note | Notice::Input | Notice::OutputClosed => {}
            }
        }
    }

    fn note_entry(&mut self, entry: &Entry) {
        if entry.is_folder {
            self.all_due |= self.walk.recursive || (entry.part == Part::Folder && entry.name == ".tenure");
            return;
        }
        let Some((name, is_swap)) = lock_of(entry) else {
            // Flock style locks the target itself.
            let target = entry.folder.join(&entry.name);
            if self.locks.contains_key(&target) {
                self.look_again([target]);
            }
            return;
        };
        let target = entry.folder.join(name);
        let notes = match self.locks.get_mut(&target) {
            Some(lock) => &mut lock.notes,
            None => self.new.entry(target.clone()).or_default(),
        };
        if !is_swap {
            notes.note(entry.part, entry.what);
        }
        self.look_again([target]);
    }

    /// Looks at these locks now, and again a few times soon.
    fn look_again(&mut self, targets: impl IntoIterator<Item = PathBuf>) {
        for target in targets {
            self.again.insert(target.clone());
            self.due.insert(target);
        }
        self.again_pause = FIRST_AGAIN;
        self.again_at = Instant::now() + FIRST_AGAIN;
    }

    /// Looks at the locks that are due, and returns what has happened to each.
    fn look(&mut self) -> Result<Vec<Event>, Failure> {
        let began = Instant::now();
        let looks_at_all = std::mem::take(&mut self.all_due);
        let mut found: BTreeMap<PathBuf, Status> = BTreeMap::new();
        if looks_at_all {
            self.watch_folders()?;
            found.extend(self.list()?.into_iter().map(|status| (status.target.clone(), status)));
            // Locks that are not listed are free, or cannot be read.
            let known = self.locks.keys().chain(self.new.keys()).filter(|target| !found.contains_key(*target));
            self.due = known.cloned().collect();
        }
        let (mut uncertain, mut lost_sight) = (BTreeSet::new(), BTreeSet::new());
        for round in 0..ROUNDS {
            for target in std::mem::take(&mut self.due) {
                match tenure::status(&target) {
                    Ok(status) => _ = found.insert(target, status),
                    // A known lock whose files cannot be read any more. Lists pass over it, too.
                    Err(error) if unreadable(&error) && self.locks.contains_key(&target) => {
                        let free = as_free(&self.locks[&target].status);
                        lost_sight.insert(target.clone());
                        found.insert(target, free);
                    }
                    // A file that is no lock, or may not be read, is passed over.
                    Err(_) => _ = self.new.remove(&target),
                }
            }
            // What these looks have seen may be newer than the notes. The kernel reports a change before the system call
            // that makes it ends, so the notes of all that was seen have arrived by now.
            let notices =
                self.watch.wait(Duration::ZERO, WakeUps::default()).map_err(|error| Failure::io("poll", &error))?;
            self.note(notices);
            if round + 1 == ROUNDS {
                uncertain.clone_from(&self.due);
            } else if self.due.is_empty() {
                break;
            }
        }
        let own = std::mem::take(&mut self.own_events);
        let (last, mut events): (Vec<Event>, Vec<Event>) =
            own.into_iter().partition(|event| event.kind == EventKind::FolderRemoved);
        for (target, status) in found {
            let is_certain = !self.all_due && !uncertain.contains(&target) && !lost_sight.contains(&target);
            events.extend(self.update(target, status, is_certain, began));
        }
        events.extend(last);
        self.locks.retain(|_, lock| !lock.is_idle());
        self.after_look(began, looks_at_all);
        Ok(events)
    }

    /// Returns what has happened to one lock.
    fn update(&mut self, target: PathBuf, status: Status, is_certain: bool, now: Instant) -> Vec<Event> {
        let notes = self.new.remove(&target);
        let lock = self.locks.entry(target).or_insert_with(|| WatchedLock::new(status.clone()));
        if let Some(notes) = notes {
            lock.notes = notes;
        }
        let target = status.target.clone();
        // A look may find an anchor gone before the event of its removal has come.
        if lock.is_held() && status.state == State::Free && anchor_is_missing(&status.lock_file) {
            lock.notes.note(Part::Anchors, EntryChange::Removed);
        }
        let updated = lock.update(status, is_certain, now);
        if updated.look_again {
            self.again.insert(target);
        }
        updated.events
    }

    /// Prepares the next wait after a look that began at `began`.
    fn after_look(&mut self, began: Instant, looked_at_all: bool) {
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        self.pause_until = now + (took * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        if looked_at_all {
            self.next_tick = now + TICK.max(took * TICK_SHARE);
        }
        let statuses = self.locks.values().map(|lock| &lock.status);
        let holders = statuses.filter(|status| status.state == State::Held).filter_map(|status| status.holder.as_ref());
        // The end of a native closes its files, which is an event.
        let foreign = holders.clone().filter(|holder| holder.kind == HolderKind::Foreign);
        let native = holders.filter(|holder| holder.kind == HolderKind::Native);
        let pids: BTreeSet<i64> = foreign.chain(native).filter_map(Holder::pid).take(MOST_PROCESSES).collect();
        self.watch.watch_processes(pids);
    }

    fn list(&self) -> Result<Vec<Status>, Failure> {
        Ok(tenure::list(&*self.dir, &self.walk.for_list())?)
    }

    /// Watches the folders that exist now.
    fn watch_folders(&mut self) -> Result<(), Failure> {
        let exists = match self.watch.watch(&self.dir) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(watch_failure(&self.dir, &error)),
        };
        if exists != self.exists {
            let kind = if exists { EventKind::Watching } else { EventKind::FolderRemoved };
            self.own_events.push(Event::new(kind, None));
        }
        self.exists = exists;
        if !exists {
            return Ok(());
        }
        let (dir, watch) = (Arc::clone(&self.dir), &mut self.watch);
        walk_folders(&dir, self.walk, &mut |folder| match watch.watch(&Arc::from(folder)) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(watch_failure(folder, &error)),
            // The list passes over a folder that cannot be read, too.
            _ => Ok(()),
        })
    }
}

/// Returns whether the anchor beside a lock file is not there.
fn anchor_is_missing(lock_file: &Path) -> bool {
    let anchor = lock_file.parent().zip(lock_file.file_name()).map(|(folder, name)| folder.join(".tenure").join(name));
    anchor.is_some_and(|anchor| matches!(anchor.try_exists(), Ok(false)))
}

/// Returns the name of the target whose lock file, anchor or swap the entry is, and whether it is the swap.
fn lock_of(entry: &Entry) -> Option<(&OsStr, bool)> {
    let name = Path::new(&entry.name);
    let (name, is_swap) = match (entry.part, name.extension()) {
        (Part::Anchors, Some(ending)) if ending == "swap" => (Path::new(name.file_stem()?), true),
        _ => (name, false),
    };
    (name.extension()? == "lock").then(|| name.file_stem()).flatten().map(|name| (name, is_swap))
}

/// Describes a folder that cannot be watched.
fn watch_failure(folder: &Path, error: &io::Error) -> Failure {
    let folder = describe::path(folder);
    match error.kind() {
        io::ErrorKind::StorageFull => Failure::new(
            exit::UNAVAILABLE,
            format!(
                "{folder}: no more folders can be watched; the limit is fs.inotify.max_user_watches (sysctl), or watch a \
                 smaller folder"
            ),
        ),
        io::ErrorKind::NotADirectory => Failure::new(exit::CANNOT_CREATE, format!("{folder}: not a folder")),
        _ => Failure::io(&folder, error),
    }
}

/// Returns whether a status fails because of the lock's files, and not because the system lacks something at the moment.
fn unreadable(error: &tenure::Error) -> bool {
    matches!(error.kind(), ErrorKind::Obstructed | ErrorKind::PermissionDenied | ErrorKind::InvalidTarget)
}

/// Returns the status of the same lock with no holder and no waiters.
fn as_free(last: &Status) -> Status {
    let mut free = last.clone();
    free.state = State::Free;
    free.holder = None;
    free.waiters = None;
    free.reasons.clear();
    free.queue.clear();
    free.open_by.clear();
    free.suspended.clear();
    free
}

fn holder_pid(status: &Status) -> Option<i64> {
    status.holder.as_ref().and_then(Holder::pid)
}
