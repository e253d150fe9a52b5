//! The witness: it checks every state from outside of the library.

use std::any::Any;

use crate::kernel::state::{FOLDER, Kernel, mix};
use crate::kernel::world::{self, Observer, World, letter};
use crate::model::options::Style;
use crate::record::{self, Content};
use crate::sys::types::{ReplaceSteps, TakeoverSteps};

/// The target, and its lock's files.
pub(super) const TARGET: &str = "t";
pub(super) const LOCK: &[u8] = b"t.lock";
pub(super) const ANCHOR: &[u8] = b".tenure/t.lock";

/// The kind of a process, which decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A native, `clean` or `status`: it must not remove the lock file of a live holder.
    Native,
    /// A foreign program: it removes the lock file whatever it is by then.
    Foreign,
    /// A person who removes files.
    User,
    /// An operator who breaks the lock.
    Breaker,
}

/// Whether the next native must report a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Debt {
    No,
    /// It may: a process died in an acquire or a release, or other processes removed the traces.
    May,
    /// It must: a holder died.
    Must,
}

#[derive(Clone, Copy, Debug)]
struct Native {
    process: usize,
    style: Style,
    shared: bool,
    /// The inode of its lock file at the grant.
    shown: Option<usize>,
    broken: bool,
    /// Whether its own thread knows that it was granted the lock.
    knows: bool,
}

#[derive(Debug)]
pub(crate) struct Witness {
    pub(super) roles: Vec<Role>,
    natives: Vec<Native>,
    /// Natives that are about to release, and may remove their lock files.
    leaving: Vec<Native>,
    /// Foreign holders and the inodes of their lock files.
    foreign: Vec<(usize, usize)>,
    /// Programs that only use `flock(2)` and have the target's lock.
    flocks: Vec<usize>,
    last_fence: u64,
    native_debt: Debt,
    foreign_debt: Debt,
    /// A foreign program or a person removed a live lock file. The library cannot prevent what follows among foreign programs.
    pub(super) raced: bool,
    /// A person removed a file, or an operator broke the lock, so that errors are expected.
    pub(super) meddled: bool,
    /// A person removed the anchor.
    anchor_removed: bool,
    native_died: bool,
    /// Processes inside an acquire or a release, as bits.
    busy: u32,
    /// Processes with a failed call, as bits.
    pub(super) failed_calls: u32,
    /// Each process belongs to another user. It may close one more file, a replaced anchor, before it reports its grant, as
    /// processes with failed calls may.
    pub(super) users: bool,
    /// Of the busy processes, those that were inside an acquire at a break. A grant by the old anchor was broken.
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

    /// Returns whether a live process holds a lock that was not broken.
    pub(super) fn is_held(&self) -> bool {
        self.natives.iter().any(|native| !native.broken) || !self.foreign.is_empty() || !self.flocks.is_empty()
    }

    /// Lets the next native report or not report an earlier crash.
    fn may_owe_a_report(&mut self) {
        self.native_debt = self.native_debt.min(Debt::May);
        self.foreign_debt = self.foreign_debt.min(Debt::May);
    }

    fn set_busy(&mut self, process: usize, busy: bool) {
        let bit = 1 << process;
        self.leaving.retain(|native| busy || native.process != process);
        self.busy = if busy { self.busy | bit } else { self.busy & !bit };
    }
}

/// Records a violation.
pub(super) fn violated(what: impl Into<String>) {
    let what = what.into();
    world::with(|world| world.witness().violated(what));
}

/// Notes that this process begins an acquire or a release.
pub(super) fn begins() {
    world::with(|world| {
        let process = world.process();
        world.witness().set_busy(process, true);
        world.witness().broken_inside &= !(1 << process);
    });
}

/// Checks that this process, which has returned without a lock, has no kernel lock.
pub(super) fn has_none(after: &str) {
    world::with(|world| {
        let process = world.process();
        world.witness().set_busy(process, false);
        world.witness().natives.retain(|native| native.process != process);
        let locks = world.kernel.locks_held_by(process);
        if locks > 0 {
            world.witness().violated(format!("{locks} kernel locks remain {after}"));
        }
    });
}

/// Notes a failed release, which the next holder may report.
pub(super) fn released_badly() {
    world::with(|world| world.witness().native_debt = world.witness().native_debt.max(Debt::May));
}

/// The properties of a grant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) style: Style,
    pub(super) shared: bool,
    pub(super) fence: u64,
    /// Whether it reports that the last holder died.
    pub(super) crashed: bool,
}

/// Notes that a helper has the lock for this process, whose own thread does not know yet. After an error there is no kernel
/// lock.
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
        world.witness().natives.push(Native { process, style, shared, shown, broken, knows: false });
    });
}

impl Witness {
    /// Checks that this native may hold beside the other holders.
    fn excludes(&mut self, process: usize, style: Style, shared: bool) {
        let mut others = self.natives.iter().filter(|native| !(native.broken || native.shared && shared));
        if let Some(other) = others.next() {
            let (other, this) = (letter(other.process), letter(process));
            self.violated(format!("two natives hold: {other} and {this}"));
        }
        if style == Style::LockFile && !self.foreign.is_empty() && !self.raced {
            self.violated("a native is granted the lock although a live foreign program holds it".to_owned());
        }
        if style == Style::Flock && !self.flocks.is_empty() {
            self.violated(
                "a native in flock style is granted the lock although a live program has the target's flock(2)"
                    .to_owned(),
            );
        }
    }
}

/// Notes that a native holds from now on.
pub(super) fn enters(granted: Granted) {
    world::with(|world| {
        let process = world.process();
        let shown = world.kernel.named(LOCK);
        let inside = world.is_broken_inside(process);
        let removes = world.kernel.fs.face.takeover_steps() == TakeoverSteps::Removal;
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
        let unreported = "a holder died, and the next holder's grant reports no crash";
        // Another user's lock file cannot be read after a failed call.
        let unreadable = witness.users && witness.failed_calls & (1 << process) != 0;
        if granted.shared && !granted.crashed && witness.native_debt == Debt::Must {
            witness.violated(unreported.to_owned());
        }
        if !granted.shared {
            // A holder that was broken before it knew of its grant is not the last one.
            if granted.fence <= witness.last_fence && !broken {
                let last = witness.last_fence;
                witness.violated(format!("the fence did not grow: {} after {last}", granted.fence));
            }
            witness.last_fence = witness.last_fence.max(granted.fence);
            let foreign = if granted.style == Style::LockFile { witness.foreign_debt } else { Debt::No };
            let debt = witness.native_debt.max(foreign);
            match (granted.crashed, debt) {
                (false, Debt::Must) if !unreadable => {
                    witness.violated(unreported.to_owned());
                }
                // A native that removed a dead foreign program's lock file, and was then blocked by another program, has recorded
                // the crash for natives of both styles.
                (true, Debt::No) if removes && witness.foreign_debt > Debt::No => {}
                // A process with a failed call may be unable to record its release.
                (true, Debt::No) if !witness.anchor_removed && witness.failed_calls == 0 => {
                    witness.violated("a grant reports a crash, but no process has died".to_owned());
                }
                _ => {}
            }
            // A crash that this holder does not report may be reported later, by a holder of the other style.
            let crash_unreported = |debt: Debt| if granted.crashed { Debt::No } else { debt.min(Debt::May) };
            witness.native_debt = crash_unreported(witness.native_debt);
            witness.foreign_debt = match granted.style {
                Style::LockFile => crash_unreported(witness.foreign_debt),
                // It may have reported that crash, if a native had begun the takeover, or another.
                Style::Flock => witness.foreign_debt.min(if granted.crashed { Debt::May } else { Debt::Must }),
            };
        }
        let shown = shown.filter(|_| granted.style == Style::LockFile);
        let (style, shared) = (granted.style, granted.shared);
        witness.natives.push(Native { process, style, shared, shown, broken, knows: true });
        // The minimum length of a tenure, so that a fence from the clock grows.
        world.kernel.clock += 1000;
    });
}

/// Notes that a holder whose tenure was broken has reported a crash.
pub(super) fn gets_report() {
    world::with(|world| {
        world.witness().may_owe_a_report();
    });
}

/// Notes that a native is about to release.
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

/// Returns whether this native's tenure is broken by now.
pub(super) fn is_broken() -> bool {
    world::with(|world| {
        let process = world.process();
        world.witness().natives.iter().any(|native| native.process == process && native.broken)
    })
}

/// Notes that a foreign program has made its lock file.
pub(super) fn foreign_enters() {
    world::with(|world| {
        let process = world.process();
        let inode = world.kernel.named(LOCK).expect("the file that was just made");
        let witness = world.witness();
        let visible = witness.natives.iter().any(|native| native.style == Style::LockFile && !native.broken);
        if visible && !witness.raced {
            witness.violated("a foreign program makes its lock file although a native holds".to_owned());
        }
        // Except after the death of a native that had just exchanged a live one's file away, and would have put it back.
        if !witness.foreign.is_empty() && !witness.raced && !witness.native_died {
            witness.violated("two foreign programs hold, and neither they nor a person removed a live lock".to_owned());
        }
        // A dead holder's files are gone.
        witness.may_owe_a_report();
        witness.foreign.push((process, inode));
    });
}

pub(super) fn foreign_leaves() {
    world::with(|world| {
        let process = world.process();
        world.witness().foreign.retain(|(of, _)| *of != process);
    });
}

/// Notes that a program that only uses `flock(2)` has the target's lock.
pub(super) fn flock_enters() {
    world::with(|world| {
        let process = world.process();
        let witness = world.witness();
        if witness.natives.iter().any(|native| native.style == Style::Flock) {
            witness.violated("flock(2) is granted although a native in flock style holds".to_owned());
        }
        if !witness.flocks.is_empty() {
            witness.violated("two programs have the same exclusive flock(2)".to_owned());
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

    /// Returns whether the process's lock was broken inside an acquire, after the acquire's last check.
    fn is_broken_inside(&mut self, process: usize) -> bool {
        let anchors = self.kernel.named(ANCHOR).is_some_and(|anchor| self.kernel.has_locked(process, anchor));
        !anchors && self.witness().broken_inside & (1 << process) != 0
    }

    /// Notes that a process is about to die.
    pub(super) fn dies(&mut self, process: usize) {
        let (kernel, witness) = self.kernel_and_witness();
        witness.native_died |= witness.role(process) == Role::Native;
        let held = witness.natives.iter().find(|native| native.process == process).copied();
        witness.natives.retain(|native| native.process != process);
        witness.flocks.retain(|of| *of != process);
        if let Some(native) = held {
            let doubtful = native.broken || !native.knows || witness.raced || witness.meddled;
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
        // After an unfinished break, a holder with its lock file still excludes all others.
        if witness.role(process) == Role::Breaker {
            let showing = kernel.named(LOCK);
            for native in &mut witness.natives {
                native.broken &= showing.is_none() || native.shown != showing;
            }
        }
        // A foreign program that dies in its release leaves its file, although it no longer holds.
        if witness.role(process) == Role::Foreign {
            witness.foreign_debt = witness.foreign_debt.max(Debt::May);
        }
    }
}

impl Witness {
    /// Returns the native that holds a lock that was not broken.
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
            hash = mix(hash, (native.process as u64) << 8 | u64::from(native.broken) << 1 | u64::from(native.knows));
        }
        hash = mix(hash, self.leaving.len() as u64);
        for (process, inode) in &self.foreign {
            hash = mix(hash, (*process as u64) << 16 | *inode as u64 | 1 << 40);
        }
        self.flocks.iter().fold(hash, |hash, process| mix(hash, *process as u64 | 1 << 41))
    }

    /// Checks that the removed name was not a live holder's.
    fn unlinked(&mut self, kernel: &Kernel, process: usize, folder: usize, name: &[u8], inode: Option<usize>) {
        let Some(inode) = inode else { return };
        if name == ANCHOR && kernel.fs.face.replace_steps() == ReplaceSteps::Two {
            // The first step of a break. The second one fails if another process makes an anchor in between.
            self.renamed(process, name);
        }
        if folder != FOLDER {
            return;
        }
        if name == LOCK && kernel.fs.face.keeps_names() {
            // A holder that is not about to release gives its name up, because an unfinished break has replaced the anchor.
            for native in self.natives.iter_mut().filter(|native| native.process == process) {
                native.broken |= native.shown == Some(inode);
            }
        }
        let left = kernel.links_of(inode);
        let locked = kernel.is_locked_by_another(inode, process);
        let shows_live = locked && !names_dead_process(kernel, inode);
        let witness = self;
        let role = witness.role(process);
        let is_lock_file = name == LOCK;
        let foreign = witness.foreign.iter().any(|(of, shown)| *of != process && *shown == inode);
        // A process without the kernel lock has released, even if it could not remove its lock file.
        let natives = witness.natives.iter().chain(witness.leaving.iter().filter(|_| locked));
        let mut others = natives.filter(|native| native.process != process && !native.broken);
        let native = others.any(|native| native.shown == Some(inode));
        let lost = (is_lock_file && (foreign || native)) || (foreign && left == 0);
        match role {
            Role::Native if lost && !witness.raced && !witness.meddled => {
                witness.violated(format!("a native removes a live holder's file: {}", String::from_utf8_lossy(name)));
            }
            // A file with a kernel lock belongs to a live native from the takeover to the release, except while a native
            // judges a dead one's file.
            Role::Foreign | Role::User if lost || (is_lock_file && shows_live) => witness.raced = true,
            Role::Breaker if lost => (witness.raced, witness.meddled) = (true, true),
            _ => {}
        }
        if role != Role::Native {
            witness.meddled |= role != Role::Foreign;
            if is_lock_file || name == ANCHOR {
                witness.may_owe_a_report();
            }
            witness.anchor_removed |= name == ANCHOR;
        }
    }

    /// Notes the break of all holders' locks, when an operator replaces the anchor.
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

/// Returns whether the process in a file's record is dead.
fn names_dead_process(kernel: &Kernel, inode: usize) -> bool {
    let Content::Record(record) = record::read(kernel.text(inode)) else { return false };
    record.pid.is_some_and(|pid| kernel.alive(pid).is_none())
}
