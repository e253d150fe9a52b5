//! One run of a script: the initial files, the processes, and the checks at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::actors;
use super::schedule::{Choice, Schedule};
use super::script::{Actor, Left, Opening, Script};
use super::witness::{self, LOCK, Role, Witness};
use crate::kernel::arena;
use crate::kernel::call::Call;
use crate::kernel::state::{Errno, Face, Kernel};
use crate::kernel::world::{self, World};
use crate::maintenance::clean::CleanOptions;
use crate::model::options::Style;
use crate::operations::clean;
use crate::record::{self, Content};

/// A violation that a run found.
#[derive(Debug)]
pub struct Failure {
    pub script: &'static str,
    pub face: Face,
    pub what: String,
    pub schedule: Schedule,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let face = match Face::ALL.iter().find(|(_, face)| *face == self.face) {
            Some((name, face)) if *face != Face::Linux => format!(" --face {name}"),
            _ => String::new(),
        };
        write!(
            f,
            "{}: {}\n  to replay it call by call: cargo run --release -p tenure-sim --{face} --replay '{}:{}'",
            self.script, self.what, self.script, self.schedule
        )
    }
}

/// The end of a run.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    /// The chooser ended the run.
    Cut,
    Failed(String),
}

/// Makes the choices of a run. It must not keep anything of the run, whose memory is used again.
pub(super) trait Chooser {
    /// Returns one of the choices, or `None` to end the run here. `fingerprint` identifies the state.
    fn choose(&mut self, choices: &[Choice], fingerprint: &dyn Fn() -> u64) -> Option<usize>;

    /// Returns whether this final state is to be checked.
    fn ends(&mut self, fingerprint: u64) -> bool;
}

/// The rest of a run's bounds, and its progress.
struct Budget {
    deaths: u8,
    failures: u8,
    preemptions: Option<u32>,
    /// The thread that made the last call.
    last: Option<usize>,
    /// How often the clock was advanced because no thread could continue.
    moments: u8,
    steps: u64,
    /// The number of pieces of the script's opening that were played.
    opened: usize,
}

/// How often the clock may be advanced because no thread can continue.
const MOMENTS: u8 = 24;
/// A time after which every lock file without a pid is stale. An empty file is after half an hour.
const GRACE: u64 = 3_600_000_000;
/// A run with more calls is taken to be endless.
const STEPS: u64 = 3_000;

/// Runs a script with the choices of `chooser`. Adds a line for each call to `story`.
pub(super) fn run(
    script: &Script,
    chooser: &mut dyn Chooser,
    choices: &mut Vec<Choice>,
    story: Option<&mut Vec<String>>,
) -> (Outcome, u64) {
    // Values that std makes once a thread must not be made in the arena.
    let _ = std::thread::current();
    arena::begin();
    let mut budget = Budget {
        // The opening's deaths are added.
        deaths: script.deaths + script.opening.iter().filter(|piece| matches!(piece, Opening::Dies(_))).count() as u8,
        failures: script.failures,
        preemptions: script.preemptions,
        last: None,
        moments: 0,
        steps: 0,
        opened: 0,
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        begin(script, story.is_some());
        go_on(script, chooser, choices, &mut budget)
    }));
    let outcome = match result {
        Ok(outcome) => arena::outside(|| match &outcome {
            Outcome::Done => Outcome::Done,
            Outcome::Cut => Outcome::Cut,
            Outcome::Failed(what) => Outcome::Failed(what.clone()),
        }),
        Err(panic) => arena::outside(|| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Outcome::Failed(format!("a panic: {text}"))
        }),
    };
    if let Some(story) = story {
        arena::outside(|| world::with(|world| story.clone_from(world.story.as_ref().expect("the run has a story"))));
    }
    if matches!(outcome, Outcome::Failed(_)) {
        // A panic's values may point into it.
        arena::keep();
    } else {
        world::leave();
        arena::end();
    }
    (outcome, budget.steps)
}

fn role(actor: Actor) -> Role {
    match actor {
        Actor::Foreign { .. } => Role::Foreign,
        Actor::User(_) => Role::User,
        Actor::Break { force: true } => Role::Breaker,
        _ => Role::Native,
    }
}

fn begin(script: &Script, story: bool) {
    let roles = script.actors.iter().map(|actor| role(*actor)).collect();
    world::enter(Kernel::new(script.fs), Box::new(Witness::new(roles)), script.torn, story);
    world::with(|world| {
        world.witness().users = script.users;
        for at in 0..script.actors.len() {
            world.kernel.start(100 + at as u32, script.user(at + 1));
        }
    });
    actors::make_target();
    for left in script.left {
        leave(*left, script.user(0));
    }
    world::with(|world| {
        for (at, actor) in script.actors.iter().enumerate() {
            let actor = *actor;
            world.spawn(at, move || actors::run(actor));
        }
    });
}

/// Starts a process that only leaves files, and makes it the current one.
fn visitor(pid: u32, user: u32) -> usize {
    world::with(|world| {
        let visitor = world.kernel.start(pid, user);
        world.become_process(visitor);
        visitor
    })
}

fn leave(left: Left, user: u32) {
    const PID: u32 = 900;
    let visitor = visitor(PID, user);
    let end = || {
        world::with(|world| {
            world.dies(visitor);
            world.kernel.end(visitor);
        });
    };
    let text = |pid, start_time| actors::foreign_text(pid, start_time);
    match left {
        Left::Anchor => {
            let (paths, kept, grant) = actors::native_left(Style::LockFile).expect("no other process runs");
            witness::leaves();
            actors::release(&paths, &grant).expect("no other process runs");
            witness::has_none("after a release");
            std::mem::forget((paths, kept, grant));
            world::with(|world| world.kernel.end(visitor));
        }
        Left::DeadNative | Left::DeadFlockNative => {
            let style = if left == Left::DeadNative { Style::LockFile } else { Style::Flock };
            std::mem::forget(actors::native_left(style).expect("no other process runs"));
            end();
        }
        Left::NoAnchors => {
            actors::remove_anchors();
            end();
        }
        Left::DeadForeign => {
            actors::foreign_left(&text(PID, 77), false);
            witness::foreign_enters();
            end();
        }
        Left::Recycled => {
            actors::foreign_left(&text(PID, 77), false);
            witness::foreign_enters();
            end();
            self::visitor(PID, user);
        }
        Left::Blank => {
            actors::foreign_left("", false);
            witness::foreign_enters();
            end();
        }
        Left::Container => {
            actors::foreign_left(&text(PID + 1, 77), true);
            witness::foreign_enters();
        }
    }
}

fn go_on(script: &Script, chooser: &mut dyn Chooser, choices: &mut Vec<Choice>, budget: &mut Budget) -> Outcome {
    loop {
        if let Some(what) = world::with(|world| world.witness().violation.take()) {
            return Outcome::Failed(what);
        }
        let rests = |world: &mut World| (0..world.threads.len()).all(|at| world.rests(at));
        if world::with(rests) {
            let fingerprint = world::with(|world| world.fingerprint());
            let look = arena::outside(|| chooser.ends(fingerprint));
            return if look { at_the_end() } else { Outcome::Done };
        }
        // The opening's choices do not count against the bounds.
        let scripted = match next_of(script.opening, &mut budget.opened) {
            Ok(Some(choice)) => {
                choices.clear();
                choices.push(choice);
                true
            }
            Ok(None) => {
                world::with(|world| offer(world, script, budget, choices));
                false
            }
            Err(()) => return Outcome::Failed("the script's opening can no longer be played".to_owned()),
        };
        if choices.is_empty() {
            match resume_time(budget) {
                Ok(true) => continue,
                Ok(false) => return Outcome::Done,
                Err(what) => return Outcome::Failed(what),
            }
        }
        let fingerprint = || {
            let state = world::with(|world| world.fingerprint());
            let spent = u64::from(budget.deaths) | u64::from(budget.failures) << 8 | u64::from(budget.moments) << 16;
            let bound = match (budget.preemptions, budget.last) {
                (None, _) => 0,
                (Some(left), last) => (u64::from(left) << 8 | last.map_or(0xff, |last| last as u64)) << 24,
            };
            crate::kernel::state::mix(state, spent | bound)
        };
        let chosen = arena::outside(|| chooser.choose(choices, &fingerprint));
        let Some(chosen) = chosen else { return Outcome::Cut };
        apply(choices[chosen], scripted, budget);
        budget.steps += 1;
        if budget.steps > STEPS {
            return Outcome::Failed("the run does not end".to_owned());
        }
    }
}

/// Returns the next choice of the opening, or `None` after its end.
fn next_of(opening: &[Opening], opened: &mut usize) -> Result<Option<Choice>, ()> {
    while let Some(piece) = opening.get(*opened) {
        let (thread, wanted) = match *piece {
            Opening::Once(thread) => {
                *opened += 1;
                return Ok(Some(Choice::Run(thread)));
            }
            Opening::Dies(process) => {
                *opened += 1;
                return Ok(Some(Choice::Die(process)));
            }
            Opening::Until(thread, call) => (thread, Some(call)),
            Opening::Ends(thread) => (thread, None),
        };
        let at = usize::from(thread);
        let (done, call) = world::with(|world| (world.threads[at].done, world.threads[at].call));
        if (done && wanted.is_none()) || (!done && wanted == Some(call)) {
            *opened += 1;
            continue;
        }
        return if world::with(|world| world.is_ready(at)) { Ok(Some(Choice::Run(thread))) } else { Err(()) };
    }
    Ok(None)
}

fn offer(world: &World, script: &Script, budget: &Budget, choices: &mut Vec<Choice>) {
    choices.clear();
    let last = budget.last.filter(|last| world.is_ready(*last));
    let may_switch = last.is_none() || budget.preemptions != Some(0);
    let others = (0..world.threads.len()).filter(|at| Some(*at) != last);
    for at in last.into_iter().chain(others.filter(|at| may_switch && world.is_ready(*at))) {
        choices.push(Choice::Run(at as u8));
    }
    if budget.deaths > 0 {
        for process in 0..script.actors.len() {
            let mut threads = world.threads.iter().filter(|thread| thread.process == process);
            let writes = threads.any(|thread| thread.call == Call::WriteOn);
            let lives = world.kernel.processes[process].is_alive() && !writes;
            let mortal = match script.actors[process] {
                Actor::User(_) | Actor::Hours | Actor::Look => false,
                // Without a takeover its file would stay, and every later acquire would fail.
                Actor::Foreign { .. } => script.fs.has_takeovers(),
                _ => true,
            };
            if lives && mortal {
                choices.push(Choice::Die(process as u8));
            }
        }
    }
    if budget.failures > 0 {
        for (at, thread) in world.threads.iter().enumerate() {
            let native = matches!(
                script.actors[thread.process],
                Actor::Native { .. }
                    | Actor::Holder { .. }
                    | Actor::Waiter { .. }
                    | Actor::Suspender { .. }
                    | Actor::Crowd { .. }
                    | Actor::Clean
                    | Actor::Break { .. }
            );
            let may = native && world.is_ready(at) && (Some(at) == last || may_switch);
            if may {
                let errors = errors(thread.call, script.every_error);
                choices.extend(errors.iter().map(|errno| Choice::Fail(at as u8, *errno)));
            }
        }
    }
}

/// Returns the errors that a call can return: all that its manual page lists and a file system may return, or one for each way
/// in which the library handles them. Errors that the current state decides (`ENOENT`, `EEXIST`, ..) come from the simulated
/// kernel itself, and `sys` repeats an interrupted call.
fn errors(call: Call, every: bool) -> &'static [Errno] {
    use libc::*;
    let (few, all): (&[Errno], &[Errno]) = match call {
        Call::Start | Call::Step | Call::WriteOn => (&[], &[]),
        Call::StatAt => (&[EACCES, EIO], &[EACCES, EIO, ENOMEM, ELOOP, ENAMETOOLONG]),
        Call::Stat => (&[EIO], &[EIO, ENOMEM]),
        Call::Open => (&[EACCES, EMFILE], &[EACCES, EIO, EMFILE, ENFILE, ENOMEM, EPERM, EROFS, ETXTBSY, EAGAIN]),
        Call::OpenFolder => (&[EACCES, EMFILE], &[EACCES, EIO, EMFILE, ENFILE, ENOMEM]),
        Call::Create => (&[EACCES, ENOSPC], &[EACCES, EDQUOT, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EPERM, EROFS]),
        Call::Link => {
            (&[EPERM, ENOSPC, EXDEV], &[EACCES, EDQUOT, EIO, EMLINK, ENOMEM, ENOSPC, EOPNOTSUPP, EPERM, EROFS, EXDEV])
        }
        Call::Unlink => (&[EACCES, EIO], &[EACCES, EBUSY, EIO, ENOMEM, EPERM, EROFS]),
        Call::UnlinkSame => (&[EACCES, EBUSY, EIO], &[EACCES, EBUSY, EIO, ENOMEM, EPERM, EROFS]),
        Call::KeepName => (&[EACCES], &[EACCES, EBUSY, EIO, EMFILE, ENOMEM]),
        Call::Rename => (&[EACCES, EINVAL], &[EACCES, EBUSY, EDQUOT, EINVAL, EIO, ENOMEM, ENOSPC, EPERM, EROFS, EXDEV]),
        Call::MakeDir => (&[EACCES, ENOSPC], &[EACCES, EDQUOT, EIO, EMLINK, ENOMEM, ENOSPC, EPERM, EROFS]),
        Call::RemoveDir => (&[EBUSY], &[EACCES, EBUSY, EIO, ENOMEM, EPERM, EROFS]),
        Call::Chmod => (&[EPERM], &[EIO, ENOMEM, EPERM, EROFS]),
        Call::Entries => (&[EIO], &[EIO, ENOMEM]),
        Call::Lock | Call::Unlock => (&[ENOLCK], &[ENOLCK, EIO, EOPNOTSUPP]),
        Call::Read => (&[EIO], &[EIO, EISDIR]),
        Call::Write => (&[ENOSPC], &[EDQUOT, EFBIG, EIO, ENOSPC, EPERM]),
        Call::Sync => (&[EIO], &[EDQUOT, EIO, ENOSPC, EROFS]),
        Call::KernelLocks => (&[EMFILE], &[EACCES, EMFILE, ENFILE, ENOENT, ENOMEM]),
        Call::Watch => (&[EMFILE], &[EACCES, EMFILE, ENOENT, ENOMEM, ENOSPC]),
        Call::PidFd => (&[EMFILE], &[EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, EPERM]),
    };
    if every { all } else { few }
}

fn apply(choice: Choice, scripted: bool, budget: &mut Budget) {
    let mut runs = |at: usize, fate| {
        let before = budget.last.replace(at);
        let interrupts = before.is_some_and(|before| before != at && world::with(|world| world.is_ready(before)));
        if interrupts
            && !scripted
            && let Some(left) = &mut budget.preemptions
        {
            *left -= 1;
        }
        world::resume(at, fate);
    };
    match choice {
        Choice::Run(at) => runs(usize::from(at), Ok(())),
        Choice::Fail(at, errno) => {
            world::with(|world| {
                let process = world.threads[usize::from(at)].process;
                world.witness().failed_calls |= 1 << process;
                let call = world.threads[usize::from(at)].call;
                let error = std::io::Error::from_raw_os_error(errno);
                let name = world::letter(process);
                if let Some(story) = &mut world.story {
                    story.push(format!("{name}  {call:?} fails: {error}"));
                }
            });
            budget.failures -= 1;
            runs(usize::from(at), Err(errno));
        }
        Choice::Die(process) => {
            if !scripted {
                budget.deaths -= 1;
            }
            budget.last = None;
            world::with(|world| {
                if let Some(story) = &mut world.story {
                    story.push(format!("{}  DIES", world::letter(usize::from(process))));
                }
                world.dies(usize::from(process));
                world.kill(usize::from(process));
            });
        }
    }
}

/// Advances the clock when no thread can continue, or ends the waits for a change. Returns `false` if the state stays as it is.
fn resume_time(budget: &mut Budget) -> Result<bool, String> {
    let held = world::with(|world| world.witness().is_held());
    if let Some(moment) = world::with(|world| world.next_moment())
        && budget.moments < MOMENTS
    {
        budget.moments += 1;
        world::with(|world| world.kernel.clock = world.kernel.clock.max(moment));
        return Ok(true);
    }
    let waiting =
        world::with(|world| (0..world.threads.len()).filter(|at| world.waits_for_change(*at)).collect::<Vec<usize>>());
    // A foreign program may wait half an hour for a dead one's lock file, by its own protocol.
    let native = world::with(|world| {
        let unfinished = world.threads.iter().filter(|thread| !thread.done);
        let processes: Vec<usize> = unfinished.map(|thread| thread.process).collect();
        processes.iter().any(|process| world.witness().roles[*process] != Role::Foreign)
    });
    if waits_for_a_person() {
        return Ok(false);
    }
    if waiting.is_empty() {
        let stuck = "no thread can continue although no process holds: a lock is stuck";
        return if held { Ok(false) } else { Err(stuck.to_owned()) };
    }
    if !held && budget.moments < MOMENTS {
        // A lock file without a pid may block, until it is stale by its age.
        budget.moments = MOMENTS;
        world::with(|world| {
            world.kernel.clock += GRACE;
            world.kernel.changes += 1;
        });
        return Ok(true);
    }
    if !held && native {
        return Err("processes wait for a lock that no process holds".to_owned());
    }
    world::with(|world| waiting.iter().for_each(|at| world.end_wait_for_change(*at)));
    Ok(true)
}

/// Checks the state after all processes have ended: a new native must get the lock at once, and a `clean` must leave only the
/// target.
/// Returns whether a lock file without a pid is left on a system that does not show who has a file open. Natives wait for
/// its unknown holder, until a person removes it.
fn waits_for_a_person() -> bool {
    world::with(|world| {
        let nameless = |inode| match record::read(world.kernel.text(inode)) {
            Content::Record(record) => record.pid.is_none() && record.native.is_none(),
            _ => true,
        };
        world.kernel.fs.face != Face::Linux && world.kernel.named(LOCK).is_some_and(nameless)
    })
}

fn at_the_end() -> Outcome {
    if world::with(|world| world.threads.iter().any(|thread| !thread.done) || world.witness().is_held()) {
        // A holder that stays.
        return Outcome::Done;
    }
    if waits_for_a_person() {
        return Outcome::Done;
    }
    world::with(|world| {
        world.kernel.clock += GRACE;
        let fresh = world.kernel.start(999, 0);
        world.become_process(fresh);
        world.say("-- the end: a new native, then a clean");
    });
    let failed = |what: String| Outcome::Failed(what);
    let Some((paths, kept, grant)) = actors::native_left(Style::LockFile) else {
        let what = world::with(|world| world.witness().violation.take());
        return failed(what.unwrap_or_else(|| "at the end the lock is free, but a new native does not get it".into()));
    };
    witness::leaves();
    if let Err(error) = actors::release(&paths, &grant) {
        return failed(format!("at the end a new native's release fails: {error}"));
    }
    witness::has_none("after a release");
    drop((paths, kept, grant));
    if world::with(|world| world.kernel.named(LOCK).is_some()) {
        return failed("at the end a new native leaves a lock file".to_owned());
    }
    let cleaned = clean(".", &CleanOptions::default().idle_anchor_age(Duration::ZERO));
    if let Err(error) = cleaned {
        return failed(format!("at the end a clean fails: {error}"));
    }
    witness::has_none("after a clean");
    if let Some(what) = world::with(|world| world.witness().violation.take()) {
        return failed(what);
    }
    let left = world::with(|world| world.kernel.names());
    // Without leases nothing shows that no process has the anchor open, so it stays.
    let kept = ["t", ".tenure", ".tenure/.gitignore", ".tenure/t.lock"];
    let keeps = world::with(|world| matches!(world.kernel.fs.face, Face::FreeBsd | Face::MacOs));
    if !left.iter().all(|name| name == "t" || keeps && kept.contains(&&**name)) {
        return failed(format!("at the end a clean leaves {left:?}"));
    }
    Outcome::Done
}
