//! The graph of proven waits, and the deadlocks in it.
//!
//! Its edges are [notes](crate::file::wait_note): a note beside a lock says for what a holder of that lock waits. A lock is
//! *stuck* if its holder, or one that shares it, waits for what is stuck. Slots are stuck if those of them whose holders wait for
//! what is stuck leave no room, whatever the others do. [`find`] begins with all that a wait leads to, and drops what is not
//! stuck until nothing changes. What is left never ends by itself. The wait closes a circle if it is part of that, and leads back
//! to what its own maker holds. Without slots and shares that is a chain.
//!
//! [`find`] reads every note of a circle twice. A note that is the same in both readings existed in between. So
//! there is a moment, after the first and before the second reading, at which all of them waited for each other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::file::nested;
use crate::file::paths::LockPaths;
use crate::file::slots;
use crate::file::status::current_record;
use crate::file::wait_note::{self, HeldLock, LockId, WaitNote, WaitedLock};
use crate::model::circle::Waiting;
use crate::model::slots::has_room;
use crate::record::{Record, RecordState};
use crate::sys::FileId;

/// The number of locks that one walk visits. Only slots and shared locks make it branch.
const MAX_VISITED: usize = 1024;

/// A proven wait: one edge of the graph.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The lock that is held, and its anchor.
    paths: Arc<LockPaths>,
    id: LockId,
    /// Whether the wait for that lock, by which the walk came here, is for a share.
    wanted_shared: bool,
    note_id: FileId,
    note: WaitNote,
    record: Option<Record>,
}

impl Step {
    /// Returns whether the wait is later than one that began at `since_boot_ns` with the note `id`, and fails if it closes a
    /// circle.
    pub(crate) fn is_refused_before(&self, since_boot_ns: u64, id: FileId) -> bool {
        self.note.refuses_itself && (self.note.since_boot_ns, self.note_id.inode) > (since_boot_ns, id.inode)
    }

    /// Returns the file that says so.
    pub(crate) fn note_id(&self) -> FileId {
        self.note_id
    }

    /// Returns the wait for people.
    pub(crate) fn waiting(&self) -> Waiting {
        let held = self.note.held.iter().find(|held| held.id == self.id);
        let record = self.record.as_ref().filter(|_| held.is_some_and(|held| held.fence.is_some()));
        let for_command = held.is_some_and(|held| held.for_command);
        // Where the holder waits itself, its record says more, such as the command that it runs.
        let native = record.filter(|_| !for_command).and_then(|record| record.native.as_ref());
        let of_record = |text: Option<&crate::record::Text>| text.map(|text| text.to_string());
        Waiting {
            pid: self.note.pid,
            command: of_record(native.and_then(|native| native.command.as_ref())).or_else(|| self.note.command.clone()),
            label: of_record(native.and_then(|native| native.label.as_ref()))
                .or_else(|| self.note.label.clone().filter(|_| native.is_none())),
            task: self.note.task,
            task_name: self.note.task_name.clone(),
            holds: wait_note::shown(&self.paths.target_path),
            holder_pid: record.filter(|_| for_command).and_then(|record| record.pid),
            waits_for: self.note.waits_for.target.clone(),
            slots: self.note.waits_for.slots,
            since: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.note.since_ms)),
        }
    }

    /// Returns how many slots the holder agreed to, if the lock is that of a slot.
    fn slots(&self) -> Option<u32> {
        slots_of(self.record.as_ref())
    }

    /// Returns whether the wait is proven once more.
    fn is_stable(&self) -> bool {
        let again = steps(&self.paths, &self.id, self.wanted_shared);
        again.iter().any(|again| again.note_id == self.note_id && again.note == self.note)
    }
}

/// Returns how many slots the holder of a slot agreed to.
pub(crate) fn slots_of(record: Option<&Record>) -> Option<u32> {
    u32::try_from(record?.native.as_ref()?.slots?).ok()
}

/// Returns the proven waits of those that hold the lock at `paths`, which is `id`.
fn steps(paths: &Arc<LockPaths>, id: &LockId, wanted_shared: bool) -> Vec<Step> {
    let notes = wait_note::read(paths);
    if notes.is_empty() {
        return Vec::new();
    }
    let record = current_record(paths);
    let proven = notes.into_iter().filter(|(_, note)| {
        let held = note.held.iter().find(|held| held.id == *id);
        held.is_some_and(|held| is_proven(paths, held, note, record.as_ref(), wanted_shared))
    });
    let step = |(note_id, note)| Step {
        paths: Arc::clone(paths),
        id: id.clone(),
        wanted_shared,
        note_id,
        note,
        record: record.clone(),
    };
    proven.map(step).collect()
}

/// Returns whether the lock is held as `held`, a part of `note`, says, so that a wait for it waits for the note's maker.
pub(crate) fn is_held(paths: &LockPaths, held: &HeldLock, note: &WaitNote, wanted_shared: bool) -> bool {
    is_proven(paths, held, note, current_record(paths).as_ref(), wanted_shared)
}

/// As [`is_held`], with the lock's present record.
fn is_proven(
    paths: &LockPaths,
    held: &HeldLock,
    note: &WaitNote,
    record: Option<&Record>,
    wanted_shared: bool,
) -> bool {
    let Some(fence) = held.fence else {
        // Shares do not exclude each other.
        let anchor = || paths.dir.ident_at(&paths.anchor).ok().flatten().map(|found| found.id.inode);
        return !wanted_shared && held.shared_anchor.is_some() && held.shared_anchor == anchor();
    };
    let is_this_tenure = |record: &&Record| {
        record.native.as_ref().is_some_and(|native| native.state == RecordState::Held && native.fence == Some(fence))
    };
    let Some(record) = record.filter(is_this_tenure) else { return false };
    !held.for_command || nested::runs(record, note.pid, note.start_time, note.pid_namespace)
}

/// Opens the lock that a note says is waited for, if its path leads there.
fn open(lock: &WaitedLock) -> Option<Arc<LockPaths>> {
    // A relative path says nothing to another process.
    let target = Some(&*lock.target).filter(|target| target.is_absolute())?;
    let paths = LockPaths::look(target).ok()??;
    (LockId::of(&paths).as_ref() == Some(&lock.id)).then(|| Arc::new(paths))
}

/// What the maker of the first wait holds.
pub(crate) struct Own<'a> {
    /// Returns which of its locks has this identity.
    pub(crate) find: &'a dyn Fn(&LockId) -> Option<OwnLock>,
    /// Returns whether that lock is held still, so that a wait for it, or for a share, waits for the maker.
    pub(crate) is_held: &'a dyn Fn(usize, bool) -> bool,
    /// The notes by which the maker says so.
    pub(crate) notes: &'a [FileId],
}

/// A lock that the maker of the first wait holds.
pub(crate) struct OwnLock {
    pub(crate) index: usize,
    pub(crate) exclusive: bool,
    /// How many slots the maker agreed to, if the lock is that of a slot.
    pub(crate) slots: Option<u32>,
}

/// The waits that a wait would deadlock with.
#[derive(Debug)]
pub(crate) struct Deadlock {
    pub(crate) steps: Vec<Step>,
    /// Those of the maker's own locks for which others of them wait.
    pub(crate) own: Vec<usize>,
    /// Whether it is proven. Otherwise a lock of the maker's is not known to be held until its wait ends.
    pub(crate) proven: bool,
}

/// How often a deadlock is searched for that had changed when it was read the second time.
const TRIES: usize = 3;

/// Searches for a deadlock of which a wait for `waited` would be a part. `paths` are those of that lock.
pub(crate) fn find(paths: &Arc<LockPaths>, waited: &WaitedLock, own: &Own<'_>) -> Option<Deadlock> {
    for _ in 0..TRIES {
        let found = find_once(paths, waited, own)?;
        if found.steps.iter().all(Step::is_stable) {
            return Some(found);
        }
    }
    None
}

/// As [`find`], by one reading.
fn find_once(paths: &Arc<LockPaths>, waited: &WaitedLock, own: &Own<'_>) -> Option<Deadlock> {
    let mut graph = Graph { own, wants: Vec::new(), known: HashMap::new(), unread: Vec::new() };
    graph.want(waited);
    graph.read(Arc::clone(paths));
    let stuck = graph.stuck();
    let lengths = graph.lengths(&stuck);
    if !stuck[0] || lengths[0] == usize::MAX {
        return None;
    }
    let (chosen, waits_for_own) = graph.circle(&stuck, &lengths);
    let proven = waits_for_own.iter().all(|(index, shared)| (own.is_held)(*index, *shared));
    let mut indexes: Vec<usize> = waits_for_own.into_iter().map(|(index, _)| index).collect();
    let mut known = HashSet::new();
    indexes.retain(|index| known.insert(*index));
    Some(Deadlock { steps: chosen, own: indexes, proven })
}

/// What is waited for. All waits for it are stuck or none.
struct Want {
    waited: WaitedLock,
    blockers: Vec<Blocker>,
}

/// A wait that keeps others waiting.
struct Blocker {
    /// The number of the slot that its maker holds, and how many slots the maker agreed to.
    slot: (u32, Option<u32>),
    by: By,
    /// The index of what the maker waits for.
    waits_for: usize,
}

enum By {
    Step(Box<Step>),
    /// The first wait, whose maker holds its lock of this index. The lock is wanted for a share, or not.
    Own(usize, bool),
}

struct Graph<'a> {
    own: &'a Own<'a>,
    wants: Vec<Want>,
    known: HashMap<(LockId, bool, Option<u32>), usize>,
    /// What was not read yet.
    unread: Vec<usize>,
}

impl Graph<'_> {
    /// Returns the index of a lock that is waited for.
    fn want(&mut self, waited: &WaitedLock) -> usize {
        let key = (waited.id.clone(), waited.shared, waited.slots);
        let next = self.wants.len();
        let index = *self.known.entry(key).or_insert(next);
        if index == next {
            self.wants.push(Want { waited: waited.clone(), blockers: Vec::new() });
            self.unread.push(index);
        }
        index
    }

    /// Reads all that the first wait leads to. What is not read is not stuck.
    fn read(&mut self, first: Arc<LockPaths>) {
        let (mut first, mut visited) = (Some(first), 0);
        while let Some(index) = self.unread.pop() {
            let waited = self.wants[index].waited.clone();
            let Some(paths) = first.take().or_else(|| open(&waited)) else { continue };
            let locks: Vec<(u32, Arc<LockPaths>)> = match waited.slots {
                None => vec![(0, paths)],
                Some(_) => {
                    let Ok(numbers) = slots::existing(&paths) else { continue };
                    let slot = |number| Some((number, Arc::new(slots::slot_paths(&paths, number).ok()?)));
                    numbers.into_iter().filter_map(slot).collect()
                }
            };
            for (number, paths) in locks {
                visited += 1;
                if visited > MAX_VISITED {
                    return;
                }
                let Some(id) = LockId::of(&paths) else { continue };
                let blockers = self.blockers(&paths, &id, waited.shared, number);
                self.wants[index].blockers.extend(blockers);
            }
        }
    }

    /// Returns the waits of those that hold a lock.
    fn blockers(&mut self, paths: &Arc<LockPaths>, id: &LockId, shared: bool, number: u32) -> Vec<Blocker> {
        let mut blockers = Vec::new();
        if let Some(lock) = (self.own.find)(id) {
            if lock.exclusive || !shared {
                blockers.push(Blocker { slot: (number, lock.slots), by: By::Own(lock.index, shared), waits_for: 0 });
            }
            if lock.exclusive {
                return blockers;
            }
        }
        for step in steps(paths, id, shared) {
            if !self.own.notes.contains(&step.note_id) {
                let (slot, waits_for) = ((number, step.slots()), self.want(&step.note.waits_for.clone()));
                blockers.push(Blocker { slot, by: By::Step(Box::new(step)), waits_for });
            }
        }
        blockers
    }

    /// Returns which waits never end while the others last: the largest set of waits of which each is kept waiting by some of
    /// them.
    fn stuck(&self) -> Vec<bool> {
        let mut stuck = vec![true; self.wants.len()];
        loop {
            let ends: Vec<usize> = (0..stuck.len()).filter(|at| stuck[*at] && !self.is_stuck(*at, &stuck)).collect();
            if ends.is_empty() {
                return stuck;
            }
            ends.into_iter().for_each(|at| stuck[at] = false);
        }
    }

    fn is_stuck(&self, want: usize, stuck: &[bool]) -> bool {
        let Want { waited, blockers } = &self.wants[want];
        let mut blockers = blockers.iter().filter(|blocker| stuck[blocker.waits_for]);
        match waited.slots {
            None => blockers.next().is_some(),
            Some(limit) => {
                let held: BTreeMap<u32, Option<u32>> = blockers.map(|blocker| blocker.slot).collect();
                !has_room(held.into_values(), limit)
            }
        }
    }

    /// Returns for each wait in how many steps it leads to what the maker of the first one holds.
    fn lengths(&self, stuck: &[bool]) -> Vec<usize> {
        let mut lengths = vec![usize::MAX; self.wants.len()];
        loop {
            let mut changed = false;
            for (at, want) in self.wants.iter().enumerate().filter(|(at, _)| stuck[*at]) {
                let through = want.blockers.iter().filter(|blocker| stuck[blocker.waits_for]);
                let shortest = through.map(|blocker| length(blocker, &lengths)).min().unwrap_or(usize::MAX);
                if shortest < lengths[at] {
                    (lengths[at], changed) = (shortest, true);
                }
            }
            if !changed {
                return lengths;
            }
        }
    }

    /// Returns the waits that prove that the first one is stuck, in the order in which it leads to them, and the locks of its
    /// maker that others of them wait for.
    fn circle(self, stuck: &[bool], lengths: &[usize]) -> (Vec<Step>, Vec<(usize, bool)>) {
        let mut wants: Vec<Option<Want>> = self.wants.into_iter().map(Some).collect();
        let (mut steps, mut own) = (Vec::new(), Vec::new());
        let mut todo = vec![0];
        while let Some(at) = todo.pop() {
            let Some(want) = wants[at].take() else { continue };
            // Of a lock, one that holds it; of slots, one for each slot.
            let mut chosen: BTreeMap<u32, Blocker> = BTreeMap::new();
            for blocker in want.blockers.into_iter().filter(|blocker| stuck[blocker.waits_for]) {
                let shorter = |other: &Blocker| length(&blocker, lengths) < length(other, lengths);
                if chosen.get(&blocker.slot.0).is_none_or(shorter) {
                    chosen.insert(blocker.slot.0, blocker);
                }
            }
            let mut next = Vec::new();
            for Blocker { by, waits_for, .. } in chosen.into_values() {
                match by {
                    By::Step(step) => {
                        steps.push(*step);
                        next.push(waits_for);
                    }
                    By::Own(index, shared) => own.push((index, shared)),
                }
            }
            todo.extend(next.into_iter().rev());
        }
        (steps, own)
    }
}

/// Returns in how many steps a wait leads to what the maker of the first one holds, through `blocker`.
fn length(blocker: &Blocker, lengths: &[usize]) -> usize {
    match blocker.by {
        By::Own(..) => 1,
        By::Step(_) => lengths[blocker.waits_for].saturating_add(1),
    }
}

/// Returns a deadlock through the lock at `paths`, if there is one.
pub(crate) fn deadlock_through(paths: LockPaths) -> Option<Vec<Step>> {
    let (id, paths) = (LockId::of(&paths)?, Arc::new(paths));
    steps(&paths, &id, false).into_iter().find_map(|first| {
        let exclusive = first.note.held.iter().any(|held| held.id == id && held.fence.is_some());
        let slots = first.slots();
        let own = Own {
            find: &|wanted| (*wanted == id).then_some(OwnLock { index: 0, exclusive, slots }),
            is_held: &|_, shared| Step { wanted_shared: shared, ..first.clone() }.is_stable(),
            notes: &[first.note_id],
        };
        let found = find(&open(&first.note.waits_for)?, &first.note.waits_for, &own)?;
        found.proven.then(|| [vec![first.clone()], found.steps].concat())
    })
}
