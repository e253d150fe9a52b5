//! What is known of one lock that is watched, and what the difference between two looks means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tenure::process::Liveness;
use tenure::{HolderKind, State, Status, Style};

use super::event::{Event, EventKind};
use crate::locking::TenureId;
use crate::sys::{EntryChange, Part};

/// A holder that has had no lock file for this time has lost it: a release takes some system calls.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// How long a waiter that has left the queue of a lock that became free may take until it is seen to hold: a busy machine may not
/// run it at once. After that it is not known whether it was granted the lock.
const GRANTED_WITHIN: Duration = Duration::from_secs(10);

/// A waiter that was not in the queue for this time and is in it again has begun another wait.
const SAME_WAIT_WITHIN: Duration = Duration::from_secs(1);

/// What happened to the files of a lock since its present tenure was seen, or since the lock was seen free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// How often a lock file got its name. Each native's tenure in lock-file style causes one, but for a takeover of a
    /// native's lock file, which stays.
    created: u64,
    /// How often it was removed: by a release, or after a death by `clean`.
    removed: u64,
    /// How often it was moved away: a foreign holder's lock file is taken over by an exchange of names.
    moved_away: u64,
    /// The anchor was replaced while the lock file had its name: by a break, or by the next holder after a crash.
    anchor_replaced: bool,
    anchor_removed: bool,
}

impl Notes {
    /// Notes a change of the lock file, or of the anchor.
    pub(super) fn note(&mut self, part: Part, what: EntryChange) {
        match (part, what) {
            (Part::Folder, EntryChange::Created | EntryChange::MovedIn) => self.created += 1,
            (Part::Folder, EntryChange::Removed) => self.removed += 1,
            (Part::Folder, EntryChange::MovedOut) => self.moved_away += 1,
            (Part::Anchors, EntryChange::MovedIn) => self.anchor_replaced |= self.removed == 0,
            (Part::Anchors, EntryChange::Removed | EntryChange::MovedOut) => self.anchor_removed = true,
            (_, EntryChange::Written) | (Part::Anchors, EntryChange::Created) => {}
        }
    }

    /// Returns whether the lock file's name has been the same file's.
    fn keeps_name(&self) -> bool {
        self.removed == 0 && self.moved_away == 0
    }
}

/// One lock of a watched folder.
#[derive(Debug)]
pub(crate) struct WatchedLock {
    /// The last status. Free once the lock was seen free.
    pub(crate) status: Status,
    /// Those that wait, and since when they have been seen to.
    waiting: BTreeMap<i64, Waiter>,
    pub(super) notes: Notes,
    tenure: Option<SeenTenure>,
    sharers: BTreeSet<i64>,
    /// Events were lost since the tenure was seen.
    pub(super) blind: bool,
}

#[derive(Debug)]
struct Waiter {
    since: Instant,
    /// Two looks have found it: it is not just looking at the lock.
    confirmed: bool,
    /// Since when looks have not found it. A waiter changes from one kernel queue to another now and then.
    absent: Option<Instant>,
    /// A look has not found it after [`SAME_WAIT_WITHIN`].
    is_away: bool,
    /// The lock was not held by one tenure all the time since then. So the waiter may have been woken, and be about to hold.
    may_be_granted: bool,
}

impl Waiter {
    fn new(now: Instant) -> Waiter {
        Waiter { since: now, confirmed: false, absent: None, is_away: false, may_be_granted: false }
    }
}

/// The tenure that was seen last.
#[derive(Debug)]
struct SeenTenure {
    id: TenureId,
    status: Status,
    /// The event of its lock file's creation was seen.
    linked: bool,
    crashed: bool,
    /// Since when its lock file has been missing.
    unlinked: Option<Instant>,
    lost: bool,
}

/// The result of an update.
pub(super) struct Updated {
    pub(super) events: Vec<Event>,
    /// Another look is needed soon, although no event will ask for it.
    pub(super) look_again: bool,
}

impl WatchedLock {
    /// Creates the entry of a lock of which nothing is known yet.
    pub(super) fn new(free: Status) -> WatchedLock {
        WatchedLock {
            status: free,
            waiting: BTreeMap::new(),
            notes: Notes::default(),
            tenure: None,
            sharers: BTreeSet::new(),
            blind: false,
        }
    }

    /// Takes over the state at the beginning of the watch, and returns it as an event.
    pub(super) fn begin(status: Status, now: Instant) -> (WatchedLock, Event) {
        let mut lock = WatchedLock::new(status.clone());
        if has_holder(&status) {
            lock.tenure = Some(SeenTenure::new(status.clone(), true));
        } else if status.state != State::Free {
            lock.sharers.extend(&status.open_by);
        }
        lock.waiting.extend(status.queue.iter().map(|pid| (*pid, Waiter { confirmed: true, ..Waiter::new(now) })));
        (lock, Event::new(EventKind::State, Some(status)))
    }

    /// Returns whether the last look has found a holder.
    pub(super) fn is_held(&self) -> bool {
        self.tenure.is_some()
    }

    /// Returns whether there is nothing to remember of this lock.
    pub(super) fn is_idle(&self) -> bool {
        self.status.state == State::Free && self.waiting.is_empty() && self.notes == Notes::default()
    }

    /// Returns how long the longest of the present waits has been seen.
    #[cfg_attr(not(all(feature = "top", target_os = "linux")), allow(dead_code, reason = "only `top` uses it"))]
    pub(crate) fn longest_wait(&self, now: Instant) -> Option<Duration> {
        self.waiting
            .values()
            .filter(|waiter| waiter.confirmed)
            .map(|waiter| now.saturating_duration_since(waiter.since))
            .max()
    }

    /// Updates the lock by what a look has found.
    ///
    /// `is_certain` says that the notes are complete: none arrived while the look was under way.
    pub(super) fn update(&mut self, status: Status, is_certain: bool, now: Instant) -> Updated {
        // A process is in the middle of an acquire or a release, which is no tenure yet, or none any more.
        let native = status.holder.as_ref().filter(|holder| holder.kind == HolderKind::Native);
        if status.state == State::Held && native.is_some_and(|holder| holder.fence.is_none()) {
            return Updated { events: Vec::new(), look_again: true };
        }
        let is_certain = is_certain && !self.blind;
        let mut events = Vec::new();
        let mut look_again = false;
        if let Some(tenure) = &mut self.tenure
            && !tenure.linked
            && self.notes.created > 0
        {
            tenure.linked = true;
            self.notes.created -= 1;
        }
        let found = has_holder(&status).then(|| SeenTenure::new(status.clone(), false));
        let is_same = match (&self.tenure, &found) {
            (Some(before), Some(found)) => before.is_same(found, &self.notes),
            (None, None) => true,
            _ => false,
        };
        let mut began = None;
        if !is_same {
            let (mut crashed, mut in_place) = (false, false);
            if let Some(before) = self.tenure.take() {
                let end = self.end_of(&before, &status, is_certain);
                crashed = before.crashed || end == Some(EventKind::Crashed);
                // The dead holder's lock file became that of the next holder.
                in_place = crashed && before.status.style == Style::LockFile && self.notes.keeps_name();
                events.extend(end.map(|kind| Event::new(kind, Some(before.at_its_end(&status, kind)))));
            }
            if let Some(mut tenure) = found {
                tenure.linked = in_place || self.notes.created > 0;
                let missed = self.notes.created.saturating_sub(u64::from(!in_place));
                tenure.crashed = status.state == State::Stale;
                let kind = if tenure.crashed { EventKind::Crashed } else { EventKind::Held };
                let takeover = crashed && self.notes.removed == 0;
                began = Some(Event { missed, takeover, ..Event::new(kind, Some(status.clone())) });
                self.tenure = Some(tenure);
            } else if self.notes.created > 0 {
                events
                    .push(Event { missed: self.notes.created, ..Event::new(EventKind::Missed, Some(status.clone())) });
            }
            self.notes = Notes::default();
            self.blind = false;
        } else if let Some(tenure) = &mut self.tenure {
            if status.state == State::Stale && !tenure.crashed {
                tenure.crashed = true;
                events.push(Event::new(EventKind::Crashed, Some(status.clone())));
            }
            let is_unlinked = !self.notes.keeps_name() && self.notes.created == 0 && status.state == State::Held;
            tenure.unlinked = is_unlinked.then(|| tenure.unlinked.unwrap_or(now));
            if tenure.unlinked.is_some_and(|since| now.saturating_duration_since(since) >= LOST_AFTER) && !tenure.lost {
                tenure.lost = true;
                events.push(Event::new(EventKind::Lost, Some(status.clone())));
            }
            tenure.status = status.clone();
        } else if self.notes.created > 0 {
            events.push(Event { missed: self.notes.created, ..Event::new(EventKind::Missed, Some(status.clone())) });
            self.notes = Notes::default();
        } else {
            self.notes = Notes::default();
            self.blind = false;
        }
        let changed_hands = !is_same;
        self.update_sharers(&status, &mut events);
        let waits = self.update_waiters(&status, changed_hands, now);
        look_again |= self.waiting.values().any(|waiter| waiter.absent.is_some() || !waiter.confirmed);
        let (ended, new): (Vec<Event>, Vec<Event>) =
            waits.into_iter().partition(|event| event.kind == EventKind::WaitEnded);
        events.extend(ended);
        events.extend(began);
        events.extend(new);
        self.status = status;
        Updated { events, look_again }
    }

    /// Returns how the last tenure ended; `None` if its crash was reported already and another process took its lock over.
    fn end_of(&self, before: &SeenTenure, now: &Status, is_certain: bool) -> Option<EventKind> {
        let notes = &self.notes;
        let native = before.status.holder.as_ref().is_some_and(|holder| holder.kind == HolderKind::Native);
        let released = notes.removed > 0;
        let next = has_holder(now);
        let same_process = before.pid() == now.holder.as_ref().and_then(tenure::Holder::pid);
        Some(match before.status.style {
            _ if before.crashed && next => return None,
            _ if before.crashed => EventKind::Removed,
            _ if notes.anchor_removed && native => EventKind::Lost,
            Style::LockFile if released && notes.anchor_replaced && native => EventKind::Broken,
            Style::LockFile if released => EventKind::Released,
            Style::LockFile if notes.moved_away > 0 && !native => EventKind::Crashed,
            // A tenure passes from one thread of a process to another without a change of the files' names.
            Style::LockFile if native && next && same_process => EventKind::Released,
            // The dead holder's lock file became the next holder's, in its place.
            Style::LockFile if native && next && is_certain && notes.keeps_name() => EventKind::Crashed,
            Style::Flock if notes.anchor_replaced && native => EventKind::Broken,
            // The record says so.
            Style::Flock if native && now.state == State::Free => EventKind::Released,
            _ => EventKind::Ended,
        })
    }

    fn update_sharers(&mut self, status: &Status, events: &mut Vec<Event>) {
        let shared = status.state != State::Free && !has_holder(status);
        let now: BTreeSet<i64> = if shared { status.open_by.iter().copied().collect() } else { BTreeSet::new() };
        let of = |kind, pid: &i64| Event { pid: Some(*pid), ..Event::new(kind, Some(status.clone())) };
        events.extend(self.sharers.difference(&now).map(|pid| of(EventKind::Ended, pid)));
        events.extend(now.difference(&self.sharers).map(|pid| of(EventKind::Held, pid)));
        self.sharers = now;
    }

    fn update_waiters(&mut self, status: &Status, changed_hands: bool, now: Instant) -> Vec<Event> {
        // Where the kernel's table cannot be read, nothing is known of waiters.
        if status.waiters.is_none() && status.state != State::Free {
            return Vec::new();
        }
        let mut events = Vec::new();
        let holder = status.holder.as_ref().and_then(tenure::Holder::pid);
        self.waiting.retain(|pid, waiter| {
            let waits = status.queue.contains(pid);
            if waits && !waiter.is_away {
                (waiter.absent, waiter.may_be_granted) = (None, false);
                return true;
            }
            let granted = !waits && (holder == Some(*pid) || self.sharers.contains(pid));
            if !waiter.confirmed {
                return false;
            }
            waiter.may_be_granted |= changed_hands || status.state != State::Held;
            let absent = now.saturating_duration_since(*waiter.absent.get_or_insert(now));
            let is_over = if waiter.may_be_granted { absent >= GRANTED_WITHIN } else { absent > Duration::ZERO };
            if !granted && !is_over && !waits {
                waiter.is_away |= absent >= SAME_WAIT_WITHIN;
                return true;
            }
            events.push(Event {
                pid: Some(*pid),
                granted: if granted { Some(true) } else { Some(false).filter(|_| !waiter.may_be_granted) },
                waited: waiter.absent.map(|end| end.saturating_duration_since(waiter.since)),
                ..Event::new(EventKind::WaitEnded, Some(status.clone()))
            });
            false
        });
        for pid in &status.queue {
            match self.waiting.get_mut(pid) {
                Some(waiter) if !waiter.confirmed => {
                    waiter.confirmed = true;
                    events.push(Event { pid: Some(*pid), ..Event::new(EventKind::Waiting, Some(status.clone())) });
                }
                Some(_) => {}
                None => {
                    self.waiting.insert(*pid, Waiter::new(now));
                }
            }
        }
        events
    }
}

impl SeenTenure {
    fn new(status: Status, linked: bool) -> SeenTenure {
        let crashed = status.state == State::Stale;
        SeenTenure { id: TenureId::of(&status), status, linked, crashed, unlinked: None, lost: false }
    }

    fn pid(&self) -> Option<i64> {
        self.status.holder.as_ref().and_then(tenure::Holder::pid)
    }

    /// Returns whether `found` is the same tenure.
    fn is_same(&self, found: &SeenTenure, notes: &Notes) -> bool {
        // A foreign holder may update the date in its lock file.
        let is_foreign = |tenure: &SeenTenure| matches!(tenure.id, TenureId::Foreign(..));
        let untouched = notes.created == 0 && notes.keeps_name() && is_foreign(self) && is_foreign(found);
        // It may have created the file and not yet written its pid.
        self.id == found.id || (untouched && (self.pid().is_none() || self.pid() == found.pid()))
    }

    /// Returns the lock as it is after the tenure, with the tenure's holder.
    fn at_its_end(&self, now: &Status, kind: EventKind) -> Status {
        let mut status = self.status.clone();
        status.state = now.state;
        status.waiters = now.waiters;
        status.queue.clone_from(&now.queue);
        status.open_by.clone_from(&now.open_by);
        if kind == EventKind::Crashed
            && let Some(holder) = &mut status.holder
        {
            holder.liveness = Liveness::Dead("another process has taken its lock over".into());
        }
        status
    }
}

fn has_holder(status: &Status) -> bool {
    status.state != State::Free && status.holder.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A free lock, and two tenures of it.
    fn statuses(style: Style) -> [Status; 3] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        let lock = tenure::Lock::options().style(style).open(&target).unwrap();
        let held = || {
            let _guard = lock.acquire().unwrap();
            tenure::status(&target).unwrap()
        };
        let (one, other) = (held(), held());
        [tenure::status(&target).unwrap(), one, other]
    }

    fn of_another_process(status: &Status) -> Status {
        let mut status = status.clone();
        status.holder.as_mut().unwrap().identity.as_mut().unwrap().pid += 1;
        status
    }

    type Change = (Part, EntryChange);
    const LINKED: Change = (Part::Folder, EntryChange::Created);
    const UNLINKED: Change = (Part::Folder, EntryChange::Removed);
    const ANCHOR_REPLACED: Change = (Part::Anchors, EntryChange::MovedIn);
    const ANCHOR_REMOVED: Change = (Part::Anchors, EntryChange::Removed);
    const WRITTEN: Change = (Part::Anchors, EntryChange::Written);

    /// Returns the events of a lock that `before` held, after these changes: kind, missed tenures, and whether it is a takeover.
    fn after(before: &Status, changes: &[Change], now: &Status, is_certain: bool) -> Vec<(&'static str, u64, bool)> {
        let (mut lock, _) = WatchedLock::begin(before.clone(), Instant::now());
        changes.iter().for_each(|(part, what)| lock.notes.note(*part, *what));
        let updated = lock.update(now.clone(), is_certain, Instant::now());
        updated.events.iter().map(|event| (event.kind.as_str(), event.missed, event.takeover)).collect()
    }

    #[test]
    fn how_a_tenure_ended() {
        let [free, one, other] = statuses(Style::LockFile);
        let next = of_another_process(&other);
        let held = |missed, takeover| ("held", missed, takeover);
        let released = ("released", 0, false);
        assert_eq!(after(&one, &[UNLINKED], &free, true), [released]);
        assert_eq!(after(&one, &[UNLINKED, WRITTEN, LINKED], &next, true), [released, held(0, false)]);
        let many = [UNLINKED, LINKED, UNLINKED, LINKED, UNLINKED, LINKED];
        assert_eq!(after(&one, &many, &next, true), [released, held(2, false)]);
        assert_eq!(after(&one, &many[..5], &free, true), [released, ("missed", 2, false)]);
        // Without a removal of the lock file, the holder has died. That is no conclusion if events may be missing.
        assert_eq!(after(&one, &[WRITTEN], &next, true), [("crashed", 0, false), held(0, true)]);
        assert_eq!(after(&one, &[WRITTEN], &next, false), [("ended", 0, false), held(0, false)]);
        assert_eq!(after(&one, &[WRITTEN], &other, true), [released, held(0, false)], "between threads");
        assert_eq!(after(&one, &[ANCHOR_REPLACED, UNLINKED], &free, true), [("broken", 0, false)]);
        assert_eq!(after(&one, &[UNLINKED, ANCHOR_REPLACED, LINKED], &next, true), [released, held(0, false)]);
        assert_eq!(after(&one, &[ANCHOR_REMOVED, UNLINKED], &free, true), [("lost", 0, false)]);
        assert_eq!(after(&one, &[WRITTEN], &one, true), []);
        assert_eq!(after(&free, &[LINKED, UNLINKED], &free, true), [("missed", 1, false)]);
    }

    #[test]
    fn a_dead_holder_is_reported_once() {
        let [free, mut dead, other] = statuses(Style::LockFile);
        let next = of_another_process(&other);
        let alive = dead.clone();
        dead.state = State::Stale;
        assert_eq!(after(&alive, &[], &dead, true), [("crashed", 0, false)]);
        assert_eq!(after(&dead, &[WRITTEN], &next, true), [("held", 0, true)]);
        assert_eq!(after(&dead, &[UNLINKED], &free, true), [("removed", 0, false)]);
        assert_eq!(after(&dead, &[UNLINKED, LINKED], &next, true), [("held", 0, false)], "`clean` came first");
    }

    #[test]
    fn flock_style_has_no_lock_file() {
        let [free, one, other] = statuses(Style::Flock);
        assert_eq!(after(&one, &[WRITTEN], &free, true), [("released", 0, false)]);
        assert_eq!(
            after(&one, &[WRITTEN], &of_another_process(&other), true),
            [("ended", 0, false), ("held", 0, false)]
        );
        assert_eq!(after(&one, &[ANCHOR_REPLACED], &free, true), [("broken", 0, false)]);
    }

    #[test]
    fn the_creation_of_a_lock_file_may_be_noticed_late() {
        let [free, one, _] = statuses(Style::LockFile);
        let mut lock = WatchedLock::new(free.clone());
        let mut look = |changes: &[Change], status: &Status| {
            changes.iter().for_each(|(part, what)| lock.notes.note(*part, *what));
            let updated = lock.update(status.clone(), true, Instant::now());
            updated.events.iter().map(|event| (event.kind.as_str(), event.missed)).collect::<Vec<_>>()
        };
        assert_eq!(look(&[WRITTEN], &one), [("held", 0)]);
        assert_eq!(look(&[LINKED], &one), []);
        // A release unlinks the lock file and then unlocks.
        assert_eq!(look(&[UNLINKED], &one), []);
        assert_eq!(look(&[], &free), [("released", 0)]);
    }

    #[test]
    fn a_waiter_is_reported_after_two_looks() {
        let [_, mut one, _] = statuses(Style::LockFile);
        one.waiters = Some(0);
        let (mut lock, _) = WatchedLock::begin(one.clone(), Instant::now());
        let mut look = |queue: &[i64]| {
            one.queue = queue.to_vec();
            one.waiters = Some(queue.len());
            let updated = lock.update(one.clone(), true, Instant::now());
            let events = updated.events.iter().map(|event| (event.kind.as_str(), event.pid.unwrap(), event.granted));
            (events.collect::<Vec<_>>(), updated.look_again)
        };
        assert_eq!(look(&[7]), (vec![], true));
        assert_eq!(look(&[]), (vec![], false), "it was just looking");
        assert_eq!(look(&[7]), (vec![], true));
        assert_eq!(look(&[7, 8]), (vec![("waiting", 7, None)], true));
        assert_eq!(look(&[7, 8]), (vec![("waiting", 8, None)], false));
        assert_eq!(look(&[8]), (vec![], true));
        assert_eq!(look(&[8]), (vec![("wait-ended", 7, Some(false))], false));
    }

    #[test]
    fn a_waiter_that_was_away_waits_another_time() {
        let [mut free, mut one, _] = statuses(Style::LockFile);
        (free.waiters, one.waiters) = (Some(0), Some(1));
        one.queue = vec![7];
        let (begun, soon) = (Instant::now(), Duration::from_millis(5));
        let away = soon + SAME_WAIT_WITHIN;
        let events = |looks: &[(&Status, Duration)]| {
            let (mut lock, _) = WatchedLock::begin(one.clone(), begun);
            let mut events = Vec::new();
            lock.notes.note(UNLINKED.0, UNLINKED.1);
            for (status, after) in looks {
                let updated = lock.update((*status).clone(), true, begun + *after);
                let waits = updated.events.into_iter().filter(|event| event.pid == Some(7));
                events.extend(waits.map(|event| (event.kind.as_str(), event.granted)));
            }
            events
        };
        let again = [("wait-ended", None), ("waiting", None)];
        assert_eq!(events(&[(&free, soon), (&free, away), (&one, away), (&one, away)]), again);
        assert_eq!(events(&[(&free, soon), (&one, away), (&one, away)]), [], "no look saw that it was away so long");
    }

    #[test]
    fn a_waiter_that_was_woken_and_does_not_hold_yet_did_not_give_up() {
        let [mut free, mut one, other] = statuses(Style::LockFile);
        let mut next = of_another_process(&other);
        let pid = next.holder.as_ref().unwrap().pid().unwrap();
        // On Windows no status has them.
        for status in [&mut free, &mut one, &mut next] {
            status.waiters = Some(0);
        }
        one.queue = vec![pid];
        let begun = Instant::now();
        let ends = |looks: &[(&Status, Duration)]| {
            let (mut lock, _) = WatchedLock::begin(one.clone(), begun);
            let mut ends = Vec::new();
            lock.notes.note(UNLINKED.0, UNLINKED.1);
            for (status, after) in looks {
                let updated = lock.update((*status).clone(), true, begun + *after);
                let ended = updated.events.into_iter().filter(|event| event.kind == EventKind::WaitEnded);
                ends.extend(ended.map(|event| (event.granted, event.waited.unwrap())));
            }
            ends
        };
        let [soon, later] = [5, 7].map(Duration::from_millis);
        let much_later = later + GRANTED_WITHIN;
        assert_eq!(ends(&[(&free, soon), (&free, later)]), []);
        assert_eq!(ends(&[(&free, soon), (&free, later), (&next, much_later)]), [(Some(true), soon)]);
        assert_eq!(ends(&[(&free, soon), (&free, later), (&free, much_later)]), [(None, soon)]);
    }
}
