//! The simulated kernel's state, and its calls: each happens whole, and nothing in here waits.
//!
//! Errors are numbers, as the kernel's are. What decides between two of them is the order in which Linux looks.

use std::time::{Duration, SystemTime};

use crate::sys::types::{Access, FileId, FileKind, Lease, LockKind, Stat};

/// The number of a system's error.
pub(crate) type Errno = i32;

/// What the simulated file system can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemKind {
    /// Hard links; without them `link(2)` is refused with this error.
    pub links: Result<(), i32>,
    /// `RENAME_EXCHANGE`.
    pub exchange: bool,
    /// Leases.
    pub leases: bool,
    /// May two machines mount it?
    pub shared: bool,
    /// The permission bits of the folder.
    pub folder_mode: u32,
}

impl FileSystemKind {
    /// As ext4.
    pub const LOCAL: FileSystemKind =
        FileSystemKind { links: Ok(()), exchange: true, leases: true, shared: false, folder_mode: 0o755 };
}

/// The device that everything is on.
pub(super) const DEVICE: u64 = 0x2a;
/// The folder that the target is in.
pub(crate) const FOLDER: usize = 0;
/// The clock's first moment, in microseconds since 1970.
const EPOCH: u64 = 1_772_445_600_000_000;
const ROOT: u32 = 0;
/// How many files a process may have open.
const DESCRIPTORS: usize = 32;
/// How many symbolic links one path may lead through (`path_resolution(7)`).
const MAX_LINKS: usize = 40;
const UMASK: u32 = 0o022;

#[derive(Debug)]
pub(crate) struct Inode {
    kind: FileKind,
    links: u64,
    data: Vec<u8>,
    /// Of `data`.
    sum: u64,
    mode: u32,
    owner: u32,
    modified: u64,
    /// A folder's names.
    names: Vec<(Vec<u8>, usize)>,
    /// A folder that was removed.
    removed: bool,
    /// Descriptors and watches: it stays as long as there are any.
    opens: u32,
    writers: u32,
    locks: Vec<(usize, LockKind)>,
    /// Those that wait for a lock, first come first: thread and descriptor.
    queue: Vec<(usize, usize, LockKind)>,
    leases: Vec<usize>,
    /// Counts what inotify would tell of.
    events: u64,
}

#[derive(Clone, Debug)]
struct Open {
    inode: usize,
    access: Access,
    process: usize,
    /// A second descriptor of one open file counts here.
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
    pub(super) fs: FileSystemKind,
    inodes: Vec<Option<Inode>>,
    opens: Vec<Option<Open>>,
    pub(crate) processes: Vec<Process>,
    /// In microseconds since 1970.
    pub(crate) clock: u64,
    /// Grows whenever anything changes that another process could see.
    pub(crate) changes: u64,
}

/// A step of a hash that is as quick as it is good enough to tell two states apart.
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

    /// How many names a file has.
    pub(crate) fn links_of(&self, inode: usize) -> u64 {
        self.inodes[inode].as_ref().map_or(0, |inode| inode.links)
    }

    pub(super) fn inodes(&self) -> impl Iterator<Item = usize> {
        (0..self.inodes.len()).filter(|inode| self.inodes[*inode].is_some())
    }

    /// Has another process a kernel lock on this file?
    pub(crate) fn is_locked_by_another(&self, inode: usize, process: usize) -> bool {
        let locks = self.inodes[inode].iter().flat_map(|inode| &inode.locks);
        locks.into_iter().any(|(open, _)| self.open_file(*open).process != process)
    }

    /// How many kernel locks this process has.
    pub(crate) fn locks_held_by(&self, process: usize) -> usize {
        let locks = self.inodes.iter().flatten().flat_map(|inode| &inode.locks);
        locks.filter(|(open, _)| self.open_file(*open).process == process).count()
    }

    /// Who has this open, other than `process`?
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

    /// Inode numbers are given out again as soon as they are free, as on ext4.
    pub(crate) fn number(&self, inode: usize) -> u64 {
        inode as u64 + 100
    }

    fn make(&mut self, kind: FileKind, mode: u32, owner: u32) -> usize {
        let fresh = Inode {
            kind,
            links: 0,
            data: Vec::new(),
            sum: 0,
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

    // Paths.

    /// The folder that the last part of a path is in, and that part.
    fn parent<'a>(&self, folder: usize, path: &'a [u8], user: u32) -> Result<(usize, &'a [u8]), Errno> {
        let mut folder = folder;
        let mut rest = path;
        while let Some(slash) = rest.iter().position(|byte| *byte == b'/') {
            self.check_folder(folder, user)?;
            let mut next = self.entry(folder, &rest[..slash]).ok_or(libc::ENOENT)?;
            let mut links = 0;
            while self.inode(next).kind == FileKind::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Err(libc::ELOOP);
                }
                next = self.entry(folder, &self.inode(next).data).ok_or(libc::ENOENT)?;
            }
            folder = next;
            rest = &rest[slash + 1..];
        }
        self.check_folder(folder, user)?;
        Ok((folder, rest))
    }

    fn check_folder(&self, folder: usize, user: u32) -> Result<(), Errno> {
        if self.inode(folder).kind != FileKind::Directory {
            return Err(libc::ENOTDIR);
        }
        self.check_mode(folder, user, 0o1)
    }

    fn entry(&self, folder: usize, name: &[u8]) -> Option<usize> {
        self.inode(folder).names.iter().find(|(known, _)| known == name).map(|(_, inode)| *inode)
    }

    fn set_entry(&mut self, folder: usize, name: &[u8], inode: usize) {
        self.changes += 1;
        let names = &mut self.inode_mut(folder).names;
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, there)) => *there = inode,
            None => names.push((name.to_vec(), inode)),
        }
    }

    fn remove_entry(&mut self, folder: usize, name: &[u8]) {
        self.changes += 1;
        self.inode_mut(folder).names.retain(|(known, _)| known != name);
    }

    fn check_mode(&self, inode: usize, user: u32, wanted: u32) -> Result<(), Errno> {
        let found = self.inode(inode);
        let bits = if user == found.owner { found.mode >> 6 } else { found.mode };
        if user == ROOT || bits & wanted == wanted { Ok(()) } else { Err(libc::EACCES) }
    }

    /// May names be made in this folder?
    fn check_making(&self, folder: usize, user: u32) -> Result<(), Errno> {
        // A folder that was removed is open still, and empty for ever.
        if self.inode(folder).removed {
            return Err(libc::ENOENT);
        }
        self.check_mode(folder, user, 0o3)
    }

    /// May this file lose its name in this folder?
    fn check_removing(&self, folder: usize, inode: usize, user: u32) -> Result<(), Errno> {
        self.check_mode(folder, user, 0o3)?;
        let sticky = self.inode(folder).mode & 0o1000 != 0;
        let owners = [ROOT, self.inode(folder).owner, self.inode(inode).owner];
        if sticky && !owners.contains(&user) { Err(libc::EPERM) } else { Ok(()) }
    }

    // Calls on names.

    fn user(&self, process: usize) -> u32 {
        self.processes[process].user
    }

    pub(super) fn open_folder(&mut self, process: usize, folder: usize, path: &[u8]) -> Result<usize, Errno> {
        let user = self.user(process);
        let (parent, name) = self.parent(folder, path, user)?;
        let inode = self.entry(parent, name).ok_or(libc::ENOENT)?;
        match self.inode(inode).kind {
            FileKind::Directory => {}
            // O_DIRECTORY with O_NOFOLLOW: a link is no folder.
            _ => return Err(libc::ENOTDIR),
        }
        self.check_mode(inode, user, 0o4)?;
        Ok(self.opened(process, inode, Access::Read))
    }

    /// Makes this user the owner of the folder that everything is in.
    pub(super) fn give_first_folder(&mut self, user: u32) {
        self.inode_mut(FOLDER).owner = user;
    }

    /// The folder that everything is in.
    pub(super) fn open_first_folder(&mut self, process: usize) -> usize {
        self.opened(process, FOLDER, Access::Read)
    }

    pub(super) fn unpin(&mut self, inode: usize) {
        self.inode_mut(inode).opens -= 1;
        self.drop_if_unused(inode);
    }

    pub(super) fn pin(&mut self, inode: usize) {
        self.inode_mut(inode).opens += 1;
    }

    pub(super) fn stat(&self, inode: usize) -> Stat {
        let found = self.inode(inode);
        Stat {
            id: FileId { device: DEVICE, inode: self.number(inode) },
            kind: found.kind,
            links: found.links,
            size: found.data.len() as u64,
            mode: found.mode,
            owner: found.owner,
            modified: SystemTime::UNIX_EPOCH + Duration::from_micros(found.modified),
        }
    }

    pub(super) fn stat_at(&self, process: usize, folder: usize, path: &[u8]) -> Result<Option<Stat>, Errno> {
        match self.parent(folder, path, self.user(process)) {
            Ok((folder, name)) => Ok(self.entry(folder, name).map(|inode| self.stat(inode))),
            Err(libc::ENOENT) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Must an open for writing wait, because somebody else has a lease?
    pub(super) fn is_leased(&self, process: usize, folder: usize, path: &[u8]) -> Option<usize> {
        let (folder, name) = self.parent(folder, path, self.user(process)).ok()?;
        self.entry(folder, name).filter(|inode| !self.inode(*inode).leases.is_empty())
    }

    pub(super) fn has_lease(&self, inode: usize) -> bool {
        self.inodes[inode].as_ref().is_some_and(|inode| !inode.leases.is_empty())
    }

    /// `O_NOFOLLOW`, `O_NONBLOCK`.
    pub(super) fn open(&mut self, process: usize, folder: usize, path: &[u8], access: Access) -> Result<usize, Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        let inode = self.entry(folder, name).ok_or(libc::ENOENT)?;
        let found = self.inode(inode);
        match found.kind {
            FileKind::Symlink => return Err(libc::ELOOP),
            FileKind::Directory if access == Access::ReadWrite => return Err(libc::EISDIR),
            _ => {}
        }
        self.check_mode(inode, user, if access == Access::ReadWrite { 0o6 } else { 0o4 })?;
        if access == Access::ReadWrite && !self.inode(inode).leases.is_empty() {
            return Err(libc::EAGAIN);
        }
        Ok(self.opened(process, inode, access))
    }

    fn opened(&mut self, process: usize, inode: usize, access: Access) -> usize {
        self.inode_mut(inode).opens += 1;
        if access == Access::ReadWrite {
            self.inode_mut(inode).writers += 1;
            self.changes += 1;
        }
        // Each process has numbers of its own, so that what it sees does not depend on what others have open.
        let first = process * DESCRIPTORS;
        if self.opens.len() < first + DESCRIPTORS {
            self.opens.resize_with(first + DESCRIPTORS, || None);
        }
        let free = self.opens[first..first + DESCRIPTORS].iter().position(Option::is_none);
        let free = first + free.expect("a process that leaks descriptors");
        self.opens[free] = Some(Open { inode, access, process, descriptors: 1 });
        free
    }

    /// `O_CREAT | O_EXCL | O_RDWR`.
    pub(super) fn create(&mut self, process: usize, folder: usize, path: &[u8], mode: u32) -> Result<usize, Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        if self.entry(folder, name).is_some() {
            return Err(libc::EEXIST);
        }
        self.check_making(folder, user)?;
        let inode = self.make(FileKind::Regular, mode & !UMASK, user);
        self.inode_mut(inode).links = 1;
        self.set_entry(folder, name, inode);
        Ok(self.opened(process, inode, Access::ReadWrite))
    }

    pub(super) fn link(&mut self, process: usize, folder: usize, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        let user = self.user(process);
        let (from_folder, from) = self.parent(folder, from, user)?;
        let inode = self.entry(from_folder, from).ok_or(libc::ENOENT)?;
        let (to_folder, to) = self.parent(folder, to, user)?;
        if self.entry(to_folder, to).is_some() {
            return Err(libc::EEXIST);
        }
        self.check_making(to_folder, user)?;
        if self.inode(inode).kind == FileKind::Directory {
            return Err(libc::EPERM);
        }
        self.fs.links?;
        // `protected_hardlinks` (`proc_sys_fs(5)`).
        let owner = self.inode(inode).owner;
        if user != ROOT && user != owner && self.check_mode(inode, user, 0o6).is_err() {
            return Err(libc::EPERM);
        }
        self.set_entry(to_folder, to, inode);
        let found = self.inode_mut(inode);
        found.links += 1;
        found.events += 1;
        Ok(())
    }

    pub(super) fn unlink(&mut self, process: usize, folder: usize, path: &[u8]) -> Result<(), Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        let inode = self.entry(folder, name).ok_or(libc::ENOENT)?;
        self.check_removing(folder, inode, user)?;
        if self.inode(inode).kind == FileKind::Directory {
            return Err(libc::EISDIR);
        }
        self.remove_entry(folder, name);
        self.lose_link(inode);
        Ok(())
    }

    fn lose_link(&mut self, inode: usize) {
        let found = self.inode_mut(inode);
        found.links -= 1;
        found.events += 1;
        self.drop_if_unused(inode);
    }

    pub(super) fn make_dir(&mut self, process: usize, folder: usize, path: &[u8], mode: u32) -> Result<(), Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        if self.entry(folder, name).is_some() {
            return Err(libc::EEXIST);
        }
        self.check_making(folder, user)?;
        let inode = self.make(FileKind::Directory, mode & !UMASK, user);
        self.inode_mut(inode).links = 1;
        self.set_entry(folder, name, inode);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, process: usize, folder: usize, path: &[u8]) -> Result<(), Errno> {
        let user = self.user(process);
        let (folder, name) = self.parent(folder, path, user)?;
        let inode = self.entry(folder, name).ok_or(libc::ENOENT)?;
        self.check_removing(folder, inode, user)?;
        if self.inode(inode).kind != FileKind::Directory {
            return Err(libc::ENOTDIR);
        }
        if !self.inode(inode).names.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.inode_mut(inode).removed = true;
        self.remove_entry(folder, name);
        self.lose_link(inode);
        Ok(())
    }

    /// A symbolic link, for those who set a scene.
    pub(super) fn make_symlink(&mut self, folder: usize, path: &[u8], target: &[u8]) {
        let inode = self.make(FileKind::Symlink, 0o777, ROOT);
        self.inode_mut(inode).links = 1;
        self.inode_mut(inode).data = target.to_vec();
        self.set_entry(folder, path, inode);
    }

    pub(super) fn rename(
        &mut self,
        process: usize,
        folder: usize,
        from: &[u8],
        to: &[u8],
        how: Rename,
    ) -> Result<(), Errno> {
        let user = self.user(process);
        let (from_folder, from) = self.parent(folder, from, user)?;
        let (to_folder, to) = self.parent(folder, to, user)?;
        let source = self.entry(from_folder, from).ok_or(libc::ENOENT)?;
        let target = self.entry(to_folder, to);
        match (how, target) {
            (Rename::New, Some(_)) => return Err(libc::EEXIST),
            (Rename::Exchange, None) => return Err(libc::ENOENT),
            _ => {}
        }
        // Neither may be in the other.
        if source == to_folder {
            return Err(libc::EINVAL);
        }
        if target == Some(from_folder) {
            return Err(if how == Rename::Exchange { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        let folder = |inode: usize| self.inode(inode).kind == FileKind::Directory;
        let is_folder = folder(source);
        if target == Some(source) {
            return Ok(());
        }
        self.check_removing(from_folder, source, user)?;
        match target {
            None => self.check_making(to_folder, user)?,
            Some(target) => self.check_removing(to_folder, target, user)?,
        }
        if how == Rename::Exchange && !self.fs.exchange {
            return Err(libc::EINVAL);
        }
        if let (Rename::Over, Some(target)) = (how, target) {
            match (is_folder, folder(target)) {
                (false, true) => return Err(libc::EISDIR),
                (true, false) => return Err(libc::ENOTDIR),
                (true, true) if !self.inode(target).names.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            }
        }
        self.inode_mut(source).events += 1;
        self.set_entry(to_folder, to, source);
        match (how, target) {
            (Rename::Exchange, Some(target)) => {
                self.inode_mut(target).events += 1;
                self.set_entry(from_folder, from, target);
            }
            (_, target) => {
                self.remove_entry(from_folder, from);
                if let Some(target) = target {
                    self.inode_mut(target).removed = is_folder;
                    self.lose_link(target);
                }
            }
        }
        Ok(())
    }

    pub(super) fn entries(&self, folder: usize) -> Vec<(Vec<u8>, FileKind)> {
        let names = self.inode(folder).names.iter();
        let mut entries: Vec<_> = names.map(|(name, inode)| (name.clone(), self.inode(*inode).kind)).collect();
        entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        entries
    }

    /// Is there a file of that name in the folder of the target?
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, inode) in &self.inode(FOLDER).names {
            let name = String::from_utf8_lossy(name);
            for (below, _) in &self.inode(*inode).names {
                names.push(format!("{name}/{}", String::from_utf8_lossy(below)));
            }
            names.push(name.into_owned());
        }
        names
    }

    /// The inode that a path of the folder names.
    pub(crate) fn named(&self, path: &[u8]) -> Option<usize> {
        let (folder, name) = self.parent(FOLDER, path, ROOT).ok()?;
        self.entry(folder, name)
    }

    // Calls on open files.

    pub(super) fn chmod(&mut self, process: usize, inode: usize, mode: u32) -> Result<(), Errno> {
        let user = self.user(process);
        let found = self.inode_mut(inode);
        if user != ROOT && user != found.owner {
            return Err(libc::EPERM);
        }
        found.mode = mode;
        found.events += 1;
        self.changes += 1;
        Ok(())
    }

    pub(super) fn duplicate(&mut self, open: usize) {
        self.opens[open].as_mut().expect("an open file").descriptors += 1;
    }

    /// Would closing this be seen by anyone?
    pub(super) fn close_shows(&self, open: usize) -> bool {
        let file = self.open_file(open);
        let inode = self.inode(file.inode);
        file.descriptors == 1
            && (file.access == Access::ReadWrite
                || inode.links == 0
                || inode.locks.iter().any(|(held, _)| *held == open)
                || inode.leases.contains(&open))
    }

    pub(super) fn close(&mut self, open: usize) {
        let file = self.opens[open].as_mut().expect("an open file");
        file.descriptors -= 1;
        if file.descriptors > 0 {
            return;
        }
        let file = self.opens[open].take().expect("an open file");
        let inode = self.inodes[file.inode].as_mut().expect("an inode that is in use");
        let before = inode.locks.len() + inode.leases.len();
        inode.locks.retain(|(held, _)| *held != open);
        inode.leases.retain(|held| *held != open);
        inode.opens -= 1;
        if file.access == Access::ReadWrite {
            inode.writers -= 1;
            inode.events += 1;
        }
        if file.access == Access::ReadWrite || before != inode.locks.len() + inode.leases.len() || inode.links == 0 {
            self.changes += 1;
        }
        self.drop_if_unused(file.inode);
    }

    /// `flock(2)`, `LOCK_NB`. A lock of the other kind is let go first, and is gone if the new one is refused.
    pub(super) fn try_lock(&mut self, open: usize, kind: LockKind) -> bool {
        let inode = self.inode_of(open);
        let inode = self.inodes[inode].as_mut().expect("an inode that is in use");
        if inode.locks.contains(&(open, kind)) {
            return true;
        }
        let before = inode.locks.len();
        inode.locks.retain(|(held, _)| *held != open);
        if before != inode.locks.len() {
            self.changes += 1;
        }
        if inode.locks.iter().any(|(_, held)| conflict(*held, kind)) {
            return false;
        }
        inode.locks.push((open, kind));
        self.changes += 1;
        true
    }

    /// Puts a thread into the queue for a lock that is taken.
    pub(super) fn queue_for_lock(&mut self, thread: usize, open: usize, kind: LockKind) {
        let inode = self.inode_of(open);
        self.inode_mut(inode).queue.push((thread, open, kind));
        self.changes += 1;
    }

    pub(super) fn leave_queue(&mut self, thread: usize, open: usize) {
        let inode = self.inode_of(open);
        self.inode_mut(inode).queue.retain(|waiting| (waiting.0, waiting.1) != (thread, open));
    }

    /// May this thread, which is in the queue, try again? Only the first of those that exclude each other is woken; until
    /// it has run, anyone who just comes along can still get in before it.
    pub(super) fn is_woken(&self, thread: usize, open: usize) -> bool {
        let inode = self.inode(self.inode_of(open));
        let at = inode.queue.iter().position(|waiting| (waiting.0, waiting.1) == (thread, open));
        let at = at.expect("a thread in the queue");
        let kind = inode.queue[at].2;
        !inode.locks.iter().any(|(_, held)| conflict(*held, kind))
            && !inode.queue[..at].iter().any(|(_, _, earlier)| conflict(*earlier, kind))
    }

    pub(super) fn unlock(&mut self, open: usize) {
        let inode = self.inode_of(open);
        let inode = self.inodes[inode].as_mut().expect("an inode that is in use");
        let before = inode.locks.len();
        inode.locks.retain(|(held, _)| *held != open);
        if before != inode.locks.len() {
            self.changes += 1;
        }
    }

    pub(super) fn read(&self, open: usize, buffer: &mut [u8]) -> Result<usize, Errno> {
        let inode = self.inode(self.inode_of(open));
        if inode.kind == FileKind::Directory {
            return Err(libc::EISDIR);
        }
        let length = inode.data.len().min(buffer.len());
        buffer[..length].copy_from_slice(&inode.data[..length]);
        Ok(length)
    }

    pub(super) fn write(&mut self, open: usize, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        if self.open_file(open).access != Access::ReadWrite {
            return Err(libc::EBADF);
        }
        if i64::try_from(offset).is_err() {
            return Err(libc::EINVAL);
        }
        let (inode, clock, offset) = (self.inode_of(open), self.clock, offset as usize);
        let inode = self.inode_mut(inode);
        let end = offset + bytes.len();
        if inode.data.len() < end {
            inode.data.resize(end, 0);
        }
        inode.data[offset..end].copy_from_slice(bytes);
        inode.sum = mix_bytes(1, &inode.data);
        inode.modified = clock;
        inode.events += 1;
        self.changes += 1;
        Ok(())
    }

    /// `F_SETLEASE`, `F_RDLCK`.
    pub(super) fn take_lease(&mut self, process: usize, open: usize) -> Lease {
        let (inode, user) = (self.inode_of(open), self.user(process));
        let leases = self.fs.leases;
        let inode = self.inode_mut(inode);
        if !leases || (user != ROOT && user != inode.owner) || inode.kind != FileKind::Regular {
            return Lease::Unavailable;
        }
        if inode.writers > 0 {
            return Lease::Refused;
        }
        inode.leases.push(open);
        Lease::Granted
    }

    pub(super) fn give_lease_back(&mut self, open: usize) {
        let inode = self.inode_of(open);
        self.inode_mut(inode).leases.retain(|held| *held != open);
        self.changes += 1;
    }

    // Processes.

    pub(crate) fn start(&mut self, pid: u32, user: u32) -> usize {
        let start_time = 1000 + self.processes.len() as u64;
        self.processes.push(Process { pid, start_time, alive: true, user });
        self.processes.len() - 1
    }

    pub(super) fn alive(&self, pid: i64) -> Option<usize> {
        self.processes.iter().position(|process| process.alive && i64::from(process.pid) == pid)
    }

    /// Everything that it has open is closed.
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

    /// A number that two states share only if they are the same to whoever goes on from there.
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
            // In no order.
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
            for open in &inode.leases {
                hash = mix(hash, (*open as u64) << 8 | 0x40);
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

/// How a name is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rename {
    /// Over whatever is there.
    Over,
    /// `RENAME_NOREPLACE`.
    New,
    /// `RENAME_EXCHANGE`.
    Exchange,
}
