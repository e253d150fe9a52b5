//! Deadlocks: a waiter says what it holds and what it waits for, and looks for a circle of such waits.
//!
//! First it publishes its [notes](crate::file::wait_note), then it [looks](crate::file::wait_graph). So of the waits that close a
//! circle, the one that was published last finds all others. Where several find it, the latest fails at once. The others look
//! again for a moment, and fail as well if the circle is still there then.
//!
//! A thread waits for one lock at a time, and so does a task that has a [scope](crate::Task). For an acquire by another task it
//! is not known whether the task that holds waits meanwhile. So it publishes nothing and fails for no circle. Neither does what
//! is held count where another thread or task may release it: with `deadlock_check(false)`, and with `reentrant(true)`, whose
//! holds the whole process counts.
//!
//! A holder that runs a command waits for the command's end. So a wait of the command is a wait of that holder too, if the
//! command does not end meanwhile. `tenure run` does not, and says so beside the [locks that are held for
//! it](crate::file::held_for_command).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::file::held_for_command;
use crate::file::paths::LockPaths;
use crate::file::wait_graph::{self, Deadlock, Own, OwnLock, Step};
use crate::file::wait_note::{self, HeldLock, LockId, PublishedNote, WaitNote, WaitedLock};
use crate::model::circle::{Circle, Waiting};
use crate::model::error::{Error, Result};
use crate::model::options::{Options, Overrun, StalePolicy};
use crate::model::request::Request;
use crate::model::requester::{self, RequesterId};
use crate::model::this_process::this_process;
use crate::record::Record;
use crate::sys::{self, FileId};
use crate::wait::queue::TargetQueue;
use crate::wait::registry;
use crate::wait::tenure::FileTenure;
use crate::wait::tenures_by_requester;

/// How often, and after which pause, a waiter looks again for a circle that a later waiter is about to break: a second
/// in all.
const LOOKS_AGAIN: u32 = 200;
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What this process says of a wait, until the wait ends.
#[derive(Debug)]
pub(crate) struct AnnouncedWait {
    _notes: Vec<PublishedNote>,
    undecided: Option<Look>,
}

impl AnnouncedWait {
    /// Announces that `requester` waits for the lock of `queue`, where it holds other locks, or those `around` it do, which
    /// cannot go on meanwhile. The waiter has its place in the queue.
    ///
    /// # Errors
    ///
    /// The wait would close a circle. The caller gives it up.
    pub(crate) fn begin(
        queue: &Arc<TargetQueue>,
        request: &Request,
        requester: Option<RequesterId>,
        around: &[RequesterId],
    ) -> Result<Option<AnnouncedWait>> {
        let Some(requester) = holding(requester, around) else { return Ok(None) };
        announce_queued(queue, request, requester, around)
    }

    /// Announces that `requester` waits for one of `limit` slots of the target at `paths`, as [`begin`](AnnouncedWait::begin)
    /// does.
    #[allow(dead_code, reason = "the simulation has no slots")]
    pub(crate) fn begin_for_slot(
        paths: &Arc<LockPaths>,
        options: &Options,
        limit: u32,
        requester: Option<RequesterId>,
        around: &[RequesterId],
    ) -> Result<Option<AnnouncedWait>> {
        let Some(requester) = holding(requester, around) else { return Ok(None) };
        let wait = WaitToAnnounce { paths: Arc::clone(paths), options, shared: false, slots: Some(limit), requester };
        announce(&wait, held_during_wait(requester, around, None))
    }

    /// Returns the look that decides whether the wait closes a circle, if that is open: a later waiter is about to fail, or a
    /// command is about to wait.
    pub(crate) fn take_undecided(&mut self) -> Option<Look> {
        self.undecided.take()
    }
}

/// Returns `requester` if it may hold something, or those `around` it may, or a holder that runs this process.
#[inline]
fn holding(requester: Option<RequesterId>, around: &[RequesterId]) -> Option<RequesterId> {
    let requester = requester?;
    let held = std::iter::once(&requester).chain(around).any(|one| tenures_by_requester::count(*one) > 0);
    (held || held_for_command::may_exist()).then_some(requester)
}

/// A wait that may be announced.
struct WaitToAnnounce<'a> {
    paths: Arc<LockPaths>,
    options: &'a Options,
    shared: bool,
    slots: Option<u32>,
    requester: RequesterId,
}

impl WaitToAnnounce<'_> {
    /// Returns whether it may be part of a circle that can be proven.
    fn is_in_graph(&self) -> bool {
        // A bare lock has no anchor. A steal by age ends the wait, whatever the holder does.
        self.options.record
            && self.options.stale_policy == StalePolicy::Proof
            && wait_note::exist_here()
            // Two machines that mount it share neither processes nor numbers of files.
            && !self.paths.file_system.shared
    }
}

/// Returns whether the tenure ends only when the thread or task that acquired it says so.
fn is_bound_to_its_requester(tenure: &FileTenure) -> bool {
    let options = &tenure.request.options;
    // A revoked share leaves no record that would show its end.
    let may_vanish = tenure.request.shared && options.max_hold.is_some() && options.overrun == Overrun::Revoke;
    options.deadlock_check && !options.reentrant && !may_vanish && tenure.is_held()
}

/// A lock that is held during a wait.
#[derive(Debug)]
struct Held {
    paths: Arc<LockPaths>,
    lock: HeldLock,
    by: HeldBy,
}

#[derive(Debug)]
enum HeldBy {
    /// The waiting thread or task, or one around it.
    Requester(Arc<FileTenure>),
    /// The holder that runs this process as its command.
    Parent(Box<Record>),
}

impl Held {
    /// Returns how many slots the holder agreed to, if the lock is that of a slot.
    fn slots(&self) -> Option<u32> {
        match &self.by {
            HeldBy::Requester(tenure) => tenure.request.options.slots,
            HeldBy::Parent(record) => wait_graph::slots_of(Some(record)),
        }
    }
}

/// Returns what ends only after a wait of `requester`, and those `around` it, for another lock than that of `queue`.
fn held_during_wait(requester: RequesterId, around: &[RequesterId], queue: Option<&Arc<TargetQueue>>) -> Vec<Held> {
    let mut held = Vec::new();
    for other in registry::queues() {
        let of_one = |requester: &RequesterId| other.tenure_of(*requester);
        if queue.is_none_or(|queue| !Arc::ptr_eq(&other, queue))
            && let Some(tenure) = std::iter::once(&requester).chain(around).find_map(of_one)
            && let Some(anchor) = &tenure.grant.anchor
            && is_bound_to_its_requester(&tenure)
        {
            let fence = (!tenure.request.shared).then_some(tenure.fence);
            let shared_anchor = tenure.request.shared.then_some(anchor.id.inode);
            let Some(id) = LockId::of(&tenure.paths) else { continue };
            let lock = HeldLock { id, fence, shared_anchor, for_command: false };
            held.push(Held { paths: Arc::clone(&tenure.paths), lock, by: HeldBy::Requester(tenure) });
        }
    }
    held.extend(held_for_command::locks().into_iter().map(|(paths, lock, record)| Held {
        paths,
        lock,
        by: HeldBy::Parent(Box::new(record)),
    }));
    held
}

#[cold]
fn announce_queued(
    queue: &Arc<TargetQueue>,
    request: &Request,
    requester: RequesterId,
    around: &[RequesterId],
) -> Result<Option<AnnouncedWait>> {
    if request.options.deadlock_check
        && let Some(own) = around.iter().find_map(|outer| queue.tenure_of(*outer))
    {
        let holder = Some(own.holder());
        return Err(Error::would_deadlock(&queue.target_path, own.request.shared, own.requester).with_holder(holder));
    }
    let (options, shared) = (&request.options, request.shared);
    announce(
        &WaitToAnnounce { paths: queue.paths(), options, shared, slots: None, requester },
        held_during_wait(requester, around, Some(queue)),
    )
}

fn announce(wait: &WaitToAnnounce<'_>, mut held: Vec<Held>) -> Result<Option<AnnouncedWait>> {
    if !wait.is_in_graph() {
        return Ok(None);
    }
    let (Some(id), Some(target)) = (LockId::of(&wait.paths), wait_note::absolute(&wait.paths.target_path)) else {
        return Ok(None);
    };
    held.retain(|held| !held.paths.file_system.shared && (wait.slots.is_some() || held.lock.id != id));
    if held.is_empty() {
        return Ok(None);
    }
    let mode = held.iter().find_map(|held| match &held.by {
        HeldBy::Requester(tenure) => tenure.request.options.mode,
        HeldBy::Parent(_) => None,
    });
    let mut note = note(wait, WaitedLock { target, id, shared: wait.shared, slots: wait.slots });
    let beside = held.iter().map(|held| (Arc::clone(&held.paths), held.lock.clone())).collect();
    let notes = wait_note::publish(&mut note, beside, mode);
    let published = notes.iter().map(|note| note.id).collect();
    let look = Look { paths: Arc::clone(&wait.paths), held, note, published };
    let undecided = match wait.options.deadlock_check.then(|| look.once()) {
        Some(Found::Circle(error)) => return Err(error),
        Some(Found::Undecided(_)) => Some(look),
        Some(Found::Nothing) | None => None,
    };
    Ok(Some(AnnouncedWait { _notes: notes, undecided }))
}

fn note(wait: &WaitToAnnounce<'_>, waits_for: WaitedLock) -> WaitNote {
    let this = this_process();
    WaitNote {
        version: 1,
        pid: this.identity.pid,
        start_time: this.identity.start_time,
        pid_namespace: this.identity.pid_namespace,
        command: this.command.as_deref().map(shortened),
        label: wait.options.label.as_deref().map(shortened),
        task: wait.requester.task(),
        task_name: requester::name(wait.requester).as_deref().map(shortened),
        since_ms: u64::try_from(sys::since_epoch().as_millis()).unwrap_or(u64::MAX),
        since_boot_ns: u64::try_from(sys::since_boot().as_nanos()).unwrap_or(u64::MAX),
        refuses_itself: wait.options.deadlock_check,
        waits_for,
        held: Vec::new(),
    }
}

/// Returns a text as a note has it: as long as it may be in a record.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 1024;
    text.chars().take(LONGEST).collect()
}

/// The look for a circle that an announced wait would close.
#[derive(Debug)]
pub(crate) struct Look {
    paths: Arc<LockPaths>,
    held: Vec<Held>,
    note: WaitNote,
    published: Vec<FileId>,
}

/// The outcome of one look.
enum Found {
    Nothing,
    Circle(Error),
    /// A circle that a later waiter is about to break; or, without the error, one that is not proven yet.
    Undecided(Option<Error>),
}

impl Look {
    fn once(&self) -> Found {
        let own = Own {
            find: &|id| {
                let index = self.held.iter().position(|held| held.lock.id == *id)?;
                let held = &self.held[index];
                Some(OwnLock { index, exclusive: held.lock.fence.is_some(), slots: held.slots() })
            },
            // Whether the lock was broken since is on disk only, and is asked between the two readings of the circle.
            is_held: &|index, shared| {
                let held = &self.held[index];
                wait_graph::is_held(&held.paths, &held.lock, &self.note, shared)
            },
            notes: &self.published,
        };
        let Some(found) = wait_graph::find(&self.paths, &self.note.waits_for, &own) else { return Found::Nothing };
        if !found.proven {
            return Found::Undecided(None);
        }
        // A later waiter sees this note, finds the circle too, and fails.
        let is_later = |step: &Step, own: FileId| step.is_refused_before(self.note.since_boot_ns, own);
        let later = self.published.first().is_some_and(|own| found.steps.iter().any(|step| is_later(step, *own)));
        let error = Error::would_close(&self.paths.target_path, self.circle(&found));
        if later { Found::Undecided(Some(error)) } else { Found::Circle(error) }
    }

    /// Looks again until it is decided whether the wait closes a circle, for a second at most, and while the wait `goes_on`.
    ///
    /// # Errors
    ///
    /// The wait closes a circle.
    pub(crate) fn decide(&self, goes_on: impl Fn() -> bool) -> Result<()> {
        for looks_left in (0..LOOKS_AGAIN).rev() {
            sys::pause(LOOK_PAUSE);
            if !goes_on() {
                break;
            }
            match self.once() {
                Found::Circle(error) => return Err(error),
                Found::Undecided(Some(error)) if looks_left == 0 => return Err(error),
                Found::Undecided(_) => {}
                Found::Nothing => break,
            }
        }
        Ok(())
    }

    /// Returns the circle of waits that lead to a wait for what this waiter holds.
    fn circle(&self, found: &Deadlock) -> Circle {
        let note = &self.note;
        let mut waits: Vec<Waiting> = found.steps.iter().map(Step::waiting).collect();
        waits.extend(found.own.iter().map(|index| {
            let held = &self.held[*index];
            let (holder, holder_pid) = match &held.by {
                HeldBy::Requester(tenure) => (Some(tenure.holder()), None),
                HeldBy::Parent(record) => (None, record.pid),
            };
            let (command, label) = holder.map_or((None, None), |holder| (holder.command, holder.label));
            Waiting {
                pid: note.pid,
                command: command.or_else(|| note.command.clone()),
                label: label.or_else(|| note.label.clone()),
                task: note.task,
                task_name: note.task_name.clone(),
                holds: wait_note::shown(&held.paths.target_path),
                holder_pid,
                waits_for: note.waits_for.target.clone(),
                slots: note.waits_for.slots,
                since: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(note.since_ms)),
            }
        }));
        Circle { waits }
    }
}
