//! Deadlocks: a waiter says what it holds and what it waits for, and looks for a circle of such waits.
//!
//! First it publishes its [notes](crate::file::wait_note), then it looks. So of the waits that close a circle, the one that
//! was published last finds all others. Where several find it, one gives way at once: the latest. The others look again for
//! a moment, and fail as well if the circle is still there then.
//!
//! Only a thread is proven to wait. A task waits while other tasks of its thread run, so an acquire without a thread
//! publishes nothing and fails for no circle. Neither does what a thread holds count where another thread may release it:
//! with `deadlock_check(false)`, and with `reentrant(true)`, whose holds the whole process counts.

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, SystemTime};

use crate::file::paths::LockPaths;
use crate::file::wait_note::{self, HeldLock, PublishedNote, Step, WaitNote, WaitedLock};
use crate::model::circle::{Circle, Waiting};
use crate::model::error::{Error, Result};
use crate::model::options::{Overrun, StalePolicy};
use crate::model::request::Request;
use crate::model::this_process::this_process;
use crate::sys::{self, FileId, ReplaceSteps};
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
    ) -> Result<Option<AnnouncedWait>> {
        let Some(thread) = thread else { return Ok(None) };
        // What this process holds may be no more than the lock that the wait is for.
        let held = tenure::count();
        if held == 0 || (held == 1 && queue.has_tenure()) {
            return Ok(None);
        }
        announce(queue, request, thread)
    }
}

/// Returns whether a wait in that way may be part of a circle that can be proven.
fn is_in_graph(paths: &LockPaths, request: &Request) -> bool {
    // A bare lock has no anchor. A steal by age ends the wait, whatever the holder does.
    !request.bare()
        && request.options.stale_policy == StalePolicy::Proof
        // The ports whose steps differ were not proven. Two machines share neither processes nor numbers of files.
        && sys::replace_steps() == ReplaceSteps::One
        && !paths.file_system.shared
}

/// Returns whether the tenure ends only when the thread that acquired it says so.
fn is_bound_to_its_thread(tenure: &FileTenure) -> bool {
    let options = &tenure.request.options;
    // A revoked share leaves no record that would show its end.
    let may_vanish = tenure.request.shared && options.max_hold.is_some() && options.overrun == Overrun::Revoke;
    options.deadlock_check && !options.reentrant && !may_vanish && tenure.is_held()
}

#[cold]
fn announce(queue: &Arc<TargetQueue>, request: &Request, thread: ThreadId) -> Result<Option<AnnouncedWait>> {
    let paths = queue.paths();
    if !is_in_graph(&paths, request) {
        return Ok(None);
    }
    let mut held: Vec<(Arc<FileTenure>, HeldLock)> = Vec::new();
    for other in registry::queues() {
        if !Arc::ptr_eq(&other, queue)
            && let Some(tenure) = other.tenure_of(thread)
            && let Some(anchor) = &tenure.grant.anchor
            && is_bound_to_its_thread(&tenure)
            && !tenure.paths.file_system.shared
        {
            let fence = (!tenure.request.shared).then_some(tenure.fence);
            let lock = HeldLock { device: anchor.id.device, inode: anchor.id.inode, fence, for_command: false };
            held.push((tenure, lock));
        }
    }
    let (Some((first, _)), Some(id)) = (held.first(), wait_note::anchor_id(&paths)) else { return Ok(None) };
    let Some(target) = wait_note::absolute(&paths.target_path) else { return Ok(None) };
    let mode = first.request.options.mode;
    let mut note = note(request, WaitedLock { target, device: id.device, inode: id.inode, shared: request.shared });
    let beside = held.iter().map(|(tenure, lock)| (Arc::clone(&tenure.paths), lock.clone())).collect();
    let notes = wait_note::publish(&mut note, beside, mode);
    if request.options.deadlock_check
        && let Some(chain) = find(&paths, id, request, &held, &note, notes.first())
    {
        return Err(Error::would_close(&queue.target_path, circle(&chain, &paths, &held, &note)));
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
        command: this.command.as_deref().map(str::to_owned),
        label: request.options.label.as_deref().map(str::to_owned),
        since_ms: u64::try_from(sys::since_epoch().as_millis()).unwrap_or(u64::MAX),
        since_boot_ns: u64::try_from(sys::since_boot().as_nanos()).unwrap_or(u64::MAX),
        gives_way: request.options.deadlock_check,
        waits_for,
        held: Vec::new(),
    }
}

/// Returns the waits by which the holder of the lock waits for this thread.
fn find(
    paths: &Arc<LockPaths>,
    id: FileId,
    request: &Request,
    held: &[(Arc<FileTenure>, HeldLock)],
    note: &WaitNote,
    published: Option<&PublishedNote>,
) -> Option<Vec<Step>> {
    // A wait for a share does not wait for a share.
    let ours = |waited: FileId, shared: bool| {
        held.iter().any(|(_, lock)| lock.id() == waited && (lock.fence.is_some() || !shared))
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
        looks += 1;
        sys::pause(LOOK_PAUSE);
    }
}

/// Returns the circle of a chain that ends with a wait for a lock of this thread.
fn circle(chain: &[Step], paths: &LockPaths, held: &[(Arc<FileTenure>, HeldLock)], note: &WaitNote) -> Circle {
    let mut waits: Vec<Waiting> = chain.iter().map(Step::waiting).collect();
    let closes = chain.last().and_then(|step| held.iter().find(|(_, lock)| step.waits_for_lock(lock.id())));
    waits.extend(closes.map(|(tenure, _)| {
        let record = tenure.holder();
        Waiting {
            pid: note.pid,
            command: record.command.or_else(|| note.command.clone()),
            label: record.label,
            holds: tenure.paths.target_path.clone(),
            holder_pid: None,
            waits_for: paths.target_path.clone(),
            since: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(note.since_ms)),
        }
    }));
    Circle { waits }
}
