//! Deadlocks: a waiter says what it holds and what it waits for, and looks for a circle of such waits.
//!
//! First it publishes its [notes](crate::file::wait_note), then it looks. So of the waits that close a circle, the one that
//! was published last finds all others. Where several find it, one gives way at once: the latest. The others look again for
//! a moment, and fail as well if the circle is still there then.
//!
//! Only a thread is proven to wait. A task waits while other tasks of its thread run, so an acquire without a thread
//! publishes nothing and fails for no circle. Neither does what a thread holds count where another thread may release it:
//! with `deadlock_check(false)`, and with `reentrant(true)`, whose holds the whole process counts.
//!
//! A holder that runs a command waits for the command's end. So a wait of the command is a wait of that holder too, if the
//! command does not end meanwhile. `tenure run` does not, and says so beside the [locks that are held for
//! it](crate::file::held_for_command). A wait of the command's descendant proves nothing about the command, which may end
//! first.

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant, SystemTime};

use crate::file::held_for_command;
use crate::file::paths::LockPaths;
use crate::file::wait_note::{self, HeldLock, LockId, PublishedNote, Step, WaitNote, WaitedLock};
use crate::model::circle::{Circle, Waiting};
use crate::model::error::{Error, Result};
use crate::model::options::{Overrun, StalePolicy};
use crate::model::request::Request;
use crate::model::this_process::this_process;
use crate::record::Record;
use crate::sys;
use crate::wait::queue::TargetQueue;
use crate::wait::registry;
use crate::wait::tenure::{self, FileTenure};

/// How often, and after which pause, a waiter looks again for a circle that a later waiter is about to break: a second
/// in all.
const LOOKS_AGAIN: u32 = 200;
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What this process says of a wait, until the wait ends.
#[derive(Debug)]
pub(crate) struct AnnouncedWait {
    _notes: Vec<PublishedNote>,
}

impl AnnouncedWait {
    /// Announces that `thread` waits for the lock of `queue`, where it holds other locks. The waiter has its place in the queue.
    ///
    /// # Errors
    ///
    /// The wait would close a circle. The caller gives it up.
    pub(crate) fn begin(
        queue: &Arc<TargetQueue>,
        request: &Request,
        thread: Option<ThreadId>,
        deadline: Option<Instant>,
    ) -> Result<Option<AnnouncedWait>> {
        let Some(thread) = thread else { return Ok(None) };
        // What this process holds may be no more than the lock that the wait is for.
        let held = tenure::count();
        if (held == 0 || (held == 1 && queue.has_tenure())) && !held_for_command::may_exist() {
            return Ok(None);
        }
        announce(queue, request, thread, deadline)
    }
}

/// Returns whether a wait in that way may be part of a circle that can be proven.
fn is_in_graph(paths: &LockPaths, request: &Request) -> bool {
    // A bare lock has no anchor. A steal by age ends the wait, whatever the holder does.
    !request.bare()
        && request.options.stale_policy == StalePolicy::Proof
        && wait_note::exist_here()
        // Two machines that mount it share neither processes nor numbers of files.
        && !paths.file_system.shared
}

/// Returns whether the tenure ends only when the thread that acquired it says so.
fn is_bound_to_its_thread(tenure: &FileTenure) -> bool {
    let options = &tenure.request.options;
    // A revoked share leaves no record that would show its end.
    let may_vanish = tenure.request.shared && options.max_hold.is_some() && options.overrun == Overrun::Revoke;
    options.deadlock_check && !options.reentrant && !may_vanish && tenure.is_held()
}

/// A lock that is held during a wait.
struct Held {
    paths: Arc<LockPaths>,
    lock: HeldLock,
    by: HeldBy,
}

enum HeldBy {
    /// The waiting thread.
    Thread(Arc<FileTenure>),
    /// The holder that runs this process as its command.
    Parent(Box<Record>),
}

/// Returns what ends only after the wait of `thread` for the lock of `queue`.
fn held_by(thread: ThreadId, queue: &Arc<TargetQueue>) -> Vec<Held> {
    let mut held = Vec::new();
    for other in registry::queues() {
        if !Arc::ptr_eq(&other, queue)
            && let Some(tenure) = other.tenure_of(thread)
            && let Some(anchor) = &tenure.grant.anchor
            && is_bound_to_its_thread(&tenure)
        {
            let fence = (!tenure.request.shared).then_some(tenure.fence);
            let shared_anchor = tenure.request.shared.then_some(anchor.id.inode);
            let Some(id) = LockId::of(&tenure.paths) else { continue };
            let lock = HeldLock { id, fence, shared_anchor, for_command: false };
            held.push(Held { paths: Arc::clone(&tenure.paths), lock, by: HeldBy::Thread(tenure) });
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
fn announce(
    queue: &Arc<TargetQueue>,
    request: &Request,
    thread: ThreadId,
    deadline: Option<Instant>,
) -> Result<Option<AnnouncedWait>> {
    let paths = queue.paths();
    if !is_in_graph(&paths, request) {
        return Ok(None);
    }
    let (Some(id), Some(target)) = (LockId::of(&paths), wait_note::absolute(&paths.target_path)) else {
        return Ok(None);
    };
    let mut held = held_by(thread, queue);
    held.retain(|held| !held.paths.file_system.shared && held.lock.id != id);
    if held.is_empty() {
        return Ok(None);
    }
    let mode = held.iter().find_map(|held| match &held.by {
        HeldBy::Thread(tenure) => tenure.request.options.mode,
        HeldBy::Parent(_) => None,
    });
    let mut note = note(request, WaitedLock { target, id: id.clone(), shared: request.shared });
    let beside = held.iter().map(|held| (Arc::clone(&held.paths), held.lock.clone())).collect();
    let notes = wait_note::publish(&mut note, beside, mode);
    if request.options.deadlock_check
        && let Some(chain) = find(&paths, &id, request, &held, &note, notes.first(), deadline)
    {
        return Err(Error::would_close(&queue.target_path, circle(&chain, &held, &note)));
    }
    Ok(Some(AnnouncedWait { _notes: notes }))
}

fn note(request: &Request, waits_for: WaitedLock) -> WaitNote {
    let this = this_process();
    WaitNote {
        version: 1,
        pid: this.identity.pid,
        start_time: this.identity.start_time,
        pid_namespace: this.identity.pid_namespace,
        command: this.command.as_deref().map(shortened),
        label: request.options.label.as_deref().map(shortened),
        since_ms: u64::try_from(sys::since_epoch().as_millis()).unwrap_or(u64::MAX),
        since_boot_ns: u64::try_from(sys::since_boot().as_nanos()).unwrap_or(u64::MAX),
        gives_way: request.options.deadlock_check,
        waits_for,
        held: Vec::new(),
    }
}

/// Returns a text as a note has it: as long as it may be in a record.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 1024;
    text.chars().take(LONGEST).collect()
}

/// Returns the waits by which the holder of the lock waits for this thread.
fn find(
    paths: &Arc<LockPaths>,
    id: &LockId,
    request: &Request,
    held: &[Held],
    note: &WaitNote,
    published: Option<&PublishedNote>,
    deadline: Option<Instant>,
) -> Option<Vec<Step>> {
    // Whether the lock was broken since is on disk only, and is asked between the two readings of the chain.
    let ours = |waited: &LockId, shared: bool| {
        held.iter().any(|held| held.lock.id == *waited && wait_note::is_held(&held.paths, &held.lock, note, shared))
    };
    let mut looks = 0;
    loop {
        let chain = wait_note::find_circle(paths, id, request.shared, &ours)?;
        // A later waiter sees this note, finds the circle too, and gives way.
        let later = published
            .is_some_and(|published| chain.iter().any(|step| step.gives_way_to(note.since_boot_ns, published.id)));
        if !later || looks == LOOKS_AGAIN {
            return Some(chain);
        }
        // The wait is over before it began: it ends as any other that is late.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return None;
        }
        looks += 1;
        sys::pause(LOOK_PAUSE);
    }
}

/// Returns the circle of a chain that ends with a wait for a lock of this thread.
fn circle(chain: &[Step], held: &[Held], note: &WaitNote) -> Circle {
    let mut waits: Vec<Waiting> = chain.iter().map(Step::waiting).collect();
    let closes = chain.last().and_then(|step| held.iter().find(|held| *step.waited() == held.lock.id));
    waits.extend(closes.map(|held| {
        let (holder, holder_pid) = match &held.by {
            HeldBy::Thread(tenure) => (Some(tenure.holder()), None),
            HeldBy::Parent(record) => (None, record.pid),
        };
        let (command, label) = holder.map_or((None, None), |holder| (holder.command, holder.label));
        Waiting {
            pid: note.pid,
            command: command.or_else(|| note.command.clone()),
            label: label.or_else(|| note.label.clone()),
            holds: wait_note::shown(&held.paths.target_path),
            holder_pid,
            waits_for: note.waits_for.target.clone(),
            since: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(note.since_ms)),
        }
    }));
    Circle { waits }
}
