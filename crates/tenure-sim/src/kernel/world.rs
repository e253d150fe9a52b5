//! One simulated run: the kernel, the processes' threads as coroutines, and the points where they stop.

use std::any::Any;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::answer::Answer;
use super::arena;
use super::call::Call;
use super::state::{Errno, Kernel, mix};

const STACK: usize = 256 * 1024;

/// The condition under which a thread can continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Now,
    /// Its turn in a file's queue.
    Locked(usize),
    /// This inode has no lease.
    Unleased(usize),
    /// A change that another process can see, since this count of changes. The clock does not count.
    Changed(u64),
    /// Such a change, or this time.
    ChangedOrTime(u64, u64),
    /// A flag, events of an inode beyond a count, a process's end, or a time.
    Event {
        flag: usize,
        inode: Option<(usize, u64)>,
        process: Option<usize>,
        time: u64,
    },
    /// One of this thread's wakers.
    Woken,
    Time(u64),
    /// The thread has nothing more to do, and stays.
    Never,
}

pub(crate) struct Thread {
    pub(crate) process: usize,
    coroutine: Option<Coroutine<(), (), (), DefaultStack>>,
    yielder: *const Yielder<(), ()>,
    pub(crate) done: bool,
    pub(crate) call: Call,
    until: Until,
    woken: bool,
    /// Its wait in the kernel is interrupted.
    interrupted: bool,
}

pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) threads: Vec<Thread>,
    /// The thread that runs, and its process. Outside of a run every call is made at once.
    current: Option<usize>,
    process: usize,
    fate: Result<(), Errno>,
    /// A hash of all results that each process has received. Its next steps depend on them and on its script alone.
    seen: Vec<u64>,
    globals: Vec<(usize, usize, usize)>,
    flags: Vec<bool>,
    /// Processes whose threads wait in the kernel themselves, as bits.
    interruptible: u32,
    pub(crate) observer: Box<dyn Observer>,
    /// Whether a write becomes visible in two parts.
    pub(super) torn: bool,
    /// One line for each call, where a caller asked for it.
    pub(crate) story: Option<Vec<String>>,
}

/// Watches a run from outside of the code that runs.
pub(crate) trait Observer: Any {
    /// Returns a number that two states share only if the observer will judge alike from there on.
    fn fingerprint(&self) -> u64;

    /// Notes that `process` removed `name` of `folder`, which named `inode`.
    fn unlinked(&mut self, kernel: &Kernel, process: usize, folder: usize, name: &[u8], inode: Option<usize>);

    /// Notes that `process` gave a file the name `to`.
    fn renamed(&mut self, process: usize, to: &[u8]);
}

/// Observes nothing, for calls that belong to no script.
#[derive(Debug)]
pub(crate) struct Unobserved;

impl Observer for Unobserved {
    fn fingerprint(&self) -> u64 {
        0
    }

    fn unlinked(&mut self, _kernel: &Kernel, _process: usize, _folder: usize, _name: &[u8], _inode: Option<usize>) {}

    fn renamed(&mut self, _process: usize, _to: &[u8]) {}
}

/// Returns the letter of a process in a schedule: `a` is the script's first actor.
pub(crate) fn letter(process: usize) -> char {
    char::from(b'a' + process as u8)
}

thread_local! {
    static WORLD: Cell<*mut World> = const { Cell::new(ptr::null_mut()) };
    static STACKS: Cell<Vec<DefaultStack>> = const { Cell::new(Vec::new()) };
}

/// Starts a new world for this thread.
pub(crate) fn enter(kernel: Kernel, observer: Box<dyn Observer>, torn: bool, story: bool) {
    let world = World {
        kernel,
        threads: Vec::with_capacity(8),
        current: None,
        process: 0,
        fate: Ok(()),
        seen: Vec::with_capacity(8),
        globals: Vec::with_capacity(32),
        flags: Vec::new(),
        interruptible: 0,
        observer,
        torn,
        story: story.then(Vec::new),
    };
    WORLD.set(Box::into_raw(Box::new(world)));
}

/// Ends the world in any state. Nothing is unwound or freed one by one.
pub(crate) fn leave() {
    with(|world| {
        for thread in &mut world.threads {
            if let Some(coroutine) = thread.coroutine.take() {
                reset(coroutine);
            }
        }
    });
    WORLD.set(ptr::null_mut());
}

fn reset(mut coroutine: Coroutine<(), (), (), DefaultStack>) {
    if !coroutine.done() {
        // SAFETY: nothing reads the rest of its stack again, because its process is dead or the run is over, and its
        // allocations are freed with the run's arena.
        unsafe { coroutine.force_reset() };
    }
    let stack = coroutine.into_stack();
    arena::outside(|| {
        let mut stacks = STACKS.take();
        stacks.push(stack);
        STACKS.set(stacks);
    });
}

/// Runs `run` with the world of this thread. `run` must not stop at a point.
pub(crate) fn with<T>(run: impl FnOnce(&mut World) -> T) -> T {
    let world = WORLD.get();
    assert!(!world.is_null(), "no simulation runs on this thread");
    // SAFETY: `enter` made it and `leave` was not called since. There is one reference at a time: no `run` calls `with`
    // again, and none is interrupted, because a coroutine stops only in `point`.
    run(unsafe { &mut *world })
}

impl World {
    /// Adds a thread to a process. It starts at `time`.
    pub(crate) fn spawn_later(&mut self, process: usize, time: u64, run: impl FnOnce() + 'static) {
        let thread = self.spawn(process, run);
        self.threads[thread].until = Until::Time(time);
    }

    /// Adds a thread to a process. It runs when it is first resumed. Returns its number.
    pub(crate) fn spawn(&mut self, process: usize, run: impl FnOnce() + 'static) -> usize {
        let stack = arena::outside(|| {
            let mut stacks = STACKS.take();
            let stack = stacks.pop();
            STACKS.set(stacks);
            stack.unwrap_or_else(|| DefaultStack::new(STACK).expect("memory for a stack"))
        });
        // A thread that never starts drops nothing.
        let run = ManuallyDrop::new(run);
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
            with(|world| {
                let current = world.current.expect("a thread that was resumed");
                world.threads[current].yielder = yielder;
            });
            ManuallyDrop::into_inner(run)();
        });
        self.threads.push(Thread {
            process,
            coroutine: Some(coroutine),
            yielder: ptr::null(),
            done: false,
            call: Call::Start,
            until: Until::Now,
            woken: false,
            interrupted: false,
        });
        if self.seen.len() <= process {
            self.seen.resize(process + 1, 0);
        }
        self.threads.len() - 1
    }

    pub(crate) fn process(&self) -> usize {
        self.process
    }

    /// Makes this the process of the calls outside of a run.
    pub(crate) fn become_process(&mut self, process: usize) {
        self.process = process;
    }

    /// Makes this process's threads wait in the kernel themselves.
    pub(crate) fn enable_interrupts(&mut self) {
        self.interruptible |= 1 << self.process;
    }

    pub(crate) fn interrupts_enabled(&self) -> bool {
        self.interruptible & (1 << self.process) != 0
    }

    /// Returns whether this thread can continue.
    pub(crate) fn is_ready(&self, at: usize) -> bool {
        let thread = &self.threads[at];
        if thread.done {
            return false;
        }
        match thread.until {
            Until::Now => true,
            Until::Locked(open) => thread.interrupted || self.kernel.is_woken(at, open),
            Until::Unleased(inode) => !self.kernel.has_lease(inode),
            Until::Changed(since) => self.kernel.changes > since,
            Until::ChangedOrTime(since, time) => self.kernel.changes > since || self.kernel.clock >= time,
            Until::Event { flag, inode, process, time } => {
                self.flags[flag]
                    || thread.interrupted
                    || self.kernel.clock >= time
                    || process.is_some_and(|process| !self.kernel.processes[process].alive)
                    || inode.is_some_and(|(inode, seen)| self.kernel.events_of(inode) != seen)
            }
            Until::Woken => thread.woken,
            Until::Time(time) => self.kernel.clock >= time,
            Until::Never => false,
        }
    }

    /// Returns whether this thread has nothing more to do.
    pub(crate) fn rests(&self, at: usize) -> bool {
        self.threads[at].done || self.threads[at].until == Until::Never
    }

    /// Returns the earliest time that a thread waits for.
    pub(crate) fn next_moment(&self) -> Option<u64> {
        let waiting = self.threads.iter().filter(|thread| !thread.done);
        let moments = waiting.filter_map(|thread| match thread.until {
            Until::Event { time, .. } | Until::ChangedOrTime(_, time) | Until::Time(time) => Some(time),
            _ => None,
        });
        moments.min()
    }

    /// Returns whether this thread waits for a change.
    pub(crate) fn waits_for_change(&self, at: usize) -> bool {
        !self.threads[at].done && matches!(self.threads[at].until, Until::Changed(_))
    }

    /// Ends a thread's wait, because no process is left to change anything.
    pub(crate) fn end_wait_for_change(&mut self, at: usize) {
        self.threads[at].until = Until::Now;
        self.threads[at].woken = true;
    }

    /// Ends a process, and closes its descriptors.
    pub(crate) fn kill(&mut self, process: usize) {
        for at in 0..self.threads.len() {
            if self.threads[at].process == process && !self.threads[at].done {
                self.threads[at].done = true;
                if self.current != Some(at)
                    && let Some(coroutine) = self.threads[at].coroutine.take()
                {
                    reset(coroutine);
                }
            }
        }
        self.kernel.end(process);
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hash = mix(self.kernel.fingerprint(), self.observer.fingerprint());
        for seen in &self.seen {
            hash = mix(hash, *seen);
        }
        for (at, thread) in self.threads.iter().enumerate() {
            hash = mix(hash, u64::from(thread.done) << 1 | u64::from(thread.woken));
            if !thread.done && thread.until != Until::Now {
                hash = mix(hash, u64::from(self.is_ready(at)));
            }
        }
        self.flags.iter().fold(hash, |hash, flag| mix(hash, u64::from(*flag)))
    }

    /// Adds a result to the hash of the current process.
    pub(crate) fn tell(&mut self, word: u64) {
        if self.current.is_some() {
            let seen = &mut self.seen[self.process];
            *seen = mix(*seen, word);
        }
    }
}

/// Lets a thread make its call, with this result, and continue to its next point.
pub(crate) fn resume(at: usize, fate: Result<(), Errno>) {
    let mut coroutine = with(|world| {
        world.current = Some(at);
        world.process = world.threads[at].process;
        world.fate = fate;
        world.threads[at].until = Until::Now;
        world.tell(0x100 + at as u64);
        world.threads[at].coroutine.take().expect("a thread that is not done")
    });
    let result = coroutine.resume(());
    with(|world| {
        world.current = None;
        match result {
            CoroutineResult::Yield(()) if !world.threads[at].done => world.threads[at].coroutine = Some(coroutine),
            // The thread ended, or its process did.
            _ => {
                world.threads[at].done = true;
                reset(coroutine);
            }
        }
    });
}

/// Stops at a point: everything before `call` has happened, and nothing of the call. Returns when the call is to be made, or
/// the error that it must return.
pub(super) fn point(call: Call) -> Result<(), Errno> {
    wait(call, Until::Now)
}

/// Stops at a point, and waits there until the condition holds.
pub(super) fn wait(call: Call, until: Until) -> Result<(), Errno> {
    let yielder = with(|world| {
        let current = world.current?;
        let thread = &mut world.threads[current];
        thread.call = call;
        thread.until = until;
        Some(thread.yielder)
    });
    let Some(yielder) = yielder else {
        assert!(matches!(until, Until::Now | Until::Changed(_)), "a call outside of a run cannot wait");
        return Ok(());
    };
    // SAFETY: the yielder lives on the stack of this coroutine, which runs.
    unsafe { (*yielder).suspend(()) };
    with(|world| {
        let fate = world.fate;
        if let Err(errno) = fate {
            world.tell(0xe44 ^ errno as u64);
        }
        fate
    })
}

/// Makes the call after its point, and adds its result to the process's hash and to the story.
pub(super) fn perform<T: Answer>(
    call: impl FnOnce(&mut World) -> Result<T, Errno>,
    what: impl FnOnce() -> String,
) -> Result<T, Errno> {
    with(|world| {
        let result = call(world);
        world.tell(match &result {
            Ok(value) => value.word(),
            Err(errno) => 0xe44 ^ *errno as u64,
        });
        if world.story.is_some() {
            let result = match &result {
                Ok(value) => value.text(),
                Err(errno) => std::io::Error::from_raw_os_error(*errno).to_string(),
            };
            world.say(&format!("{}{}{result}", what(), if result.is_empty() { "" } else { ": " }));
        }
        result
    })
}

impl World {
    /// Adds a line to the story, with the letter of the current process.
    pub(crate) fn say(&mut self, what: &str) {
        let process = self.current.map(|at| self.threads[at].process);
        if let Some(story) = &mut self.story {
            let name = process.map_or_else(|| "-".to_owned(), |process| letter(process).to_string());
            story.push(format!("{name}  {what}"));
        }
    }
}

/// Adds a result that needs no point, because no other process can change it.
pub(super) fn tell(word: u64) {
    with(|world| world.tell(word));
}

pub(super) fn global(key: usize) -> Option<usize> {
    with(|world| {
        let process = world.process;
        world.globals.iter().find(|(of, known, _)| (*of, *known) == (process, key)).map(|(_, _, value)| *value)
    })
}

pub(super) fn set_global(key: usize, value: usize) {
    with(|world| {
        let process = world.process;
        world.globals.push((process, key, value));
    });
}

/// Makes a flag that wakes a waiting thread.
pub(super) fn new_flag() -> usize {
    with(|world| {
        world.flags.push(false);
        world.flags.len() - 1
    })
}

pub(super) fn set_flag(flag: usize, value: bool) {
    with(|world| world.flags[flag] = value);
}

/// Returns the current thread.
pub(crate) fn current() -> Option<usize> {
    with(|world| world.current)
}

/// Wakes a thread that sleeps in [`sleep`].
pub(crate) fn wake(thread: usize) {
    with(|world| world.threads[thread].woken = true);
}

/// Sets or clears the interruption of a thread's wait in the kernel.
pub(super) fn set_interrupted(thread: usize, interrupted: bool) {
    with(|world| world.threads[thread].interrupted = interrupted);
}

pub(super) fn is_interrupted(thread: usize) -> bool {
    with(|world| world.threads[thread].interrupted)
}

/// Waits for a [`wake`].
pub(crate) fn sleep() {
    let _ = wait(Call::Step, Until::Woken);
    with(|world| {
        if let Some(current) = world.current {
            world.threads[current].woken = false;
        }
    });
}

/// Waits for a change since `since`. Returns `false` if no process is left to change anything.
pub(crate) fn changed(since: u64) -> bool {
    let _ = wait(Call::Step, Until::Changed(since));
    with(|world| {
        let Some(current) = world.current else { return false };
        let ended = std::mem::take(&mut world.threads[current].woken);
        world.tell(u64::from(ended));
        !ended
    })
}

/// Makes a step of the script's own.
pub(crate) fn step(what: &str) {
    let _ = point(Call::Step);
    with(|world| {
        if world.story.is_some() {
            world.say(what);
        }
    });
}

/// Waits for ever.
pub(crate) fn rest() {
    let _ = wait(Call::Step, Until::Never);
}

/// Sleeps for `time` microseconds, or until a change.
pub(super) fn pause(time: u64) {
    let (since, now) = with(|world| (world.kernel.changes, world.kernel.clock));
    let _ = wait(Call::Step, Until::ChangedOrTime(since, now + time));
}

/// Waits until `time`.
pub(crate) fn sleep_until(time: u64) {
    let _ = wait(Call::Step, Until::Time(time));
    with(|world| world.tell(world.kernel.clock));
}

/// Returns whether the process has more than one thread, so that another may wait for a mutex of this one.
pub(super) fn has_other_threads() -> bool {
    with(|world| world.threads.iter().filter(|thread| thread.process == world.process && !thread.done).count() > 1)
}
