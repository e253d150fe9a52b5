//! Runs one script of calls on the simulated kernel and on the real one: each call must return the same.
//!
//! Both are used through their `Dir` and `File`, so that the double is compared with [`linux`] itself, and not with a second
//! way to call the kernel.

use std::path::Path;

use super::state::{FileSystemKind, Kernel};
use super::world::Unobserved;
use super::{arena, world};
use crate::sys::linux;
use crate::sys::types::{Access, FileKind, LeaseOutcome, LockKind, Stat};

/// The names in calls: files, folders with files, and symbolic links to a file and to a folder.
const NAMES: [&str; 11] = ["a", "b", "c", "d", "d/a", "d/b", "e", "e/a", "s", "t", "t/a"];
/// Maximum number of open files.
const SLOTS: usize = 6;

/// One call. Names and open files are numbers.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Create(usize, usize),
    Open(usize, bool, usize),
    Close(usize),
    Duplicate(usize),
    CloseDuplicates,
    Link(usize, usize),
    LinkOpen(usize, usize),
    Unlink(usize),
    Exchange(usize, usize),
    RenameNew(usize, usize),
    RenameOver(usize, usize),
    MakeDir(usize),
    RemoveDir(usize),
    Entries(usize),
    StatAt(usize),
    Stat(usize),
    Chmod(usize, u32),
    TryLock(usize, bool),
    Unlock(usize),
    Read(usize),
    Write(usize, usize, u8),
    LeaseOutcome(usize, bool),
}

macro_rules! runner {
    ($module:ident, $platform:path) => {
        mod $module {
            use super::*;
            use $platform::{Dir, File, Inherited, Name};

            pub(super) struct Runner {
                dir: Dir,
                files: [Option<File>; SLOTS],
                duplicates: Vec<Inherited>,
            }

            fn name(at: usize) -> Name {
                Name::new(NAMES[at].as_ref()).expect("no zero byte is in it")
            }

            fn outcome<T>(result: std::io::Result<T>, ok: impl FnOnce(T) -> String) -> String {
                match result {
                    Ok(value) => ok(value),
                    Err(error) => match error.raw_os_error() {
                        Some(errno) => format!("error {errno}"),
                        None => format!("{:?}", error.kind()),
                    },
                }
            }

            fn done(result: std::io::Result<()>) -> String {
                outcome(result, |()| "done".to_owned())
            }

            impl Runner {
                pub(super) fn new(dir: Dir) -> Runner {
                    Runner { dir, files: [const { None }; SLOTS], duplicates: Vec::new() }
                }

                /// Which names and open files are this one: the numbers of inodes are each kernel's own.
                fn shown(&self, stat: Stat) -> String {
                    let names = (0..NAMES.len()).filter(|at| {
                        matches!(self.dir.stat_at(&name(*at)), Ok(Some(other)) if other.id == stat.id)
                    });
                    let names: Vec<&str> = names.map(|at| NAMES[at]).collect();
                    let open = self.files.iter().map(|file| {
                        file.as_ref().is_some_and(|file| file.stat().is_ok_and(|other| other.id == stat.id))
                    });
                    let open: Vec<bool> = open.collect();
                    let mut text = format!("{:?} {:o} {names:?} {open:?}", stat.kind, stat.mode & 0o700);
                    if stat.kind == FileKind::Regular {
                        text += &format!(" {} links, {} bytes", stat.links, stat.size);
                    }
                    text
                }

                fn with_file(&self, at: usize, run: impl FnOnce(&File) -> String) -> String {
                    self.files[at].as_ref().map_or_else(|| "not open".to_owned(), run)
                }

                fn set(&mut self, at: usize, opened: std::io::Result<File>) -> String {
                    outcome(opened, |file| {
                        self.files[at] = Some(file);
                        "open".to_owned()
                    })
                }

                pub(super) fn run(&mut self, op: Op) -> String {
                    match op {
                        Op::Create(at, slot) => {
                            let opened = self.dir.create_new(&name(at), 0o644);
                            self.set(slot, opened)
                        }
                        Op::Open(at, write, slot) => {
                            let access = if write { Access::ReadWrite } else { Access::Read };
                            let opened = self.dir.open_at(&name(at), access);
                            self.set(slot, opened)
                        }
                        Op::Close(slot) => format!("{}", self.files[slot].take().is_some()),
                        Op::Duplicate(slot) => match &self.files[slot] {
                            Some(file) => {
                                let duplicate = file.duplicate();
                                outcome(duplicate, |duplicate| {
                                    self.duplicates.push(duplicate);
                                    "duplicated".to_owned()
                                })
                            }
                            None => "not open".to_owned(),
                        },
                        Op::CloseDuplicates => {
                            let count = self.duplicates.len();
                            self.duplicates.clear();
                            format!("{count} closed")
                        }
                        Op::Link(from, to) => done(self.dir.link(&name(from), &name(to))),
                        Op::LinkOpen(slot, to) => {
                            self.with_file(slot, |file| done(self.dir.link_open(file, &name(to))))
                        }
                        Op::Unlink(at) => done(self.dir.unlink(&name(at))),
                        Op::Exchange(one, other) => done(self.dir.exchange(&name(one), &name(other))),
                        Op::RenameNew(from, to) => done(self.dir.rename_new(&name(from), &name(to))),
                        Op::RenameOver(from, to) => done(self.dir.rename_over(&name(from), &name(to))),
                        Op::MakeDir(at) => done(self.dir.make_dir(&name(at), 0o755)),
                        Op::RemoveDir(at) => done(self.dir.remove_dir(&name(at))),
                        Op::Entries(at) => {
                            let entries = self.dir.open_dir(&name(at)).and_then(|dir| dir.entries());
                            outcome(entries, |entries| {
                                let mut names: Vec<_> =
                                    entries.iter().map(|(name, kind)| format!("{:?} {kind:?}", name.as_os_str())).collect();
                                names.sort();
                                names.join(", ")
                            })
                        }
                        Op::StatAt(at) => outcome(self.dir.stat_at(&name(at)), |found| {
                            found.map_or_else(|| "does not exist".to_owned(), |stat| self.shown(stat))
                        }),
                        Op::Stat(slot) => {
                            self.with_file(slot, |file| outcome(file.stat(), |stat| self.shown(stat)))
                        }
                        Op::Chmod(slot, mode) => self.with_file(slot, |file| done(file.chmod(mode))),
                        Op::TryLock(slot, shared) => {
                            let kind = if shared { LockKind::Shared } else { LockKind::Exclusive };
                            self.with_file(slot, |file| outcome(file.try_lock(kind), |got| format!("locked: {got}")))
                        }
                        Op::Unlock(slot) => self.with_file(slot, |file| done(file.unlock())),
                        Op::Read(slot) => self.with_file(slot, |file| {
                            let mut buffer = [0; 64];
                            outcome(file.read(&mut buffer), |length| format!("{:?}", &buffer[..length]))
                        }),
                        Op::Write(slot, offset, byte) => {
                            self.with_file(slot, |file| done(file.write_at(&[byte; 3], offset as u64)))
                        }
                        Op::LeaseOutcome(slot, any) => self.with_file(slot, |file| match match any {
                            true => file.write_lease(),
                            false => file.read_lease(),
                        } {
                            LeaseOutcome::Granted => "granted".to_owned(),
                            LeaseOutcome::Refused => "refused".to_owned(),
                            LeaseOutcome::Unavailable => "unavailable".to_owned(),
                        }),
                    }
                }
            }
        }
    };
}

runner!(real, crate::sys::linux);
runner!(simulated, crate::kernel);

/// Makes the calls on both, in this empty folder of the real kernel. Returns the number of compared calls.
///
/// # Errors
///
/// The first call with different results.
pub fn compare(folder: &Path, ops: &[Op]) -> Result<usize, String> {
    let real_dir = linux::Dir::open(folder).map_err(|error| error.to_string())?;
    std::os::unix::fs::symlink("a", folder.join("s")).map_err(|error| error.to_string())?;
    std::os::unix::fs::symlink("d", folder.join("t")).map_err(|error| error.to_string())?;
    world::enter(Kernel::new(FileSystemKind::LOCAL), Box::new(Unobserved), false, false);
    world::with(|world| world.kernel.start(1, linux::effective_user()));
    let simulated_dir = super::Dir::open(folder).map_err(|error| error.to_string())?;
    for (link, target) in [("s", "a"), ("t", "d")] {
        simulated_dir.make_symlink(&super::Name::new(link.as_ref()).expect("no zero byte"), target);
    }
    world::with(|world| world.kernel.give_first_folder(linux::effective_user()));
    let (mut real, mut simulated) = (real::Runner::new(real_dir), simulated::Runner::new(simulated_dir));
    let mut result = Ok(ops.len());
    for (at, op) in ops.iter().enumerate() {
        let (expected, found) = (real.run(*op), simulated.run(*op));
        if expected != found {
            result =
                Err(format!("call {at}, {op:?}: the kernel returns {expected}, the double {found}\n{:?}", &ops[..at]));
            break;
        }
    }
    drop((real, simulated));
    world::leave();
    result
}

/// Returns `count` calls, chosen by a generator with this seed.
pub fn random(seed: u64, count: usize) -> Vec<Op> {
    let mut state = seed;
    let mut below = move |limit: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 16) as usize % limit
    };
    let mut ops = Vec::with_capacity(count);
    for _ in 0..count {
        let (one, other, slot) = (below(NAMES.len()), below(NAMES.len()), below(SLOTS));
        ops.push(match below(25) {
            0 | 1 => Op::Create(one, slot),
            2 => Op::Open(one, false, slot),
            3 => Op::Open(one, true, slot),
            4 => Op::Close(slot),
            5 => Op::Duplicate(slot),
            6 => Op::CloseDuplicates,
            7 | 8 => Op::Link(one, other),
            9 => Op::Unlink(one),
            10 | 11 => Op::Exchange(one, other),
            12 => Op::RenameNew(one, other),
            13 => Op::RenameOver(one, other),
            14 => Op::MakeDir([3, 6][below(2)]),
            15 => Op::RemoveDir(one),
            16 => Op::Entries(one),
            17 => Op::StatAt(one),
            18 => Op::Stat(slot),
            19 => match below(2) {
                0 => Op::Chmod(slot, [0o644, 0o600][below(2)]),
                _ => Op::LeaseOutcome(slot, below(2) == 0),
            },
            20 => Op::TryLock(slot, false),
            21 => Op::TryLock(slot, true),
            22 => match below(2) {
                0 => Op::Unlock(slot),
                _ => Op::Read(slot),
            },
            23 => Op::LinkOpen(slot, one),
            _ => Op::Write(slot, below(20), below(256) as u8),
        });
    }
    ops
}

/// Scripts for the facts that the protocol depends on.
pub const EDGES: &[&[Op]] = &[
    // One file, two names; an exchange of a name with itself; a rename to the same file's other name does nothing.
    &[
        Op::Create(0, 0),
        Op::Link(0, 1),
        Op::StatAt(0),
        Op::Link(0, 1),
        Op::Exchange(0, 1),
        Op::StatAt(1),
        Op::RenameOver(0, 1),
        Op::StatAt(0),
        Op::StatAt(1),
        Op::RenameNew(0, 1),
        Op::Unlink(0),
        Op::StatAt(1),
        Op::Stat(0),
        Op::Unlink(1),
        Op::Stat(0),
        Op::Link(0, 1),
    ],
    // An open file gets another name, whatever its first one names by now, but not once it has lost all names.
    &[
        Op::Create(0, 0),
        Op::Link(0, 1),
        Op::Unlink(0),
        Op::Create(0, 1),
        Op::LinkOpen(0, 0),
        Op::LinkOpen(0, 2),
        Op::StatAt(2),
        Op::Stat(0),
        Op::Unlink(1),
        Op::Unlink(2),
        Op::LinkOpen(0, 2),
        Op::StatAt(2),
        Op::MakeDir(3),
        Op::Open(3, false, 0),
        Op::LinkOpen(0, 2),
    ],
    // Exchanges need both names.
    &[
        Op::Exchange(0, 1),
        Op::Create(0, 0),
        Op::Exchange(0, 1),
        Op::Exchange(1, 0),
        Op::Create(1, 1),
        Op::Exchange(0, 1),
        Op::StatAt(0),
        Op::StatAt(1),
        Op::Stat(0),
        Op::Stat(1),
    ],
    // A removed file can still be written and locked, while its name belongs to another file.
    &[
        Op::Create(0, 0),
        Op::TryLock(0, false),
        Op::Unlink(0),
        Op::Create(0, 1),
        Op::TryLock(1, false),
        Op::Stat(0),
        Op::Write(0, 0, 7),
        Op::Read(0),
        Op::Read(1),
        Op::Close(0),
        Op::Stat(1),
    ],
    // A kernel lock belongs to the open file: a second open of it is refused, a duplicate keeps it.
    &[
        Op::Create(0, 0),
        Op::Open(0, true, 1),
        Op::TryLock(0, false),
        Op::TryLock(1, false),
        Op::TryLock(1, true),
        Op::Duplicate(0),
        Op::Close(0),
        Op::TryLock(1, false),
        Op::CloseDuplicates,
        Op::TryLock(1, false),
        Op::TryLock(1, false),
    ],
    // A refused conversion loses the lock.
    &[
        Op::Create(0, 0),
        Op::Open(0, true, 1),
        Op::Open(0, true, 2),
        Op::TryLock(0, true),
        Op::TryLock(1, true),
        Op::TryLock(0, false),
        Op::TryLock(2, false),
        Op::Unlock(1),
        Op::TryLock(2, false),
        Op::TryLock(0, true),
    ],
    // An unlock releases the lock of all duplicates.
    &[
        Op::Create(0, 0),
        Op::TryLock(0, false),
        Op::Duplicate(0),
        Op::Unlock(0),
        Op::Open(0, false, 1),
        Op::TryLock(1, false),
    ],
    // A read lease is refused while any process, also this one, has the file open for writing.
    &[
        Op::Create(0, 0),
        Op::LeaseOutcome(0, false),
        Op::Open(0, false, 1),
        Op::LeaseOutcome(1, false),
        Op::Close(0),
        Op::LeaseOutcome(1, false),
        Op::Open(0, true, 0),
        Op::LeaseOutcome(1, false),
        Op::Duplicate(0),
        Op::Close(0),
        Op::LeaseOutcome(1, false),
        Op::CloseDuplicates,
        Op::LeaseOutcome(1, false),
        Op::Link(0, 1),
        Op::Open(1, true, 2),
        Op::LeaseOutcome(1, false),
    ],
    // A write lease is refused while the file is open elsewhere, by any name. A duplicate is the same open file.
    &[
        Op::Create(0, 0),
        Op::LeaseOutcome(0, true),
        Op::Duplicate(0),
        Op::LeaseOutcome(0, true),
        Op::Open(0, false, 1),
        Op::LeaseOutcome(0, true),
        Op::LeaseOutcome(1, true),
        Op::Close(0),
        Op::LeaseOutcome(1, true),
        Op::CloseDuplicates,
        Op::LeaseOutcome(1, true),
        Op::Link(0, 1),
        Op::Open(1, false, 2),
        Op::LeaseOutcome(1, true),
        Op::Close(2),
        Op::LeaseOutcome(1, true),
    ],
    // Symbolic links are followed, but not in the last part of a path.
    &[
        Op::Open(8, false, 0),
        Op::StatAt(8),
        Op::Create(8, 0),
        Op::MakeDir(3),
        Op::Create(10, 0),
        Op::StatAt(4),
        Op::Entries(9),
        Op::Entries(3),
        Op::Unlink(9),
        Op::StatAt(10),
        Op::RemoveDir(3),
        Op::Unlink(4),
        Op::RemoveDir(3),
    ],
    // Folders: missing, not empty, and files in their place.
    &[
        Op::Create(4, 0),
        Op::StatAt(4),
        Op::MakeDir(3),
        Op::MakeDir(3),
        Op::Create(3, 0),
        Op::Open(3, true, 0),
        Op::Open(3, false, 0),
        Op::TryLock(0, false),
        Op::LeaseOutcome(0, false),
        Op::Create(4, 1),
        Op::RemoveDir(3),
        Op::Unlink(3),
        Op::RenameOver(4, 3),
        Op::RenameOver(3, 4),
        Op::RenameNew(3, 4),
        Op::RenameNew(3, 5),
        Op::Exchange(3, 4),
        Op::Exchange(4, 3),
        Op::Link(3, 0),
        Op::Create(0, 2),
        Op::RenameOver(0, 3),
        Op::RenameOver(3, 0),
        Op::Exchange(0, 3),
        Op::StatAt(0),
        Op::StatAt(3),
    ],
];

/// Returns the order in which the real kernel grants a lock to two waiters.
pub fn queue_of_the_kernel(folder: &Path) -> Result<Vec<usize>, String> {
    let text = |error: std::io::Error| error.to_string();
    let dir = linux::Dir::open(folder).map_err(text)?;
    let name = linux::Name::new("queue".as_ref()).map_err(text)?;
    let holder = dir.create_new(&name, 0o644).map_err(text)?;
    holder.lock(LockKind::Exclusive, None).map_err(text)?;
    let inode = holder.stat().map_err(text)?.id.inode;
    let (tell, hear) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for number in 1..=2 {
            let waiter = dir.open_at(&name, Access::ReadWrite).map_err(text)?;
            let tell = tell.clone();
            scope.spawn(move || {
                let locked = waiter.lock(LockKind::Exclusive, None);
                let _ = tell.send(locked.map(|_| number));
            });
            // The next waiter starts once the kernel lists this one.
            while waiting(inode).map_err(text)? < number {
                std::thread::yield_now();
            }
        }
        drop(holder);
        (0..2).map(|_| hear.recv().map_err(|error| error.to_string())?.map_err(text)).collect()
    })
}

fn waiting(inode: u64) -> std::io::Result<usize> {
    let (text, _) = linux::read_lock_table()?;
    let of_inode = format!(":{inode} ");
    Ok(text.lines().filter(|line| line.contains("->") && line.contains(&of_inode)).count())
}

/// Returns the order in which the double grants a lock to two waiters.
pub fn queue_of_the_double() -> Vec<usize> {
    arena::end();
    world::enter(Kernel::new(FileSystemKind::LOCAL), Box::new(Unobserved), false, false);
    let order = world::with(|world| {
        let kernel = &mut world.kernel;
        for pid in 1..=3 {
            kernel.start(pid, 0);
        }
        let folder = super::state::FOLDER;
        let holder = kernel.create(0, folder, b"queue", 0o644).expect("it is new");
        assert!(kernel.try_lock(holder, LockKind::Exclusive), "it is free");
        let mut waiting = Vec::new();
        for number in 1..=2 {
            let open = kernel.open(number, folder, b"queue", Access::ReadWrite).expect("it is there");
            assert!(!kernel.try_lock(open, LockKind::Exclusive), "it is taken");
            kernel.queue_for_lock(number, open, LockKind::Exclusive);
            waiting.push((number, open));
        }
        kernel.end(0);
        let mut order = Vec::new();
        while let Some(at) = waiting.iter().position(|(thread, open)| kernel.is_woken(*thread, *open)) {
            let (thread, open) = waiting.remove(at);
            assert!(
                kernel.try_lock(open, LockKind::Exclusive),
                "a woken waiter gets the lock, if no newcomer was faster"
            );
            kernel.leave_queue(thread, open);
            assert!(!waiting.iter().any(|(thread, open)| kernel.is_woken(*thread, *open)), "one at a time");
            order.push(thread);
            kernel.end(thread);
        }
        order
    });
    world::leave();
    order
}
