//! One simulated run: the kernel, the processes' threads as coroutines, and the points at which they stop.

use std::any::Any;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::arena;
use super::call::Call;
use super::state::{Errno, Kernel, mix};
use super::told::Told;

const STACK: usize = 256 * 1024;

/// What a thread waits for, beyond its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Now,
    /// Its turn in a file's queue.
    Locked(usize),
    /// No lease on this inode.
    Unleased(usize),
    /// Something that another process could see has changed since; the clock does not count.
    Changed(u64),
    /// The same, or the time.
    ChangedOrTime(u64, u64),
    /// A flag, an inode's events beyond a count, a process's end, or the time.
    Event {
        flag: usize,
        inode: Option<(usize, u64)>,
        process: Option<usize>,
        time: u64,
    },
    /// One of this thread's wakers.
    Woken,
    Time(u64),
    /// It has nothing more to do, and stays.
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
    /// It is called back from its seat.
    called: bool,
}

pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) threads: Vec<Thread>,
    /// The thread that runs, and its process. Outside of a run everything is done at once.
    current: Option<usize>,
    process: usize,
    fate: Result<(), Errno>,
    /// Everything that each process has been told so far. What it does next follows from that and from its script alone.
    seen: Vec<u64>,
    globals: Vec<(usize, usize, usize)>,
    flags: Vec<bool>,
    /// Processes whose threads wait in the kernel themselves.
    interruptible: u32,
    pub(crate) observer: Box<dyn Observer>,
    /// Does a write become visible in two parts?
    pub(super) torn: bool,
    /// What has happened, where somebody wants to read it.
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

/// Puts a new world up for this thread.
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

/// Ends the world, in whatever state it is: nothing of it is unwound or freed one by one.
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
        // SAFETY: what is left on its stack is never looked at again: its process is dead or the run is over, and what
        // it allocated goes with the run's arena.
        unsafe { coroutine.force_reset() };
    }
    let stack = coroutine.into_stack();
    arena::outside(|| {
        let mut stacks = STACKS.take();
        stacks.push(stack);
        STACKS.set(stacks);
    });
}

/// The world that this thread simulates. `run` must not stop at a point.
pub(crate) fn with<T>(run: impl FnOnce(&mut World) -> T) -> T {
    let world = WORLD.get();
    assert!(!world.is_null(), "no simulation runs on this thread");
    // SAFETY: `enter` made it and `leave` was not called since. There is one reference at a time: no caller in here
    // calls another, and none is interrupted, because a coroutine stops only in `point`.
    run(unsafe { &mut *world })
}

impl World {
    /// A new thread of a process that begins at some moment.
    pub(crate) fn spawn_later(&mut self, process: usize, time: u64, run: impl FnOnce() + 'static) {
        let thread = self.spawn(process, run);
        self.threads[thread].until = Until::Time(time);
    }

    /// A new thread of a process; it runs when it is first resumed.
    pub(crate) fn spawn(&mut self, process: usize, run: impl FnOnce() + 'static) -> usize {
        let stack = arena::outside(|| {
            let mut stacks = STACKS.take();
            let stack = stacks.pop();
            STACKS.set(stacks);
            stack.unwrap_or_else(|| DefaultStack::new(STACK).expect("memory for a stack"))
        });
        // One that never begins drops nothing either.
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
            called: false,
        });
        if self.seen.len() <= process {
            self.seen.resize(process + 1, 0);
        }
        self.threads.len() - 1
    }

    pub(crate) fn process(&self) -> usize {
        self.process
    }

    /// What is done at once from here on is done by this process.
    pub(crate) fn become_process(&mut self, process: usize) {
        self.process = process;
    }

    /// From here on this process's threads wait in the kernel themselves.
    pub(crate) fn seat_threads(&mut self) {
        self.interruptible |= 1 << self.process;
    }

    pub(crate) fn interrupts_enabled(&self) -> bool {
        self.interruptible & (1 << self.process) != 0
    }

    /// Could this thread go on?
    pub(crate) fn is_ready(&self, at: usize) -> bool {
        let thread = &self.threads[at];
        if thread.done {
            return false;
        }
        match thread.until {
            Until::Now => true,
            Until::Locked(open) => thread.called || self.kernel.is_woken(at, open),
            Until::Unleased(inode) => !self.kernel.has_lease(inode),
            Until::Changed(since) => self.kernel.changes > since,
            Until::ChangedOrTime(since, time) => self.kernel.changes > since || self.kernel.clock >= time,
            Until::Event { flag, inode, process, time } => {
                self.flags[flag]
                    || thread.called
                    || self.kernel.clock >= time
                    || process.is_some_and(|process| !self.kernel.processes[process].alive)
                    || inode.is_some_and(|(inode, seen)| self.kernel.events_of(inode) != seen)
            }
            Until::Woken => thread.woken,
            Until::Time(time) => self.kernel.clock >= time,
            Until::Never => false,
        }
    }

    /// Has it nothing more to do?
    pub(crate) fn rests(&self, at: usize) -> bool {
        self.threads[at].done || self.threads[at].until == Until::Never
    }

    /// Nobody can go on: the next moment at which somebody could.
    pub(crate) fn next_moment(&self) -> Option<u64> {
        let waiting = self.threads.iter().filter(|thread| !thread.done);
        let moments = waiting.filter_map(|thread| match thread.until {
            Until::Event { time, .. } | Until::ChangedOrTime(_, time) | Until::Time(time) => Some(time),
            _ => None,
        });
        moments.min()
    }

    /// Does this thread wait for a change that nobody is left to make?
    pub(crate) fn waits_for_change(&self, at: usize) -> bool {
        !self.threads[at].done && matches!(self.threads[at].until, Until::Changed(_))
    }

    /// Tells a thread that nothing will change any more.
    pub(crate) fn end_wait_for_change(&mut self, at: usize) {
        self.threads[at].until = Until::Now;
        self.threads[at].woken = true;
    }

    /// A process is gone, and with it everything that it had open.
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

    /// The present process was told this.
    pub(crate) fn tell(&mut self, word: u64) {
        if self.current.is_some() {
            let seen = &mut self.seen[self.process];
            *seen = mix(*seen, word);
        }
    }
}

/// Lets a thread do its call, with this fate, and go on to its next point.
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
            // It ended, or its process did.
            _ => {
                world.threads[at].done = true;
                reset(coroutine);
            }
        }
    });
}

/// A point: everything before `call` has happened, nothing of it. Returns when it is to be done, or the error that it is
/// to be answered with.
pub(super) fn point(call: Call) -> Result<(), Errno> {
    wait(call, Until::Now)
}

/// As [`point`], when something has happened besides.
pub(super) fn wait(call: Call, until: Until) -> Result<(), Errno> {
    let yielder = with(|world| {
        let current = world.current?;
        let thread = &mut world.threads[current];
        thread.call = call;
        thread.until = until;
        Some(thread.yielder)
    });
    let Some(yielder) = yielder else {
        assert!(matches!(until, Until::Now | Until::Changed(_)), "what is done at once cannot wait");
        return Ok(());
    };
    // SAFETY: the yielder lives on the stack of this very coroutine, which runs.
    unsafe { (*yielder).suspend(()) };
    with(|world| {
        let fate = world.fate;
        if let Err(errno) = fate {
            world.tell(0xe44 ^ errno as u64);
        }
        fate
    })
}

/// Does the call after its point: tells the thread what came of it, and the story what it was.
pub(super) fn perform<T: Told>(
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
    /// One line of the story, with who it is about.
    pub(crate) fn say(&mut self, what: &str) {
        let who = self.current.map(|at| self.threads[at].process);
        if let Some(story) = &mut self.story {
            let name = who.map_or_else(|| "-".to_owned(), |who| letter(who).to_string());
            story.push(format!("{name}  {what}"));
        }
    }
}

/// Something was told without a point: what only this process or nobody can change.
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

/// A flag that wakes a waiting thread.
pub(super) fn new_flag() -> usize {
    with(|world| {
        world.flags.push(false);
        world.flags.len() - 1
    })
}

pub(super) fn set_flag(flag: usize, value: bool) {
    with(|world| world.flags[flag] = value);
}

/// The present thread.
pub(crate) fn current() -> Option<usize> {
    with(|world| world.current)
}

/// Wakes a thread that sleeps in [`sleep`].
pub(crate) fn wake(thread: usize) {
    with(|world| world.threads[thread].woken = true);
}

/// Calls a thread back from whatever it waits for in the kernel, or no longer.
pub(super) fn call_back(thread: usize, called: bool) {
    with(|world| world.threads[thread].called = called);
}

pub(super) fn is_called_back(thread: usize) -> bool {
    with(|world| world.threads[thread].called)
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

/// Waits until something has changed since; `false` if nothing will any more.
pub(crate) fn changed(since: u64) -> bool {
    let _ = wait(Call::Step, Until::Changed(since));
    with(|world| {
        let Some(current) = world.current else { return false };
        let ended = std::mem::take(&mut world.threads[current].woken);
        world.tell(u64::from(ended));
        !ended
    })
}

/// A step of the script's own.
pub(crate) fn step(what: &str) {
    let _ = point(Call::Step);
    with(|world| {
        if world.story.is_some() {
            world.say(what);
        }
    });
}

/// Stays for ever.
pub(crate) fn rest() {
    let _ = wait(Call::Step, Until::Never);
}

/// Sleeps for so many microseconds, or until something has changed.
pub(super) fn pause(time: u64) {
    let (since, now) = with(|world| (world.kernel.changes, world.kernel.clock));
    let _ = wait(Call::Step, Until::ChangedOrTime(since, now + time));
}

/// Waits for a moment.
pub(crate) fn sleep_until(time: u64) {
    let _ = wait(Call::Step, Until::Time(time));
    with(|world| world.tell(world.kernel.clock));
}

/// The process has more than one thread, so that another may want a mutex that this one has.
pub(super) fn has_threads() -> bool {
    with(|world| world.threads.iter().filter(|thread| thread.process == world.process && !thread.done).count() > 1)
}
