//! What must never be seen, looked at from outside.

use std::any::Any;

use crate::kernel::state::{FOLDER, Kernel, mix};
use crate::kernel::world::{self, Observer, World, letter};
use crate::model::options::Style;
use crate::record::{self, Content};

/// The target, and its lock's files.
pub(super) const TARGET: &str = "t";
pub(super) const LOCK: &[u8] = b"t.lock";
pub(super) const ANCHOR: &[u8] = b".tenure/t.lock";

/// What a process is, as far as it decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Natives, `clean`, whoever looks: nobody's live lock file is theirs to remove.
    Native,
    /// A foreign program: it removes whatever has the name by then.
    Foreign,
    /// Somebody who removes files.
    User,
    /// An operator who breaks the lock.
    Breaker,
}

/// Must the next native hear of a crash?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Debt {
    No,
    /// Someone died while it acquired or released, or its traces were removed by others.
    May,
    /// A holder died.
    Must,
}

#[derive(Clone, Copy, Debug)]
struct Native {
    process: usize,
    style: Style,
    shared: bool,
    /// What the lock file's name was when it was granted.
    shown: Option<usize>,
    broken: bool,
    /// Does its own thread know?
    told: bool,
}

#[derive(Debug)]
pub(crate) struct Witness {
    pub(super) roles: Vec<Role>,
    natives: Vec<Native>,
    /// Those that are about to release: their lock files are theirs to remove.
    leaving: Vec<Native>,
    /// Foreign holders and the inodes of their lock files.
    foreign: Vec<(usize, usize)>,
    /// Programs that know only `flock(2)` and have the target's lock.
    flocks: Vec<usize>,
    last_fence: u64,
    native_debt: Debt,
    foreign_debt: Debt,
    /// A foreign program or a person removed a live lock file: what follows among those is not ours to answer for.
    pub(super) raced: bool,
    /// A person removed a file, or an operator broke the lock: errors may be told.
    pub(super) meddled: bool,
    /// A person removed the anchor.
    anchor_removed: bool,
    native_died: bool,
    /// Processes that are inside an acquire or a release.
    busy: u32,
    /// Processes whose calls were made to fail.
    pub(super) failed_calls: u32,
    /// Each process is another user's. It may close a file more, a replaced anchor, before it tells of its grant, as those
    /// whose calls fail may.
    pub(super) users: bool,
    /// Of all these, the ones that were inside an acquire at a break: what they are granted by another anchor was broken.
    broken_inside: u32,
    pub(super) grants: u64,
    pub(super) takeovers: u64,
    pub(super) violation: Option<String>,
}

impl Witness {
    pub(super) fn new(roles: Vec<Role>) -> Witness {
        Witness {
            roles,
            natives: Vec::with_capacity(4),
            leaving: Vec::with_capacity(4),
            foreign: Vec::with_capacity(4),
            flocks: Vec::with_capacity(4),
            last_fence: 0,
            native_debt: Debt::No,
            foreign_debt: Debt::No,
            raced: false,
            meddled: false,
            anchor_removed: false,
            native_died: false,
            busy: 0,
            failed_calls: 0,
            users: false,
            broken_inside: 0,
            grants: 0,
            takeovers: 0,
            violation: None,
        }
    }

    fn violated(&mut self, what: String) {
        if self.violation.is_none() {
            self.violation = Some(what);
        }
    }

    fn role(&self, process: usize) -> Role {
        self.roles.get(process).copied().unwrap_or(Role::Native)
    }

    /// Does anybody hold who lives, and whose lock nobody broke?
    pub(super) fn is_held(&self) -> bool {
        self.natives.iter().any(|native| !native.broken) || !self.foreign.is_empty() || !self.flocks.is_empty()
    }

    /// Of no crash that was before must the next native hear any more.
    fn may_be_told(&mut self) {
        self.native_debt = self.native_debt.min(Debt::May);
        self.foreign_debt = self.foreign_debt.min(Debt::May);
    }

    fn set_busy(&mut self, process: usize, busy: bool) {
        let bit = 1 << process;
        self.leaving.retain(|native| busy || native.process != process);
        self.busy = if busy { self.busy | bit } else { self.busy & !bit };
    }
}

/// A violation, from wherever it is seen.
pub(super) fn violated(what: impl Into<String>) {
    let what = what.into();
    world::with(|world| world.witness().violated(what));
}

/// This process begins to acquire or to release.
pub(super) fn begins() {
    world::with(|world| {
        let process = world.process();
        world.witness().set_busy(process, true);
        world.witness().broken_inside &= !(1 << process);
    });
}

/// It has come back without a lock, and so must have none.
pub(super) fn has_none(after: &str) {
    world::with(|world| {
        let process = world.process();
        world.witness().set_busy(process, false);
        world.witness().natives.retain(|native| native.process != process);
        let locks = world.kernel.locks_held_by(process);
        if locks > 0 {
            world.witness().violated(format!("{locks} kernel locks are kept {after}"));
        }
    });
}

/// A release went wrong: the next holder may hear of it.
pub(super) fn released_badly() {
    world::with(|world| world.witness().native_debt = world.witness().native_debt.max(Debt::May));
}

/// What a grant says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) style: Style,
    pub(super) shared: bool,
    pub(super) fence: u64,
    /// Does it say that the last holder died?
    pub(super) crashed: bool,
}

/// A helper has got the lock for this process, whose own thread does not know yet; or an error,
/// which leaves no kernel lock.
pub(super) fn is_granted(style: Style, shared: bool) {
    world::with(|world| {
        let process = world.process();
        if world.kernel.locks_held_by(process) == 0 {
            return;
        }
        let shown = world.kernel.named(LOCK).filter(|_| style == Style::LockFile);
        let broken = world.is_broken_inside(process);
        if !broken {
            world.witness().excludes(process, style, shared);
        }
        world.witness().natives.push(Native { process, style, shared, shown, broken, told: false });
    });
}

impl Witness {
    /// Looks whether this native may hold beside those that do.
    fn excludes(&mut self, process: usize, style: Style, shared: bool) {
        let mut others = self.natives.iter().filter(|native| !(native.broken || native.shared && shared));
        if let Some(other) = others.next() {
            let (other, this) = (letter(other.process), letter(process));
            self.violated(format!("two natives hold: {other} and {this}"));
        }
        if style == Style::LockFile && !self.foreign.is_empty() && !self.raced {
            self.violated("a native is granted the lock beside a live foreign holder".to_owned());
        }
        if style == Style::Flock && !self.flocks.is_empty() {
            self.violated("a native in flock style is granted the lock beside a live flock(2)".to_owned());
        }
    }
}

/// A native holds from here on.
pub(super) fn enters(granted: Granted) {
    world::with(|world| {
        let process = world.process();
        let shown = world.kernel.named(LOCK);
        let inside = world.is_broken_inside(process);
        let witness = world.witness();
        witness.set_busy(process, false);
        witness.grants += 1;
        witness.takeovers += u64::from(granted.crashed);
        let known = witness.natives.iter().position(|native| native.process == process);
        let known = known.map(|at| witness.natives.swap_remove(at));
        witness.broken_inside &= !(1 << process);
        let broken = inside || known.is_some_and(|native| native.broken);
        if known.is_none() && !inside {
            witness.excludes(process, granted.style, granted.shared);
        }
        let told = "a holder died, and the next one is told that all is well";
        // What another user's lock file says cannot be known where a call claims that it may not be read.
        let unreadable = witness.users && witness.failed_calls & (1 << process) != 0;
        if granted.shared && !granted.crashed && witness.native_debt == Debt::Must {
            witness.violated(told.to_owned());
        }
        if !granted.shared {
            // Who was broken before it heard of its grant is not the last one any more.
            if granted.fence <= witness.last_fence && !broken {
                let last = witness.last_fence;
                witness.violated(format!("the fence did not grow: {} after {last}", granted.fence));
            }
            witness.last_fence = witness.last_fence.max(granted.fence);
            let foreign = if granted.style == Style::LockFile { witness.foreign_debt } else { Debt::No };
            let debt = witness.native_debt.max(foreign);
            match (granted.crashed, debt) {
                (false, Debt::Must) if !unreadable => {
                    witness.violated(told.to_owned());
                }
                // Whose call has failed may have to leave what is over as if it were not.
                (true, Debt::No) if !witness.anchor_removed && witness.failed_calls == 0 => {
                    witness.violated("a crash is told of, but nobody has died".to_owned());
                }
                _ => {}
            }
            // A crash that was not told of now may be told of later, by a holder of the other style.
            let crash_unreported = |debt: Debt| if granted.crashed { Debt::No } else { debt.min(Debt::May) };
            witness.native_debt = crash_unreported(witness.native_debt);
            witness.foreign_debt = match granted.style {
                Style::LockFile => crash_unreported(witness.foreign_debt),
                // It may have told of that one, if a native had begun to take it over, or of another.
                Style::Flock => witness.foreign_debt.min(if granted.crashed { Debt::May } else { Debt::Must }),
            };
        }
        let shown = shown.filter(|_| granted.style == Style::LockFile);
        let (style, shared) = (granted.style, granted.shared);
        witness.natives.push(Native { process, style, shared, shown, broken, told: true });
        // So long takes a tenure at least, and so many tries do not fit into it: a fence that follows the clock grows.
        world.kernel.clock += 1000;
    });
}

/// One that does not take its tenure for whole was told of the crash all the same.
pub(super) fn hears() {
    world::with(|world| {
        world.witness().may_be_told();
    });
}

/// A native is about to release.
pub(super) fn leaves() {
    world::with(|world| {
        let process = world.process();
        let witness = world.witness();
        witness.set_busy(process, true);
        if let Some(at) = witness.natives.iter().position(|native| native.process == process) {
            witness.leaving.push(witness.natives.swap_remove(at));
        }
    });
}

/// Is this native's tenure broken by now?
pub(super) fn is_broken() -> bool {
    world::with(|world| {
        let process = world.process();
        world.witness().natives.iter().any(|native| native.process == process && native.broken)
    })
}

/// A foreign program has made its lock file.
pub(super) fn foreign_enters() {
    world::with(|world| {
        let process = world.process();
        let inode = world.kernel.named(LOCK).expect("the file that was just made");
        let witness = world.witness();
        let visible = witness.natives.iter().any(|native| native.style == Style::LockFile && !native.broken);
        if visible && !witness.raced {
            witness.violated("a foreign program makes its lock file beside a native that holds".to_owned());
        }
        // Unless a native died that had just taken a live one's file from its place, and was to put it back.
        if !witness.foreign.is_empty() && !witness.raced && !witness.native_died {
            witness.violated("two foreign programs hold, and neither they nor a person removed a live lock".to_owned());
        }
        // Whatever a dead holder had left is gone.
        witness.may_be_told();
        witness.foreign.push((process, inode));
    });
}

pub(super) fn foreign_leaves() {
    world::with(|world| {
        let process = world.process();
        world.witness().foreign.retain(|(of, _)| *of != process);
    });
}

/// A program that knows only `flock(2)` has the target's lock.
pub(super) fn flock_enters() {
    world::with(|world| {
        let process = world.process();
        let witness = world.witness();
        if witness.natives.iter().any(|native| native.style == Style::Flock) {
            witness.violated("flock(2) is granted beside a native in flock style".to_owned());
        }
        if !witness.flocks.is_empty() {
            witness.violated("two programs have one exclusive flock(2)".to_owned());
        }
        witness.flocks.push(process);
    });
}

pub(super) fn flock_leaves() {
    world::with(|world| {
        let process = world.process();
        world.witness().flocks.retain(|of| *of != process);
    });
}

impl World {
    /// Returns the witness of the script that runs.
    pub(super) fn witness(&mut self) -> &mut Witness {
        self.kernel_and_witness().1
    }

    fn kernel_and_witness(&mut self) -> (&mut Kernel, &mut Witness) {
        let observer: &mut dyn Any = &mut *self.observer;
        (&mut self.kernel, observer.downcast_mut().expect("the observer of a script"))
    }

    /// Was its lock broken while it was inside an acquire, by whose last look it was whole?
    fn is_broken_inside(&mut self, process: usize) -> bool {
        let anchors = self.kernel.named(ANCHOR).is_some_and(|anchor| self.kernel.has_locked(process, anchor));
        !anchors && self.witness().broken_inside & (1 << process) != 0
    }

    /// A process is about to die.
    pub(super) fn dies(&mut self, process: usize) {
        let (kernel, witness) = self.kernel_and_witness();
        witness.native_died |= witness.role(process) == Role::Native;
        let held = witness.natives.iter().find(|native| native.process == process).copied();
        witness.natives.retain(|native| native.process != process);
        witness.flocks.retain(|of| *of != process);
        if let Some(native) = held {
            let doubtful = native.broken || !native.told || witness.raced || witness.meddled;
            let debt = match (native.shared, doubtful) {
                (true, _) => Debt::No,
                (false, true) => Debt::May,
                (false, false) => Debt::Must,
            };
            witness.native_debt = witness.native_debt.max(debt);
        } else if witness.busy & (1 << process) != 0 {
            witness.native_debt = witness.native_debt.max(Debt::May);
        }
        if witness.foreign.iter().any(|(of, _)| *of == process) {
            let debt = if witness.raced || witness.meddled { Debt::May } else { Debt::Must };
            witness.foreign_debt = witness.foreign_debt.max(debt);
        }
        witness.foreign.retain(|(of, _)| *of != process);
        witness.set_busy(process, false);
        // A break that was not ended: whose lock file is still there keeps all others out.
        if witness.role(process) == Role::Breaker {
            let showing = kernel.named(LOCK);
            for native in &mut witness.natives {
                native.broken &= showing.is_none() || native.shown != showing;
            }
        }
        // A foreign program that dies while it releases has let go, but its file is still there.
        if witness.role(process) == Role::Foreign {
            witness.foreign_debt = witness.foreign_debt.max(Debt::May);
        }
    }
}

impl Witness {
    /// The native that holds, if there is one and nobody broke its lock.
    pub(super) fn holder(&self) -> Option<usize> {
        self.natives
            .iter()
            .find(|native| !native.broken && native.style == Style::LockFile)
            .map(|native| native.process)
    }
}

impl Observer for Witness {
    fn fingerprint(&self) -> u64 {
        let mut hash = mix(self.last_fence, u64::from(self.busy) << 32 | u64::from(self.failed_calls));
        hash = mix(hash, u64::from(self.broken_inside));
        let flags = [self.raced, self.meddled, self.anchor_removed, self.native_died];
        hash = flags.iter().fold(hash, |hash, flag| mix(hash, u64::from(*flag)));
        hash = mix(hash, (self.native_debt as u64) << 8 | self.foreign_debt as u64);
        for native in self.natives.iter().chain(&self.leaving) {
            hash = mix(hash, (native.process as u64) << 8 | u64::from(native.broken) << 1 | u64::from(native.told));
        }
        hash = mix(hash, self.leaving.len() as u64);
        for (process, inode) in &self.foreign {
            hash = mix(hash, (*process as u64) << 16 | *inode as u64 | 1 << 40);
        }
        self.flocks.iter().fold(hash, |hash, process| mix(hash, *process as u64 | 1 << 41))
    }

    /// A name is gone: was it a live holder's?
    fn unlinked(&mut self, kernel: &Kernel, process: usize, folder: usize, name: &[u8], inode: Option<usize>) {
        let Some(inode) = inode else { return };
        if folder != FOLDER {
            return;
        }
        let left = kernel.links_of(inode);
        let locked = kernel.is_locked_by_another(inode, process);
        let shows_live = locked && !names_a_dead_one(kernel, inode);
        let witness = self;
        let role = witness.role(process);
        let is_lock_file = name == LOCK;
        let foreign = witness.foreign.iter().any(|(of, shown)| *of != process && *shown == inode);
        // Who has let go of the kernel lock has released, even if it could not remove its lock file.
        let natives = witness.natives.iter().chain(witness.leaving.iter().filter(|_| locked));
        let mut others = natives.filter(|native| native.process != process && !native.broken);
        let native = others.any(|native| native.shown == Some(inode));
        let lost = (is_lock_file && (foreign || native)) || (foreign && left == 0);
        match role {
            Role::Native if lost && !witness.raced && !witness.meddled => {
                witness.violated(format!("a native removes a live holder's file: {}", String::from_utf8_lossy(name)));
            }
            // One with a kernel lock on it is a live native's, from the takeover to the release; unless it was judged and
            // is a dead one's still.
            Role::Foreign | Role::User if lost || (is_lock_file && shows_live) => witness.raced = true,
            Role::Breaker if lost => (witness.raced, witness.meddled) = (true, true),
            _ => {}
        }
        if role != Role::Native {
            witness.meddled |= role != Role::Foreign;
            if is_lock_file || name == ANCHOR {
                witness.may_be_told();
            }
            witness.anchor_removed |= name == ANCHOR;
        }
    }

    /// A file has got a new name: an operator who replaces the anchor has broken the lock of whoever holds.
    fn renamed(&mut self, process: usize, to: &[u8]) {
        if to == ANCHOR && self.role(process) == Role::Breaker {
            let witness = self;
            witness.meddled = true;
            witness.anchor_removed = true;
            witness.broken_inside |= if witness.users { witness.busy } else { witness.busy & witness.failed_calls };
            witness.native_debt = witness.native_debt.min(Debt::May);
            for native in &mut witness.natives {
                native.broken = true;
            }
        }
    }
}

/// Is the process that a file names dead?
fn names_a_dead_one(kernel: &Kernel, inode: usize) -> bool {
    let Content::Record(record) = record::read(kernel.text(inode)) else { return false };
    record.pid.is_some_and(|pid| kernel.alive(pid).is_none())
}
