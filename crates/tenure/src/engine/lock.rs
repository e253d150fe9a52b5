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

use super::keeper::{self, Request};
use super::{Ask, Engine, Hold, Stay};
use crate::model::error::{Advice, Error, ErrorKind, Result};
use crate::model::options::{Options, StalePolicy, Style, Wait};
use crate::model::status::Status;
use crate::model::this_process::this_process;
use crate::record::{Native, Record, RecordStyle};
use crate::sys::{self, ForkLocal};
use crate::util::thread_pool;

/// One name on one server.
#[derive(Clone, Debug)]
pub(crate) struct EngineLock {
    engine: Arc<dyn Engine>,
    /// A forked child must not speak on its parent's connections.
    generation: u64,
    options: Options,
}

/// How an acquire begins.
pub(crate) enum Begun {
    /// It joined a tenure of this process.
    Joined(Arc<Hold>),
    /// It waits.
    Asked(Arc<Ask>),
}

impl EngineLock {
    pub(crate) fn open(engine: Arc<dyn Engine>, options: Options) -> Result<EngineLock> {
        let url = engine.url();
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
        Ok(EngineLock { engine, generation: sys::fork_generation(), options })
    }

    pub(crate) fn target(&self) -> &Path {
        &self.engine.url().target
    }

    /// This process's own: another one after a fork.
    fn engine(&self) -> Result<Arc<dyn Engine>> {
        if self.generation == sys::fork_generation() {
            return Ok(Arc::clone(&self.engine));
        }
        match super::open(self.target())? {
            Some(engine) => Ok(engine),
            None => Ok(Arc::clone(&self.engine)),
        }
    }

    pub(crate) fn acquire(&self, wait: Wait) -> Result<Arc<Hold>> {
        let ask = match self.begin(wait, Some(std::thread::current().id()))? {
            Begun::Joined(hold) => return Ok(hold),
            Begun::Asked(ask) => ask,
        };
        ask.wait()
    }

    /// Starts an acquire, without blocking.
    pub(crate) fn begin(&self, wait: Wait, thread: Option<ThreadId>) -> Result<Begun> {
        let since = Instant::now();
        let stay = match wait.deadline(since) {
            Some(deadline) if deadline <= since => Stay::Never,
            deadline => Stay::Until(deadline),
        };
        if let Some(hold) = remembered(self.target()) {
            if self.options.reentrant && hold.options.reentrant && hold.join() {
                return Ok(Begun::Joined(hold));
            }
            let own = self.options.deadlock_check && thread.is_some() && hold.thread == thread;
            if own && stay != Stay::Never {
                return Err(self.would_deadlock());
            }
        }
        let ask = Arc::new(Ask::default());
        let request = Request { engine: self.engine()?, options: self.options.clone(), stay, since, thread };
        enlist(self.target(), &ask);
        let there = Arc::clone(&ask);
        let serve = move || {
            let target = request.engine.url().target.clone();
            // A panic must not leave whoever asks waiting.
            let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| keeper::serve(request, &there)));
            if let Err(panic) = served {
                let _ = there.settle(Err(keeper::failed(&target)));
                std::panic::resume_unwind(panic);
            }
        };
        thread_pool::run(serve)
            .map_err(|error| Error::io(self.target(), "no thread could be started to wait for the lock", error))?;
        Ok(Begun::Asked(ask))
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
        self.engine()?.status()
    }
}

/// Each with its target.
type Asks = Vec<(PathBuf, Weak<Ask>)>;

/// What of this process waits for servers.
fn asks() -> MutexGuard<'static, Asks> {
    static ASKS: ForkLocal<Mutex<Asks>> = ForkLocal::new();
    ASKS.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

fn enlist(target: &Path, ask: &Arc<Ask>) {
    let mut asks = asks();
    if asks.len().is_power_of_two() {
        asks.retain(|(_, ask)| ask.strong_count() > 0);
    }
    asks.push((target.to_owned(), Arc::downgrade(ask)));
}

/// Gives up every acquire of this process that waits for a server, for a program that is about to end: its places in the
/// servers' queues are given back, for which this waits for `limit` at most. A process that just ends leaves its places
/// to their leases, and those behind it wait for that.
///
/// The acquires fail, as [busy](crate::Error::is_busy). What is held by a guard stays held.
pub fn give_up_waits(limit: Duration) {
    let end = Instant::now() + limit;
    let asks = std::mem::take(&mut *asks());
    let (sender, released) = channel();
    let mut waiting = Vec::new();
    for (target, ask) in asks.iter().filter_map(|(target, ask)| Some((target, ask.upgrade()?))) {
        let error = Error::new(ErrorKind::Busy, target, "the wait was given up: the program is about to end");
        if let Some(hold) = ask.withdraw(error) {
            // Granted, and not taken yet. The release waits for the server.
            hold.discard_undelivered();
            let sender = sender.clone();
            let _ = thread_pool::run(move || {
                let _ = hold.leave();
                drop(sender);
            });
        }
        waiting.push(ask);
    }
    drop(sender);
    waiting.iter().for_each(|ask| ask.await_without_place(end));
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

type Holds = HashMap<PathBuf, Weak<Hold>>;

/// What this process holds on servers.
fn holds() -> MutexGuard<'static, Holds> {
    static HOLDS: ForkLocal<Mutex<Holds>> = ForkLocal::new();
    HOLDS.get(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn remember(hold: &Arc<Hold>) {
    let mut holds = holds();
    if holds.len().is_power_of_two() {
        holds.retain(|_, hold| hold.strong_count() > 0);
    }
    holds.insert(hold.target().to_owned(), Arc::downgrade(hold));
}

fn remembered(target: &Path) -> Option<Arc<Hold>> {
    holds().get(target).and_then(Weak::upgrade).filter(|hold| hold.is_held())
}
