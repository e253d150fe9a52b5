//! The work of a process: the library's own functions, or a foreign program's protocol.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use super::script::{Actor, Removes, Waits};
use super::witness::{self, Granted, LOCK, TARGET};
use crate::file::acquire::{self, Attempt};
use crate::file::cached_files::CachedFiles;
use crate::file::grant::Grant;
use crate::file::paths::LockPaths;
use crate::file::release;
use crate::file::suspended::Yielding;
use crate::kernel::world;
use crate::maintenance::clean::CleanOptions;
use crate::model::error::Error;
use crate::model::options::{Options, StalePolicy, Style, Wait};
use crate::model::request::Request;
use crate::model::status::State;
use crate::model::tenure::{Backend, Begun, Meanwhile, Suspension, Tenure};
use crate::operations::{BreakOptions, break_lock, clean, status};
use crate::record::{self, Content};
use crate::sys::{self, Access, Dir, File, LockKind, Name};
use crate::wait::queue::{Entry, Start, TargetQueue};
use crate::wait::suspension;
use crate::wait::tenure::FileTenure;

/// Maximum number of tries of a process. It tries again after each change.
const TRIES: usize = 6;

pub(super) fn run(actor: Actor) {
    match actor {
        Actor::Native { style, rounds } => native(style, rounds),
        Actor::Waiter { style, shared, rounds } => waiter(style, shared, rounds),
        Actor::Suspender { style } => suspender(style),
        Actor::Crowd { style, threads, rounds, waits } => crowd(style, threads, rounds, waits),
        Actor::Holder { style } => holder(style),
        Actor::Foreign { rounds } => foreign(rounds),
        Actor::Flock => flock(),
        Actor::Clean => cleaner(),
        Actor::Break { force } => breaker(force),
        Actor::User(what) => user(what),
        Actor::Reader => reader(),
        Actor::Look => look(),
        Actor::Hours => {
            world::step("an hour passes");
            world::with(|world| {
                world.kernel.clock += 3_600_000_000;
                world.kernel.changes += 1;
            });
        }
    }
    world::step("exit");
    world::with(|world| {
        let process = world.process();
        world.kill(process);
    });
}

pub(super) fn options(style: Style) -> Options {
    // The dates of records are not refreshed, because the watchdog does not run.
    Options::default().style(style).refresh_interval(Duration::MAX)
}

fn fence(grant: &Grant) -> u64 {
    grant.record.as_deref().and_then(record::Record::previous_fence).unwrap_or(0)
}

/// Checks that this error has a reason: a failed call, a person's removal, or a break.
fn explained(error: &Error, during: &str) {
    let unexplained = world::with(|world| {
        let own = world.witness().failed_calls & (1 << world.process()) != 0;
        world.say(&format!("{during} failed: {error}"));
        // Another program had the lock file open for as long as the removal was tried.
        let in_use = error.io_error().is_some_and(sys::means_in_use);
        let excused = world.witness().meddled || error.is_lost() && world.witness().raced || in_use;
        !(own || excused)
    });
    if unexplained {
        witness::violated(format!("{during} failed without a reason: {error}"));
    }
}

/// Acquires by tries and releases, with the protocol's steps alone: `acquire::attempt` and `release::unlock`.
fn native(style: Style, rounds: usize) {
    let paths = match LockPaths::open(TARGET.as_ref(), true) {
        Ok(paths) => paths,
        Err(error) => return explained(&error, "opening"),
    };
    let request = Request::new(options(style), false);
    let mut kept = CachedFiles::default();
    for _ in 0..rounds {
        let Some(grant) = acquire_by_tries(&paths, &mut kept, &request) else { return };
        world::step("works");
        witness::leaves();
        let ended = grant.record.clone().map(|record| (record, grant.state_offset));
        let released = release::unlock(&paths, &grant, ended);
        if let Err(error) = released {
            // As the queue does: closes the descriptors, which releases locks that could not be unlocked.
            kept = CachedFiles::default();
            drop(grant);
            witness::released_badly();
            explained(&error, "a release");
        }
        witness::has_none("after a release");
    }
}

pub(super) fn acquire_by_tries(paths: &LockPaths, kept: &mut CachedFiles, request: &Request) -> Option<Grant> {
    for _ in 0..TRIES {
        let since = world::with(|world| world.kernel.changes);
        witness::begins();
        let mut grant = Grant::empty();
        match acquire::attempt(paths, kept, request, &mut |_| false, Yielding::Yield, &mut grant) {
            Ok(Attempt::Granted) => {
                witness::enters(Granted {
                    style: request.options.style,
                    shared: request.shared,
                    fence: fence(&grant),
                    crashed: grant.previous.is_crashed(),
                });
                return Some(grant);
            }
            Ok(Attempt::Busy(blocker)) => {
                drop(blocker);
                witness::has_none("after a try that found the lock busy");
                if !world::changed(since) {
                    return None;
                }
            }
            Err(error) => {
                witness::has_none("after an error");
                explained(&error, "an acquire");
            }
        }
    }
    None
}

/// Acquires and stays.
fn holder(style: Style) {
    let Ok(paths) = LockPaths::open(TARGET.as_ref(), true) else { return };
    let mut kept = CachedFiles::default();
    let request = Request::new(options(style), false);
    if let Some(grant) = acquire_by_tries(&paths, &mut kept, &request) {
        // The watchdog's work, where only the holder can remove its lock file.
        while sys::keeps_names() {
            let since = world::with(|world| world.kernel.changes);
            match release::give_up_name(&paths, &grant) {
                Ok(true) => break,
                Ok(false) if !world::changed(since) => break,
                // The next tick.
                Ok(false) | Err(_) => {}
            }
        }
        world::rest();
    }
}

struct Waking {
    thread: usize,
    style: Style,
    shared: bool,
}

impl Wake for Waking {
    /// Wakes the waiter. The helper has the lock for it, or an error, which the waiter returns at once.
    fn wake(self: Arc<Self>) {
        witness::is_granted(self.style, self.shared);
        world::wake(self.thread);
    }
}

/// Acquires by the queue, with a helper thread that waits in the kernel, as `acquire_async` does.
fn waiter(style: Style, shared: bool, rounds: usize) {
    let paths = match LockPaths::open(TARGET.as_ref(), true) {
        Ok(paths) => paths,
        Err(error) => return explained(&error, "opening"),
    };
    let queue = TargetQueue::new(paths.folder, &paths.target_path, false);
    let request = Arc::new(Request::new(options(style), shared));
    let own = world::current().expect("an actor runs on a thread of its own");
    watch_over(&queue);
    let waker = Waker::from(Arc::new(Waking { thread: own, style, shared }));
    for _ in 0..rounds {
        witness::begins();
        let tenure = match acquire_by_queue(&queue, &request, &waker) {
            Ok(tenure) => tenure,
            Err(error) => {
                witness::has_none("after an error");
                explained(&error, "an acquire");
                continue;
            }
        };
        witness::enters(Granted { style, shared, fence: tenure.fence, crashed: tenure.grant.previous.is_crashed() });
        world::step("works");
        if witness::is_broken() && tenure.check().is_ok() {
            witness::violated("the check of a broken tenure passes");
        }
        witness::leaves();
        if let Err(error) = queue.release(&tenure) {
            drop(tenure);
            witness::released_badly();
            explained(&error, "a release");
        }
        witness::has_none("after a release");
    }
}

fn acquire_by_queue(queue: &Arc<TargetQueue>, request: &Arc<Request>, waker: &Waker) -> Result<Arc<FileTenure>, Error> {
    match queue.start(Arc::clone(request), None, Entry::TryThenWait)? {
        Start::Granted(tenure) => Ok(tenure),
        Start::Queued(waiter) | Start::Serving(waiter, _) => loop {
            if let Some(outcome) = TargetQueue::poll(&waiter, waker) {
                break outcome;
            }
            world::sleep();
        },
    }
}

/// Acquires by the queue, suspends the tenure, resumes it, and releases.
fn suspender(style: Style) {
    let paths = match LockPaths::open(TARGET.as_ref(), true) {
        Ok(paths) => paths,
        Err(error) => return explained(&error, "opening"),
    };
    let queue = TargetQueue::new(paths.folder, &paths.target_path, false);
    let request = Arc::new(Request::new(options(style), false));
    let own = world::current().expect("an actor runs on a thread of its own");
    watch_over(&queue);
    let waker = Waker::from(Arc::new(Waking { thread: own, style, shared: false }));
    let failed = |error: &Error, during: &str| {
        witness::has_none("after an error");
        explained(error, during);
    };
    witness::begins();
    let tenure = match acquire_by_queue(&queue, &request, &waker) {
        Ok(tenure) => tenure,
        Err(error) => return failed(&error, "an acquire"),
    };
    let crashed = tenure.grant.previous.is_crashed();
    witness::enters(Granted { style, shared: false, fence: tenure.fence, crashed });
    world::step("works");
    witness::leaves();
    let grants = world::with(|world| world.witness().grants);
    let suspended = suspension::suspend(&tenure, Arc::clone(&queue));
    let suspended = match suspended {
        Ok(suspended) => suspended,
        Err(error) => {
            // As a guard does, that is dropped.
            let _ = queue.release(&tenure);
            drop(tenure);
            witness::released_badly();
            return failed(&error, "a suspension");
        }
    };
    drop(tenure);
    witness::has_none("after a suspension");
    world::step("waits for an answer");
    witness::begins();
    let resumed = match suspended.begin(LockKind::Exclusive, Wait::Forever, None) {
        Ok(Begun::Granted(tenure)) => Ok(tenure),
        Ok(Begun::Pending(pending)) => loop {
            if let Some(outcome) = pending.poll(&waker) {
                break outcome;
            }
            world::sleep();
        },
        Err(error) => Err(error),
    };
    let resumed = match resumed {
        Ok(resumed) => resumed,
        Err(error) => return failed(&error, "a resumption"),
    };
    let facts = resumed.facts();
    let others = world::with(|world| world.witness().grants) != grants;
    let crashed = facts.previous.is_crashed();
    witness::enters(Granted { style, shared: false, fence: facts.fence.unwrap_or(0), crashed });
    let meanwhile = suspended.meanwhile(&facts);
    if meanwhile == Meanwhile::Nobody || others && meanwhile != Meanwhile::Others {
        witness::violated(format!("a resumed tenure says {meanwhile:?}, and others held: {others}"));
    }
    drop(suspended);
    world::step("works");
    witness::leaves();
    if let Err(error) = resumed.release() {
        witness::released_badly();
        explained(&error, "a release");
    }
    witness::has_none("after a release");
}

/// Starts threads that block for one lock. The process's queue passes it on between them, or leaves it open for a running
/// thread.
fn crowd(style: Style, threads: usize, rounds: usize, waits: Waits) {
    let paths = match LockPaths::open(TARGET.as_ref(), true) {
        Ok(paths) => paths,
        Err(error) => return explained(&error, "opening"),
    };
    let queue = TargetQueue::new(paths.folder, &paths.target_path, false);
    // The library sees all of them as one thread.
    let options = options(style).deadlock_check(false);
    let request = Arc::new(Request::new(options, false));
    watch_over(&queue);
    if waits != Waits::ForHelper {
        world::with(world::World::enable_interrupts);
    }
    // An interrupted wait is late, because the clock of deadlines has advanced by at least this.
    let wait = if waits == Waits::UntilDeadline { Wait::For(Duration::from_nanos(1)) } else { Wait::Forever };
    let main = world::current().expect("an actor runs on a thread of its own");
    let left = Rc::new(Cell::new(threads - 1));
    for _ in 1..threads {
        let (queue, request, left) = (Arc::clone(&queue), Arc::clone(&request), Rc::clone(&left));
        world::with(|world| {
            world.spawn(world.process(), move || {
                acquire_repeatedly(&queue, &request, rounds, wait);
                left.set(left.get() - 1);
                world::wake(main);
            })
        });
    }
    acquire_repeatedly(&queue, &request, rounds, wait);
    while left.get() > 0 {
        world::sleep();
    }
    witness::has_none("after the last release");
}

/// Acquires and releases in one thread. For the witness the process stays busy, because its other threads still acquire.
fn acquire_repeatedly(queue: &Arc<TargetQueue>, request: &Arc<Request>, rounds: usize, wait: Wait) {
    let (style, shared) = (request.options.style, request.shared);
    for _ in 0..rounds {
        witness::begins();
        let tenure = match queue.acquire(Arc::clone(request), wait) {
            Ok(tenure) => tenure,
            Err(error) if error.is_busy() => {
                if wait == Wait::Forever {
                    witness::violated("an acquire without a deadline returns busy".to_owned());
                }
                continue;
            }
            Err(error) => {
                explained(&error, "an acquire");
                continue;
            }
        };
        // A tenure that was granted to a sleeping thread may be broken before the witness has seen it begin.
        let whole = !world::with(|world| world.witness().meddled) || tenure.check().is_ok();
        let (fence, crashed) = (tenure.fence, tenure.grant.previous.is_crashed());
        if whole {
            witness::enters(Granted { style, shared, fence, crashed });
            world::step("works");
            if witness::is_broken() && tenure.check().is_ok() {
                witness::violated("the check of a broken tenure passes");
            }
            witness::leaves();
        } else if crashed {
            witness::gets_report();
        }
        if let Err(error) = queue.release(&tenure) {
            drop(tenure);
            witness::released_badly();
            explained(&error, "a release");
        }
    }
}

/// Does the watchdog's work: once a second it checks that the file that a helper waits for still has its name. Time passes
/// when no thread can continue otherwise.
fn watch_over(queue: &Arc<TargetQueue>) {
    const TICK: u64 = 1_000_000;
    let queue = Arc::clone(queue);
    world::with(|world| {
        let (process, time) = (world.process(), world.kernel.clock + TICK);
        world.spawn_later(process, time, move || {
            loop {
                queue.recheck();
                world::sleep_until(world::with(|world| world.kernel.clock) + TICK);
            }
        });
    });
}

fn file_name(name: &[u8]) -> Name {
    use std::os::unix::ffi::OsStrExt;
    Name::new(std::ffi::OsStr::from_bytes(name)).expect("no zero byte is in it")
}

/// Returns the record of a foreign program.
pub(super) fn foreign_text(pid: u32, start_time: u64) -> String {
    format!("{{\n  \"pid\": {pid},\n  \"createdAt\": \"2026-03-02T10:00:00.000Z\",\n  \"starttime\": {start_time}\n}}")
}

/// Follows OpenClaw's protocol: exclusive create, write, and removal of the lock file once its maker was judged dead.
fn foreign(rounds: usize) {
    let dir = Dir::open(".".as_ref()).expect("the folder exists");
    let lock = file_name(LOCK);
    let (pid, start_time) = (sys::pid(), crate::process::start_time(sys::pid()).unwrap_or(0));
    for _ in 0..rounds {
        let mut tries = 0;
        let file = loop {
            let since = world::with(|world| world.kernel.changes);
            match dir.create_new(&lock, 0o644) {
                Ok(file) => {
                    witness::foreign_enters();
                    break file;
                }
                Err(_) if foreign_finds_it_stale(&dir, &lock) => {
                    let _ = dir.unlink(&lock);
                }
                Err(_) => {
                    if !world::changed(since) {
                        return;
                    }
                }
            }
            tries += 1;
            if tries == TRIES {
                return;
            }
        };
        let _ = file.write_at(foreign_text(pid, start_time).as_bytes(), 0);
        world::step("works");
        witness::foreign_leaves();
        drop(file);
        let _ = dir.unlink(&lock);
    }
}

/// The age at which a foreign program takes a lock file without a pid to be stale.
const STALE_AGE: Duration = Duration::from_secs(1800);

fn foreign_finds_it_stale(dir: &Dir, lock: &Name) -> bool {
    let Ok(file) = dir.open_at(lock, Access::Read) else { return false };
    let mut text = [0; 2048];
    let (Ok(length), Ok(stat)) = (file.read(&mut text), file.stat()) else { return false };
    drop(file);
    let now = sys::now();
    let old = |since: std::time::SystemTime| now.duration_since(since).is_ok_and(|age| age > STALE_AGE);
    let Content::Record(record) = record::read(&text[..length]) else { return old(stat.modified) };
    let Some(pid) = record.pid else { return old(stat.modified) };
    let recycled = || record.start_time.is_some_and(|known| crate::process::start_time(pid) != Some(known));
    sys::signal_zero(pid).is_err() || recycled() || record.created_at.is_some_and(old)
}

/// `flock(1)` on the target.
fn flock() {
    let dir = Dir::open(".".as_ref()).expect("the folder exists");
    let target = Name::new(TARGET.as_ref()).expect("no zero byte is in it");
    let Ok(file) = dir.open_at(&target, Access::Read).or_else(|_| dir.create_new(&target, 0o644)) else { return };
    let _ = file.lock(LockKind::Exclusive, None);
    witness::flock_enters();
    world::step("works");
    witness::flock_leaves();
    let _ = file.unlock();
}

fn cleaner() {
    witness::begins();
    let cleaned = clean(".", &CleanOptions::default().idle_anchor_age(Duration::ZERO));
    match cleaned {
        Ok(report) => {
            for lock in &report.locks {
                if let Some(error) = &lock.error {
                    explained(error, "a clean");
                }
            }
        }
        Err(error) => explained(&error, "a clean"),
    }
    witness::has_none("after a clean");
}

fn breaker(force: bool) {
    // After an error, which may leave the break unfinished, the operator repeats it.
    for _ in 0..TRIES {
        witness::begins();
        let broken = break_lock(TARGET, &BreakOptions::default().force(force));
        witness::has_none("after a break");
        match broken {
            Err(error) if !error.is_busy() => explained(&error, "a break"),
            // A forced break is only busy if the holder could not be determined.
            Err(_) if force => {}
            _ => break,
        }
    }
}

fn reader() {
    let dir = Dir::open(".".as_ref()).expect("the folder exists");
    let lock = file_name(LOCK);
    let Ok(file) = dir.open_at(&lock, Access::Read) else { return };
    let _ = dir.keep_name(&lock, &file);
    world::step("reads");
}

fn user(what: Removes) {
    let dir = Dir::open(".".as_ref()).expect("the folder exists");
    if !matches!(what, Removes::Anchors) {
        let _ = dir.unlink(&file_name(LOCK));
    }
    if !matches!(what, Removes::LockFile) {
        remove_anchors();
    }
}

pub(super) fn remove_anchors() {
    let dir = Dir::open(".".as_ref()).expect("the folder exists");
    let folder = file_name(b".tenure");
    if let Ok(anchors) = dir.open_dir(&folder)
        && let Ok(entries) = anchors.entries()
    {
        for (name, _) in entries {
            let whole = [b".tenure/", name.as_os_str().as_encoded_bytes()].concat();
            let _ = dir.unlink(&file_name(&whole));
        }
    }
    let _ = dir.remove_dir(&folder);
}

/// Reads the lock's status, which must show a native that holds throughout.
fn look() {
    let before = world::with(|world| (world.witness().grants, world.witness().holder()));
    let found = status(TARGET);
    let after = world::with(|world| (world.witness().grants, world.witness().holder()));
    match found {
        Ok(found) if before == after && before.1.is_some() && found.state != State::Held => {
            witness::violated(format!("a native holds throughout, and the status is {}", found.state.as_str()));
        }
        Ok(_) => {}
        Err(error) => explained(&error, "a look"),
    }
}

/// Makes the lock file of a foreign program that died long ago.
pub(super) fn foreign_left(text: &str, keep_open: bool) {
    let dir = Dir::open(".".as_ref()).expect("the folder exists");
    let file = dir.create_new(&file_name(LOCK), 0o644).expect("no lock file exists yet");
    file.write_at(text.as_bytes(), 0).expect("it is open for writing");
    if keep_open {
        std::mem::forget(file);
    }
}

/// Acquires outside of a run, at once.
pub(super) fn native_left(style: Style) -> Option<(LockPaths, CachedFiles, Grant)> {
    let paths = LockPaths::open(TARGET.as_ref(), true).ok()?;
    let mut kept = CachedFiles::default();
    let request = Request::new(options(style).stale_policy(StalePolicy::Proof), false);
    let grant = acquire_by_tries(&paths, &mut kept, &request)?;
    Some((paths, kept, grant))
}

pub(super) fn release(paths: &LockPaths, grant: &Grant) -> Result<(), Error> {
    let ended = grant.record.clone().map(|record| (record, grant.state_offset));
    release::unlock(paths, grant, ended)
}

/// Makes the target, so that the first native does not have to.
pub(super) fn make_target() {
    let dir = Dir::open(".".as_ref()).expect("the folder exists");
    let _: Option<File> = dir.create_new(&Name::new(TARGET.as_ref()).expect("no zero byte"), 0o644).ok();
}
