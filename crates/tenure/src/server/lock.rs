//! The lock of a name on a server, as [`Lock`](crate::Lock) has it.
//!
//! Two acquires of one process are two places in the server's queue: the server excludes them as it does others. Only
//! what a process can know of itself is decided here: a thread that would wait for itself, and a reentrant tenure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant, SystemTime};

use super::heartbeat::{self, Request};
use super::{LockServer, PendingAcquire, ServerTenure, WaitLimit};
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::options::{Options, StalePolicy, Style, Wait};
use crate::model::status::Status;
use crate::model::this_process::this_process;
use crate::record::{Native, Record, RecordStyle};
use crate::sys::{self, ForkLocal};
use crate::util::thread_pool;

/// One name on one server.
#[derive(Clone, Debug)]
pub(crate) struct ServerLock {
    server: Arc<dyn LockServer>,
    /// A forked child must not speak on its parent's connections.
    generation: u64,
    options: Options,
}

/// How an acquire begins.
pub(crate) enum Begun {
    /// It joined a tenure of this process.
    Joined(Arc<ServerTenure>),
    /// It waits.
    Pending(Arc<PendingAcquire>),
}

impl ServerLock {
    pub(crate) fn open(server: Arc<dyn LockServer>, options: Options) -> Result<ServerLock> {
        let url = server.url();
        url.lock_name()?;
        let unsupported = |what: &'static str| {
            let error = Error::new(ErrorKind::Unsupported, &url.target, what);
            Err(error.with_hint("a lock that a server keeps is exclusive and has a record"))
        };
        if options.style != Style::LockFile {
            return unsupported("flock style is for files");
        }
        if !options.record {
            return unsupported("a lock without a record is for files");
        }
        if options.mode.is_some() {
            return unsupported("permission bits are for files");
        }
        if options.stale_policy != StalePolicy::Proof {
            return unsupported("a live holder's lease cannot be robbed for its age: break the lock");
        }
        Ok(ServerLock { server, generation: sys::fork_generation(), options })
    }

    pub(crate) fn target(&self) -> &Path {
        &self.server.url().target
    }

    /// This process's own: another one after a fork.
    fn server(&self) -> Result<Arc<dyn LockServer>> {
        if self.generation == sys::fork_generation() {
            return Ok(Arc::clone(&self.server));
        }
        match super::open(self.target())? {
            Some(server) => Ok(server),
            None => Ok(Arc::clone(&self.server)),
        }
    }

    pub(crate) fn acquire(&self, wait: Wait) -> Result<Arc<ServerTenure>> {
        let pending = match self.begin(wait, Some(std::thread::current().id()))? {
            Begun::Joined(tenure) => return Ok(tenure),
            Begun::Pending(pending) => pending,
        };
        pending.wait()
    }

    /// Starts an acquire, without blocking.
    pub(crate) fn begin(&self, wait: Wait, thread: Option<ThreadId>) -> Result<Begun> {
        let since = Instant::now();
        let limit = match wait.deadline(since) {
            Some(deadline) if deadline <= since => WaitLimit::Never,
            deadline => WaitLimit::Until(deadline),
        };
        if let Some(tenure) = remembered(self.target()) {
            if self.options.reentrant && tenure.options.reentrant && tenure.join() {
                return Ok(Begun::Joined(tenure));
            }
            let own = self.options.deadlock_check && thread.is_some() && tenure.thread == thread;
            if own && limit != WaitLimit::Never {
                return Err(self.would_deadlock());
            }
        }
        let pending = Arc::new(PendingAcquire::default());
        let request = Request { server: self.server()?, options: self.options.clone(), limit, since, thread };
        enlist(self.target(), &pending);
        let there = Arc::clone(&pending);
        let serve = move || {
            let target = request.server.url().target.clone();
            // A panic must not leave the caller waiting.
            let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| heartbeat::serve(request, &there)));
            if let Err(panic) = served {
                let _ = there.settle(Err(heartbeat::failed(&target)));
                std::panic::resume_unwind(panic);
            }
        };
        thread_pool::run(serve)
            .map_err(|error| Error::io(self.target(), "no thread could be started to wait for the lock", error))?;
        Ok(Begun::Pending(pending))
    }

    fn would_deadlock(&self) -> Error {
        Error::new(
            ErrorKind::WouldDeadlock,
            self.target(),
            "this thread holds the lock already and would wait for itself",
        )
        .with_hint("use the guard that it has, or open both with reentrant(true)")
        .with_advice(Advice::Reenter)
    }

    pub(crate) fn no_shares(&self) -> Error {
        Error::new(ErrorKind::Unsupported, self.target(), "a lock that a server keeps cannot be shared")
            .with_hint("shared locks exist on files, in flock style")
    }

    pub(crate) fn status(&self) -> Result<Status> {
        self.server()?.status()
    }
}

/// Each with its target.
type Pendings = Vec<(PathBuf, Weak<PendingAcquire>)>;

/// What of this process waits for servers.
fn pendings() -> MutexGuard<'static, Pendings> {
    static PENDING: ForkLocal<Mutex<Pendings>> = ForkLocal::new();
    PENDING.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

fn enlist(target: &Path, pending: &Arc<PendingAcquire>) {
    let mut pendings = pendings();
    if pendings.len().is_power_of_two() {
        pendings.retain(|(_, pending)| pending.strong_count() > 0);
    }
    pendings.push((target.to_owned(), Arc::downgrade(pending)));
}

/// Gives up every acquire of this process that waits for a server, for a program that is about to end: its places in the
/// servers' queues are given back, for which this waits for `limit` at most. A process that just ends leaves its places
/// to their leases, and those behind it wait for that.
///
/// The acquires fail, as [busy](crate::Error::is_busy). What is held by a guard stays held.
pub fn give_up_waits(limit: Duration) {
    let end = Instant::now() + limit;
    let pendings = std::mem::take(&mut *pendings());
    let (sender, released) = channel();
    let mut waiting = Vec::new();
    for (target, pending) in pendings.iter().filter_map(|(target, pending)| Some((target, pending.upgrade()?))) {
        let error = Error::new(ErrorKind::Busy, target, "the wait was given up: the program is about to end");
        if let Some(tenure) = pending.withdraw(error) {
            // Granted, and not taken yet. The release waits for the server.
            tenure.discard_undelivered();
            let sender = sender.clone();
            let _ = thread_pool::run(move || {
                let _ = tenure.leave();
                drop(sender);
            });
        }
        waiting.push(pending);
    }
    drop(sender);
    waiting.iter().for_each(|pending| pending.await_without_place(end));
    let _: std::result::Result<(), _> = released.recv_timeout(end.saturating_duration_since(Instant::now()));
}

/// The record of an acquire that begins now. The server gives it its fence.
pub(super) fn new_record(options: &Options) -> Record {
    let own = this_process();
    Record {
        pid: Some(own.identity.pid),
        created_at: Some(SystemTime::now()),
        start_time: None,
        max_hold: options.max_hold,
        native: Some(Native { style: RecordStyle::Engine, ..own.native(options) }),
        marker: None,
    }
}

type Tenures = HashMap<PathBuf, Weak<ServerTenure>>;

/// The tenures of this process on servers.
fn tenures() -> MutexGuard<'static, Tenures> {
    static TENURES: ForkLocal<Mutex<Tenures>> = ForkLocal::new();
    TENURES.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn remember(tenure: &Arc<ServerTenure>) {
    let mut tenures = tenures();
    if tenures.len().is_power_of_two() {
        tenures.retain(|_, tenure| tenure.strong_count() > 0);
    }
    tenures.insert(tenure.target().to_owned(), Arc::downgrade(tenure));
}

fn remembered(target: &Path) -> Option<Arc<ServerTenure>> {
    tenures().get(target).and_then(Weak::upgrade).filter(|tenure| tenure.is_held())
}
