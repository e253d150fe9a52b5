//! A state: the folder, its inodes, and the next step of each process.
//!
//! An inode without a name, a descriptor or another reference is dropped. The others are numbered in the order in which they
//! are found, starting with the names, so that equal situations are equal states.

use crate::config::{Clock, Config};
use crate::foreign::{Foreign, ForeignPc};
use crate::native::{Native, Pc};
use crate::others::{Breaker, Pruner, Wiper};
use crate::suspend::Answer;

/// An inode's number.
pub type Ino = u8;

/// A process, or a thread with its own descriptor: the owner of a kernel lock or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who(u8);

impl Who {
    /// The breaker.
    pub const BREAKER: Who = Who(60);
    /// The pruner.
    pub const PRUNER: Who = Who(61);

    /// Returns the native `i`.
    pub fn native(i: usize) -> Who {
        Who(i as u8)
    }

    /// Returns the detached helper of native `i`, which waits in a kernel queue.
    pub fn helper(i: usize) -> Who {
        Who(20 + i as u8)
    }

    /// Returns the foreign program `i`.
    pub fn foreign(i: usize) -> Who {
        Who(40 + i as u8)
    }

    pub(crate) fn as_native(self) -> Option<usize> {
        (self.0 < 20).then_some(self.0.into())
    }

    pub(crate) fn as_helper(self) -> Option<usize> {
        (20..40).contains(&self.0).then(|| (self.0 - 20).into())
    }

    pub(crate) fn as_foreign(self) -> Option<usize> {
        (40..60).contains(&self.0).then(|| (self.0 - 40).into())
    }
}

/// The fences of the suspended tenures that a record names, the greatest first; 0: none. So many tenures are suspended at most.
pub type Suspended = [u8; 2];

/// The contents of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Record {
    /// Nothing.
    #[default]
    Blank,
    /// A foreign program's record.
    Foreign(Who),
    /// A native's record.
    Native {
        /// The holder. `None` in an anchor that was made to continue a fence.
        by: Option<Who>,
        /// Its fence.
        fence: u8,
        /// Whether the state is `aborted`, instead of `held` (or `released`, without a holder). The state of flock style while
        /// it holds counts as this, because it makes the next holder check as well.
        aborted: bool,
        /// The suspended tenures.
        suspended: Suspended,
    },
}

impl Record {
    /// Returns a native's record without suspended tenures.
    pub(crate) fn native(by: Option<Who>, fence: u8, aborted: bool) -> Record {
        Record::Native { by, fence, aborted, suspended: Suspended::default() }
    }

    pub(crate) fn fence(self) -> Option<u8> {
        match self {
            Record::Native { fence, .. } => Some(fence),
            _ => None,
        }
    }

    pub(crate) fn suspended(self) -> Suspended {
        match self {
            Record::Native { suspended, .. } => suspended,
            _ => Suspended::default(),
        }
    }

    /// Returns whether the record itself reports a crash or an unfinished takeover.
    pub(crate) fn is_aborted(self) -> bool {
        matches!(self, Record::Native { aborted: true, .. })
    }

    pub(crate) fn is_native(self) -> bool {
        matches!(self, Record::Native { .. })
    }
}

/// A file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inode {
    /// The owner of its kernel lock.
    pub lock: Option<Who>,
    /// Its contents.
    pub record: Record,
    /// Its owner, if each native belongs to another user. No other process may write it.
    pub owner: Option<Who>,
    /// The native that keeps its name.
    pub keeper: Option<Who>,
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// `.tenure/<name>.lock`.
    pub anchor: Option<Ino>,
    /// `<name>.lock`.
    pub lock: Option<Ino>,
    /// `.tenure/<name>.lock.swap`.
    pub swap: Option<Ino>,
    /// `.tenure/<name>.lock.new`.
    pub new: Option<Ino>,
    /// Whether `.tenure` exists.
    pub folder: bool,
    /// Every file with a name or another reference.
    pub inodes: Vec<Inode>,
    /// The natives in lock-file style, then those in flock style, then the runs of `clean`.
    pub natives: Vec<Native>,
    /// The foreign programs.
    pub foreign: Vec<Foreign>,
    /// `break --force`.
    pub breaker: Breaker,
    /// Whether an open file shows that it is open.
    pub leases: bool,
    /// `clean`, at an anchor that is idle.
    pub pruner: Pruner,
    /// `rm -r .tenure`.
    pub wiper: Wiper,
    /// The faults that may still happen.
    pub left: Left,
    /// The greatest granted fence.
    pub granted: u8,
    /// The past events that excuse violations.
    pub past: Past,
}

/// The number of times that each fault may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// A process dies.
    pub crashes: u8,
    /// A person removes the lock file.
    pub user_rm: u8,
    /// The watchdog revokes.
    pub revokes: u8,
    /// `clean` prunes.
    pub pruners: u8,
    /// An operator breaks.
    pub breaks: u8,
    /// `.tenure` is removed.
    pub wipes: u8,
    /// A native suspends its tenure.
    pub suspends: u8,
    /// A waiter has given way for its whole time.
    pub overtakes: u8,
}

/// Whether a holder's live lock file was removed. From then on it and foreign programs do not exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Uncovered {
    /// It was not removed.
    #[default]
    No,
    /// By a foreign program, whose protocol judges first and removes later.
    ByForeign,
    /// By a person: by `rm` of the lock file or of `.tenure`, or by `break --force`.
    ByPerson,
}

/// The past events that excuse violations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Past {
    /// A process that is not a native removed a live lock file.
    pub removed: Uncovered,
    /// A break replaced the anchor.
    pub broken: bool,
    /// That break reached its end.
    pub broke: bool,
    /// The anchor was removed by a person.
    pub wiped: bool,
    /// The anchor, and with it the last fence, was pruned or removed, or a break that replaced it died.
    pub forgotten: bool,
    /// A granted fence was not greater than all earlier ones.
    pub fence_went_back: bool,
    /// A native was granted the lock before a tenure that was being resumed when it took the kernel lock.
    pub overtook: bool,
    /// A resumed tenure said that no other process held, and another process did.
    pub false_nobody: bool,
    /// What the last resumed tenure said.
    pub answer: Option<Answer>,
}

impl State {
    /// Returns the first state: no files, and no process has begun.
    pub fn start(config: &Config) -> State {
        let one = |i| {
            let never = i >= config.natives + config.flock;
            let rounds = if never { 0 } else { config.rounds - 1 };
            Native { never, flock: i >= config.natives && !never, rounds, ..Native::default() }
        };
        let mut state = State {
            anchor: None,
            lock: None,
            swap: None,
            new: None,
            folder: true,
            inodes: Vec::new(),
            natives: (0..config.natives + config.flock + config.cleaners).map(one).collect(),
            foreign: vec![Foreign::default(); config.foreign],
            breaker: Breaker::default(),
            leases: config.leases(),
            pruner: Pruner::default(),
            wiper: Wiper::default(),
            left: Left {
                crashes: config.crashes,
                user_rm: config.user_rm,
                revokes: config.revokes,
                pruners: config.pruners,
                breaks: config.breaks,
                wipes: config.wipes,
                suspends: config.suspends,
                overtakes: config.overtakes,
            },
            granted: 0,
            past: Past::default(),
        };
        if config.cut_off {
            state.cut_off(config);
        }
        state
    }

    /// Makes the state after the first native has judged a dead lock file, exchanged away the file that a live foreign program
    /// had made since, and died.
    fn cut_off(&mut self, config: &Config) {
        let (anchor, theirs) = (self.create(), self.create());
        self.own(config, anchor, Who::native(0));
        self.write(anchor, Record::native(Some(Who::native(0)), 1, true));
        self.write(theirs, Record::Foreign(Who::foreign(0)));
        (self.anchor, self.lock, self.swap) = (Some(anchor), Some(anchor), Some(theirs));
        self.natives[0].pc = Pc::Dead;
        self.foreign[0] = Foreign { pc: ForeignPc::Hold, file: Some(theirs), ..Foreign::default() };
    }

    /// Makes a new file.
    pub(crate) fn create(&mut self) -> Ino {
        self.inodes.push(Inode::default());
        (self.inodes.len() - 1) as Ino
    }

    /// Makes `who` the owner of this file, if each native belongs to another user.
    pub(crate) fn own(&mut self, config: &Config, ino: Ino, who: Who) {
        if config.users {
            self.inodes[usize::from(ino)].owner = Some(who);
        }
    }

    /// Returns whether `who` may only read this file.
    pub(crate) fn is_anothers(&self, ino: Ino, who: Who) -> bool {
        self.inode(ino).owner.is_some_and(|owner| owner != who)
    }

    pub(crate) fn inode(&self, ino: Ino) -> &Inode {
        &self.inodes[usize::from(ino)]
    }

    pub(crate) fn record(&self, ino: Ino) -> Record {
        self.inode(ino).record
    }

    pub(crate) fn write(&mut self, ino: Ino, record: Record) {
        self.inodes[usize::from(ino)].record = record;
    }

    /// `flock(LOCK_EX | LOCK_NB)`.
    pub(crate) fn try_lock(&mut self, ino: Ino, who: Who) -> bool {
        let inode = &mut self.inodes[usize::from(ino)];
        if inode.lock.is_some() {
            return false;
        }
        inode.lock = Some(who);
        true
    }

    /// `flock(LOCK_UN)`, or the close of the descriptor. Releases only a lock of `who`.
    pub(crate) fn unlock(&mut self, ino: Ino, who: Who) {
        let inode = &mut self.inodes[usize::from(ino)];
        if inode.lock == Some(who) {
            inode.lock = None;
        }
    }

    pub(crate) fn locked_by(&self, ino: Ino, who: Who) -> bool {
        self.inode(ino).lock == Some(who)
    }

    /// Returns the number of a file's names.
    pub(crate) fn links(&self, ino: Ino) -> usize {
        [self.anchor, self.lock, self.swap, self.new].iter().filter(|name| **name == Some(ino)).count()
    }

    /// `renameat2(swap, lock file, RENAME_EXCHANGE)`. Returns `false` if either is missing.
    pub(crate) fn exchange(&mut self) -> bool {
        let both = self.swap.is_some() && self.lock.is_some();
        if both {
            std::mem::swap(&mut self.swap, &mut self.lock);
        }
        both
    }

    /// Returns whether this process is alive: it has not reached its end.
    pub(crate) fn alive(&self, who: Who) -> bool {
        if let Some(i) = who.as_native() {
            return !self.natives[i].has_ended();
        }
        who.as_foreign().is_some_and(|i| !self.foreign[i].has_ended())
    }

    /// Returns whether a file that no native wrote is still open for writing (a refused read lease), or its process is alive.
    /// Where nothing shows who has it open, this is unknown of a file without a record, and counts as alive.
    pub(crate) fn foreign_lives(&self, ino: Ino) -> bool {
        if !self.leases {
            return match self.record(ino) {
                Record::Foreign(who) => self.alive(who),
                _ => true,
            };
        }
        let open = self.foreign.iter().any(|foreign| foreign.file == Some(ino));
        open || matches!(self.record(ino), Record::Foreign(who) if self.alive(who))
    }

    /// Keeps this file's name for `who`.
    pub(crate) fn keep(&mut self, ino: Ino, who: Who) {
        self.inodes[usize::from(ino)].keeper = Some(who);
    }

    /// Closes the descriptor by which `who` keeps this file's name.
    pub(crate) fn let_go(&mut self, ino: Ino, who: Who) {
        let inode = &mut self.inodes[usize::from(ino)];
        inode.keeper = inode.keeper.filter(|keeper| *keeper != who);
    }

    /// Returns whether a native keeps this name.
    pub(crate) fn is_kept(&self, name: Option<Ino>) -> bool {
        name.is_some_and(|ino| self.inode(ino).keeper.is_some())
    }

    /// Returns whether a foreign program died between create and write where nothing shows that. Natives wait for its unknown
    /// holder, until a person removes the file.
    pub(crate) fn waits_for_a_person(&self) -> bool {
        let left = |name: Option<Ino>| {
            name.is_some_and(|ino| {
                self.record(ino) == Record::Blank && !self.foreign.iter().any(|foreign| foreign.file == Some(ino))
            })
        };
        !self.leases && (left(self.lock) || left(self.swap))
    }

    /// Judges a file, and closes it at once.
    pub(crate) fn is_dead(&self, ino: Ino) -> bool {
        match self.record(ino) {
            Record::Native { .. } => self.inode(ino).lock.is_none(),
            _ => !self.foreign_lives(ino),
        }
    }

    /// Notes that a process that is not a native removed this file. If it was the lock file of a holder, or of a native that is
    /// about to hold, that one is uncovered.
    pub(crate) fn removed(&mut self, file: Option<Ino>, by: Uncovered) {
        let Some(file) = file else { return };
        if let Record::Native { by: owner, .. } = self.record(file) {
            // Its last holder is dead, and the native that judged that has not written yet.
            if owner.is_some_and(|owner| !self.alive(owner)) {
                return;
            }
            let shown = (0..self.natives.len()).find(|i| {
                let native = &self.natives[*i];
                // A native in flock style has a dead native's lock file, or its own replacement, until it has removed that.
                let brief = native.puts().filter(|_| native.visible || self.lock == Some(file));
                let shows = if native.flock { brief } else { native.lock_file() };
                shows == Some(file) && native.fd.is_some_and(|fd| self.locked_by(fd, Who::native(*i)))
            });
            if let Some(i) = shown {
                self.natives[i].uncovered = by;
                self.past.removed = by;
            }
        } else if let Some(foreign) = self.foreign.iter_mut().find(|foreign| foreign.file == Some(file)) {
            foreign.uncovered = by;
            self.past.removed = by;
        }
    }

    /// Notes that a native that is not its holder removed this file. That is excused if a live lock file was removed between
    /// the native's check and its removal. Otherwise it leads to a violation.
    pub(crate) fn removed_by_native(&mut self, file: Option<Ino>) {
        let by = self.past.removed;
        self.removed(file, by);
    }

    /// Returns the fence of a record that follows one with the fence `last`.
    pub(crate) fn next_fence(&self, config: &Config, last: u8) -> u8 {
        match config.clock {
            Clock::SetBack => last + 1,
            Clock::Advances => self.fences().max().unwrap_or(0) + 1,
        }
    }

    fn fences(&self) -> impl Iterator<Item = u8> {
        let in_record = |record: Record| record.fence().into_iter().chain(record.suspended());
        let inodes = self.inodes.iter().flat_map(move |inode| in_record(inode.record));
        let natives = self.natives.iter().flat_map(move |native| {
            let own = [native.fence, native.resumes].into_iter();
            own.chain(native.carried).chain(native.behind).chain(native.overtakes).chain(in_record(native.prior))
        });
        inodes.chain(natives).chain([self.granted, self.breaker.fence])
    }

    fn each_fence(&mut self, change: &dyn Fn(&mut u8)) {
        let in_record = |record: &mut Record| {
            if let Record::Native { fence, suspended, .. } = record {
                change(fence);
                suspended.iter_mut().for_each(change);
            }
        };
        self.inodes.iter_mut().for_each(|inode| in_record(&mut inode.record));
        for native in &mut self.natives {
            change(&mut native.fence);
            change(&mut native.resumes);
            native.carried.iter_mut().chain(&mut native.behind).chain(&mut native.overtakes).for_each(change);
            in_record(&mut native.prior);
        }
        change(&mut self.granted);
        change(&mut self.breaker.fence);
    }

    /// Brings the state into the form that represents all equivalent states.
    pub(crate) fn normalize(&mut self, config: &Config) {
        if config.symmetry {
            self.sort();
        }
        self.renumber();
        if config.clock == Clock::Advances {
            // Only the order of fences counts, because a new one is greater than all.
            let mut known: Vec<u8> = self.fences().filter(|fence| *fence > 0).collect();
            known.sort_unstable();
            known.dedup();
            self.each_fence(&|fence| {
                if let Ok(rank) = known.binary_search(fence) {
                    *fence = rank as u8 + 1;
                }
            });
        }
    }

    fn each_ino(&mut self, change: &mut dyn FnMut(&mut Option<Ino>)) {
        for name in [&mut self.anchor, &mut self.lock, &mut self.swap, &mut self.new] {
            change(name);
        }
        for native in &mut self.natives {
            native.each_ino(change);
        }
        for foreign in &mut self.foreign {
            change(&mut foreign.file);
        }
        self.breaker.each_ino(change);
        change(&mut self.pruner.file);
    }

    fn renumber(&mut self) {
        let mut order: Vec<Ino> = Vec::with_capacity(self.inodes.len());
        self.each_ino(&mut |ino| {
            if let Some(ino) = ino {
                let at = order.iter().position(|known| known == ino).unwrap_or_else(|| {
                    order.push(*ino);
                    order.len() - 1
                });
                *ino = at as Ino;
            }
        });
        self.inodes = order.iter().map(|ino| self.inodes[usize::from(*ino)]).collect();
    }

    /// Sorts processes of one kind in an order that does not depend on their numbers. Two with the same key keep their order,
    /// so that a state can have more than one form, which only costs time.
    fn sort(&mut self) {
        let look = |ino: Option<Ino>| {
            ino.map_or(0, |ino| {
                let names = [self.anchor, self.lock, self.swap, self.new];
                let mask = names.iter().enumerate().filter(|(_, name)| **name == Some(ino));
                let mask: u16 = mask.map(|(bit, _)| 1 << bit).sum();
                let inode = self.inode(ino);
                1 + 2 * mask + 32 * u16::from(inode.lock.is_some()) + 64 * u16::from(inode.record.fence().unwrap_or(0))
            })
        };
        let natives = order(&self.natives, |i, native| {
            let owned = native.fd.is_some_and(|fd| self.locked_by(fd, Who::native(i)));
            (native.never, native.flock, native.key(&look), owned)
        });
        let foreign = order(&self.foreign, |_, foreign| (foreign.pc, foreign.uncovered, look(foreign.file)));
        if natives.is_sorted() && foreign.is_sorted() {
            return;
        }
        let moved = |who: Who| {
            let at = |order: &[usize], i: usize| order.iter().position(|old| *old == i).unwrap_or(i);
            match (who.as_native(), who.as_helper(), who.as_foreign()) {
                (Some(i), ..) => Who::native(at(&natives, i)),
                (_, Some(i), _) => Who::helper(at(&natives, i)),
                (.., Some(i)) => Who::foreign(at(&foreign, i)),
                _ => who,
            }
        };
        let moved_record = |record: Record| match record {
            Record::Foreign(who) => Record::Foreign(moved(who)),
            Record::Native { by, fence, aborted, suspended } => {
                Record::Native { by: by.map(moved), fence, aborted, suspended }
            }
            Record::Blank => Record::Blank,
        };
        for inode in &mut self.inodes {
            let (lock, owner, keeper) = (inode.lock.map(moved), inode.owner.map(moved), inode.keeper.map(moved));
            *inode = Inode { lock, record: moved_record(inode.record), owner, keeper };
        }
        self.natives = natives.iter().map(|old| self.natives[*old]).collect();
        for native in &mut self.natives {
            native.prior = moved_record(native.prior);
        }
        self.foreign = foreign.iter().map(|old| self.foreign[*old]).collect();
    }

    /// Returns whether native `i` passes `check()` now.
    pub(crate) fn passes_check(&self, i: usize) -> bool {
        let native = &self.natives[i];
        let shown = native.flock || self.lock == native.lock_file();
        native.held && native.fd.is_some() && self.anchor == native.fd && shown
    }

    /// Returns the number of natives that hold: their `acquire` has returned, and neither a release nor a revoke has begun.
    pub fn natives_holding(&self) -> usize {
        self.natives.iter().filter(|native| native.held).count()
    }

    /// Returns the number of foreign programs that hold.
    pub fn foreign_holding(&self) -> usize {
        self.foreign.iter().filter(|foreign| foreign.holds()).count()
    }
}

fn order<T, K: Ord>(all: &[T], key: impl Fn(usize, &T) -> K) -> Vec<usize> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_cached_key(|i| key(*i, &all[*i]));
    order
}
