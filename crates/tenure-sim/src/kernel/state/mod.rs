//! The state of the simulated kernel. Its calls are in [`names`] and [`files`]. Each call happens whole, and none waits.
//!
//! Errors are numbers, as the kernel's are. Where two apply, the order of Linux's checks decides.

mod files;
mod names;

use std::time::{Duration, SystemTime};

use crate::sys::types::{
    Access, FileId, FileKind, LeaseOutcome, LockFileKind, LockKind, ReplaceSteps, Stat, TakeoverSteps,
};

/// The number of a system error.
pub(crate) type Errno = i32;

/// The system whose answers the simulated kernel gives, where systems differ in the protocol's steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    Linux,
    /// NTFS: no links to locked files, no exchange, no rename over an open file; removal by handle, names that are kept by
    /// an open file, a deny-write open in place of the read lease.
    Windows,
    /// FreeBSD before 16: no leases, no exchange, no exclusive rename; `funlinkat`.
    FreeBsd,
    /// APFS: no leases; `RENAME_SWAP` and `RENAME_EXCL`.
    MacOs,
}

impl Face {
    /// All faces, with their names.
    pub const ALL: [(&'static str, Face); 4] =
        [("linux", Face::Linux), ("windows", Face::Windows), ("freebsd", Face::FreeBsd), ("macos", Face::MacOs)];

    /// Returns the steps of a takeover.
    pub(crate) fn takeover_steps(self) -> TakeoverSteps {
        match self {
            Face::Linux | Face::MacOs => TakeoverSteps::Exchange,
            Face::Windows | Face::FreeBsd => TakeoverSteps::Removal,
        }
    }

    /// Returns the lock files that the system allows.
    pub(crate) fn lock_file_kind(self) -> LockFileKind {
        if self == Face::Windows { LockFileKind::Copy } else { LockFileKind::Link }
    }

    /// Returns the steps of an anchor's replacement.
    pub(crate) fn replace_steps(self) -> ReplaceSteps {
        if self == Face::Windows { ReplaceSteps::Two } else { ReplaceSteps::One }
    }

    /// Returns whether an open file can keep its name.
    pub(crate) fn keeps_names(self) -> bool {
        self == Face::Windows
    }

    /// Returns whether a name can be removed only while it is a given file's.
    pub(super) fn removes_same(self) -> bool {
        self.takeover_steps() == TakeoverSteps::Removal
    }

    /// Returns whether it shows who has a file open: `LockKind::Shared`, for writing.
    fn leases(self, kind: LockKind) -> bool {
        match self {
            Face::Linux => true,
            Face::Windows => kind == LockKind::Shared,
            Face::FreeBsd | Face::MacOs => false,
        }
    }
}

/// The features of the simulated file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemKind {
    /// The system that it is mounted on.
    pub face: Face,
    /// Hard links, or the error of `link(2)`.
    pub links: Result<(), i32>,
    /// Each name of a file has its own inode, as on sshfs: a link shares only the bytes.
    pub aliases: bool,
    /// `RENAME_EXCHANGE`.
    pub exchange: bool,
    /// Leases.
    pub leases: bool,
    /// Whether two machines can mount it.
    pub shared: bool,
    /// The permission bits of the folder.
    pub folder_mode: u32,
}

impl FileSystemKind {
    /// As ext4.
    pub const LOCAL: FileSystemKind = FileSystemKind {
        face: Face::Linux,
        links: Ok(()),
        aliases: false,
        exchange: true,
        leases: true,
        shared: false,
        folder_mode: 0o755,
    };

    /// Returns whether a dead program's lock file can be taken over here.
    pub(crate) fn has_takeovers(&self) -> bool {
        self.exchange || self.face.removes_same()
    }
}

/// The device of all files.
pub(super) const DEVICE: u64 = 0x2a;
/// The target's folder.
pub(crate) const FOLDER: usize = 0;
/// The time at which every run starts, in microseconds since 1970.
const EPOCH: u64 = 1_772_445_600_000_000;
const ROOT: u32 = 0;
/// Maximum number of open files of a process.
const DESCRIPTORS: usize = 32;
/// Maximum number of symbolic links in one path (`path_resolution(7)`).
const MAX_LINKS: usize = 40;
const UMASK: u32 = 0o022;

#[derive(Debug)]
pub(crate) struct Inode {
    kind: FileKind,
    links: u64,
    data: Vec<u8>,
    /// The hash of `data`.
    sum: u64,
    /// A number that all inodes with the same bytes share.
    shares: Option<usize>,
    mode: u32,
    owner: u32,
    modified: u64,
    /// A folder's names.
    names: Vec<(Vec<u8>, usize)>,
    /// Whether this is a removed folder.
    removed: bool,
    /// The number of descriptors and watches, which keep the inode.
    opens: u32,
    writers: u32,
    locks: Vec<(usize, LockKind)>,
    /// Waiters for a lock, in order of arrival: thread and descriptor.
    queue: Vec<(usize, usize, LockKind)>,
    leases: Vec<(usize, LockKind)>,
    /// The open files that keep its name.
    keepers: Vec<usize>,
    /// The numbered bytes that are marked, each with its open file.
    marks: Vec<(usize, u64)>,
    /// The number of events that inotify would report.
    events: u64,
}

#[derive(Clone, Debug)]
struct Open {
    inode: usize,
    access: Access,
    process: usize,
    /// The number of descriptors of this open file.
    descriptors: u32,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(super) start_time: u64,
    pub(super) alive: bool,
    pub(super) user: u32,
}

#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) fs: FileSystemKind,
    inodes: Vec<Option<Inode>>,
    opens: Vec<Option<Open>>,
    pub(crate) processes: Vec<Process>,
    /// In microseconds since 1970.
    pub(crate) clock: u64,
    /// The number of changes that another process can see.
    pub(crate) changes: u64,
}

/// The error of a removal or a rename of a name that an open file keeps: `ERROR_SHARING_VIOLATION`, which Node reports as
/// `EBUSY`.
pub(crate) const IN_USE: Errno = libc::EBUSY;

/// Adds a word to a hash. It is fast, and good enough to distinguish states.
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    (product as u64) ^ ((product >> 64) as u64).rotate_left(23)
}

pub(crate) fn mix_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(hash, bytes.len() as u64);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = mix(hash, u64::from_ne_bytes(word.try_into().expect("eight bytes")));
    }
    words.remainder().iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}

fn conflict(one: LockKind, other: LockKind) -> bool {
    one == LockKind::Exclusive || other == LockKind::Exclusive
}

impl Process {
    pub(crate) fn is_alive(&self) -> bool {
        self.alive
    }
}

impl Kernel {
    pub(crate) fn new(fs: FileSystemKind) -> Kernel {
        let mut kernel = Kernel {
            fs,
            inodes: Vec::with_capacity(16),
            opens: Vec::with_capacity(32),
            processes: Vec::with_capacity(8),
            clock: EPOCH,
            changes: 0,
        };
        let folder = kernel.make(FileKind::Directory, fs.folder_mode, ROOT);
        kernel.inode_mut(folder).links = 2;
        kernel.inode_mut(folder).opens = 1;
        kernel
    }

    pub(super) fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.clock)
    }

    fn inode(&self, inode: usize) -> &Inode {
        self.inodes[inode].as_ref().expect("an inode that is in use")
    }

    pub(super) fn inode_mut(&mut self, inode: usize) -> &mut Inode {
        self.inodes[inode].as_mut().expect("an inode that is in use")
    }

    fn open_file(&self, open: usize) -> &Open {
        self.opens[open].as_ref().expect("an open file")
    }

    pub(super) fn inode_of(&self, open: usize) -> usize {
        self.open_file(open).inode
    }

    pub(super) fn locks_of(&self, inode: usize) -> impl Iterator<Item = (u32, LockKind)> {
        self.inode(inode).locks.iter().map(|(open, kind)| (self.processes[self.open_file(*open).process].pid, *kind))
    }

    pub(super) fn queue_of(&self, inode: usize) -> impl Iterator<Item = (u32, LockKind)> {
        let waiting = self.inode(inode).queue.iter();
        waiting.map(|(_, open, kind)| (self.processes[self.open_file(*open).process].pid, *kind))
    }

    pub(super) fn events_of(&self, inode: usize) -> u64 {
        self.inode(inode).events
    }

    /// Returns the number of a file's names.
    pub(crate) fn links_of(&self, inode: usize) -> u64 {
        self.inodes[inode].as_ref().map_or(0, |inode| inode.links)
    }

    pub(super) fn inodes(&self) -> impl Iterator<Item = usize> {
        (0..self.inodes.len()).filter(|inode| self.inodes[*inode].is_some())
    }

    /// Returns whether another process has a kernel lock on this file.
    pub(crate) fn is_locked_by_another(&self, inode: usize, process: usize) -> bool {
        let locks = self.inodes[inode].iter().flat_map(|inode| &inode.locks);
        locks.into_iter().any(|(open, _)| self.open_file(*open).process != process)
    }

    /// Returns this file's bytes.
    pub(crate) fn text(&self, inode: usize) -> &[u8] {
        self.inodes[inode].as_ref().map_or(&[], |inode| &inode.data)
    }

    /// Returns the number of kernel locks that this process has.
    pub(crate) fn locks_held_by(&self, process: usize) -> usize {
        let locks = self.inodes.iter().flatten().flat_map(|inode| &inode.locks);
        locks.filter(|(open, _)| self.open_file(*open).process == process).count()
    }

    /// Returns whether this process has a kernel lock on this file.
    pub(crate) fn has_locked(&self, process: usize, inode: usize) -> bool {
        self.inode(inode).locks.iter().any(|(open, _)| self.open_file(*open).process == process)
    }

    /// Returns the pids of processes that have this inode open, or have locked it.
    pub(super) fn processes_with_open(&self, number: u64, locked: bool) -> Vec<i64> {
        let mut pids: Vec<i64> = (self.opens.iter().enumerate())
            .filter_map(|(at, open)| Some((at, open.as_ref()?)))
            .filter(|(_, open)| self.number(open.inode) == number)
            .filter(|(at, open)| !locked || self.inode(open.inode).locks.iter().any(|(held, _)| held == at))
            .map(|(_, open)| i64::from(self.processes[open.process].pid))
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Returns the inode's number. Numbers are reused as soon as they are free, as on ext4.
    pub(crate) fn number(&self, inode: usize) -> u64 {
        inode as u64 + 100
    }

    fn make(&mut self, kind: FileKind, mode: u32, owner: u32) -> usize {
        let fresh = Inode {
            kind,
            links: 0,
            data: Vec::new(),
            sum: 0,
            shares: None,
            mode,
            owner,
            modified: self.clock,
            names: Vec::new(),
            removed: false,
            opens: 0,
            writers: 0,
            locks: Vec::new(),
            queue: Vec::new(),
            leases: Vec::new(),
            keepers: Vec::new(),
            marks: Vec::new(),
            events: 0,
        };
        match self.inodes.iter().position(Option::is_none) {
            Some(free) => {
                self.inodes[free] = Some(fresh);
                free
            }
            None => {
                self.inodes.push(Some(fresh));
                self.inodes.len() - 1
            }
        }
    }

    fn drop_if_unused(&mut self, inode: usize) {
        let found = self.inode(inode);
        if found.links == 0 && found.opens == 0 {
            self.inodes[inode] = None;
        }
    }

    pub(crate) fn start(&mut self, pid: u32, user: u32) -> usize {
        let start_time = 1000 + self.processes.len() as u64;
        self.processes.push(Process { pid, start_time, alive: true, user });
        self.processes.len() - 1
    }

    pub(crate) fn alive(&self, pid: i64) -> Option<usize> {
        self.processes.iter().position(|process| process.alive && i64::from(process.pid) == pid)
    }

    /// Ends a process, and closes its open files.
    pub(crate) fn end(&mut self, process: usize) {
        self.processes[process].alive = false;
        self.changes += 1;
        for open in 0..self.opens.len() {
            if self.opens[open].as_ref().is_some_and(|open| open.process == process) {
                let inode = self.inode_of(open);
                self.inode_mut(inode).queue.retain(|waiting| waiting.1 != open);
                self.opens[open].as_mut().expect("an open file").descriptors = 1;
                self.close(open);
            }
        }
    }

    /// Returns a number that two states share only if no process can distinguish them.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hash = mix(self.clock, self.processes.len() as u64);
        for process in &self.processes {
            hash = mix(hash, u64::from(process.pid) << 1 | u64::from(process.alive));
        }
        for (at, inode) in self.inodes.iter().enumerate() {
            let Some(inode) = inode else { continue };
            let counts =
                (at as u64) << 48 | inode.links << 32 | u64::from(inode.opens) << 16 | u64::from(inode.writers);
            hash = mix(hash, counts);
            hash = mix(hash, inode.sum ^ u64::from(inode.mode) << 32 ^ u64::from(inode.removed));
            hash = mix(hash, inode.modified ^ inode.kind as u64);
            hash = mix(hash, inode.shares.map_or(0, |shares| shares as u64 + 1));
            // The order of names does not count.
            let mut names = 0_u64;
            for (name, inode) in &inode.names {
                names = names.wrapping_add(mix(mix_bytes(7, name), *inode as u64));
            }
            hash = mix(hash, names);
            for (open, kind) in &inode.locks {
                hash = mix(hash, (*open as u64) << 8 | *kind as u64 | 0x10);
            }
            for (thread, open, kind) in &inode.queue {
                hash = mix(hash, (*thread as u64) << 32 | (*open as u64) << 8 | *kind as u64 | 0x20);
            }
            for open in &inode.keepers {
                hash = mix(hash, (*open as u64) << 8 | 0x80);
            }
            for (open, kind) in &inode.leases {
                hash = mix(hash, (*open as u64) << 8 | *kind as u64 | 0x40);
            }
        }
        for (at, open) in self.opens.iter().enumerate() {
            let Some(open) = open else { continue };
            let counts = (open.process as u64) << 24 | (open.inode as u64) << 8 | u64::from(open.descriptors) << 1;
            hash = mix(hash, (at as u64) << 40 | counts | u64::from(open.access == Access::ReadWrite));
        }
        hash
    }
}

/// The kinds of a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rename {
    /// Replaces an existing file.
    Over,
    /// `RENAME_NOREPLACE`.
    New,
    /// `RENAME_EXCHANGE`.
    Exchange,
}
